"""Where records come from: a live store, committed reference runs, or anything else that is a Source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from analysis.axes import Axes, with_dense
from analysis.frames import Records, collect, read
from benchmark.errors import UserError
from benchmark.results.store import Store, read_compact

LOOKED_AT = 65536
"""Bytes of a file in which one of records has the beginning of one."""


class Source(Protocol):
    """Where records come from: a results folder, or Weights & Biases."""

    @property
    def label(self) -> str:
        """What a message calls it."""

    def of_sweep(self, axes: Axes, problem: str | None = None) -> Records | None: ...

    def problems(self, axes: Axes) -> tuple[str, ...]: ...

    def everything(self) -> Records:
        """All records, whatever sweep they are of."""


class Results:
    """A place with records: a results folder (runs/ and reference/ in it), a live store, or reference files."""

    def __init__(self, path: Path, whole: bool = False):
        """`whole`: keep the records themselves too, which takes some 10 kB each."""
        if not path.exists():
            raise UserError(
                f"--results {path}: there is no such file or folder; `python -m benchmark.sweep table1` makes records "
                "in results/, and a clone of the repository has reference runs there"
            )
        self.path = path
        self.whole = whole
        self.live: Path | None = path if (path / "records").is_dir() else path / "runs"
        self.files: list[Path] = []
        if path.is_file():
            with open(path, "rb") as file:
                start = file.read(LOOKED_AT)
            if start.strip() and b'"schema"' not in start:
                raise UserError(f"--results {path}: this is no file of records, as `benchmark.export` writes them")
            self.live, self.files = None, [path]
        elif path.is_dir():
            self.files = sorted(path.glob("*.jsonl")) or sorted((path / "reference").glob("*.jsonl"))
            if not self.files and not self.live.is_dir() and any(path.iterdir()):
                raise UserError(
                    f"--results {path}: nothing to read there: give a results folder (with runs/ or reference/ in it), "
                    "a store (with records/ in it), a folder of .jsonl files or one such file"
                )

    @property
    def label(self) -> str:
        return str(self.path)

    def of_sweep(self, axes: Axes, problem: str | None = None) -> Records | None:
        """The sweep's records with the dense runs of their problems: live ones if there are any, else reference runs.

        None if there are no records of the sweep, or none on `problem`.
        """
        passed: tuple[str, ...] = ()
        for records in self._candidates(axes.name):
            of_sweep = with_dense(records, axes, problem)
            if of_sweep is not None:
                return replace(of_sweep, problems=passed + records.problems)
            passed += records.problems
        return None

    def problems(self, axes: Axes) -> tuple[str, ...]:
        """What could not be used of all that `of_sweep` looks at."""
        return tuple(line for records in self._candidates(axes.name) for line in records.problems)

    def everything(self) -> Records:
        """All live records, or all reference runs where there are none."""
        live = self._live_records
        if not live.frame.empty or live.failures or not self.files:
            return live
        committed = self._of_files(self.files)
        return replace(committed, problems=live.problems + committed.problems)

    def _candidates(self, name: str) -> Iterator[Records]:
        yield self._live_records
        yield self._reference(name)

    @cached_property
    def _live_records(self) -> Records:
        if self.live is None:
            return read([])
        store = Store(self.live)
        label = f"live store {self.live}"
        records = collect({label: store.records()}, store.problems, label, self.whole)
        return replace(records, failures=tuple(store.failures())) if self.whole else records

    def _reference(self, name: str) -> Records:
        if self.path.is_file():  # asked for by its own name, which need not be that of the sweep
            return self._of_files(self.files)
        return self._of_files(
            [file for file in self.files if file.parent.name != "reference" or file.name.startswith(f"{name}-")]
        )

    def _of_files(self, files: Sequence[Path]) -> Records:
        problems: list[str] = []
        records = {f"reference runs {file}": read_compact(file, problems) for file in files}
        label = str(files[0]) if len(files) == 1 else f"{len(files)} files in {self.path}"
        return collect(records, problems, f"reference runs {label}", self.whole)
