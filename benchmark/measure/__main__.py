"""`python -m benchmark.measure WHAT`: what the suite costs on this machine, as ratios within one run."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError
from benchmark.launch.machine import cores
from benchmark.measure.common import (
    MOST_PROCESSES,
    Device,
    Folder,
    Iterations,
    Name,
    Repeats,
    Set,
    Threads,
    usable_device,
)
from benchmark.measure.timing import rates, spread

app = cli.make_app(help=__doc__)

Records = Annotated[int, typer.Option(min=1, help="How many synthetic records")]
Temporary = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, writable=True, help="Where to make the temporary store")
]


@app.command(short_help="does torch.compile, or a precision, pay here, and what does it do to the metric?")
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
    """Gain in images/s of a setting of the recipe, and the metric of dense runs with and without it."""
    from benchmark.measure.options import final_test, gain, with_and_without

    without, with_it = with_and_without(
        problem, cli.parse_settings(set_ or []), cli.parse_settings([setting], "SETTING"), device, data, threads
    )
    ratios, first = gain(without, with_it, iterations, repeats)
    recipe = without.problem
    print(
        f"{recipe.model} on {recipe.dataset}, batch {recipe.batch_size}, {without.device.type}; {setting}: "
        f"{spread(ratios, 3)} times the images/s of training without it, in {repeats} turns of {iterations} "
        f"iterations; the first iteration took {first:.1f} s"
    )
    for seed in range(seeds):
        (metric, before), (_, after) = (final_test(recipe_data, seed) for recipe_data in (without, with_it))
        values = (f"{value:.2f} {metric.unit}".rstrip() for value in (after, before))
        print(
            f"seed {seed}: test {metric.label} {next(values)} with it, {next(values)} without, "
            f"difference {after - before:+.2f}{metric.direction}"
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

    seconds = per_cell(name, problem, cli.parse_settings(set_ or []), data, device, count)
    total, training, evaluation = zip(*seconds, strict=True)
    rest = [whole - trained - evaluated for whole, trained, evaluated in seconds]
    parts = {"whole cell": total, "training": training, "evaluation": evaluation, "the rest": rest}
    for label, values in parts.items():
        print(f"{label:11} {spread([1000 * value for value in values], 0)} ms")
    print(f"training is {100 * sum(training) / sum(total):.0f} % of {len(seconds)} cells")
    return 0


@app.command(short_help="processes with their share of the cores, over as many that each take torch's default")
def packed(
    problem: Name = "cifar10",
    set_: Set = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Processes")] = 2,
    device: Device = "auto",
    iterations: Iterations = 8,
    repeats: Repeats = 5,
) -> int:
    """Images/s of processes with cores / processes threads, over as many with torch's default, by turns. On noise."""
    from benchmark.measure.packing import MANAGED, compare

    settings = {"model": "resnet20", "precision": "bf16", **cli.parse_settings(set_ or [])}
    recipe, turns = compare(problem, settings, count, iterations, repeats, device)
    managed, unmanaged = spread(rates(turns.others[MANAGED]), 0), spread(rates(turns.baseline), 0)
    print(
        f"{recipe.model} {recipe.precision}, {count} processes on {cores()} cores: {managed} images/s with "
        f"{max(1, cores() // count)} threads each, {unmanaged} with {cores()}; ratio {spread(turns.ratios(MANAGED))}, "
        f"{repeats} turns of {iterations} iterations"
    )
    return 0


@app.command(short_help="what workers take, and whether they share the images")
def memory(
    images: Annotated[int, typer.Option(min=128, max=10_000_000, help="Training images")] = 50_000,
    model: Annotated[str, typer.Option(help="The network that trains")] = "resnet20",
    workers: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Processes")] = 2,
    device: Device = "auto",
    iterations: Iterations = 4,
) -> int:
    """Memory of workers that train on 3x32x32 noise, and how much of the images each has to itself. Linux only."""
    from benchmark.measure.memory import of_workers

    for number, worker in enumerate(of_workers(images, model, workers, iterations, device)):
        gpu = f"; on the GPU at most {worker.gpu:.0f} MB" if worker.gpu else ""
        print(
            f"worker {number}: peak {worker.peak:.0f} MB, of which its own or its share {worker.proportional:.0f} MB; "
            f"images {worker.images:.0f} MB mapped, {worker.resident:.0f} MB in memory, {worker.private:.0f} MB "
            f"private{gpu}"
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
    from benchmark.measure.streaming import decoders, decoding

    if not 0 < needed < math.inf:
        raise UserError(f"--needed {needed:g}: images/s, a number above 0")
    for decoder in decoders():
        by_processes, each_core = decoding(decoder, images, most or cores(), repeats)
        for by, values in by_processes.items():
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
    from benchmark.measure.startup import whole_commands

    for command, turns in whole_commands(repeats).items():
        wall, processor = zip(*turns, strict=True)
        print(f"{command}: {spread(wall)} s, {spread(processor)} s of processor time")
    return 0


@app.command(short_help="exact selection of the smallest weights over torch.kthvalue")
def selection(
    size: Annotated[str, typer.Option(help="Weights, comma-separated")] = "0.85e6,25e6",
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Repeats, all variants in each")] = 20,
    sparsity: Annotated[float, typer.Option(help="Fraction pruned")] = 0.9,
    clock: Annotated[str, typer.Option(help="wall, or processor: on a busy machine")] = "wall",
    model: Annotated[str, typer.Option(help="A network whose own weights are selected from, too, or none")] = (
        "resnet56"
    ),
    device: Device = "auto",
    against: Annotated[str, typer.Option(help="Some of kthvalue, sort and topk, comma-separated")] = "kthvalue",
) -> int:
    """Exact selection of the smallest |w| against torch.kthvalue."""
    from benchmark.measure.selection import show

    show(size, rounds, sparsity, clock, model, device, against.split(","))
    return 0


@app.command(short_help="retraining as one CUDA graph a step, over the eager loop")
def graph(
    model: Annotated[str, typer.Option(help="The network that trains, on noise")] = "resnet20",
    set_: Set = None,
    loops: Annotated[str, typer.Option(help="Compared with eager training, comma-separated")] = "reduce-overhead,graph",
    processes: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="That train at the same time")] = 1,
    device: Device = "auto",
    iterations: Iterations = 280,
    repeats: Repeats = 5,
) -> int:
    """Images/s of IMP's retraining as one CUDA graph a step and under torch.compile, over eager training."""
    from benchmark.measure.graph import compare

    settings = cli.parse_settings(set_ or [])
    recipe, differences, turns = compare(model, settings, loops.split(","), processes, iterations, repeats, device)
    print(
        f"{model} {recipe.precision}, batch {recipe.batch_size}, {processes} process{'es' * (processes > 1)}: eager "
        f"{spread(rates(turns.baseline), 0)} images/s, {repeats} turns of {iterations} iterations"
    )
    for name, difference in differences.items():
        print(
            f"{name}: {spread(rates(turns.others[name]), 0)} images/s, {spread(turns.ratios(name))} times eager; "
            f"losses are eager's to {difference:.1g} of them"
        )
    return 0


@app.command(short_help="does training work on this device as it does on a processor?")
def smoke(set_: Set = None, device: Device = "auto") -> int:
    """Steps of every method, precisions, evaluation and resuming on a device. Exit code 1 if one goes wrong."""
    from benchmark.measure.smoke import show

    return int(not show(cli.parse_settings(set_ or []), device))


@app.command(short_help="everything that a GPU should be asked, in order, within a time limit")
def gpu(
    out: Annotated[Path | None, typer.Option(help="The folder of the results")] = None,
    budget: Annotated[float, typer.Option(min=20, help="Seconds for all steps together")] = 570,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the steps that are finished in --out")] = False,
    device: Annotated[str, typer.Option(help="cuda; on cpu all steps are tiny, as a rehearsal")] = "cuda",
    data: Annotated[Path | None, typer.Option(help="CIFAR-10's images for Table 1: a folder or a tar archive")] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Measure nothing, but put all that a machine without network needs there")
    ] = None,
    python: Annotated[str, typer.Option(help="With --pack: that machine's Python")] = "3.12",
) -> int:
    """Run docs/performance.md's plan for a GPU step by step. Exit code 1 if a step failed."""
    deadline = time.monotonic() + budget
    from benchmark.measure import gpu as steps
    from benchmark.measure.gpu_pack import fill

    if (out is None) == (pack is None):
        raise UserError("give --out FOLDER for the results, or --pack FOLDER to prepare a machine without network")
    if pack is not None:
        return _show(fill(pack, data, python))
    assert out is not None
    if device not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: cuda, or cpu for a rehearsal")
    usable_device(device)
    return int(not steps.measure(out, deadline, device, data, resume))


@app.command(short_help="benchmark.api in a training loop, and its pruning over torch.nn.utils.prune")
def library(
    model: Annotated[str, typer.Option(help="The network that trains")] = "resnet20",
    batch: Annotated[int, typer.Option(min=2, max=100_000, help="Images of a training step")] = 128,
    one_shot: Annotated[str, typer.Option(help="The network whose weights are pruned in one shot")] = "resnet50",
    iterations: Iterations = 4,
    repeats: Repeats = 9,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Turns of the one-shot pruning")] = 5,
    threads: Threads = 1,
) -> int:
    """What sparse.step() adds to a training step on the processor, and one-shot pruning over global_unstructured."""
    from benchmark.measure.library import lines

    return _show(lines(model, batch, one_shot, iterations, repeats, rounds, threads))


@app.command(short_help="planning and status of very many cells")
def planning(cells: Annotated[int, typer.Option(min=100, help="Cells of the sweep")] = 100_000) -> int:
    """Seconds to plan the jobs of a large sweep, to write its intent, and to ask its status."""
    from benchmark.measure.planning import plan_and_status

    return _show(plan_and_status(cells))


@app.command(short_help="where the time of SLURM jobs went, a cell")
def overhead(
    results: Annotated[Path, typer.Option(help="A results folder that SLURM jobs worked on")] = cli.RESULTS,
) -> int:
    """Seconds a cell that SLURM jobs spent beyond training and evaluation: starting, in the cell, between cells."""
    from benchmark.measure import planning

    return _show(planning.overhead(results))


@app.command(short_help="reading very many records into Table 1")
def reading(records: Records = 100_000, folder: Temporary = None) -> int:
    """Seconds to read a store of synthetic records into Table 1, as make_tables does. Leaves nothing behind."""
    from benchmark.measure.reading import read_into_table

    return _show(read_into_table(records, folder))


@app.command(short_help="making the report of many records, and opening it in a browser")
def report(records: Records = 1000, repeats: Repeats = 3, folder: Temporary = None) -> int:
    """Seconds to make the report of synthetic records and, where Chromium is, to open it. Leaves nothing behind."""
    from benchmark.measure.report import make_and_open

    return _show(make_and_open(records, repeats, folder))


@app.command(short_help="what publishing a cell to Weights & Biases costs")
def publishing(count: Annotated[int, typer.Option(min=1, max=100_000, help="How many made-up records")] = 200) -> int:
    """Seconds to publish a cell offline. Leaves nothing behind."""
    from benchmark.measure.publishing import publish_made_up

    return _show(publish_made_up(count))


def _show(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
