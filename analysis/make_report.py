"""Everything on one page: python -m analysis.make_report [--open] [--results] [--output FILE]."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis.options import ProblemOption, ResultsOption, WandbOption, warn
from analysis.paper.figures import FIGURES, ORDER
from analysis.paper.layouts import LAYOUTS
from analysis.report import listing, page
from analysis.report.gather import Report, gather
from analysis.sources import Source
from analysis.wandb_runs import open_source
from benchmark.cli import main, make_app
from benchmark.errors import UserError, escaped
from benchmark.results.atomic import write_output

app = make_app()


@app.command()
def make_report(
    results: ResultsOption = Path("results"),
    problem: ProblemOption = None,
    from_wandb: WandbOption = None,
    sweep: Annotated[
        list[str] | None, typer.Option(help="A sweep file of your own, beside those of sweeps/; may be repeated.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The HTML file.")] = Path("results/report.html"),
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one HTML file: claims, best and missing; tables, figures, every cell and failure; where they are from.

    Beside it, where there are very many records, the list of them all as CSV.
    """
    if output.is_dir():
        raise UserError(f"--output {escaped(output)}: it is a folder; write a file")
    report = report_of(open_source(results, from_wandb, whole=True), problem, sweep or [])
    warn(report.problems)
    beside = output.with_name(f"{output.stem}-cells.csv") if len(report.frame) > listing.MOST else None
    written = page.write(report, beside.name if beside else "")
    if beside:
        write_output(beside, listing.table(report), "--output")
    write_output(output, written, "--output")
    print(f"{output}: {len(report.frame)} records, {len(report.failures)} failures, {len(written) / 1e6:.1f} MB")
    if beside:
        print(f"{beside}: the list of all records, {listing.MOST} of which are on the page")
    if show and not webbrowser.open(output.resolve().as_uri()):
        warn([f"--open: no browser was found here; open {output} in one"])


def report_of(place: Source, problem: str | None = None, more: Sequence[str] = ()) -> Report:
    """Everything that is known of `problem`, or of all, as the paper lays it out. Raises UserError."""
    return gather(place, LAYOUTS, FIGURES, ORDER, problem, more)


if __name__ == "__main__":
    sys.exit(main(app))
