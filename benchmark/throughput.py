"""`python -m benchmark.throughput`: what the training loop costs beyond forward, backward and step.

Both loops train the same network on this machine in the same run, turn by turn, so that their ratio stands on a shared
and noisy machine where absolute numbers do not. The bare loop reuses prepared batches; the suite's loop augments,
counts loss and accuracy, sets the learning rate of every iteration and asks whether to stop.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Annotated

import torch
import typer
from torch.nn import functional

from benchmark import cli
from benchmark.cells import Cell, Problem
from benchmark.grid import load_problem
from benchmark.methods import METHODS, load
from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.sweep import parse_settings
from benchmark.training.evaluation import autocast
from benchmark.training.loop import Run, make_optimizer
from benchmark.worker import pick_device

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def make_run(problem: Problem, data: Data) -> Run:
    """A dense run with its first phase begun, ready to be driven an epoch at a time."""
    cell = Cell.dense(problem, 0)
    network = models.build(problem, 0).to(data.device)
    run = Run(cell, network, data, load("dense"), dict(METHODS["dense"].defaults), should_stop=lambda: False)
    network.train()
    return run


def time_loop(run: Run, iterations: int) -> float:
    """Seconds for `iterations` iterations of the suite's loop, with batches as training draws them."""
    per_epoch = run.data.iterations_per_epoch
    rates = [run.cell.problem.learning_rate / 10] * iterations
    _synchronise(run.data.device)
    started = time.perf_counter()
    k = 0
    for epoch in range(-(-iterations // per_epoch)):
        for images, labels in run.data.training_batches(0, epoch, 0, min(per_epoch, iterations - k)):
            run.step(k, rates[k], images, labels)
            run.should_stop()
            k += 1
    _ = run.step.loss.item() / run.step.count
    _synchronise(run.data.device)
    return time.perf_counter() - started


def time_bare(run: Run, iterations: int) -> float:
    """Seconds for as many forward, backward and optimizer steps on prepared batches of the same sizes, nothing else."""
    problem, data = run.cell.problem, run.data
    optimizer = make_optimizer(run.method, problem)
    last = data.iterations_per_epoch - 1
    whole, rest = (next(data.training_batches(0, 0, k, k + 1)) for k in (0, last))
    order = [rest if k % (last + 1) == last else whole for k in range(iterations)]
    _synchronise(data.device)
    started = time.perf_counter()
    for inputs, targets in order:
        with autocast(problem.precision, data.device):
            loss = functional.cross_entropy(run.network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _synchronise(data.device)
    return time.perf_counter() - started


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@app.command()
def throughput(
    problem: Annotated[str, typer.Option(help="A file of sweeps/problems/")] = "digits",
    model: Annotated[str | None, typer.Option(help="Another network: resnet20, resnet56")] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="3x32x32 noise instead of the problem's images")
    ] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: precision=bf16")] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of one turn")] = 17,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each loop")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
) -> int:
    """Images per second of the suite's training loop over a bare loop, in the same run."""
    settings = parse_settings(set_ or [])
    if model:
        settings["model"] = model
    if synthetic:
        settings |= {"dataset": "noise", "image_size": 32, "channels": 3, "crop_padding": 4, "flip": True}
        settings |= {"width": 0, "batch_size": 128} if "batch_size" not in settings else {"width": 0}
    recipe, _ = load_problem(problem, settings)
    torch.set_num_threads(threads)
    data = Data(recipe, pick_device(device))
    run = make_run(recipe, data)
    time_loop(run, iterations)
    time_bare(run, iterations)
    ratios, speeds = [], []
    images = iterations / data.iterations_per_epoch * data.training_images
    for _turn in range(repeats):
        bare = time_bare(run, iterations)
        ours = time_loop(run, iterations)
        again = time_bare(run, iterations)
        ratios.append((bare + again) / 2 / ours)
        speeds.append(images / ours)
    low, _, high = _quartiles(ratios)
    typer.echo(
        f"{recipe.model} on {recipe.dataset}, batch {recipe.batch_size}, {recipe.precision}, {data.device.type}, "
        f"{threads} thread{'' if threads == 1 else 's'}: loop over bare {statistics.median(ratios):.3f} "
        f"(quartiles {low:.3f} to {high:.3f}, {repeats} turns of {iterations} iterations); "
        f"{statistics.median(speeds):.0f} images/s"
    )
    return 0


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


if __name__ == "__main__":
    sys.exit(cli.main(app))
