"""`python -m benchmark.publish [NAME]`: publish to W&B what has not been published yet.

For results that a cluster without internet or a lost server left behind. It sends one run after the other, and the
same command again goes on with what is left.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import cli
from benchmark.errors import UserError
from benchmark.planning.grid import load_sweep, sweep_names
from benchmark.results.store import Store
from benchmark.streams import make_console
from benchmark.tracking.markers import read_marker, unpublished
from benchmark.tracking.publisher import Publisher, Summary
from benchmark.tracking.runs import Settings, check_mode, check_project, resolve_mode
from benchmark.yaml_files import stem_of

app = cli.make_app()
console = make_console()
SLOWEST = 0.01
"""Runs a minute."""
LONGEST = 86400.0
"""Seconds of patience: a day."""
Coordinates = tuple[Any, ...]
"""Method, schedule, sparsity, budget and hyperparameters of a cell."""


@app.command()
def publish(
    name: Annotated[str | None, typer.Argument(help="Only the cells of this sweep: table1; default all")] = None,
    results: Annotated[Path, typer.Option(help="The results folder")] = cli.RESULTS,
    project: Annotated[str | None, typer.Option(help="W&B project; default WANDB_PROJECT or ours")] = None,
    entity: Annotated[str | None, typer.Option(help="W&B user or team; default the account's own")] = None,
    mode: Annotated[str, typer.Option(help="online or offline; default online if a key is configured")] = "auto",
    again: Annotated[bool, typer.Option("--again", help="Also what is published: replaces the runs")] = False,
    per_minute: Annotated[float, typer.Option(help="Runs sent in a minute at most")] = 120.0,
    patience: Annotated[float, typer.Option(help="Seconds to wait for the server, to start and to end a run")] = 30.0,
) -> int:
    """Publish every record that is not published yet; exit code 0 if none is left."""
    if not SLOWEST <= per_minute < math.inf:
        raise UserError(f"--per-minute {per_minute:g}: a number of runs from {SLOWEST:g} up")
    if not 0 < patience <= LONGEST:
        raise UserError(f"--patience {patience:g}: a number of seconds above 0, up to {LONGEST:g}")
    if mode not in ("online", "offline", "auto"):
        raise UserError(f"--mode {mode}: one of online, offline, auto")
    if project is not None:
        check_project(project)
    sweeps = _sweeps([name] if name else sweep_names())
    store = Store.open_existing(results)
    resolved, why = resolve_mode(check_mode(mode, "--mode"))
    if mode == "online" and resolved != "online":
        raise UserError(f"--mode online: {why}; run `wandb login` or set WANDB_API_KEY")
    if resolved == "off":
        raise UserError("WANDB_MODE is disabled: nothing can be published; unset it, or give --mode online or offline")
    left_out = unpublished(store, "again" if again else resolved)
    scope = dict.fromkeys(store.ids(), "") if name is None else _grouped(sorted(store.ids()), store, name, sweeps)
    if name is None:
        groups = _grouped(sorted(store.ids()), store, None, sweeps) if left_out else {}
        todo = {cell_id: (read_marker(store, cell_id) or {}).get("group") or groups[cell_id] for cell_id in left_out}
    else:
        todo = {cell_id: scope[cell_id] for cell_id in left_out if cell_id in scope}
    settings = Settings(
        results, resolved, project, entity, resolved == "offline", patience, patience, interval=60 / per_minute
    )
    if todo:
        Store.open_for_writing(results)
    publisher = Publisher(settings, again)
    summary = _send(publisher, todo)
    left = summary.left if again else len(set(unpublished(store, resolved)).intersection(todo))
    if summary.message:
        print(summary.message)
    offline = _kept_offline(store, scope)
    if not summary.message or offline > summary.offline:
        print(_standing(len(scope), offline, name, settings, why or "WANDB_MODE or --mode says offline"))
    for problem in store.problems:
        print(f"not published: {problem}", file=sys.stderr)
    return 1 if left else 0


def _kept_offline(store: Store, cell_ids: Iterable[str]) -> int:
    """How many of these are in an offline run, and in no other."""
    markers = (read_marker(store, cell_id) for cell_id in cell_ids)
    return sum(marker is not None and marker["mode"] == "offline" for marker in markers)


def _standing(records: int, offline: int, name: str | None, settings: Settings, why: str) -> str:
    """A line about where the records are, once nothing is to do. why: these runs are kept offline."""
    what = f"of {settings.store}" if name is None else f"of {name} in {settings.store}"
    if not records:
        return f"W&B: nothing to do: there are no records {what}"
    if not offline:
        return f"W&B: nothing to do: all {records} records {what} are online"
    return (
        f"W&B: {offline} of {records} records {what} are kept offline only, in {settings.folder / 'wandb'} ({why}); "
        "to send them: `wandb login`, then this command with --mode online"
    )


def _grouped(
    cell_ids: Sequence[str], store: Store, name: str | None, sweeps: Mapping[str, frozenset[Coordinates]]
) -> dict[str, str]:
    """The cells to publish with their group, SWEEP/PROBLEM: those of all sweeps, or of sweep `name` and the dense runs.

    Dense runs that only cells of other sweeps start from are not those of `name`. What cannot be read stays, for the
    publisher to report. sweeps: as `_sweeps` gives them.
    """
    cells: dict[str, tuple[str, Coordinates, str | None]] = {}
    groups: dict[str, str] = {}
    for cell_id in cell_ids:
        record = store.read(cell_id)
        if record is None:
            groups[cell_id] = ""
            continue
        cell, parent = record["cell"], record["parent"] or {}
        try:
            cells[cell_id] = cell["problem"]["name"], _coordinates(cell), parent.get("id")
        except (KeyError, TypeError, AttributeError):  # of another version of this suite
            groups[cell_id] = ""
    there = {kind for _, kind, _ in cells.values()}
    # a cell of several sweeps belongs to the one of which the largest part is there
    by_share = sorted(sweeps, key=lambda sweep: -len(sweeps[sweep] & there) / len(sweeps[sweep]))
    of_others: set[str] = set()
    dense: dict[str, str] = {}
    of_dense: dict[str, str] = {}
    for cell_id, (problem, kind, parent_id) in cells.items():
        sweep = next((sweep for sweep in by_share if kind in sweeps[sweep]), None)
        if kind[0] == "dense":
            dense[cell_id] = problem
        elif sweep or not name:
            groups[cell_id] = f"{sweep or 'other'}/{problem}"
            if parent_id:
                of_dense[parent_id] = groups[cell_id]
        elif parent_id:
            of_others.add(parent_id)
    for cell_id, problem in dense.items():
        if cell_id in of_dense or cell_id not in of_others:
            groups[cell_id] = of_dense.get(cell_id, f"{stem_of(name) if name else 'dense'}/{problem}")
    return groups


def _sweeps(names: Sequence[str]) -> dict[str, frozenset[Coordinates]]:
    """What the cells of each sweep are, on any problem and with any seed."""
    sweeps = [load_sweep(name) for name in names]
    return {sweep.name: frozenset(_coordinates(cell.to_json()) for cell in sweep.cells) for sweep in sweeps}


def _coordinates(cell: Mapping[str, Any]) -> Coordinates:
    settings = tuple(sorted(cell["hyperparameters"].items()))
    return (cell["method"], cell["schedule"], cell["sparsity"], cell["budget"], settings)


def _send(publisher: Publisher, todo: Mapping[str, str]) -> Summary:
    """Publish, with a count on a terminal; Ctrl-C leaves the rest."""
    for cell_id, group in todo.items():
        publisher.add(cell_id, group)
    try:
        with console.status("") if console.is_interactive else contextlib.nullcontext() as status:
            while publisher.pending:
                if status:
                    status.update(f"W&B: {len(todo) - publisher.pending} of {len(todo)}")
                time.sleep(0.05)
    except KeyboardInterrupt:
        return publisher.close(0)
    return publisher.close()


if __name__ == "__main__":
    sys.exit(cli.main(app))
