"""The record of a finished run: what was reached, and whether it came to nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from benchmark.cells import Cell, digest
from benchmark.pruning import metrics
from benchmark.results.records import TARGET_MARGIN, Record
from benchmark.training.loop import Run
from benchmark.training.progress import Progress

SAMPLES = 100
"""Points of the learning-rate curve that a record keeps; its hash covers all."""
CHANCE_MARGIN = 0.5
CHANCE_MOST = 0.05
"""A final accuracy no more than this share of chance above it counts as collapsed, nor than this much above it."""


def make_record(cell: Cell, run: Run, parent: Record | None, smaller: nn.Module | None = None) -> Record:
    """The record of a finished run, without its circumstances (seconds, images/s, provenance).

    smaller: as `Method.smaller` gives it.
    """
    progress, method, scale = run.progress, run.method, run.step.scale
    image = (cell.problem.channels, cell.problem.image_size, cell.problem.image_size)
    # Counting takes longer than all else after training, and gives the same for every network of this build.
    build = f"macs of {image} in {type(run.network)} {run.network}"
    if build not in run.data.remembered:
        run.data.remembered[build] = metrics.macs(run.network, image)
    measured = metrics.measure(run.network, image, run.data.remembered[build])
    if parent is not None:
        for kind, values in progress.measures.items():
            values["dense"] = parent[kind]["final"]
    status, remarks = judge(cell, progress, measured["sparsity"], method.target_sparsity)
    return {
        "schema": 1,
        "id": cell.id,
        "cell": cell.to_json(),
        "parent": None if parent is None else {"id": parent["id"], "weights_sha256": parent["weights_sha256"]},
        "status": status,
        "remarks": remarks,
        **_finite(progress.measures),
        "sparsity": {"target": cell.sparsity, "learned": method.learned_sparsity, **measured["sparsity"]},
        "macs": measured["macs"],
        **({} if smaller is None else {"smaller": metrics.describe_smaller(run.network, smaller, image)}),
        "learning_rate": _learning_rates(progress),
        "cycles": progress.cycles,
        "history": _finite(progress.history),
        "iterations": {
            "total": sum(map(len, progress.rates)),
            "per_epoch": run.data.iterations_per_epoch,
            **({} if scale is None else {"skipped": int(scale.skipped)}),
        },
        "parameters_sha256": _parameters_hash(run.network),
    }


def judge(cell: Cell, progress: Progress, sparsity: dict[str, Any], target: float | None) -> tuple[str, list[str]]:
    """("ok" | "collapsed" | "missed_target", reasons): a run that came to nothing is a result and says so.

    sparsity: as `metrics.measure` gives it; target: the fraction of the prunable weights that it should have reached.
    """
    reasons, layers = [], sparsity["layers"]
    if progress.cut_short:
        reasons.append(
            f"loss or weights were not finite after iteration {progress.iteration} of phase {progress.phase}"
        )
    empty = [name for name, layer in layers.items() if layer["zeros"] == layer["weights"]]
    if empty:
        reasons.append(f"all weights of {', '.join(empty)} are zero")
    accuracy = progress.measures["accuracy"]["final"]["validation"]
    chance = 1 / cell.problem.classes
    if accuracy <= chance + min(CHANCE_MARGIN * chance, CHANCE_MOST):
        reasons.append(f"a final validation accuracy of {100 * accuracy:.1f} % is about chance")
    if reasons:
        return "collapsed", reasons
    reached = sparsity["prunable"]
    if target is not None and abs(reached - target) > TARGET_MARGIN:
        return "missed_target", [f"it ended at a sparsity of {100 * reached:.2f} %, not {100 * target:g} %"]
    return "ok", []


def _learning_rates(progress: Progress) -> dict[str, Any]:
    rates = np.array([rate for phase in progress.rates for rate in phase])
    chosen = np.unique(np.linspace(0, len(rates) - 1, SAMPLES).round().astype(int)) if len(rates) else np.array([], int)
    return {
        "iterations": len(rates),
        "peak": float(rates.max(initial=0.0)),
        "sha256": digest([rate.hex() for rate in rates.tolist()]),
        "sampled": {"iteration": chosen.tolist(), "value": rates[chosen].tolist()},
    }


def _finite(values: Any) -> Any:
    """JSON has no NaN and no infinity; a loss that is one of them is null."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _parameters_hash(network: nn.Module) -> str:
    """Hash of every parameter and buffer, bit for bit: what 'the same weights' means in the tests."""
    return digest(
        {
            name: digest(tensor.detach().cpu().contiguous().numpy().tobytes().hex())
            for name, tensor in network.state_dict().items()
        }
    )
