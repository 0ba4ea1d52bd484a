"""Tasks: what their metrics say, that sums add up over batches, and what counts as having learned nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor, nn

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.metric import ACCURACY, PERPLEXITY, Metric, metric_of
from benchmark.planning.grid import load_problem
from benchmark.problems import numbers
from benchmark.problems.fits import refuse_unfit
from benchmark.tasks import make_task
from benchmark.tasks.segmentation import IGNORED
from benchmark.tasks.symbols import PADDING, STOP, Vocabulary
from benchmark.tasks.task import Sums, Task

CPU = torch.device("cpu")
DIGITS, _ = load_problem("digits")


def task(name: str, classes: int, **fields) -> Task:
    return make_task(Problem(name="x", task=name, dataset="d", model="m", epochs=1, classes=classes, **fields))


def total(made: Task, batches: list[tuple[Tensor, Tensor]], network: nn.Module | None = None) -> Sums:
    sums = made.zeros(CPU)
    for outputs, targets in batches:
        parts = made.sums(network or nn.Identity(), (targets,), outputs, targets)
        sums = tuple(a + b for a, b in zip(sums, parts, strict=True))
    return sums


class Counts:
    def __init__(self, *counts: int):
        self.counts = torch.tensor(counts)

    def target_counts(self) -> Tensor:
        return self.counts


OUTPUTS = {"classification": (3,), "segmentation": (3, 4, 4), "language_modelling": (5, 3)}


@pytest.mark.parametrize("name", OUTPUTS)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_batches_add_up_to_the_metric_of_the_whole(name: str, sizes: list[int], seed: int):
    stream = torch.Generator().manual_seed(seed)
    made, shape = task(name, 3), OUTPUTS[name]
    outputs = torch.randn(sum(sizes), *shape, generator=stream)
    of_targets = {"classification": (), "segmentation": shape[1:], "language_modelling": shape[:1]}[name]
    targets = torch.randint(3, (sum(sizes), *of_targets), generator=stream)
    parts = total(made, list(zip(outputs.split(sizes), targets.split(sizes), strict=True)))
    whole = total(made, [(outputs, targets)])
    assert made.value(parts) == pytest.approx(made.value(whole))
    assert made.mean_loss(parts) == pytest.approx(made.mean_loss(whole))
    assert made.mean_loss(whole) == pytest.approx(made.loss(outputs, targets).item(), rel=1e-5)


def test_accuracy_is_the_share_of_images_that_are_right():
    made = task("classification", 3)
    outputs = torch.eye(3)[[0, 1, 2, 2]]
    assert made.value(total(made, [(outputs, torch.tensor([0, 1, 2, 0]))])) == 0.75
    assert made.chance(Counts(2, 2, 2)) == pytest.approx(1 / 3)


def test_a_network_that_always_answers_the_most_frequent_class_has_learned_nothing():
    made = task("classification", 2)
    assert made.is_chance(0.95, Counts(95, 5))
    assert not made.is_chance(0.99, Counts(95, 5))


def test_mean_iou_is_that_of_a_confusion_matrix_by_hand():
    """Of class 0: 2 pixels in both of 3 in either; of class 1: 1 of 2; class 2 occurs nowhere and does not count."""
    made = task("segmentation", 3)
    targets = torch.tensor([[[0, 0], [1, IGNORED]], [[1, 0], [IGNORED, IGNORED]]])
    predicted = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [2, 0]]])
    outputs = 10 * nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float()
    assert made.value(total(made, [(outputs, targets)])) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert made.units(targets) == 5


@given(seed=st.integers(0, 99))
def test_a_pixel_without_a_label_counts_in_nothing(seed: int):
    stream = torch.Generator().manual_seed(seed)
    made = task("segmentation", 3)
    targets = torch.randint(3, (2, 3, 3), generator=stream)
    targets[0, 0, 0] = IGNORED
    outputs = torch.randn(2, 3, 3, 3, generator=stream)
    changed = outputs.clone()
    changed[0, :, 0, 0] = torch.randn(3, generator=stream) * 100
    assert made.loss(changed, targets).item() == made.loss(outputs, targets).item()
    for first, second in zip(total(made, [(outputs, targets)]), total(made, [(changed, targets)]), strict=True):
        assert torch.equal(first, second)


def test_a_network_that_sees_one_class_everywhere_has_the_mean_iou_that_is_called_chance():
    made = task("segmentation", 3)
    targets = torch.tensor([[[0, 0, 0], [1, 2, 2]]])
    outputs = torch.zeros(1, 3, 2, 3)
    outputs[:, 0] = 1
    assert made.value(total(made, [(outputs, targets)])) == pytest.approx(made.chance(Counts(3, 1, 2)))


def test_perplexity_of_uniform_predictions_is_the_number_of_symbols_and_that_of_the_unigram_model_is_chance():
    made = task("language_modelling", 4)
    targets = torch.tensor([[0, 0, 0, 1], [0, 0, 2, 1]])
    assert made.value(total(made, [(torch.zeros(2, 4, 4), targets)])) == pytest.approx(4)
    counts = Counts(5, 2, 1, 0)
    unigram = (counts.counts / 8).clamp_min(1e-30).log().expand(2, 4, 4)
    assert made.value(total(made, [(unigram, targets)])) == pytest.approx(made.chance(counts))
    assert made.is_chance(made.chance(counts), counts)
    assert not made.is_chance(0.9 * made.chance(counts), counts)
    assert made.is_chance(math.inf, counts)
    assert made.value(total(made, [(torch.full((2, 4, 4), math.nan), targets)])) == math.inf


class LogLikelihood(Task):
    """Of a density: below 0, higher is better."""

    metric = Metric("ll", "log-likelihood", "nats")
    loss = zeros = sums = value = None

    def chance(self, targets):
        return -2.3


class Skewed(LogLikelihood):
    """97 of 100 examples are of one class."""

    metric = ACCURACY

    def chance(self, targets):
        return 0.97


def test_no_margin_reaches_the_best_value_that_there_is():
    made = Skewed(DIGITS)
    assert made.is_chance(0.97, Counts())
    assert not made.is_chance(0.99, Counts())


def test_a_value_worse_than_a_chance_below_0_is_chance():
    made = LogLikelihood(DIGITS)
    assert made.is_chance(-3.0, Counts())
    assert made.is_chance(-2.28, Counts())
    assert not made.is_chance(-2.0, Counts())


class Says(nn.Module):
    """Translates everything to the same sentences."""

    def __init__(self, output: Tensor):
        super().__init__()
        self.output = output

    def generate(self, source: Tensor, length: int, start: int, stop: int) -> Tensor:
        return self.output


@given(seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_bleu_of_batches_is_sacrebleus_of_the_corpus(seed: int):
    stream = torch.Generator().manual_seed(seed)
    made = task("translation", 8)
    references = torch.randint(3, 8, (6, 9), generator=stream)
    outputs = torch.where(torch.rand(6, 9, generator=stream) < 0.7, references, 3)
    references[:, 6:], outputs[:3, 5:] = PADDING, STOP
    references[:, 6] = STOP
    logits = torch.zeros(3, 9, 8)
    parts = [total(made, [(logits, references[k : k + 3])], Says(outputs[k : k + 3])) for k in (0, 3)]
    sums = tuple(a + b for a, b in zip(*parts, strict=True))

    def words(rows: Tensor) -> list[str]:
        kept = ([s for s in row[: row.index(STOP) if STOP in row else None] if s] for row in rows.tolist())
        return [" ".join(map(str, row)) for row in kept]

    expected = BLEU(tokenize="none").corpus_score(words(outputs), [words(references)]).score
    assert made.value(sums) == pytest.approx(expected)


def test_the_symbol_of_unknown_words_is_never_right_in_an_output():
    made = task("translation", 8)
    references = torch.tensor([[3, 4, 5, 6, 7, STOP]])
    logits = torch.zeros(1, 6, 8)
    assert made.value(total(made, [(logits, references)], Says(references))) == pytest.approx(100)
    made.vocabulary = Vocabulary(unknown=3)
    translated = torch.tensor([[3, 4, 5, 6, 7, STOP]])
    expected = BLEU(tokenize="none").corpus_score(["- 4 5 6 7"], [["3 4 5 6 7"]]).score
    assert made.value(total(made, [(logits, references)], Says(translated))) == pytest.approx(expected)


def test_padding_is_in_no_loss_and_counts_as_no_symbol():
    made = task("translation", 8)
    logits = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    short, long = torch.tensor([[3, STOP]]), torch.tensor([[3, STOP, PADDING, PADDING]])
    assert made.loss(logits, long).item() == pytest.approx(made.loss(logits[:, :2], short).item())
    assert int(made.units(long)) == 2


def test_label_smoothing_is_part_of_training_alone():
    plain, smoothed = task("classification", 3), task("classification", 3, label_smoothing=0.1)
    outputs, targets = torch.eye(3) * 5, torch.tensor([0, 1, 2])
    assert smoothed.loss(outputs, targets) > plain.loss(outputs, targets)
    assert smoothed.mean_loss(total(smoothed, [(outputs, targets)])) == pytest.approx(
        plain.loss(outputs, targets).item()
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "regression"}, "task 'regression' is unknown: one of classification, segmentation"),
        ({"task": "segmentation"}, "task segmentation does not fit dataset digits, whose task is classification"),
        ({"dataset": "numbers"}, "task classification does not fit dataset numbers, whose task is translation"),
        ({"dataset": "numberz"}, "dataset 'numberz' is unknown: one of digits"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_in_one_line_before_anything_runs(fields: dict, words: str):
    with pytest.raises(UserError, match=r"^problem digits: ") as caught:
        refuse_unfit(DIGITS.model_copy(update=fields))
    assert words in str(caught.value)


def test_a_metric_says_how_it_is_shown_and_which_way_is_better():
    assert ACCURACY.text(0.9315, 2) == "93.15 %"
    assert PERPLEXITY.text(12.34) == "12.3"
    assert PERPLEXITY.is_better(2.0, 3.0)
    assert not ACCURACY.is_better(0.2, 0.3)


def test_a_record_keeps_its_metric_and_one_without_is_of_accuracy():
    own = Metric("error", "error", "mm", scale=1000.0, higher_is_better=False, bounds=(0.0, None))
    assert metric_of({"metric": own.to_json()}) == own
    assert metric_of({}) == ACCURACY
    with pytest.raises(ValueError, match="label"):
        metric_of({"metric": {"name": "x", "extra": 1}})


@pytest.mark.parametrize(
    ("number", "in_english", "in_german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (21, "twenty one", "ein und zwanzig"),
        (30, "thirty", "dreißig"),
        (101, "one hundred one", "ein hundert eins"),
        (1001, "one thousand one", "ein tausend eins"),
        (
            342_042,
            "three hundred forty two thousand forty two",
            "drei hundert zwei und vierzig tausend zwei und vierzig",
        ),
    ],
)
def test_numbers_in_words(number: int, in_english: str, in_german: str):
    assert " ".join(numbers.english(number)) == in_english
    assert " ".join(numbers.german(number)) == in_german


@given(st.lists(st.integers(0, numbers.LARGEST - 1), min_size=2, max_size=30, unique=True))
def test_different_numbers_have_different_words_and_all_fit(several: list[int]):
    for language in (numbers.english, numbers.german):
        sentences = {tuple(language(number)) for number in several}
        assert len(sentences) == len(several)
        assert max(map(len, sentences)) < numbers.LONGEST
        assert {word for sentence in sentences for word in sentence} <= set(numbers.WORDS)
