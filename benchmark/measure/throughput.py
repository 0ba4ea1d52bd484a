"""The training loop and its parts over something that takes turns with them in the same process.

"bare" reuses prepared batches; the suite's loop augments, counts loss and accuracy, sets the learning rate of every
iteration and asks whether to stop. "research" is a pruned network's training steps in the manner of a research script;
"null" the same with next to no network; "pillow" augmented batches alone, against torchvision's transforms in a
DataLoader; "plain-dst" a step of DST against a plain implementation's.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from benchmark.errors import UserError
from benchmark.measure.common import usable_device
from benchmark.measure.loops import bare_loop, dense_run, drive, endless, retraining_run
from benchmark.measure.method_costs import compare_dst, compare_methods, parse_methods
from benchmark.measure.research_loop import Null, PlainLoop, pillow_batches
from benchmark.measure.timing import Turns, clocked, quartiles, rates, take_turns
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import Data, open_data
from benchmark.problems.examples import has_examples
from benchmark.problems.sources import open_source
from benchmark.training.precision import prepare_device

BASELINES = {
    "bare": "loop over bare",
    "research": "step over a research script's",
    "null": "step over a research script's, next to no network,",
    "pillow": "batches over torchvision's",
    "plain-dst": "",
}
SUITE = "suite"


def compare(
    problem: str,
    settings: Mapping[str, Any],
    device: str,
    folder: Path | None,
    threads: int,
    iterations: int,
    repeats: int,
    against: str | None,
    methods: str | None,
) -> list[str]:
    """The lines that `python -m benchmark.throughput` prints. Raises UserError.

    Args:
        problem: a file of sweeps/problems/.
        settings: fields of the recipe, given with --set.
        device: as --device names it.
        folder: of the images.
        threads: of the processor.
        iterations: of one turn.
        repeats: turns.
        against: of BASELINES; None for "bare".
        methods: to compare with dense training instead, as `parse_methods` reads them.
    """
    if methods and against:
        raise UserError(f"--methods {methods} --against {against}: methods are compared with dense training; give one")
    against = against or "bare"
    if against not in BASELINES:
        raise UserError(f"--against {against}: one of {', '.join(BASELINES)}")
    names = parse_methods(methods) if methods else []
    recipe, _ = load_problem(problem, settings)
    there = usable_device(device)
    prepare_device(recipe, there)
    torch.set_num_threads(threads)
    # Images of any size stay in memory here: what is measured is the loop, not the reading of files.
    images = recipe.task == "classification" and not has_examples(recipe)
    data = Data(recipe, there, folder) if images else open_data(recipe, there, folder)
    shapes = " and ".join("x".join(map(str, inputs.shape[1:])) for inputs in data.example(1))
    heading = (
        f"{recipe.model} on {recipe.dataset}, {shapes}, batch {recipe.batch_size}, {recipe.precision}, "
        f"{there.type}, {threads} thread{'' if threads == 1 else 's'}; medians (quartiles) of {repeats} turns of "
        f"{iterations} iterations"
    )
    if not images and (names or against != "bare"):
        asked = f"--methods {methods}" if methods else f"--against {against}"
        raise UserError(f"{asked}: for images in memory; --against bare is for all data, such as {recipe.dataset}")
    if names:
        return [heading, *compare_methods(cast(Data, data), names, iterations, repeats)]
    if against == "plain-dst":
        return [heading, *compare_dst(cast(Data, data), iterations, repeats)]
    if against == "pillow":
        turns = compare_batches(data, repeats, folder)
    elif against == "bare":
        turns = compare_loops(data, iterations, repeats)
    else:
        turns = compare_steps(data, iterations, repeats, against == "null", folder)
    speed = statistics.median(rates(turns.others[SUITE]))
    return [heading, f"{BASELINES[against]} {quartiles(turns.ratios(SUITE))}; {speed:.0f} images/s"]


def compare_loops(data: Batches, iterations: int, repeats: int) -> Turns:
    """The suite's loop over the bare one."""
    run = dense_run(data)
    images = iterations * min(data.problem.batch_size, data.training_images)
    bare, batches = clocked(bare_loop(run, iterations), images, data.device), endless(data)
    return take_turns(bare, {SUITE: clocked(lambda: drive(run, iterations, batches), images, data.device)}, repeats)


def compare_batches(data: Batches, repeats: int, folder: Path | None) -> Turns:
    """Epochs of the suite's batches over torchvision's."""
    images = open_source(data.problem, folder).training
    pillow = pillow_batches(images, data.problem)
    return take_turns(
        clocked(lambda: _exhaust(pillow), len(images), data.device),
        {SUITE: clocked(lambda: _exhaust(data.training_batches(0, 0)), data.training_images, data.device)},
        repeats,
    )


def _exhaust(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def compare_steps(data: Batches, iterations: int, repeats: int, null: bool, folder: Path | None) -> Turns:
    """Retraining at 90 % sparsity over the research script's, which is always float32."""
    problem, device = data.problem, data.device
    network, plain_network = (Null(problem) if null else models.build(problem, 0) for _ in range(2))
    run = retraining_run(data, network)
    plain_network = plain_network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    plain = PlainLoop(problem, plain_network, open_source(problem, folder).training, device, 0.9)
    images = iterations * problem.batch_size
    research, batches = clocked(lambda: plain.run(iterations), images, device), endless(data)
    return take_turns(research, {SUITE: clocked(lambda: drive(run, iterations, batches), images, device)}, repeats)
