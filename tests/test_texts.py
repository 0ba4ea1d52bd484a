"""Parallel text of one's own: what a line is, and which bytes are text."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems.texts import read_pairs

PROBLEM, _ = load_problem("translation", {"dataset": "pairs", "classes": 20, "sequence_length": 8})
PLAIN = ["ein Haus", "zwei Häuser", "drei Bäume dort"]
SEPARATED = ["ein Haus", "zwei\u2028Häuser", "drei\x85Bäume\x0cdort"]


def write(folder: Path, sources: list[str], encoding: str = "utf-8", end: str = "\n") -> Path:
    for part in ("train", "test"):
        for side, lines in (("source", sources), ("target", ["a house", "two houses", "three trees there"])):
            (folder / f"{part}.{side}").write_bytes((end.join(lines) + end).encode(encoding))
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_ends_at_a_line_feed_and_not_at_other_separators(tmp_path: Path, end: str):
    plain = read_pairs(PROBLEM, write(tmp_path, SEPARATED, end=end))
    assert len(plain.training) == len(plain.test) == 3


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path):
    with_mark, without = (read_pairs(PROBLEM, write(tmp_path, PLAIN, encoding)) for encoding in ("utf-8-sig", "utf-8"))
    assert with_mark.fingerprint == without.fingerprint


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
def test_what_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, encoding: str, line: int):
    write(tmp_path, PLAIN, encoding)
    with pytest.raises(UserError, match=rf"train\.source: line {line} is not UTF-8 \(byte \d+ of it\)$"):
        read_pairs(PROBLEM, tmp_path)


def test_words_outside_the_vocabulary_are_one_symbol_that_counts_as_unknown(tmp_path: Path):
    read = read_pairs(
        load_problem("translation", {"dataset": "pairs", "classes": 5, "sequence_length": 8})[0], write(tmp_path, PLAIN)
    )
    assert read.vocabulary.unknown in read.test.targets
