"""`python -m benchmark.launch.measure`: how long planning, status and submission take for very many cells.

--cells 100000      make a sweep of so many cells, plan its jobs, write its intent, ask its status
--submit 1000       also submit so many held jobs (SLURM needed) and cancel them
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.grid import Sweep, load_sweep
from benchmark.launch import slurm
from benchmark.launch.chunks import lay_out, learn_costs
from benchmark.launch.profile import Profile, load_profile
from benchmark.launch.submissions import write_intent
from benchmark.plan import Plan, make_plan
from benchmark.progress import look, progress
from benchmark.records import encode
from benchmark.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def measure(
    cells: Annotated[int, typer.Option(min=100, help="Cells of the sweep")] = 100_000,
    submit: Annotated[int, typer.Option(min=0, help="Held jobs to submit and cancel; needs SLURM")] = 0,
    cluster: Annotated[str | None, typer.Option(help="The profile to submit with")] = None,
) -> int:
    """Print seconds."""
    folder = Path(tempfile.mkdtemp(prefix="measure-"))
    try:
        _plan_and_status(folder, cells)
        if submit:
            _submission(folder / "submission", submit, load_profile(cluster, {"extra": {"hold": True}}))
    finally:
        shutil.rmtree(folder)
    return 0


def _plan_and_status(folder: Path, count: int) -> None:
    store, profile = Store(folder), Profile()
    started = time.perf_counter()
    wanted = load_sweep("table1", seeds=f"{-(-count // 54)}")
    plan = make_plan(wanted.cells, store, wanted.execution)
    costs = learn_costs(wanted.cells, plan.done, store, wanted.execution, "cuda")
    layout = lay_out(plan.tasks, costs, profile, slurm.ARRAY_SIZE, {})
    planned = time.perf_counter()
    write_intent(store, wanted, layout, costs, profile, None)
    written = time.perf_counter()
    jobs = f"{len(layout.chunks)} jobs in {len(layout.arrays)} arrays"
    print(f"{len(wanted.cells)} cells: planned in {planned - started:.2f} s as {jobs}")
    print(f"intent written in {written - planned:.2f} s")
    _fill(store, wanted)
    started = time.perf_counter()
    found = progress(look(folder), wanted.name)
    print(f"status of {found.cells} cells, {found.counts['done']} of them done: {time.perf_counter() - started:.2f} s")


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

    started = time.perf_counter()
    result = slurm.submit(wanted, plan, store, profile, None, "off", print)
    seconds = time.perf_counter() - started
    print(f"{sum(map(len, result.jobs))} jobs in {len(result.jobs)} arrays submitted in {seconds:.2f} s")
    if result.refusal:
        print(f"sbatch refused the rest: {result.refusal}")
    slurm.cancel(store, wanted.name)


if __name__ == "__main__":
    sys.exit(cli.main(app))
