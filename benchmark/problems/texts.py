"""Texts as symbols: bytes for language models, words for translation."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.cells import Problem
from benchmark.errors import UserError, escaped
from benchmark.problems.examples import Examples, ExampleSet
from benchmark.problems.numbers import pairs_of
from benchmark.tasks.symbols import FIRST, START, STOP, Vocabulary

BYTES = 256
"""Symbols of a text: its bytes, so that every text in every language can be read."""
DEFAULT_LENGTH = 64
TEST_SHARE = 0.1
"""Of a text that comes without a test part: its end."""
UNKNOWN = FIRST
"""A word that is not among the most frequent of the training pairs."""


def python_docs(problem: Problem, *_: object) -> ExampleSet:
    """The topics of Python's own `help()`, which come with Python: about 460,000 bytes of English prose and code."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    return _windows(problem, text.encode(), None, "python_docs")


def read_text(problem: Problem, folder: Path | None, *_: object) -> ExampleSet:
    """A text of one's own: --data FILE, or DIR with train.txt and perhaps test.txt. Raises UserError."""
    if folder is None:
        raise UserError("--data: dataset text is a text of your own: a file, or a folder with train.txt and test.txt")
    if folder.is_file():
        return _windows(problem, _read(folder), None, escaped(folder))
    training, test = folder / "train.txt", folder / "test.txt"
    if not os.path.lexists(test):
        return _windows(problem, _read(training), None, escaped(training))
    return _windows(problem, _read(training), _read(test), escaped(folder))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{escaped(path)}: {error.strerror}") from None


def _windows(problem: Problem, text: bytes, test: bytes | None, where: str) -> ExampleSet:
    """Windows of consecutive bytes that do not overlap, each with the same bytes one later as its targets."""
    if problem.classes < BYTES:
        raise UserError(
            f"problem {problem.name}: classes {problem.classes} is below the {BYTES} symbols of a text, its bytes"
        )
    if test is None:
        cut = round(len(text) * (1 - TEST_SHARE))
        text, test = text[:cut], text[cut:]
    length = problem.sequence_length or DEFAULT_LENGTH
    least = 2 * length + 1
    for name, part in (("training", text), ("test", test)):
        if len(part) < least:
            raise UserError(f"{where}: the {name} text has {len(part)} bytes; sequence_length {length} takes {least}")
    return ExampleSet(_cut(text, length), _cut(test, length))


def _cut(text: bytes, length: int) -> Examples:
    symbols: NDArray[np.int64] = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
    count = (len(symbols) - 1) // length
    inputs, targets = (symbols[first : first + count * length].reshape(count, length) for first in (0, 1))
    return Examples((inputs,), targets)


def read_pairs(problem: Problem, folder: Path | None, *_: object) -> ExampleSet:
    """Parallel text of one's own: --data DIR with train.source, train.target, test.source, test.target.

    A line is a sentence, its words separated by spaces. The most frequent words of both languages are the vocabulary,
    as many as the recipe's `classes` leaves room for. Sentences longer than `sequence_length` are left out of training
    and cut for the test. Raises UserError.
    """
    if folder is None:
        raise UserError(
            "--data: dataset pairs is parallel text of your own: a folder with train.source, train.target, test.source "
            "and test.target, a sentence a line"
        )
    length = problem.sequence_length or DEFAULT_LENGTH
    training, test = (_sentences(folder, part) for part in ("train", "test"))
    for number, pair in enumerate(test, 1):
        if not all(pair):
            side = "source" if not pair[0] else "target"
            raise UserError(f"{escaped(folder / f'test.{side}')}: line {number} is blank, a sentence is expected")
    written = [pair for pair in training if all(pair)]
    kept = [pair for pair in written if max(map(len, pair)) < length]
    counts = Counter(word for pair in kept for sentence in pair for word in sentence)
    room = problem.classes - UNKNOWN - 1
    vocabulary = {word: UNKNOWN + 1 + place for place, (word, _) in enumerate(counts.most_common(max(room, 0)))}
    if room <= 0:
        least = UNKNOWN + 2
        raise UserError(
            f"problem {problem.name}: classes {problem.classes} leave no room for words; {least} or more do"
        )
    if not vocabulary:
        raise UserError(f"{escaped(folder)}: no training sentence of fewer than {length} words (sequence_length)")
    left_out = {
        f"of {length} words or more": len(written) - len(kept),
        "with a blank side": len(training) - len(written),
    }
    remarks = tuple(f"{count} training sentences {what} are left out" for what, count in left_out.items() if count)
    as_symbols = partial(_as_symbols, vocabulary=vocabulary, length=length)
    return ExampleSet(as_symbols(kept), as_symbols(test), remarks, vocabulary=Vocabulary(unknown=UNKNOWN))


Sentences = list[tuple[list[str], list[str]]]


def _sentences(folder: Path, part: str) -> Sentences:
    sources, targets = (_lines(folder / f"{part}.{side}") for side in ("source", "target"))
    if len(sources) != len(targets):
        raise UserError(
            f"{escaped(folder)}: {part}.source has {len(sources)} lines and {part}.target {len(targets)}; a line of "
            "one is the translation of the same line of the other"
        )
    return list(zip(sources, targets, strict=True))


def _lines(path: Path) -> list[list[str]]:
    """The words of each line of UTF-8. Only a line feed ends one: Unicode's other separators may be in a sentence."""
    lines = _read(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    words = []
    for number, line in enumerate(lines, 1):
        try:
            words.append(line.decode().split())
        except UnicodeDecodeError as error:
            raise UserError(f"{escaped(path)}: line {number} is not UTF-8 (byte {error.start + 1} of it)") from None
    return words


def _as_symbols(sentences: Sentences, vocabulary: dict[str, int], length: int) -> Examples:
    def symbols(words: list[str]) -> list[int]:
        return [*(vocabulary.get(word, UNKNOWN) for word in words[: length - 1]), STOP]

    return pairs_of(
        [symbols(source) for source, _ in sentences], [[START, *symbols(target)] for _, target in sentences], length
    )
