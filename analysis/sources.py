"""Where records come from: a live store, committed reference runs, or anything else that is a Source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from analysis.axes import Axes, with_dense
from analysis.frames import Records, collect, noted, read
from benchmark.errors import UserError
from benchmark.results.records import BadRecord, Record
from benchmark.results.store import Store, read_at, read_positions

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


class ReadAgain(Mapping[str, Record]):
    """Records by id, read anew whenever they are asked for: kept, they would take some 40 kB each.

    One that has gone since is still listed; asking for it raises KeyError.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Record | None]):
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> Record:
        try:
            record = self._read(name) if name in self._names else None
        except (BadRecord, OSError):
            record = None
        if record is None or record["id"] != name:
            raise KeyError(name)
        return record

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Results:
    """A place with records: a results folder (runs/ and reference/ in it), a live store, or reference files."""

    def __init__(self, path: Path):
        if not path.exists():
            raise UserError(
                f"--results {path}: there is no such file or folder; `python -m benchmark.sweep table1` makes records "
                "in results/, and a clone of the repository has reference runs there"
            )
        self.path = path
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
        failures = () if self.live is None else tuple(Store(self.live).failures())
        if not live.frame.empty or failures or not self.files:
            return replace(live, failures=failures)
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
        records = collect({label: store.records()}, store.problems, label)
        return replace(records, whole=ReadAgain(records.frame["id"], Store(self.live).read))

    def _reference(self, name: str) -> Records:
        if self.path.is_file():  # asked for by its own name, which need not be that of the sweep
            return self._of_files(self.files)
        return self._of_files(
            [file for file in self.files if file.parent.name != "reference" or file.name.startswith(f"{name}-")]
        )

    def _of_files(self, files: Sequence[Path]) -> Records:
        problems: list[str] = []
        places: dict[str, tuple[Path, int]] = {}

        def records(file: Path) -> Iterator[Record]:
            pairs = (((file, position), record) for position, record in read_positions(file, problems))
            return noted(pairs, problems, places)

        label = str(files[0]) if len(files) == 1 else f"{len(files)} files in {self.path}"
        of_files = {f"reference runs {file}": records(file) for file in files}
        all_records = collect(of_files, problems, f"reference runs {label}")
        return replace(all_records, whole=ReadAgain(all_records.frame["id"], lambda name: read_at(*places[name])))
