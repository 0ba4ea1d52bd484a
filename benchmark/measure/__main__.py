"""`python -m benchmark.measure WHAT`: what the suite costs on this machine, as ratios within one run."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.cli import parse_settings
from benchmark.errors import UserError
from benchmark.launch.machine import cores
from benchmark.measure.common import MOST_PROCESSES, Device, Iterations, Threads

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)

Name = Annotated[str, typer.Option(help="A file of sweeps/problems/")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: model=resnet20")]
Folder = Annotated[Path | None, typer.Option(help="The folder of the images")]
Repeats = Annotated[int, typer.Option(min=1, max=10_000, help="Turns")]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


@app.command(short_help="does torch.compile, or a precision, pay here, and what does it do to accuracy?")
def option(
    setting: Annotated[str, typer.Argument(help="compile=default, precision=bf16, precision=fp16")],
    problem: Name = "digits",
    set_: Set = None,
    data: Folder = None,
    device: Device = "auto",
    threads: Threads = 1,
    seeds: Annotated[
        int, typer.Option(min=0, max=1000, help="Dense runs with and without; 0 measures speed alone")
    ] = 2,
    iterations: Iterations = 17,
    repeats: Repeats = 9,
) -> int:
    """Gain in images/s of a setting of the recipe, and the accuracy of dense runs with and without it."""
    from benchmark.measure.options import accuracies, gain, two_recipes

    without, with_it = two_recipes(
        problem, parse_settings(set_ or []), parse_settings([setting], "SETTING"), device, data, threads
    )
    found = gain(without, with_it, iterations, repeats)
    print(
        f"{without.about}; {setting}: {spread(found.ratios, 3)} times the images/s of training without it, in "
        f"{repeats} turns of {iterations} iterations; the first iteration took {found.first:.1f} s"
    )
    for seed in range(seeds):
        before, after = accuracies(without, with_it, seed)
        print(
            f"seed {seed}: test accuracy {100 * after:.2f} % with it, {100 * before:.2f} % without, "
            f"difference {100 * (after - before):+.2f}"
        )
    return 0


@app.command(short_help="where the time of cells goes in one worker, after its first")
def cells(
    name: Annotated[str, typer.Argument(help="A sweep, whose cells are trained one after the other")] = "table1",
    problem: Annotated[str | None, typer.Option(help="A file of sweeps/problems/")] = None,
    set_: Set = None,
    data: Folder = None,
    device: Device = "auto",
    count: Annotated[int, typer.Option(min=1, help="Cells after the dense run and the first")] = 18,
) -> int:
    """Milliseconds of a cell in training, in evaluation and in all the rest, after the worker's first."""
    from benchmark.measure.cells import per_cell

    found = per_cell(name, problem, parse_settings(set_ or []), data, device, count)
    rest = [total - training - evaluation for total, training, evaluation in found]
    for label, values in (
        ("whole cell", [total for total, _, _ in found]),
        ("training", [training for _, training, _ in found]),
        ("evaluation", [evaluation for _, _, evaluation in found]),
        ("the rest", rest),
    ):
        print(f"{label:11} {spread([1000 * value for value in values], 0)} ms")
    print(f"training is {100 * sum(t for _, t, _ in found) / sum(t for t, _, _ in found):.0f} % of {len(found)} cells")
    return 0


@app.command(
    short_help="cells side by side with their share of the cores, over processes that each take torch's default"
)
def packed(
    problem: Name = "cifar10",
    set_: Set = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Processes")] = 2,
    iterations: Iterations = 8,
    repeats: Repeats = 5,
) -> int:
    """Images/s of processes with cores / processes threads, over as many with torch's default, by turns. On noise."""
    from benchmark.measure.packing import compare

    settings = {"model": "resnet20", "precision": "bf16", **parse_settings(set_ or [])}
    recipe, managed, unmanaged = compare(problem, settings, count, iterations, repeats)
    ratios = [ours / theirs for ours, theirs in zip(managed, unmanaged, strict=True)]
    print(
        f"{recipe.model} {recipe.precision}, {count} processes on {cores()} cores: {spread(managed, 0)} images/s with "
        f"{max(1, cores() // count)} threads each, {spread(unmanaged, 0)} with {cores()}; ratio {spread(ratios)}, "
        f"{repeats} turns of {iterations} iterations"
    )
    return 0


@app.command(short_help="what workers take, and whether they share the images")
def memory(
    images: Annotated[int, typer.Option(min=128, max=10_000_000, help="Training images")] = 50_000,
    model: Annotated[str, typer.Option(help="The network that trains")] = "resnet20",
    workers: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Processes")] = 2,
    iterations: Iterations = 4,
) -> int:
    """Memory of workers that train on 3x32x32 noise, and how much of the images each has to itself. Linux only."""
    from benchmark.measure.memory import measure

    for number, found in enumerate(measure(images, model, workers, iterations)):
        print(
            f"worker {number}: peak {found.peak:.0f} MB, of which its own or its share {found.proportional:.0f} MB; "
            f"images {found.images:.0f} MB mapped, {found.resident:.0f} MB in memory, {found.private:.0f} MB private"
        )
    return 0


@app.command(short_help="images/s that loader processes decode, crop and resize")
def streaming(
    images: Annotated[int, typer.Option(min=8, max=1_000_000, help="JPEGs of 500 x 375 pixels, made for this")] = 256,
    most: Annotated[
        int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Loader processes at most; default one a core")
    ] = None,
    repeats: Repeats = 3,
    needed: Annotated[float, typer.Option(help="Images/s that a GPU trains, to compute how many cores feed it")] = 2470,
) -> int:
    """Images/s of the streaming loaders, decoded, cropped to 224 and resized, by decoder and processes or threads."""
    from benchmark.measure.streaming import decoders, measure

    if not 0 < needed < math.inf:
        raise UserError(f"--needed {needed:g}: images/s, a number above 0")
    for decoder in decoders():
        rates, each_core = measure(decoder, images, most or cores(), repeats)
        for by, values in rates.items():
            print(f"{decoder}, {by}: {spread(values, 0)} images/s")
        rate = statistics.median(each_core)
        print(
            f"{decoder}: {spread(each_core, 0)} images per second of processor time; {needed:.0f} images/s need "
            f"{needed / rate:.1f} such cores"
        )
    return 0


@app.command(short_help="seconds until the sweep command answers")
def startup(repeats: Repeats = 5) -> int:
    """Seconds of `python -m benchmark.sweep --help` and of `table1 --dry-run`."""
    from benchmark.measure.startup import measure

    for command, values in measure(repeats).items():
        whole, processor = zip(*values, strict=True)
        print(f"{command}: {spread(whole)} s, {spread(processor)} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
