"""`python -m benchmark.status [NAME]`: what is done, running, queued, failed and left. It reads and changes nothing."""

from __future__ import annotations

import sys
import time
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
from benchmark.launch.profile import split_settings
from benchmark.launch.progress import STATES, Asked, Progress, look, progress
from benchmark.planning.grid import SWEEPS
from benchmark.streams import make_console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = make_console()

RESULTS = Path("results/runs")
COLOURS = {"done": "green", "running": "cyan", "queued": "blue", "failed": "red", "left": "yellow"}
SHOWN_FAILURES = 10
LONGEST_PAUSE = 86400.0


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A sweep; default all submitted, else all with records")] = None,
    problem: Annotated[str | None, typer.Option(help="This option and the next four: as the sweep was told")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (5) or which (0,3,7)")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Cells to keep: schedule=ALLR,sparsity=0.9")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: batch_size=64")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of the images; default data/")] = None,
    results: Annotated[Path, typer.Option(help="The results folder")] = RESULTS,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until nothing runs or waits any more")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between two looks")] = 10.0,
) -> int:
    """Say how far a sweep is."""
    if not 1 <= every <= LONGEST_PAUSE:
        raise UserError(f"--every {every:g}: a number of seconds from 1 to {LONGEST_PAUSE:g}")
    if results != RESULTS and not results.is_dir():
        raise UserError(f"--results {results}: no such folder")
    recipe, _ = split_settings(cli.parse_settings(set_ or []))
    asked = Asked(problem, seeds, tuple(only or ()), recipe, data)
    if not watch:
        found = collect(results, name, asked)
        console.print(_table(found))
        for line in (line for one in found for line in _notes(one)):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        return 0
    if not console.is_interactive:
        return _watch_plainly(results, name, asked, every)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = collect(results, name, asked)
            live.update(picture(found), refresh=True)
            if not any(one.active or one.unclear for one in found):
                return 0
            time.sleep(every)


def collect(results: Path, name: str | None, asked: Asked) -> list[Progress]:
    """One look at the folder. Raises UserError if there is nothing to tell of."""
    folder = look(results)
    submitted = sorted({one.about["sweep"] for one in folder.submissions})
    if name or submitted:
        return [progress(folder, one, asked) for one in ([name] if name else submitted)]
    everything = [progress(folder, path.stem, asked) for path in sorted(SWEEPS.glob("*.yaml"))]
    begun = [one for one in everything if one.counts["done"] or one.elsewhere]
    if not begun:
        raise UserError(f"--results {results}: no sweep was submitted from here or has records; name one, as table1")
    return begun


def picture(found: list[Progress]) -> Group:
    return Group(_table(found), *(Text(line) for one in found for line in _notes(one)))


def _table(found: list[Progress]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep")
    table.add_column("cells", justify="right")
    for state in STATES:
        table.add_column(state, justify="right", style=COLOURS[state])
    for title in ("dense", "jobs", "time left"):
        table.add_column(title)
    for one in found:
        counts = [str(one.counts[state]) for state in STATES]
        table.add_row(one.name, str(one.cells), *counts, _dense(one), _jobs(one), _left(one))
    return table


def _dense(one: Progress) -> str:
    return f"{one.dense['done']}/{one.dense.total()}" if one.dense else ""


def _jobs(one: Progress) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(one.jobs.items(), reverse=True))


def _left(one: Progress) -> str:
    if not one.active:
        return ""
    return "unknown" if one.seconds_left is None else f"about {duration(one.seconds_left)}"


def _notes(one: Progress) -> list[str]:
    lines = [f"{one.name}: {note}" for note in one.notes]
    for failure in one.failures[:SHOWN_FAILURES]:
        lines.append(f"FAILED {failure['id']}: {failure['cause']}: {failure['message']}")
    if len(one.failures) > SHOWN_FAILURES:
        lines.append(f"... and {len(one.failures) - SHOWN_FAILURES} more failed")
    mistaken = one.elsewhere and not one.counts["done"]  # most likely another recipe is meant, and may be finished
    if not (one.active or one.unknown or mistaken) and one.counts["left"] + one.counts["failed"]:
        lines.append(f"{one.name}: nothing runs or waits; the same sweep command goes on with what is left")
    return lines


def _watch_plainly(results: Path, name: str | None, asked: Asked, every: float) -> int:
    """A line whenever something changed, for logs."""
    before = ""
    while True:
        found = collect(results, name, asked)
        lines = []
        for one in found:
            states = ", ".join(f"{one.counts[state]} {state}" for state in STATES)
            lines.append(f"{one.name}: {one.cells} cells, {states}{'; ' * bool(one.unknown)}{one.unknown}")
        if "\n".join(lines) != before:
            before = "\n".join(lines)
            print(before, flush=True)
        if not any(one.active or one.unclear for one in found):
            for line in (line for one in found for line in _notes(one)):
                print(line)
            return 0
        time.sleep(every)


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
