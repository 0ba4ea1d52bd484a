"""Numbers in words, English to German: a translation that a small transformer learns in minutes, from no file.

German says the units before the tens ("zwei und vierzig" is 42), so that words are reordered and not replaced one by
one. Compounds are written as separate words. A pair is exact by construction, which no parallel text is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.examples import Examples, ExampleSet
from benchmark.tasks.symbols import FIRST, PADDING, START, STOP

TRAINING, TEST = 6000, 400
LARGEST = 1_000_000
"""Numbers are drawn below it, each at most once, so that no test number is a training number."""

# fmt: off
ENGLISH = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
ENGLISH_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
GERMAN = (
    "null", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
    "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn",
)
GERMAN_TENS = ("zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")
# fmt: on
WORDS = (*ENGLISH, *ENGLISH_TENS, "hundred", "thousand", *GERMAN, *GERMAN_TENS, "und", "eins", "hundert", "tausend")
SYMBOLS = FIRST + len(WORDS)
LONGEST = 12
"""Words of a number and its `stop`, in the longer of the two languages."""


def english(number: int) -> list[str]:
    """The words of a number from 0 to 999,999: 42 is forty two."""
    if number >= 1000:
        return [*english(number // 1000), "thousand", *(english(number % 1000) if number % 1000 else [])]
    if number >= 100:
        return [ENGLISH[number // 100], "hundred", *(english(number % 100) if number % 100 else [])]
    if number >= 20:
        return [ENGLISH_TENS[number // 10 - 2], *([ENGLISH[number % 10]] if number % 10 else [])]
    return [ENGLISH[number]]


def german(number: int, ends: bool = True) -> list[str]:
    """The words of a number from 0 to 999,999: 42 is zwei und vierzig. ends: a final 1 is eins, and ein before more."""
    if number >= 1000:
        return [*german(number // 1000, False), "tausend", *(german(number % 1000, ends) if number % 1000 else [])]
    if number >= 100:
        return [GERMAN[number // 100], "hundert", *(german(number % 100, ends) if number % 100 else [])]
    if number >= 20:
        return [*([GERMAN[number % 10], "und"] if number % 10 else []), GERMAN_TENS[number // 10 - 2]]
    return ["eins"] if number == 1 and ends else [GERMAN[number]]


def numbers(problem: Problem, *_: object) -> ExampleSet:
    """Pairs drawn with one seed. Raises UserError where the recipe has too few symbols."""
    if problem.classes < SYMBOLS:
        raise UserError(
            f"problem {problem.name}: classes {problem.classes} is below the {SYMBOLS} symbols of data set numbers"
        )
    if problem.sequence_length and problem.sequence_length < LONGEST:
        raise UserError(
            f"problem {problem.name}: sequence_length {problem.sequence_length} is below the {LONGEST} of numbers"
        )
    drawn = np.random.default_rng(0).choice(LARGEST, TRAINING + TEST, replace=False)
    return ExampleSet(_pairs(drawn[:TRAINING]), _pairs(drawn[TRAINING:]))


def _pairs(drawn: NDArray[np.int64]) -> Examples:
    symbol = {word: FIRST + place for place, word in enumerate(WORDS)}
    sources = [[*(symbol[word] for word in english(number)), STOP] for number in drawn.tolist()]
    targets = [[START, *(symbol[word] for word in german(number)), STOP] for number in drawn.tolist()]
    return pairs_of(sources, targets, LONGEST)


def pairs_of(sources: list[list[int]], targets: list[list[int]], length: int) -> Examples:
    """Examples of a translation: sources end with `stop`; targets begin with `start` and end with `stop`."""
    source, target = padded(sources, length), padded(targets, length + 1)
    return Examples((source, target[:, :-1]), target[:, 1:])


def padded(rows: list[list[int]], length: int) -> NDArray[np.int64]:
    """Rows of symbols with padding behind them, int64 (rows, length)."""
    table = np.full((len(rows), length), PADDING, dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table
