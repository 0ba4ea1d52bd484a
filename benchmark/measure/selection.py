"""What a selection costs against torch's own, in one run.

Every round times all variants one after the other on the same weights, of sizes of your choice and of a network's own
tensors, in an order that rotates, so that a busy machine slows them alike; the ratios are taken within a round, and
their median and range over the rounds are printed. Where the machine is so busy that it takes the processor away in the
middle of one, `--clock processor` leaves the waiting out. Every result is compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmark.errors import UserError
from benchmark.measure.common import usable_device
from benchmark.measure.timing import Seconds, timed
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.pruning.flat import Flat
from benchmark.pruning.prunable import prunable
from benchmark.pruning.selection import Bracket, find_threshold

LAYERS = 55
SMALLEST = 100_000
THEIRS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "kthvalue": lambda magnitudes, k: magnitudes.kthvalue(k).values,
    "sort": lambda magnitudes, k: magnitudes.sort().values[k - 1],
    "topk": lambda magnitudes, k: magnitudes.topk(k, largest=False, sorted=False).values.max(),
}
"""The k-th smallest value by torch's own functions."""
COLD, WARM, VECTOR = "cold", "warm", "warm, from the vector"
HEADINGS = ("weights", "ours", "ms", "theirs, ms", "theirs", "times quicker", "range")
Times = dict[str, list[float]]
"""Seconds of each variant, a value a round."""


def show(
    sizes: str,
    rounds: int,
    sparsity: float,
    clock: str,
    model: str,
    device: str,
    against: Sequence[str] = ("kthvalue",),
) -> None:
    """Print the table. Raises UserError.

    Args:
        sizes: numbers of weights, comma between.
        rounds: all variants in each.
        sparsity: the fraction that goes.
        clock: a field of Seconds.
        model: a network whose own weights are selected from as well, or "none".
        device: as --device names it.
        against: names of THEIRS.
    """
    for name in against:
        if name not in THEIRS:
            raise UserError(f"--against {name}: some of {','.join(THEIRS)}")
    if not 0 < sparsity < 1:
        raise UserError(f"--sparsity {sparsity}: a fraction above 0 and below 1")
    if clock not in Seconds._fields:
        raise UserError(f"--clock {clock}: {' or '.join(Seconds._fields)}")
    counts = [_count("--size", text) for text in sizes.split(",")]
    there = usable_device(device)
    cases = [(f"{count / 1e6:g} M", layers(count, there)) for count in counts]
    if model != "none":
        cases.append((model, model_weights(model, there)))
    where = f"{there.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    table = Table(title=f"{rounds} rounds, {clock} time, {where}")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("ours", "theirs") else "right", no_wrap=True)
    remarks = []
    for label, weights in cases:
        times, mismatches, hits = compare_thresholds(weights, rounds, sparsity, clock, against)
        for name in against:
            for variant in (COLD, WARM, VECTOR):
                _add_row(table, label, times, f"torch.{name}", variant)
        held = f", {hits} of {rounds} warm brackets held" if there.type == "cpu" else ""  # elsewhere none is used
        total = sum(weight.numel() for weight in weights)
        remarks.append(f"{label}: {total} weights in {len(weights)} tensors, {mismatches} mismatches{held}")
    console = Console(width=120)
    console.print(table)
    console.print("\n".join(remarks))


def _count(option: str, text: str) -> int:
    try:
        count = float(text)
    except ValueError:
        count = 0
    if not SMALLEST <= count <= 1e9:
        raise UserError(f"{option} {text!r}: numbers of weights such as 0.85e6, from {SMALLEST} to 1e9")
    return int(count)


def _add_row(table: Table, label: str, times: Times, slow: str, quick: str) -> None:
    ratios = [before / after for before, after in zip(times[slow], times[quick], strict=True)]
    milliseconds = {name: f"{1e3 * statistics.median(times[name]):.2f}" for name in (slow, quick)}
    times_quicker, extremes = f"{statistics.median(ratios):.1f}", f"{min(ratios):.1f} to {max(ratios):.1f}"
    table.add_row(label, quick, milliseconds[quick], milliseconds[slow], slow, times_quicker, extremes)


def layers(size: int, device: torch.device) -> list[Tensor]:
    """A network's worth of normal weights, together `size`: as many layers as ResNet-50 and 56 have."""
    generator = torch.Generator().manual_seed(0)
    shares = np.linspace(1, 10, LAYERS)
    sizes = (shares / shares.sum() * size).astype(int)
    sizes[-1] += size - sizes.sum()
    weights = [torch.randn(int(n), generator=generator) * (0.2 / (1 + i) ** 0.5) for i, n in enumerate(sizes)]
    return [weight.to(device) for weight in weights]


def model_weights(model: str, device: torch.device) -> list[Tensor]:
    """The weight tensors of a network for 3x32x32 images as it is initialised, in its own memory format."""
    problem, _ = load_problem("cifar10", {"dataset": "noise", "model": model})
    return [weight.detach().clone() for weight in prunable(models.build(problem, 0).to(device)).values()]


def drift(weights: list[Tensor], generator: torch.Generator) -> None:
    """About what a step of SGD does: every weight moves by 0.1 % of its layer's scale, and so does the scale itself."""
    for weight in weights:
        scale = float(1 + 1e-3 * torch.randn((), generator=generator))
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        weight.mul_(scale).add_(noise, alpha=1e-3 * float(weight.std()))


def compare_thresholds(
    weights: list[Tensor], rounds: int, sparsity: float, clock: str, against: Sequence[str]
) -> tuple[Times, int, int]:
    """(times, results that differ from the first of `against`, warm brackets that held).

    VECTOR is what a method does in every step: the weights are gathered into one vector, which is timed with it, and
    the threshold is found there from the last one's bracket.
    """
    generator = torch.Generator().manual_seed(1)
    flat = Flat(weights)
    vector, bracket, vector_bracket = flat.vector(), Bracket(), Bracket()
    k = round(sparsity * flat.size)

    def from_vector() -> float:
        vector.take(weights)
        return find_threshold([vector.values], k, magnitude=True, bracket=vector_bracket).value

    def by_torch(name: str) -> float:
        return float(THEIRS[name](magnitudes, k))

    # torch's reads magnitudes whose making is not timed, which is in its favour; the others read the weights.
    variants: dict[str, Callable[[], float]] = {
        **{f"torch.{name}": partial(by_torch, name) for name in against},
        COLD: lambda: find_threshold(weights, k, magnitude=True).value,
        WARM: lambda: find_threshold(weights, k, magnitude=True, bracket=bracket).value,
        VECTOR: from_vector,
    }
    variants[WARM]()
    variants[VECTOR]()
    times: Times = {name: [] for name in variants}
    names, mismatches = list(variants), 0
    for number in range(rounds):
        drift(weights, generator)
        magnitudes = torch.cat([weight.flatten() for weight in weights]).abs()
        start = number % len(names)
        values = {}
        for name in [*names[start:], *names[:start]]:  # each finds the caches as each other leaves them
            seconds, values[name] = timed(variants[name], flat.device)
            times[name].append(getattr(seconds, clock))
        mismatches += sum(value != values[names[0]] for value in values.values())
    return times, mismatches, bracket.hits
