"""Targets that stand for no class and no word, and what the symbols of a translation stand for. No torch: data sets
need them too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

IGNORED = 255
"""A pixel of this class has no label: it is in no loss and no metric (Pascal VOC's border, Cityscapes' void)."""

PADDING = 0
"""Behind a sentence that is shorter than the longest; in no loss and no metric."""
START = 1
STOP = 2
FIRST = 3
"""The first that is a word."""


def as_words(symbols: Sequence[int]) -> str:
    """Each symbol as a word of a line."""
    return " ".join(str(symbol) for symbol in symbols if symbol != PADDING)


@dataclass(frozen=True)
class Vocabulary:
    """What the symbols of a translation stand for.

    Args:
        start: the symbol that a target begins with.
        stop: the symbol that ends a sentence.
        text: the text of symbols up to the stop, of which BLEU is made.
        tokenize: how sacrebleu is to split texts into words, by its own names.
        unknown: the symbol of all words that are in no vocabulary. In an output it is no word of any reference, as a
            network that gives it has not translated the word.
        identity: of the file that it was read from, part of the data's fingerprint.
    """

    start: int = START
    stop: int = STOP
    text: Callable[[Sequence[int]], str] = as_words
    tokenize: str = "none"
    identity: str = ""
    unknown: int | None = None
