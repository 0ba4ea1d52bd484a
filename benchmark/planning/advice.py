"""What a setting of the recipe would save of the run at hand, where that was measured."""

from __future__ import annotations

from benchmark.cells import Problem

COMPILED = {
    ("resnet8", "bf16"): 1.15,
    ("resnet20", "fp32"): 1.19,
    ("resnet20", "bf16"): 1.33,
    ("resnet56", "fp32"): 1.15,
    ("resnet56", "bf16"): 1.34,
}
"""Times the images/s of training on a processor, by network and precision (docs/performance.md)."""
SMALLEST = 28
"""Pixels of a side: of smaller images, such as the 8x8 digits, training gains nothing."""
FIRST_SECONDS = 25.0
"""Which each worker needs to compile."""
TRAINING = 0.8
"""Of the time of a cell: its evaluation is not compiled."""
LEAST_SECONDS = 120.0


def saved_by_compiling(problem: Problem, seconds: float) -> float:
    """Seconds that compile=default would save a run on a processor that takes `seconds`; 0 if unknown or hardly any."""
    gain = COMPILED.get((problem.model, problem.precision), 1.0)
    if problem.compile != "none" or problem.image_size < SMALLEST:
        return 0.0
    saved = TRAINING * seconds * (1 - 1 / gain) - FIRST_SECONDS
    return saved if saved >= LEAST_SECONDS else 0.0
