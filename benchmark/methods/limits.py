"""Which settings leave a cell of a method something to train: what a plan refuses before anything runs. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.cells import Cell, Scalar, cut, plain
from benchmark.errors import UserError
from benchmark.problems.sizes import prunable_weights

WHOLE_FILTERS = ("filters", "random_filters")
"""Criteria that leave every layer a filter, whatever the sparsity."""

THREE_STAGES = ("resnet8", "resnet20", "resnet56")
"""Networks whose filters have three widths; those of others are counted when they are built."""

LAYOUTS = ("A", "B", "C", "D")
OF_LAYOUTS = "resnet56"

OF_SYMBOLS = ("language_modelling", "translation")
"""Tasks whose inputs are no images."""


def leaves_a_weight(cell: Cell, settings: Mapping[str, Scalar]) -> None:
    """Raises UserError where the sparsity, rounded to whole weights, is none or all of the network at hand."""
    weights = prunable_weights(cell.problem)
    if cell.sparsity is None or weights is None or 0 < round(cell.sparsity * weights) < weights:
        return
    digits = len(str(weights))
    least, most = (-(-(10**digits) // weights)) / 10**digits, (10**digits * (weights - 1) // weights) / 10**digits
    deed = "prunes" if cell.sparsity < least else "leaves"
    raise UserError(
        f"problem {cell.problem.name}: sparsity {cut(plain(cell.sparsity))} {deed} none of the {weights} weights of "
        f"model {cell.problem.model}: a number from {plain(least)} up to {plain(most)} is accepted"
    )


def leaves_a_weight_or_filters(cell: Cell, settings: Mapping[str, Scalar]) -> None:
    """The same for methods with a `criterion`; filters are those of networks for images."""
    stages = str(settings["stages"])
    if settings["criterion"] not in WHOLE_FILTERS:
        leaves_a_weight(cell, settings)
        if stages != "even":
            raise UserError(
                f"method {cell.method}: hyperparameter stages is for the criteria {' and '.join(WHOLE_FILTERS)} alone"
            )
    elif cell.problem.task in OF_SYMBOLS:
        raise UserError(
            f"problem {cell.problem.name}: criterion {settings['criterion']} is for networks for images, not for task "
            f"{cell.problem.task}; criterion magnitude and random are for all"
        )
    elif stages != "even":
        _fits_stages(cell, stages)


def _fits_stages(cell: Cell, stages: str) -> None:
    model = cell.problem.model
    start = f"problem {cell.problem.name}: hyperparameter stages is {stages!r}"
    if stages in LAYOUTS and model != OF_LAYOUTS and prunable_weights(cell.problem) is not None:
        raise UserError(f"{start}, a layout of Le and Hua for {OF_LAYOUTS}; the model is {model}")
    if stages not in LAYOUTS and model in THREE_STAGES and stages.count("/") != 2:
        raise UserError(f"{start}; model {model} has 3 stages: it takes 'even' or 3 numbers")


def leaves_two_intervals(cell: Cell, settings: Mapping[str, Scalar]) -> None:
    """The same for gradual pruning, which also needs an interval to prune in and one to train after it."""
    leaves_a_weight(cell, settings)
    interval, epochs = int(settings["interval"]), cell.problem.epochs
    if not 1 <= interval <= epochs // 2:
        raise UserError(
            f"method {cell.method}: hyperparameter interval is {interval} epochs; "
            f"with {epochs} epochs it takes a count from 1 to {epochs // 2}"
        )


def decays_linearly(cell: Cell, settings: Mapping[str, Scalar]) -> None:
    """The same for a method that trains with a linear decay whatever the recipe says."""
    leaves_a_weight(cell, settings)
    if cell.schedule is not None:
        raise UserError(f"method {cell.method} always decays linearly: leave schedule {cell.schedule} out")


def momentum_of_sgd(cell: Cell, settings: Mapping[str, Scalar]) -> None:
    """The same for a method that is defined for SGD with momentum."""
    leaves_a_weight(cell, settings)
    if cell.problem.optimizer != "sgd":
        raise UserError(
            f"problem {cell.problem.name}: method {cell.method} is defined by the momentum of SGD; optimizer "
            f"{cell.problem.optimizer} does not fit, optimizer sgd does"
        )
