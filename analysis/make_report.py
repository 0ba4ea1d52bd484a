"""Everything on one page: python -m analysis.make_report [--open] [--results] [--output FILE]."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from analysis.make_tables import warn
from analysis.report import page
from analysis.report.gather import gather
from analysis.wandb_runs import open_source
from benchmark.cli import main
from benchmark.errors import UserError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def make_report(
    results: Annotated[
        Path, typer.Option(help="Results folder, store, folder of .jsonl files, or one of them.")
    ] = Path("results"),
    problem: Annotated[str | None, typer.Option(help="Only this problem. Default: all with records.")] = None,
    from_wandb: Annotated[
        str | None, typer.Option(help="Read Weights & Biases: a folder of offline runs, or ENTITY/PROJECT.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(help="A sweep file of your own, beside those of sweeps/; may be repeated.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The HTML file.")] = Path("results/report.html"),
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one HTML file: claims, best and missing; tables, figures, every cell and failure; where they are from."""
    report = gather(open_source(results, from_wandb, whole=True), problem, sweep or [])
    warn(report.problems)
    written = page.write(report)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: cannot write there ({error.strerror or error})") from None
    print(f"{output}: {len(report.frame)} records, {len(report.failures)} failures, {len(written) / 1e6:.1f} MB")
    if show:
        webbrowser.open(output.resolve().as_uri())


if __name__ == "__main__":
    sys.exit(main(app))
