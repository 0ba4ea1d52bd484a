"""`python -m benchmark.throughput`: what the training loop costs beyond forward, backward and step.

Both loops train the same network on this machine in the same run, turn by turn, so that their ratio stands on a shared
and noisy machine where absolute numbers do not. The bare loop reuses prepared batches; the suite's loop augments,
counts loss and accuracy, sets the learning rate of every iteration and asks whether to stop. `--against` compares with
something else: `research`, a pruned network's training steps in the manner of a research script; `null`, the same with
next to no network; `pillow`, augmented batches alone against torchvision's transforms in a DataLoader; `plain-dst`, a
step of DST against a plain implementation's. `--methods` compares what each method's step costs with dense training.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.nn import functional

from benchmark import cli
from benchmark.cells import Budget, Cell, Problem
from benchmark.cli import parse_settings
from benchmark.errors import UserError
from benchmark.measure.common import Device, Iterations, Threads, usable_device
from benchmark.measure.method_costs import compare_dst, compare_methods, lines, parse_methods, synchronise
from benchmark.measure.research_loop import Null, PlainLoop, pillow_batches
from benchmark.methods import METHODS, load
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import Data
from benchmark.problems.sources import open_source
from benchmark.training.loop import Run
from benchmark.training.optimizer import make_optimizer
from benchmark.training.precision import autocast

BASELINES = {
    "bare": "loop over bare",
    "research": "step over a research script's",
    "null": "step over a research script's, next to no network,",
    "pillow": "batches over torchvision's",
    "plain-dst": "",
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def make_run(problem: Problem, data: Batches) -> Run:
    """A dense run with its first phase begun, ready to be driven an epoch at a time."""
    cell = Cell.dense(problem, 0)
    network = models.build(problem, 0).to(data.device)
    run = Run(cell, network, data, load("dense"), dict(METHODS["dense"].defaults))
    network.train()
    return run


def time_loop(run: Run, iterations: int) -> float:
    """Seconds for `iterations` iterations of the suite's loop, with batches as training draws them."""
    per_epoch = run.data.iterations_per_epoch
    rates = [run.cell.problem.learning_rate / 10] * iterations
    synchronise(run.data.device)
    started = time.perf_counter()
    k = 0
    for epoch in range(-(-iterations // per_epoch)):
        for images, labels in run.data.training_batches(0, epoch, 0, min(per_epoch, iterations - k)):
            run.step(k, rates[k], images, labels)
            run.session.pause(run)
            k += 1
    _ = run.step.loss.item() / run.step.count
    synchronise(run.data.device)
    return time.perf_counter() - started


def time_bare(run: Run, iterations: int) -> float:
    """Seconds for as many forward, backward and optimizer steps on prepared batches of the same sizes, nothing else."""
    problem, data = run.cell.problem, run.data
    optimizer = make_optimizer(run.method, problem)
    last = data.iterations_per_epoch - 1
    whole, rest = (next(data.training_batches(0, 0, k, k + 1)) for k in (0, last))
    order = [rest if k % (last + 1) == last else whole for k in range(iterations)]
    synchronise(data.device)
    started = time.perf_counter()
    for inputs, targets in order:
        with autocast(problem.precision, data.device):
            loss = functional.cross_entropy(run.network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    synchronise(data.device)
    return time.perf_counter() - started


def compare_loops(problem: Problem, data: Data, iterations: int, repeats: int) -> tuple[list[float], list[float]]:
    """(ratios, images/s) of the suite's loop over the bare one."""
    run = make_run(problem, data)
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
    return ratios, speeds


def time_data(data: Batches, epoch: int) -> tuple[float, int]:
    """(seconds, images) of one epoch of augmented batches."""
    started = time.perf_counter()
    count = sum(len(labels) for _, labels in data.training_batches(0, epoch))
    synchronise(data.device)
    return time.perf_counter() - started, count


def compare_data(
    problem: Problem, data: Batches, repeats: int, folder: Path | None = None
) -> tuple[list[float], list[float]]:
    """(ratios, images/s) of the suite's batches over torchvision's."""
    pillow = pillow_batches(open_source(problem, folder).training, problem)
    ratios, speeds = [], []
    for turn in range(repeats + 1):
        started = time.perf_counter()
        seen = sum(len(labels) for _, labels in pillow)
        theirs = seen / (time.perf_counter() - started)
        seconds, count = time_data(data, turn)
        if turn:  # the first starts the processes
            ratios.append(count / seconds / theirs)
            speeds.append(count / seconds)
    return ratios, speeds


def compare_steps(
    problem: Problem, data: Batches, iterations: int, repeats: int, null: bool, folder: Path | None = None
) -> tuple[list[float], list[float]]:
    """(ratios, images/s) of retraining at 90 % sparsity over the research script's, which is always float32."""
    make = (lambda: Null(problem)) if null else (lambda: models.build(problem, 0))
    cell = Cell(problem, "IMP", 0, "LLR", 0.9, Budget(1000, "ep"))
    network = make().to(data.device)
    ours = Run(cell, network, data, load("IMP"), dict(METHODS["IMP"].defaults))
    ours.method.begin(0)
    network.train()
    plain_network, images = make().to(memory_format=torch.contiguous_format), open_source(problem, folder).training
    theirs = PlainLoop(problem, plain_network, images, data.device, 0.9)
    ratios, speeds = [], []
    for turn in range(repeats + 1):
        started = time.perf_counter()
        theirs.run(iterations)
        synchronise(data.device)
        plain = time.perf_counter() - started
        seconds = time_loop(ours, iterations)
        if turn:
            ratios.append(plain / seconds)
            speeds.append(iterations * problem.batch_size / seconds)
    return ratios, speeds


@app.command()
def throughput(
    problem: Annotated[str, typer.Option(help="A file of sweeps/problems/")] = "digits",
    model: Annotated[str | None, typer.Option(help="Another network: resnet20, resnet56")] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="3x32x32 noise instead of the problem's images")
    ] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: precision=bf16")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of the images; default data/")] = None,
    iterations: Iterations = 17,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Turns of each loop")] = 15,
    threads: Threads = 1,
    device: Device = "auto",
    against: Annotated[str | None, typer.Option(help="bare (the default), research, null, pillow or plain-dst")] = None,
    methods: Annotated[str | None, typer.Option(help="Methods over dense training: all, or DNW,GSM")] = None,
) -> int:
    """Images per second of the suite's training loop over a bare loop, in the same run."""
    if methods and against:
        raise UserError(f"--methods {methods} --against {against}: methods are compared with dense training; give one")
    against = against or "bare"
    if against not in BASELINES:
        raise UserError(f"--against {against}: one of {', '.join(BASELINES)}")
    chosen = parse_methods(methods) if methods else []
    settings = parse_settings(set_ or [])
    if model:
        settings["model"] = model
    if synthetic:
        noise = {"dataset": "noise", "image_size": 32, "channels": 3, "crop_padding": 4, "flip": True}
        settings = {**noise, "width": 0, "batch_size": 128, **settings}
    recipe, _ = load_problem(problem, settings)
    there = usable_device(device)
    torch.set_num_threads(threads)
    batches = Data(recipe, there, data)
    setting = (
        f"{recipe.model} on {recipe.dataset}, {recipe.image_size} px, batch {recipe.batch_size}, {recipe.precision}, "
        f"{batches.device.type}, {threads} thread{'' if threads == 1 else 's'}"
    )
    turns = f"{repeats} turns of {iterations} iterations"
    if chosen or against == "plain-dst":
        shown = (
            lines(compare_methods(recipe, batches, chosen, iterations, repeats), batches.device)
            if chosen
            else compare_dst(recipe, batches, iterations, repeats)
        )
        typer.echo("\n".join([f"{setting}; medians (quartiles) of {turns}", *shown]))
        return 0
    if against == "pillow":
        ratios, speeds = compare_data(recipe, batches, repeats, data)
    elif against in ("research", "null"):
        ratios, speeds = compare_steps(recipe, batches, iterations, repeats, against == "null", data)
    else:
        ratios, speeds = compare_loops(recipe, batches, iterations, repeats)
    low, _, high = _quartiles(ratios)
    typer.echo(
        f"{setting}: {BASELINES[against]} {statistics.median(ratios):.3f} "
        f"(quartiles {low:.3f} to {high:.3f}, {turns}); {statistics.median(speeds):.0f} images/s"
    )
    return 0


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
