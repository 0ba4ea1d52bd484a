"""Every claim on every problem, as markdown: python -m analysis.make_findings [--verdicts]."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis.claims import Finding
from analysis.options import ResultsOption, WandbOption
from analysis.paper.sheets import make_sheets
from analysis.render import words
from analysis.render.markdown import escape, grid
from analysis.render.sheet import Sheet
from analysis.wandb_runs import open_source
from benchmark.cli import main, make_app
from benchmark.errors import UserError
from benchmark.yaml_files import stem_of

HEADINGS = (
    "claim",
    "verdict",
    "hardest comparison",
    "difference",
    words.COMPARISON_HEADINGS[2],
    "seeds",
    "to decide it",
)

app = make_app()


@app.command()
def make_findings(
    names: Annotated[list[str] | None, typer.Argument(help="Sweeps. Default: all with records.")] = None,
    results: ResultsOption = Path("results"),
    from_wandb: WandbOption = None,
    verdicts: Annotated[bool, typer.Option("--verdicts", help="One table of verdicts, problems side by side.")] = False,
) -> None:
    """Print every claim of the papers on every problem that has records: verdict, effect, seeds, and the command."""
    sheets = [sheet for sheet in make_sheets(names or [], open_source(results, from_wandb)) if sheet.findings]
    source = (
        f"--results {shlex.quote(str(results))}" if from_wandb is None else f"--from-wandb {shlex.quote(from_wandb)}"
    )
    if not sheets:
        raise UserError(f"{source}: no claim is about the sweeps that have records there")
    typed = {stem_of(name): name for name in names or []}
    sys.stdout.write(side_by_side(sheets) if verdicts else sections(sheets, source, typed))


def side_by_side(sheets: Sequence[Sheet]) -> str:
    """A row a claim, a column a problem; one with several recipes in a sweep has several columns."""
    problems, claims = words.verdicts_by_problem(sheets)
    rows = [
        [escape(sweep), escape(statement), *(verdicts.get(problem, "") for problem in problems)]
        for (sweep, statement), verdicts in claims.items()
    ]
    headings = map(escape, problems)
    return grid(["sweep", "claim", *headings], rows)


def sections(sheets: Sequence[Sheet], source: str, typed: Mapping[str, str] | None = None) -> str:
    """A table a sheet, a row a claim, each with the command that prints all of its comparisons.

    source: the option that names the records. typed: sweeps by name, as the user wrote them.
    """
    return "\n".join(_section(sheet, source, (typed or {}).get(sheet.sweep, sheet.sweep)) for sheet in sheets)


def _section(sheet: Sheet, source: str, sweep: str) -> str:
    command = f"python -m analysis.make_tables {shlex.quote(sweep)} --problem {sheet.problem} {source} --details"
    rows = [_row(finding) for finding in sheet.findings]
    unit = f"Differences in {sheet.metric.of_differences}, the better one first positive."
    return f"## {escape(sheet.sweep)}, {escape(sheet.problem)}\n\n    {command}\n\n{unit}\n\n{grid(HEADINGS, rows)}"


def _row(finding: Finding) -> list[str]:
    comparison = finding.comparisons[finding.hardest]
    label, difference, interval, *_ = words.comparison_cells(comparison)
    cells = (finding.statement, finding.verdict, label, difference, interval, str(comparison.difference.n))
    return [*map(escape, cells), escape(finding.needed)]


if __name__ == "__main__":
    sys.exit(main(app))
