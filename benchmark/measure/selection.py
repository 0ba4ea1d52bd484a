"""What a selection costs against torch's own, in one run: python -m benchmark.measure.selection.

Every round times all variants one after the other on the same weights, of sizes of your choice and of a network's own
tensors, in an order that rotates, so that a busy machine slows them alike; the ratios are taken within a round, and
their median and range over the rounds are printed. Where the machine is so busy that it takes the processor away in the
middle of one, `--clock processor` leaves the waiting out. Every result is compared.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmark import cli
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.pruning.flat import Flat
from benchmark.pruning.masks import prunable
from benchmark.pruning.selection import Bracket, find_threshold, keep_all_but_smallest

LAYERS = 55
SMALLEST = 100_000
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def layers(size: int) -> list[Tensor]:
    """A network's worth of normal weights, together `size`: as many layers as ResNet-50 and 56 have."""
    generator = torch.Generator().manual_seed(0)
    shares = np.linspace(1, 10, LAYERS)
    sizes = (shares / shares.sum() * size).astype(int)
    sizes[-1] += size - sizes.sum()
    return [torch.randn(int(n), generator=generator) * (0.2 / (1 + i) ** 0.5) for i, n in enumerate(sizes)]


def drift(weights: list[Tensor], generator: torch.Generator) -> None:
    """About what a step of SGD does: every weight moves by 0.1 % of its layer's scale, and so does the scale itself."""
    for weight in weights:
        scale = float(1 + 1e-3 * torch.randn((), generator=generator))
        weight.mul_(scale).add_(torch.randn(weight.shape, generator=generator), alpha=1e-3 * float(weight.std()))


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def timed(call: Callable[[], object], clock: str) -> tuple[float, object]:
    start = CLOCKS[clock]()
    result = call()
    return CLOCKS[clock]() - start, result


def model_weights(model: str) -> list[Tensor]:
    """The weight tensors of a network for 3x32x32 images as it is initialised, in its own memory format."""
    if model not in models.MODELS:
        raise UserError(f"--model {model!r}: one of {', '.join(models.MODELS)}")
    problem, _ = load_problem("cifar10", {"dataset": "noise", "model": model})
    return [weight.detach().clone() for weight in prunable(models.build(problem, 0)).values()]


def measure_thresholds(
    weights: list[Tensor], rounds: int, sparsity: float, clock: str
) -> tuple[dict[str, list[float]], int, int]:
    """(seconds of each variant by round, results that differ from kthvalue's, warm brackets that held).

    "from the vector" is what a method does in every step: the weights are gathered into one vector, which is timed with
    it, and the threshold is found there from the last one's bracket.
    """
    generator = torch.Generator().manual_seed(1)
    flat = Flat(weights)
    vector, beside = flat.vector(), Bracket()
    k = round(sparsity * flat.size)

    def from_vector() -> float:
        vector.take(weights)
        return find_threshold([vector.values], k, magnitude=True, bracket=beside).value

    from_vector()
    bracket, mismatches = Bracket(), 0
    find_threshold(weights, k, magnitude=True, bracket=bracket)
    seconds: dict[str, list[float]] = {"torch.kthvalue": [], "numpy.partition": [], "cold": [], "warm": []}
    seconds["warm, from the vector"] = []
    for i in range(rounds):
        drift(weights, generator)
        magnitudes = torch.cat(
            [weight.flatten() for weight in weights]
        ).abs()  # not timed: in kthvalue's favour, the two below read the weights
        variants: dict[str, Callable[[], object]] = {
            "torch.kthvalue": lambda flat=magnitudes: float(flat.kthvalue(k).values),  # type: ignore[misc]
            "numpy.partition": lambda flat=magnitudes: float(np.partition(flat.numpy(), k - 1)[k - 1]),  # type: ignore[misc]
            "cold": lambda: find_threshold(weights, k, magnitude=True).value,
            "warm": lambda: find_threshold(weights, k, magnitude=True, bracket=bracket).value,
            "warm, from the vector": from_vector,
        }
        names = list(variants)
        values = {}
        for name in (
            names[i % len(names) :] + names[: i % len(names)]
        ):  # each finds the caches as each other leaves them
            elapsed, values[name] = timed(variants[name], clock)
            seconds[name].append(elapsed)
        mismatches += sum(value != values["torch.kthvalue"] for value in values.values())
    return seconds, mismatches, bracket.hits


def measure_one_shot(size: int, rounds: int, sparsity: float, clock: str) -> tuple[dict[str, list[float]], int]:
    """One-shot global magnitude pruning of modules: (seconds of each variant by round, masks that differ)."""
    seconds: dict[str, list[float]] = {"global_unstructured": [], "one-shot": []}
    mismatches = 0
    for _ in range(rounds):
        modules, weights = [], layers(size)
        for weight in weights:
            module = nn.Linear(1, 1, bias=False)
            module.weight = nn.Parameter(weight.clone().unsqueeze(0))
            modules.append(module)

        def theirs(modules: list[nn.Linear] = modules) -> list[Tensor]:
            prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=sparsity)
            return [getattr(m, "weight_mask") for m in modules]  # noqa: B009  a buffer that nn.Module's type hides

        def ours(weights: list[Tensor] = weights) -> list[Tensor]:
            masks = keep_all_but_smallest(weights, round(sparsity * size), magnitude=True)
            torch._foreach_mul_(weights, masks)
            return masks

        for name, call in (("global_unstructured", theirs), ("one-shot", ours)):
            elapsed, masks = timed(call, clock)
            seconds[name].append(elapsed)
            if name == "global_unstructured":
                expected = masks
        mismatches += sum(not torch.equal(a[0], b) for a, b in zip(expected, masks, strict=True))  # type: ignore[call-overload]
    return seconds, mismatches


def ratios(seconds: dict[str, list[float]], of: str, to: str) -> list[float]:
    """How many times quicker `to` was than `of`, sorted, one number a round."""
    return sorted(slow / quick for slow, quick in zip(seconds[of], seconds[to], strict=True))


def row(table: Table, label: str, seconds: dict[str, list[float]], of: str, to: str) -> None:
    quicker = ratios(seconds, of, to)
    table.add_row(
        label,
        to,
        f"{1e3 * statistics.median(seconds[to]):.2f}",
        f"{1e3 * statistics.median(seconds[of]):.2f}",
        of,
        f"{statistics.median(quicker):.1f}",
        f"{quicker[0]:.1f} to {quicker[-1]:.1f}",
    )


@app.command()
def measure(
    size: Annotated[str, typer.Option(help="weights, comma-separated")] = "0.85e6,25e6",
    rounds: Annotated[int, typer.Option(help="repeats, all variants in each")] = 20,
    sparsity: Annotated[float, typer.Option(help="fraction pruned")] = 0.9,
    clock: Annotated[str, typer.Option(help="wall, or processor: on a busy machine")] = "wall",
    model: Annotated[str, typer.Option(help="a network whose own weight tensors are measured as well; '' for none")] = (
        "resnet56"
    ),
    one_shot_size: Annotated[float, typer.Option(help="weights of the comparison with global_unstructured")] = 0.85e6,
) -> None:
    """Exact selection of the smallest |w| against torch.kthvalue, and one-shot pruning against torch.nn.utils.prune."""
    if not 0 < sparsity < 1:
        raise UserError(f"--sparsity {sparsity}: a fraction above 0 and below 1")
    if clock not in CLOCKS:
        raise UserError(f"--clock {clock}: {' or '.join(CLOCKS)}")
    if rounds < 1:
        raise UserError(f"--rounds {rounds}: at least 1")
    cases = [
        (f"{count / 1e6:g} M", layers(count)) for count in (weights_in("--size", text) for text in size.split(","))
    ]
    if model:
        cases.append((model, model_weights(model)))
    once = weights_in("--one-shot-size", str(one_shot_size))
    table = Table(title=f"{rounds} rounds, {clock} time, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for heading in ("weights", "ours", "ms", "theirs, ms", "theirs", "times quicker", "range"):
        table.add_column(heading, justify="left" if heading in ("ours", "theirs") else "right", no_wrap=True)
    remarks = []
    for label, weights in cases:
        seconds, mismatches, hits = measure_thresholds(weights, rounds, sparsity, clock)
        for ours in ("cold", "warm", "warm, from the vector"):
            row(table, label, seconds, "torch.kthvalue", ours)
        row(table, label, seconds, "numpy.partition", "warm, from the vector")
        remarks.append(
            f"{label}: {sum(w.numel() for w in weights)} weights in {len(weights)} tensors, {mismatches} mismatches, "
            f"{hits} of {rounds} warm brackets held"
        )
    seconds, mismatches = measure_one_shot(once, rounds, sparsity, clock)
    row(table, f"{once / 1e6:g} M", seconds, "global_unstructured", "one-shot")
    remarks.append(f"one-shot at {once / 1e6:g} M: {mismatches} masks differ")
    console = Console(width=120)
    console.print(table)
    console.print("\n".join(remarks))


def weights_in(option: str, text: str) -> int:
    try:
        count = float(text)
    except ValueError:
        count = 0
    if not SMALLEST <= count <= 1e9:
        raise UserError(f"{option} {text!r}: numbers of weights such as 0.85e6, from {SMALLEST} to 1e9")
    return int(count)


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
