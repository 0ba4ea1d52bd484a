"""The table: a line for each fault, kept in a file if asked, so that the parts of a long run can be done one by one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from tests.faults.harness import ROOT, Row

WIDTH = 44
HEAD = f"{'fault':<{WIDTH}}{'tries':>7}{'lost':>7}{'doubled':>9}{'wrong':>7}{'seconds':>9}"


def commit() -> str:
    """The commit that is tried, with a + if the checkout differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "?") + "+" * bool(git("status", "--porcelain", "-uno"))


class Table:
    """Prints each row as it is done; the exit code is 1 if anything was lost, doubled or wrong.

    kept: a file of finished sections, one JSON object a line; what it has with the same settings is not done again.
    """

    def __init__(self, kept: Path | None):
        self.kept = kept
        self.rows: list[Row] = []
        self.seconds = 0.0
        self.commits: dict[str, None] = {}
        self._commit = commit()
        print(HEAD, flush=True)

    def section(self, name: str, settings: dict[str, Any], work: Callable[[], list[Row]]) -> None:
        """Do `work`, or take its rows from the file."""
        found = self._find(name, settings)
        if found is None:
            started = time.monotonic()
            rows = [asdict(row) for row in work()]
            found = {"section": name, "commit": self._commit, "settings": settings, "rows": rows}
            found["seconds"] = round(time.monotonic() - started, 1)
            if self.kept is not None:
                with open(self.kept, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
        self.commits[found["commit"]] = None
        self.seconds += found["seconds"]
        for row in found["rows"]:
            self._add(Row(**row), found["seconds"] / len(found["rows"]))

    def _find(self, name: str, settings: dict[str, Any]) -> dict[str, Any] | None:
        if self.kept is None or not self.kept.exists():
            return None
        try:
            lines = [json.loads(line) for line in self.kept.read_text(encoding="utf-8").splitlines()]
            same = [line for line in lines if (line["section"], line["settings"]) == (name, settings)]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"--rows {self.kept}: not a file of rows that this command wrote") from None
        return same[-1] if same else None

    def _add(self, row: Row, seconds: float) -> None:
        self.rows.append(row)
        _print(row, seconds)
        for note in [*row.notes[:10], *row.figures]:
            print(f"    {note}", flush=True)

    def end(self) -> int:
        total = Row("total")
        for row in self.rows:
            total.tries += row.tries
            total.lost += row.lost
            total.doubled += row.doubled
            total.wrong += row.wrong
        _print(total, self.seconds)
        print(f"commit {', '.join(self.commits)}; {self.seconds / 60:.1f} minutes", flush=True)
        return 1 if total.lost or total.doubled or total.wrong else 0


def _print(row: Row, seconds: float) -> None:
    figures = f"{row.tries:>7}{row.lost:>7}{row.doubled:>9}{row.wrong:>7}{seconds:>9.0f}"
    print(f"{row.fault:<{WIDTH}}{figures}", flush=True)
