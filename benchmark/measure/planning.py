"""`python -m benchmark.measure.planning`: how long planning, status and submission take for very many cells.

--cells 100000            make a sweep of so many cells, plan its jobs, write its intent, ask its status
--submit 1000             also submit so many held jobs (SLURM needed) and cancel them
--overhead results/runs   instead: where the time of the SLURM jobs of a results folder went, per cell
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError
from benchmark.launch import slurm
from benchmark.launch.attempts import Attempts
from benchmark.launch.chunks import lay_out, learn_costs
from benchmark.launch.profile import Profile, load_profile
from benchmark.launch.progress import look, progress
from benchmark.launch.submissions import Submission, submissions, write_intent
from benchmark.planning.grid import Sweep, load_sweep
from benchmark.planning.plan import Plan, make_plan
from benchmark.results.records import encode
from benchmark.results.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def measure(
    cells: Annotated[int, typer.Option(min=100, help="Cells of the sweep")] = 100_000,
    submit: Annotated[int, typer.Option(min=0, help="Held jobs to submit and cancel; needs SLURM")] = 0,
    cluster: Annotated[str | None, typer.Option(help="The profile to submit with")] = None,
    overhead: Annotated[Path | None, typer.Option(help="A results folder that SLURM jobs worked on")] = None,
) -> int:
    """Print seconds."""
    if overhead is not None:
        return _overhead(Store(overhead))
    folder = Path(tempfile.mkdtemp(prefix="measure-"))
    try:
        _plan_and_status(folder, cells)
        if submit:
            _submission(folder / "submission", submit, load_profile(cluster, {"extra": {"hold": True}}))
    finally:
        shutil.rmtree(folder)
    return 0


class _Clock:
    """Wall and processor time: on a machine that does other work as well, only the second says much."""

    def __init__(self) -> None:
        self._last = self._now()

    def lap(self) -> str:
        last, self._last = self._last, self._now()
        wall, processor = (now - before for now, before in zip(self._last, last, strict=True))
        return f"{wall:.2f} s ({processor:.2f} s of the processor)"

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def _plan_and_status(folder: Path, count: int) -> None:
    store, profile = Store(folder), Profile()
    clock = _Clock()
    wanted = load_sweep("table1", seeds=f"{-(-count // 54)}")
    plan = make_plan(wanted.cells, store, wanted.execution)
    costs = learn_costs(wanted.cells, plan.done, store, wanted.execution, "cuda")
    layout = lay_out(plan.tasks, costs, profile, slurm.ARRAY_SIZE, {})
    planned = clock.lap()
    write_intent(store, wanted, layout, costs, profile, None)
    written = clock.lap()
    jobs = f"{len(layout.chunks)} jobs in {len(layout.arrays)} arrays"
    print(f"{len(wanted.cells)} cells: planned in {planned} as {jobs}")
    print(f"intent written in {written}")
    _fill(store, wanted)
    clock.lap()
    found = progress(look(folder), wanted.name)
    print(f"status of {found.cells} cells, {found.counts['done']} of them done: {clock.lap()}")


def _fill(store: Store, wanted: Sweep) -> None:
    """Records, as empty as status takes them, of half the cells."""
    content = encode({"id": "", "cell": {}, "seconds": {"total": 1.0}})
    for cell in wanted.cells[::2]:
        path = store.record_path(cell.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _submission(folder: Path, count: int, profile: Profile) -> None:
    store = Store(folder)
    profile = profile.model_copy(update={"max_jobs": 2 * count, "chunk": 0})  # one cell a job
    wanted = load_sweep("table1", seeds=f"{-(-count // 54)}")

    def plan() -> Plan:
        made = make_plan(wanted.cells, store, wanted.execution)
        return Plan(made.cells, made.done, made.tasks[:count], 1.0)

    clock = _Clock()
    result = slurm.submit(wanted, plan, store, profile, None, "off", print)
    print(f"{sum(map(len, result.jobs))} jobs in {len(result.jobs)} arrays submitted in {clock.lap()}")
    if result.refusal:
        print(f"sbatch refused the rest: {result.refusal}")
    slurm.cancel(store, wanted.name)


def _overhead(store: Store) -> int:
    """What jobs that were never disturbed spent on cells besides training and evaluating them."""
    found = [spent for one in submissions(store) for spent in _jobs(one, store)]
    cells = sum(spent.cells for spent in found)
    if not cells:
        raise UserError(f"--overhead {store.path}: no SLURM job finished cells there")
    total, starting, training, evaluation, inside = (
        sum(getattr(spent, key) for spent in found) for key in ("total", "starting", "training", "evaluation", "inside")
    )
    rest = total - training - evaluation
    print(
        f"{len(found)} jobs, {cells} cells, {total:.1f} s of workers: {100 * training / total:.0f} % training, ", end=""
    )
    print(f"{100 * evaluation / total:.0f} % evaluation")
    print(f"beyond these {rest / cells:.3f} s a cell, of which")
    print(f"  {starting / cells:.3f} s until a worker begins its first cell ({starting / len(found):.2f} s a job)")
    print(f"  {(inside - training - evaluation) / cells:.3f} s in the cell: network, dense weights, record")
    print(f"  {(total - starting - inside) / cells:.3f} s between cells and at the job's end")
    return 0


@dataclass(frozen=True)
class _Spent:
    """Seconds of one job, times its workers; inside: of `Worker.run`, cell by cell."""

    cells: int
    total: float
    starting: float
    training: float
    evaluation: float
    inside: float


def _jobs(submission: Submission, store: Store) -> Iterator[_Spent]:
    workers = submission.profile.workers
    for chunk in (number for array in submission.arrays for number in array.chunks):
        lines = Attempts(submission.folder / "attempts" / f"{chunk}.jsonl").read()
        records = [record for task, _ in submission.tasks(chunk) if (record := store.read(task.cell.id))]
        if [line["event"] for line in lines] != ["start", "end"] or not records:
            continue
        start, end = (datetime.fromisoformat(line["time"]).timestamp() for line in lines)
        start = float(lines[0].get("job_start") or start)
        first = min(datetime.fromisoformat(record["provenance"]["start"]).timestamp() for record in records)
        seconds = [record["seconds"] for record in records]
        training = sum(one["training"] - one.get("inherited", 0.0) for one in seconds)
        evaluation = sum(one["evaluation"] for one in seconds)
        inside = sum(one["total"] for one in seconds)
        yield _Spent(len(records), workers * (end - start), workers * (first - start), training, evaluation, inside)


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
