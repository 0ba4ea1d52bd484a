"""Latency, memory, file size and energy of a finished cell's network, in all its forms."""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from rich.table import Table
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.measure.common import MB, Crew, peak_mb
from benchmark.measure.energy import joules
from benchmark.measure.forms import Form, Inputs, call, forms
from benchmark.measure.timing import cut_points, in_words
from benchmark.trained import Trained
from benchmark.training.latency import by_turns
from benchmark.worker import device_name

Points = tuple[float, float, float]
"""Lower quartile, median and upper quartile."""


@dataclass(frozen=True)
class LatencyRow:
    """What was measured of one form at one batch size; None where there is nothing to measure.

    Args:
        cell: its id.
        runtime: torch or onnxruntime.
        form: its name.
        batch: inputs of a prediction.
        milliseconds: of a prediction, over the turns.
        gain: how many times as fast as dense in the same runtime, turn by turn; below 1 it is slower.
        memory_mb: by which a process grows that loads the network and predicts the largest batch, with what the runtime
            needs for its first prediction; on a GPU what torch allocates there.
        file_bytes: of torch's weights, or of the ONNX file.
        energy_mj: millijoules of a prediction.
        remark: why there is nothing, or what the form covers.
    """

    cell: str
    runtime: str
    form: str
    batch: int
    milliseconds: Points | None
    gain: Points | None
    memory_mb: float | None
    file_bytes: int | None
    energy_mj: float | None
    remark: str


def measure(trained: Trained, device: torch.device, batches: list[int], repeats: int, threads: int) -> list[LatencyRow]:
    """A row for every form and batch size. All forms take turns, those of both runtimes together."""
    torch.set_num_threads(threads)
    problem, cell = trained.cell.problem, trained.cell.id
    everything = list(forms(trained, device))
    there = {f"{form.runtime} {form.name}": form for form in everything if form.content}
    most = trained.example(max(batches))
    memory = {key: _memory(form, most, problem, device, threads) for key, form in there.items()}
    rows = []
    for batch in batches:
        inputs = trained.example(batch)
        calls = {key: call(form, inputs, problem, device, threads) for key, form in there.items()}
        times = by_turns(calls, device, repeats, most=math.inf)
        energy = (joules(calls) if device.type == "cpu" else None) or {}
        for form in everything:
            key, dense = f"{form.runtime} {form.name}", times.get(f"{form.runtime} dense", [])
            rows.append(
                LatencyRow(
                    cell=cell,
                    runtime=form.runtime,
                    form=form.name,
                    batch=batch,
                    milliseconds=_points([1000 * seconds for seconds in times.get(key, [])]),
                    gain=_points([base / other for base, other in zip(dense, times.get(key, []), strict=False)]),
                    memory_mb=memory.get(key),
                    file_bytes=form.size or None,
                    energy_mj=1000 * energy[key] if key in energy else None,
                    remark=form.remark,
                )
            )
    return rows


def heading(trained: Trained, device: torch.device, batch: int, repeats: int, threads: int) -> str:
    """What was measured, and on what."""
    problem = trained.cell.problem
    name, plural = device_name(device), "" if threads == 1 else "s"
    return (
        f"{problem.model} on {problem.dataset}, {problem.precision}, {name}, {threads} thread{plural}, "
        f"torch {torch.__version__}; medians (quartiles) of {repeats} turns; MB and mJ at batch {batch}"
    )


def _points(values: list[float]) -> Points | None:
    return cut_points(values) if values else None


def _memory(form: Form, inputs: Inputs, problem: Problem, device: torch.device, threads: int) -> float:
    """MB that a process of its own grows by at most when it loads the form and predicts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmark.launch.preload"])
    arrays = tuple(value.numpy() for value in inputs)
    with Crew(context, 1, _grow, form, arrays, problem, device, threads) as crew:
        (grown,) = crew.receive()
    return float(grown)


def _grow(
    connection: Connection, form: Form, arrays: tuple[Any, ...], problem: Problem, device: torch.device, threads: int
) -> None:
    torch.set_num_threads(threads)
    if form.runtime == "onnxruntime":
        import onnxruntime  # noqa: F401  # counts as little as torch does, which is there already
    with torch.no_grad():  # the code of the commonest layers is read into memory
        functional.linear(functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(8, 1, 3, 3)), torch.zeros(2, 6))
    inputs = tuple(torch.from_numpy(array) for array in arrays)
    before = peak_mb()
    call(form, inputs, problem, device, threads)()
    on_gpu = device.type == "cuda" and form.runtime == "torch"
    connection.send(torch.cuda.max_memory_allocated(device) / MB if on_gpu else peak_mb() - before)


def table(rows: list[LatencyRow]) -> Table:
    """One line a form, with its batch sizes side by side; a dash where there is nothing to measure."""
    batches = sorted({row.batch for row in rows})
    shown = Table(box=None, pad_edge=False)
    for title in ("runtime", "form"):
        shown.add_column(title)
    for batch in batches:
        shown.add_column(f"batch {batch}: ms", justify="right")
        shown.add_column("x dense", justify="right")
    for title in ("MB", "file, kB", "mJ"):
        shown.add_column(title, justify="right")
    shown.add_column("")
    for form in dict.fromkeys((row.runtime, row.form) for row in rows):
        same = [row for row in rows if (row.runtime, row.form) == form]
        texts = [text for row in same for text in (_words(row.milliseconds, "", 3), _words(row.gain, "x ", 2))]
        last = same[-1]
        size = None if last.file_bytes is None else last.file_bytes / 1000
        numbers = (_number(last.memory_mb, 1), _number(size, 1), _number(last.energy_mj, 3))
        shown.add_row(*form, *texts, *numbers, last.remark)
    return shown


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _words(points: Points | None, before: str, digits: int) -> str:
    return "-" if points is None else f"{before}{in_words(points, digits)}"


def to_json(rows: list[LatencyRow]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def to_csv(rows: list[LatencyRow]) -> str:
    """One line a form and batch size; quartiles have columns of their own."""
    text = io.StringIO()
    lines = [_flat(row) for row in rows]
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(row: LatencyRow) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in asdict(row).items():
        if key in ("milliseconds", "gain"):
            names = (f"{key}_low", key, f"{key}_high")
            flat |= dict(zip(names, value or (None, None, None), strict=True))
        else:
            flat[key] = value
    return flat
