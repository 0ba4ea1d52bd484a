"""Translation: teacher forcing in training, BLEU of greedy output in evaluation."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from sacrebleu.metrics.bleu import BLEU as SacreBLEU
from sacrebleu.metrics.bleu import BLEUScore
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.metric import BLEU
from benchmark.tasks.symbols import PADDING, Vocabulary
from benchmark.tasks.task import Inputs, Sums, Targets, Task, floating

ORDERS = 4
"""n-grams of up to so many words (Papineni et al. 2002)."""
NO_WORD = -1
"""In place of an output's symbol for unknown words."""
CHANCE = 1.0
"""BLEU points: output that shares a few frequent words with the reference."""


class Translates(Protocol):
    """A network for this task."""

    def generate(self, source: Tensor, length: int, start: int, stop: int) -> Tensor:
        """Greedy output, int64 (b, at most length), without `start`; what follows a `stop` does not count."""


class Translation(Task):
    """inputs: source (b, s) and the target without its last symbol (b, t), int64, padded with 0; outputs: logits
    (b, t, symbols); targets: int64 (b, t), the target without its first symbol."""

    metric = BLEU

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.vocabulary = Vocabulary()

    def use(self, data: Targets) -> None:
        self.vocabulary = data.vocabulary

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.problem.label_smoothing
        logits, symbols = outputs.flatten(0, 1), targets.flatten()
        return functional.cross_entropy(logits, symbols, ignore_index=PADDING, label_smoothing=smoothing)

    def units(self, targets: Tensor) -> Tensor:
        return (targets != PADDING).sum()

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs.max(2).indices == targets) & (targets != PADDING)).sum()

    def zeros(self, device: torch.device) -> Sums:
        """(cross-entropy, symbols) of shape (), and int64 (2 * ORDERS + 2,): matches and n-grams of each order, and the
        lengths of output and reference."""
        loss = torch.zeros((), dtype=floating(device), device=device)
        symbols = torch.zeros((), dtype=torch.int64, device=device)
        return loss, symbols, torch.zeros(2 * ORDERS + 2, dtype=torch.int64, device=device)

    def sums(self, network: nn.Module, inputs: Inputs, outputs: Tensor, targets: Tensor) -> Sums:
        loss = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="sum")
        if not hasattr(network, "generate"):
            raise UserError(
                "task translation: the network has no generate(source, length, start, stop) for greedy output: "
                "Translator in benchmark/problems/networks/text.py has one"
            )
        start, stop = self.vocabulary.start, self.vocabulary.stop
        translated = cast(Translates, network).generate(inputs[0], targets.shape[1], start, stop)
        if not isinstance(translated, Tensor):
            raise UserError(
                f"task translation: generate gives a {type(translated).__name__}, not a tensor of symbols (b, n)"
            )
        return loss, self.units(targets), _statistics(translated, targets, self.vocabulary).to(targets.device)

    def value(self, sums: Sums) -> float:
        *counts, output, reference = sums[2].tolist()
        score = SacreBLEU.compute_bleu(counts[:ORDERS], counts[ORDERS:], output, reference, smooth_method="exp")
        return min(float(score.score), 100.0)  # which rounding may pass

    def chance(self, targets: Targets) -> float:
        return CHANCE


def _statistics(translated: Tensor, references: Tensor, vocabulary: Vocabulary) -> Tensor:
    """What BLEU is made of, summed over the sentences of a batch. sacrebleu counts words, so symbols become text."""
    scorer = SacreBLEU(tokenize=vocabulary.tokenize, effective_order=True)
    total = torch.zeros(2 * ORDERS + 2, dtype=torch.int64)
    for output, reference in zip(translated.tolist(), references.tolist(), strict=True):
        sentences = [_sentence(row, vocabulary.stop) for row in (output, reference)]
        if vocabulary.unknown is not None:
            sentences[0] = [NO_WORD if symbol == vocabulary.unknown else symbol for symbol in sentences[0]]
        hypothesis, expected = map(vocabulary.text, sentences)
        score: BLEUScore = scorer.sentence_score(hypothesis, [expected])
        total += torch.tensor([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return total


def _sentence(symbols: list[int], stop: int) -> list[int]:
    """Symbols up to the first `stop`."""
    return symbols[: symbols.index(stop)] if stop in symbols else symbols
