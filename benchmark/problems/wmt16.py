"""WMT16, German and English, in files of Hugging Face's data set wmt/wmt16, as symbols of a T5. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json as arrow_json
from pyarrow import parquet

from benchmark.cells import Problem
from benchmark.errors import UserError, escaped
from benchmark.problems.examples import Examples, ExampleSet
from benchmark.problems.hugging_face import STOP, Tokenizer, open_tokenizer
from benchmark.tasks.symbols import PADDING, Vocabulary

COLUMN = "translation"
DEFAULT_LENGTH = 128
LANGUAGES = {"en": "English", "de": "German"}
AT_ONCE = 10_000
"""Sentences that are made symbols at a time."""
LARGEST_NARROW = 2**15
"""Symbols that int16 can tell apart."""

Pairs = tuple[list[str], list[str]]
"""Sources and targets, "" for none."""


def read_wmt16(problem: Problem, folder: Path | None, given: Path | None) -> ExampleSet:
    """--data DIR with train-*.parquet, test-*.parquet and perhaps validation-*.parquet in de-en/ or in DIR itself, or
    with train.json and so on in place of them, in lines such as {"translation": {"de": "Hallo", "en": "Hello"}}.

    Sources begin with T5's instruction, such as "translate English to German: ". Training pairs without text, or longer
    than `sequence_length` symbols, are left out; validation and test pairs are cut. Raises UserError.
    """
    if folder is None:
        raise UserError("--data: dataset wmt16 is a folder: that of Hugging Face's wmt/wmt16, with de-en/ in it")
    source, target = problem.dataset.split("_")[1:]
    tokenizer, identity = open_tokenizer(problem, folder, given)
    parts = {name: _files(folder, name) for name in ("train", "test", "validation")}
    for name in ("train", "test"):
        if not parts[name]:
            raise UserError(
                f"--data {escaped(folder)}: no {name}-*.parquet or {name}.json is there, nor in its folder de-en/"
            )
    reader = _PairReader(problem, tokenizer, source, target)
    training = reader.training(parts["train"])
    test, validation = (reader.evaluation(parts[name]) if parts[name] else None for name in ("test", "validation"))
    assert test is not None
    vocabulary = Vocabulary(PADDING, STOP, tokenizer.decode, "13a", identity)
    return ExampleSet(training, test, tuple(reader.remarks), validation, vocabulary)


def _files(folder: Path, part: str) -> list[Path]:
    for home in (folder / "de-en", folder):
        if files := sorted(home.glob(f"{part}-*.parquet")):
            return files
        for name in (f"{part}.json", f"{part}.jsonl"):
            if (home / name).is_file():
                return [home / name]
    return []


class _PairReader:
    """remarks: what was left out."""

    def __init__(self, problem: Problem, tokenizer: Tokenizer, source: str, target: str):
        self.problem, self.tokenizer = problem, tokenizer
        self.source, self.target = source, target
        self.prefix = f"translate {LANGUAGES[source]} to {LANGUAGES[target]}: "
        self.length = problem.sequence_length or DEFAULT_LENGTH
        self.remarks: list[str] = []

    def training(self, files: list[Path]) -> Examples:
        kept, empty, long = [], 0, 0
        for sources, targets in self._encoded(files):
            texts = [bool(row[0] and row[1]) for row in zip(sources, targets, strict=True)]
            short = [max(map(len, row)) <= self.length for row in zip(sources, targets, strict=True)]
            chosen = [place for place in range(len(sources)) if texts[place] and short[place]]
            empty += len(texts) - sum(texts)
            long += len(short) - sum(short)
            kept.append(self._table([sources[place] for place in chosen], [targets[place] for place in chosen]))
        for count, what in ((empty, "without text"), (long, f"of more than {self.length} symbols")):
            if count:
                self.remarks.append(f"{count} training pairs {what} are left out")
        if not sum(map(len, kept)):
            raise UserError(f"{escaped(files[0])}: no training pair has text of up to {self.length} symbols")
        return _examples(kept, self.length)

    def evaluation(self, files: list[Path]) -> Examples:
        tables, number = [], 0
        for sources, targets in self._encoded(files):
            for pair in zip(sources, targets, strict=True):
                number += 1
                if not all(pair):
                    side = self.target if pair[0] else self.source
                    raise UserError(
                        f"{escaped(files[0])}: pair {number} has no text in {side!r}; all have some to test"
                    )
            tables.append(self._table(sources, targets))
        if not tables:
            raise UserError(f"{escaped(files[0])}: there are no pairs in it")
        return _examples(tables, self.length)

    def _encoded(self, files: list[Path]) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """Symbols of sources and targets, with the stop; none where there is no text."""
        for file in files:
            for sources, targets in _pairs(file, self.source, self.target):
                yield self._symbols(sources, self.prefix), self._symbols(targets, "")

    def _symbols(self, texts: list[str], prefix: str) -> list[list[int]]:
        encoded = self.tokenizer.encode([prefix + text for text in texts])
        return [[*row, STOP] if text.strip() else [] for text, row in zip(texts, encoded, strict=True)]

    def _table(self, sources: list[list[int]], targets: list[list[int]]) -> NDArray[Any]:
        """(pairs, 2 * length + 1): the source, and the target behind its start, which is the padding."""
        kind = np.int16 if self.problem.classes <= LARGEST_NARROW else np.int32
        table = np.full((len(sources), 2 * self.length + 1), PADDING, dtype=kind)
        for first, rows in ((0, sources), (self.length + 1, targets)):
            for place, row in enumerate(rows):
                cut = row if len(row) <= self.length else [*row[: self.length - 1], STOP]
                table[place, first : first + len(cut)] = cut
        return table


def _examples(tables: list[NDArray[Any]], length: int) -> Examples:
    whole = np.concatenate(tables)
    return Examples((whole[:, :length], whole[:, length:-1]), whole[:, length + 1 :])


def _pairs(file: Path, source: str, target: str) -> Iterator[Pairs]:
    """Batches of sentences. Raises UserError where the file is damaged or of another layout."""
    try:
        for table in _tables(file):
            for side in (source, target):
                _check(table.schema, side, file)
            column = table.column(COLUMN)
            yield tuple(  # type: ignore[misc]
                [text or "" for text in pc.struct_field(column, side).to_pylist()] for side in (source, target)
            )
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{escaped(file)}: it cannot be read: {' '.join(str(error).split())}") from None


def _tables(file: Path) -> Iterator[pa.Table]:
    if file.suffix == ".parquet":
        for batch in parquet.ParquetFile(file).iter_batches(AT_ONCE):
            yield pa.Table.from_batches([batch])
    else:
        table = arrow_json.read_json(file)
        yield from (table.slice(first, AT_ONCE) for first in range(0, len(table), AT_ONCE))


def _check(schema: pa.Schema, side: str, file: Path) -> None:
    kind = schema.field(COLUMN).type if COLUMN in schema.names else None
    sides = {field.name: field.type for field in kind} if kind is not None and pa.types.is_struct(kind) else {}
    if side not in sides or not (pa.types.is_string(sides[side]) or pa.types.is_large_string(sides[side])):
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{escaped(file)}: its columns are {columns}; accepted: {COLUMN} with texts {', '.join(sorted(LANGUAGES))}"
        )
