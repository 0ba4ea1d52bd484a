"""Makes the record of a finished run, with the verdict whether it collapsed or missed its target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from benchmark.cells import Cell, digest
from benchmark.metric import ACCURACY
from benchmark.pruning import metrics
from benchmark.results.records import TARGET_MARGIN, Record
from benchmark.training.loop import Run
from benchmark.training.progress import Progress

SAMPLES = 100
"""Points of the learning-rate curve that a record keeps; its hash covers all of them."""


def make_record(cell: Cell, run: Run, parent: Record | None, smaller: nn.Module | None = None) -> Record:
    """The record of a finished run, without its circumstances (seconds, images/s, provenance).

    parent: the record of the dense run that it started from. smaller: as `Method.smaller` gives it.
    """
    progress, method, scale = run.progress, run.method, run.step.scale
    inputs = run.data.example(1)
    # Counted once for every architecture: counting takes longer than all else after training.
    build = f"macs of {[value.shape for value in inputs]} in {type(run.network)} {run.network}"
    if build not in run.data.remembered:
        run.data.remembered[build] = metrics.macs(run.network, inputs)
    measured = metrics.measure(run.network, inputs, run.data.remembered[build])
    if parent is not None:
        for kind, values in progress.measures.items():
            values["dense"] = parent[kind]["final"]
    status, remarks = judge(run, measured["sparsity"])
    metric = run.task.metric
    learned = None if method.learned_sparsity is None else float(method.learned_sparsity)
    return {
        "schema": 1,
        "id": cell.id,
        "cell": cell.to_json(),
        "parent": None if parent is None else {"id": parent["id"], "weights_sha256": parent["weights_sha256"]},
        "status": status,
        "remarks": remarks,
        **({} if metric == ACCURACY else {"metric": metric.to_json()}),
        **_finite(progress.measures),
        "sparsity": {"target": cell.sparsity, "learned": learned, **measured["sparsity"]},
        "macs": measured["macs"],
        **({} if smaller is None else {"smaller": metrics.describe_smaller(run.network, smaller, inputs)}),
        "learning_rate": _learning_rates(progress),
        "cycles": _finite(progress.cycles),
        "history": _finite(progress.history),
        "iterations": {
            "total": sum(map(len, progress.rates)),
            "per_epoch": run.data.iterations_per_epoch,
            **({} if scale is None else {"skipped": int(scale.skipped)}),
        },
        "parameters_sha256": parameters_hash(run.network),
    }


def judge(run: Run, sparsity: dict[str, Any]) -> tuple[str, list[str]]:
    """(status, remarks): "ok", "collapsed" or "missed_target"; a collapsed run is a result, too, and says so.

    sparsity: as `metrics.measure` gives it.
    """
    progress, task, target = run.progress, run.task, run.method.target_sparsity
    reasons, layers = [], sparsity["layers"]
    if progress.cut_short:
        reasons.append(
            f"loss or weights were not finite after iteration {progress.iteration} of phase {progress.phase}"
        )
    empty = [name for name, layer in layers.items() if layer["zeros"] == layer["weights"]]
    if empty:
        reasons.append(f"all weights of {', '.join(empty)} are zero")
    value = progress.measures[task.metric.name]["final"]["validation"]
    if math.isnan(value) or task.is_chance(value, run.data):
        reasons.append(f"a final validation {task.metric.label} of {task.metric.text(value)} is about chance")
    if reasons:
        return "collapsed", reasons
    unseen = [name for name, layer in layers.items() if layer["weights"] and not layer["macs"]]
    remarks = [f"no product with {', '.join(unseen)} was seen: MACs leave that out"] if unseen else []
    reached = sparsity["prunable"]
    if target is not None and abs(reached - target) > TARGET_MARGIN:
        remarks.insert(0, f"it ended at a sparsity of {100 * reached:.2f} %, not {100 * target:g} %")
        return "missed_target", remarks
    return "ok", remarks


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
    """With None for NaN and infinity, which JSON does not have: a loss may be one of them."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def parameters_hash(network: nn.Module) -> str:
    """Hash of every parameter and buffer, bit for bit: tests compare weights by it."""
    return digest(
        {
            name: digest(tensor.detach().cpu().contiguous().numpy().tobytes().hex())
            for name, tensor in network.state_dict().items()
        }
    )
