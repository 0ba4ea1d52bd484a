"""`python -m benchmark.status [NAME]`: what is done, running, queued, failed and left. It reads and changes nothing."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmark import cli
from benchmark.errors import UserError
from benchmark.launch.display import duration
from benchmark.launch.progress import STATES, Asked, SweepProgress, look, progress
from benchmark.launch.slurm.profile import split_settings
from benchmark.planning.grid import sweep_names
from benchmark.streams import make_console

app = cli.make_app()
console = make_console()

COLOURS = {"done": "green", "running": "cyan", "queued": "blue", "failed": "red", "left": "yellow"}
SHOWN_FAILURES = 10
LONGEST_PAUSE = 86400.0
READABLE = 100
"""Characters that the table may take where a terminal is narrower, which then breaks its lines."""


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A sweep; default all submitted, else all with records")] = None,
    problem: Annotated[
        str | None, typer.Option(help="The problem of the sweep; this and the next four as it was told")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (5) or which (0,3,7)")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Cells to keep: schedule=ALLR,sparsity=0.9")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: batch_size=64")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of the images; default data/")] = None,
    results: Annotated[Path, typer.Option(help="The results folder")] = cli.RESULTS,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until nothing runs or waits any more")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between two looks")] = 10.0,
) -> int:
    """Say how far a sweep is."""
    if not 1 <= every <= LONGEST_PAUSE:
        raise UserError(f"--every {every:g}: a number of seconds from 1 to {LONGEST_PAUSE:g}")
    if results != cli.RESULTS and not results.is_dir():
        raise UserError(f"--results {results}: no such folder")
    recipe, _ = split_settings(cli.parse_settings(set_ or []))
    asked = Asked(problem, seeds, tuple(only or ()), recipe, data)
    before = ""
    with Live(console=console, auto_refresh=False) if watch and console.is_interactive else nullcontext() as live:
        while True:
            sweeps = collect(results, name, asked)
            if live:
                live.update(Group(_table(sweeps), *map(Text, _notes(sweeps))), refresh=True)
            elif watch and (now := _counts(sweeps)) != before:  # a line whenever something changed, for logs
                print(before := now, flush=True)
            if not watch or not any(sweep.active or sweep.unclear for sweep in sweeps):
                break
            time.sleep(every)
    if not watch:
        console.width = max(console.width, READABLE)
        console.print(_table(sweeps))
    for line in () if live else _notes(sweeps):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def collect(results: Path, name: str | None, asked: Asked) -> list[SweepProgress]:
    """One look at the folder. Raises UserError if there is nothing to tell of."""
    if name is None and (asked.chosen or asked.data is not None):
        raise UserError("--seeds, --only, --set and --data are for one sweep: name it, as in: status table1 --seeds 5")
    folder = look(results)
    submitted = sorted({submission.about["sweep"] for submission in folder.state.submissions})
    if name or submitted:
        return [progress(folder, sweep, asked) for sweep in ([name] if name else submitted)]
    everything = [progress(folder, sweep, asked) for sweep in sweep_names()]
    begun = [sweep for sweep in everything if sweep.counts["done"] or sweep.elsewhere]
    if not begun:
        raise UserError(f"--results {results}: no sweep was submitted from here or has records; name one, as table1")
    return begun


def _table(sweeps: list[SweepProgress]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep")
    table.add_column("cells", justify="right")
    for state in STATES:
        table.add_column(state, justify="right", style=COLOURS[state])
    for title in ("dense", "jobs", "time left"):
        table.add_column(title)
    for sweep in sweeps:
        counts = [str(sweep.counts[state]) for state in STATES]
        table.add_row(sweep.name, str(sweep.cells), *counts, _dense(sweep), _jobs(sweep), _left(sweep))
    return table


def _dense(sweep: SweepProgress) -> str:
    return f"{sweep.dense['done']}/{sweep.dense.total()}" if sweep.dense else ""


def _jobs(sweep: SweepProgress) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(sweep.jobs.items(), reverse=True))


def _left(sweep: SweepProgress) -> str:
    if not sweep.active:
        return ""
    return "unknown" if sweep.seconds_left is None else f"about {duration(sweep.seconds_left)}"


def _notes(sweeps: list[SweepProgress]) -> list[str]:
    return [line for sweep in sweeps for line in _notes_of(sweep)]


def _notes_of(sweep: SweepProgress) -> list[str]:
    lines = [f"{sweep.name}: {note}" for note in sweep.notes]
    for failure in sweep.failures[:SHOWN_FAILURES]:
        host = failure.get("host", "")
        on = f" on {host}" if host != socket.gethostname() and host else ""
        lines.append(f"FAILED {failure['id']}: {failure['cause']}{on}: {failure['message']}")
    if len(sweep.failures) > SHOWN_FAILURES:
        lines.append(f"... and {len(sweep.failures) - SHOWN_FAILURES} more failed")
    mistaken = sweep.elsewhere and not sweep.counts["done"]  # most likely another recipe is meant, and may be finished
    if not (sweep.active or sweep.unknown or mistaken) and sweep.counts["left"] + sweep.counts["failed"]:
        lines.append(f"{sweep.name}: nothing runs or waits; the same sweep command goes on with what is left")
    return lines


def _counts(sweeps: list[SweepProgress]) -> str:
    lines = []
    for sweep in sweeps:
        states = ", ".join(f"{sweep.counts[state]} {state}" for state in STATES)
        lines.append(f"{sweep.name}: {sweep.cells} cells, {states}{'; ' * bool(sweep.unknown)}{sweep.unknown}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
