"""Options that the commands share, and what they say of records that are not there or not usable."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis.captions import printable
from analysis.sources import Source
from benchmark.errors import UserError
from benchmark.planning.grid import problem_names
from benchmark.yaml_files import stem_of

ResultsOption = Annotated[Path, typer.Option(help="Results folder, store, folder of .jsonl files, or one of them.")]
ProblemOption = Annotated[
    str | None,
    typer.Option(
        help="Only this problem, a name or a file. Default: all with records.",
        callback=lambda name: None if name is None else stem_of(name),
    ),
]
WandbOption = Annotated[
    str | None, typer.Option(help="Read Weights & Biases: a folder of offline runs, or ENTITY/PROJECT.")
]
WARNINGS = 5
"""How many unusable records are named one by one."""


def warn(lines: Sequence[str]) -> None:
    shown = [*lines[:WARNINGS], *([f"{len(lines) - WARNINGS} more of the kind"] if len(lines) > WARNINGS else [])]
    for line in shown:
        print(printable(f"warning: {line}"), file=sys.stderr)


class NoRecords(UserError):
    """There are none of what was asked for."""


def unknown(problem: str | None) -> str:
    """What to add where there are no records of a problem that is none of the suite's; "" if it is."""
    if problem is None or problem in problem_names():
        return ""
    return f": {problem} is none of sweeps/problems/, which has {', '.join(problem_names())}"


def nothing(name: str, place: Source, problem: str | None, seeds: str | None = None) -> NoRecords:
    which = name + (f" on {problem}" if problem else "") + (f" with seeds {seeds}" if seeds else "")
    if added := unknown(problem):
        return NoRecords(f"no records of {which} in {place.label}{added}")
    options = (f" --problem {problem}" if problem else "") + (f" --seeds {seeds}" if seeds else "")
    return NoRecords(f"no records of {which} in {place.label}: `python -m benchmark.sweep {name}{options}` makes them")
