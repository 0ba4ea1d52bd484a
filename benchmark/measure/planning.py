"""How long planning, submission and status take for very many cells, and where the time of SLURM jobs went."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmark.errors import UserError
from benchmark.launch.progress import look, progress
from benchmark.launch.slurm import jobs as slurm
from benchmark.launch.slurm.attempts import Attempts
from benchmark.launch.slurm.chunks import Costs, JobLayout, lay_out, learn_costs
from benchmark.launch.slurm.profile import Profile, load_profile
from benchmark.launch.slurm.submissions import Submission, submissions, write_intent
from benchmark.measure.synthetic import put
from benchmark.measure.timing import timed
from benchmark.planning.grid import Sweep, load_sweep
from benchmark.planning.plan import Plan, make_plan
from benchmark.results.store import Store


def plan_and_submit(cells: int, submit: int, cluster: str | None) -> Iterator[str]:
    """Lines about a sweep of so many cells, and about so many held jobs of the cluster, which are cancelled."""
    profile = load_profile(cluster, {"extra": {"hold": True}}) if submit else None
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        yield from _plan_and_status(Path(folder), _sweep(cells))
        if profile:
            yield from _submission(Store(Path(folder) / "submission"), _sweep(submit), submit, profile)


def _sweep(cells: int) -> Sweep:
    """Table 1 with as many seeds as that takes."""
    return load_sweep("table1", seeds=f"{-(-cells // 54)}")


def _plan_and_status(folder: Path, sweep: Sweep) -> Iterator[str]:
    store, profile = Store(folder), Profile()

    def plan() -> tuple[JobLayout, Costs]:
        made = make_plan(sweep.cells, store, sweep.execution)
        costs = learn_costs(sweep.cells, made.done, store, sweep.execution, "cuda")
        return lay_out(made.tasks, costs, profile, slurm.ARRAY_SIZE, {}), costs

    planned, (layout, costs) = timed(plan)
    jobs = f"{len(layout.chunks)} jobs in {len(layout.arrays)} arrays"
    yield f"{len(sweep.cells)} cells: planned in {planned} as {jobs}"
    written, _ = timed(lambda: write_intent(store, sweep, layout, costs, profile, None))
    yield f"intent written in {written}"
    for cell in sweep.cells[::2]:  # as little as status takes for a record
        put(store, {"id": cell.id, "cell": {}, "seconds": {"total": 1.0}})
    asked, now = timed(lambda: progress(look(folder), sweep.name))
    yield f"status of {now.cells} cells, {now.counts['done']} of them done: {asked}"


def _submission(store: Store, sweep: Sweep, count: int, profile: Profile) -> Iterator[str]:
    profile = profile.model_copy(update={"max_jobs": 2 * count, "chunk": 0})  # one cell a job

    def plan() -> Plan:
        made = make_plan(sweep.cells, store, sweep.execution)
        return Plan(made.cells, made.done, made.tasks[:count], 1.0)

    seconds, result = timed(lambda: slurm.submit(sweep, plan, store, profile, None, "off", print))
    yield f"{sum(map(len, result.jobs))} jobs in {len(result.jobs)} arrays submitted in {seconds}"
    if result.refusal:
        yield f"sbatch refused the rest: {result.refusal}"
    slurm.cancel(store, sweep.name, sweep.problem.name)


def overhead(results: Path) -> Iterator[str]:
    """Lines about what jobs that were never disturbed spent on cells besides training and evaluating them."""
    store = Store.open_existing(results)
    jobs = [job for submission in submissions(store) for job in _jobs(submission, store)]
    cells = sum(job.cells for job in jobs)
    if not cells:
        raise UserError(f"--results {results}: no SLURM job finished cells there")
    total, starting, training, evaluation, inside = (
        sum(getattr(job, key) for job in jobs) for key in ("total", "starting", "training", "evaluation", "inside")
    )
    share = f"{100 * training / total:.0f} % training, {100 * evaluation / total:.0f} % evaluation"
    yield f"{len(jobs)} jobs, {cells} cells, {total:.1f} s of workers: {share}"
    yield f"beyond these {(total - training - evaluation) / cells:.3f} s a cell, of which"
    yield f"  {starting / cells:.3f} s until a worker begins its first cell ({starting / len(jobs):.2f} s a job)"
    yield f"  {(inside - training - evaluation) / cells:.3f} s in the cell: network, dense weights, record"
    yield f"  {(total - starting - inside) / cells:.3f} s between cells and at the job's end"


@dataclass(frozen=True)
class _JobSeconds:
    """Seconds of one job, times its workers.

    Args:
        cells: that it finished.
        total: from its start to its end.
        starting: until the first cell begins.
        training: of the cells.
        evaluation: of the cells.
        inside: of `Worker.run`, cell by cell.
    """

    cells: int
    total: float
    starting: float
    training: float
    evaluation: float
    inside: float


def _jobs(submission: Submission, store: Store) -> Iterator[_JobSeconds]:
    workers = submission.profile.workers
    for chunk in (number for array in submission.arrays for number in array.chunks):
        lines = Attempts(submission.folder / "attempts" / f"{chunk}.jsonl").read()
        records = [record for task, _ in submission.tasks(chunk) if (record := store.read(task.cell.id))]
        if [line["event"] for line in lines] != ["start", "end"] or not records:
            continue
        start, end = (datetime.fromisoformat(line["time"]).timestamp() for line in lines)
        start = float(lines[0].get("job_start") or start)
        first = min(datetime.fromisoformat(record["provenance"]["start"]).timestamp() for record in records)
        cells = [record["seconds"] for record in records]
        training = sum(seconds["training"] - seconds.get("inherited", 0.0) for seconds in cells)
        evaluation = sum(seconds["evaluation"] for seconds in cells)
        inside = sum(seconds["total"] for seconds in cells)
        yield _JobSeconds(
            len(records), workers * (end - start), workers * (first - start), training, evaluation, inside
        )
