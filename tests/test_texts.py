"""Parallel text of one's own: what a line is, and which bytes are text."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems.texts import read_pairs, read_text

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


def test_blank_lines_are_left_out_of_training_with_a_remark_and_refused_in_the_test(tmp_path: Path):
    write(tmp_path, PLAIN)
    for side in ("source", "target"):
        path = tmp_path / f"train.{side}"
        path.write_text(("a b\n" if side == "source" else "\n") + path.read_text())
    read = read_pairs(PROBLEM, tmp_path)
    assert (len(read.training), read.remarks) == (3, ("1 training sentences with a blank side are left out",))
    (tmp_path / "test.target").write_text("a\n\nb\n")
    with pytest.raises(UserError, match=r"test\.target: line 2 is blank, a sentence is expected"):
        read_pairs(PROBLEM, tmp_path)


def test_a_test_text_that_is_there_and_cannot_be_read_is_no_missing_one(tmp_path: Path):
    recipe, _ = load_problem("language_model", {"dataset": "text", "sequence_length": 8})
    (tmp_path / "train.txt").write_text("words and words " * 20)
    (tmp_path / "test.txt").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"test\.txt: No such file or directory"):
        read_text(recipe, tmp_path)
    (tmp_path / "test.txt").unlink()
    (tmp_path / "test.txt").touch()
    with pytest.raises(UserError, match=rf"^{tmp_path}: the test text has 0 bytes"):
        read_text(recipe, tmp_path)
