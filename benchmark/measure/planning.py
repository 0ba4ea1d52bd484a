"""How long planning and status take for very many cells, and where the time of SLURM jobs went."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.launch.progress import look, progress
from benchmark.launch.slurm.attempts import Attempts
from benchmark.launch.slurm.chunks import Costs, JobLayout, lay_out, learn_costs
from benchmark.launch.slurm.jobs import ARRAY_SIZE
from benchmark.launch.slurm.profile import Profile
from benchmark.launch.slurm.submissions import Submission, submissions, write_intent
from benchmark.measure.synthetic import put
from benchmark.measure.timing import timed
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import make_plan
from benchmark.results.store import Store


def plan_and_status(cells: int) -> Iterator[str]:
    """Lines about Table 1 with as many seeds as so many cells take."""
    sweep, profile = load_sweep("table1", seeds=f"{-(-cells // 54)}"), Profile()
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        store = Store(Path(folder))

        def plan() -> tuple[JobLayout, Costs]:
            made = make_plan(sweep.cells, store, sweep.execution)
            costs = learn_costs(sweep.cells, made.done, store, sweep.execution, "cuda")
            return lay_out(made.tasks, costs, profile, ARRAY_SIZE, {}), costs

        planned, (layout, costs) = timed(plan)
        jobs = f"{len(layout.chunks)} jobs in {len(layout.arrays)} arrays"
        yield f"{len(sweep.cells)} cells: planned in {planned} as {jobs}"
        written, _ = timed(lambda: write_intent(store, sweep, layout, costs, profile, None))
        yield f"intent written in {written}"
        for cell in sweep.cells[::2]:  # as little as status takes for a record
            put(store, {"id": cell.id, "cell": {}, "seconds": {"total": 1.0}})
        asked, now = timed(lambda: progress(look(Path(folder)), sweep.name))
        yield f"status of {now.cells} cells, {now.counts['done']} of them done: {asked}"


def overhead(results: Path) -> Iterator[str]:
    """Lines about what jobs that were never disturbed spent on cells besides training and evaluating them."""
    store = Store.open_existing(results)
    spent: Counter[str] = Counter()
    for submission in submissions(store):
        for chunk in (number for array in submission.arrays for number in array.chunks):
            spent.update(_spent(submission, chunk, store))
    jobs, cells, total, starting, inside = (spent[key] for key in ("jobs", "cells", "total", "starting", "inside"))
    training, evaluation = spent["training"], spent["evaluation"]
    if not cells:
        raise UserError(f"--results {results}: no SLURM job finished cells there")
    share = f"{100 * training / total:.0f} % training, {100 * evaluation / total:.0f} % evaluation"
    yield f"{jobs} jobs, {cells} cells, {total:.1f} s of workers: {share}"
    yield f"beyond these {(total - training - evaluation) / cells:.3f} s a cell, of which"
    yield f"  {starting / cells:.3f} s until a worker begins its first cell ({starting / jobs:.2f} s a job)"
    yield f"  {(inside - training - evaluation) / cells:.3f} s in the cell: network, dense weights, record"
    yield f"  {(total - starting - inside) / cells:.3f} s between cells and at the job's end"


def _spent(submission: Submission, chunk: int, store: Store) -> dict[str, Any]:
    """Of one job: how many cells it finished; times its workers, its seconds in all and until the first cell begins;
    and of the cells their seconds in training, in evaluation, and "inside" `Worker.run`."""
    lines = Attempts(submission.folder / "attempts" / f"{chunk}.jsonl").read()
    records = [record for task, _ in submission.tasks(chunk) if (record := store.read(task.cell.id))]
    if [line["event"] for line in lines] != ["start", "end"] or not records:
        return {}
    start, end = (datetime.fromisoformat(line["time"]).timestamp() for line in lines)
    start = float(lines[0].get("job_start") or start)
    first = min(datetime.fromisoformat(record["provenance"]["start"]).timestamp() for record in records)
    workers, cells = submission.profile.workers, [record["seconds"] for record in records]
    return {
        "jobs": 1,
        "cells": len(cells),
        "total": workers * (end - start),
        "starting": workers * (first - start),
        "training": sum(seconds["training"] - seconds.get("inherited", 0.0) for seconds in cells),
        "evaluation": sum(seconds["evaluation"] for seconds in cells),
        "inside": sum(seconds["total"] for seconds in cells),
    }
