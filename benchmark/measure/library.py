"""What `benchmark.api` costs in a training loop, and what its pruning takes beside torch.nn.utils.prune.

Loops with and without it take turns on networks of the same weights and batches that are drawn before the clock starts.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from benchmark.api import sparsify
from benchmark.measure.timing import Seconds, Turns, clocked, quartiles, take_turns, timed
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.pruning.prunable import prunable

CPU = torch.device("cpu")
SPARSITY = 0.9
RATE = 0.01
PIXELS, CLASSES = 32, 10
UPDATE, STEP = "optimizer.step()", "sparse.step()"
WHOLE = "whole step"


def lines(
    model: str, batch: int, pruned: str, iterations: int, repeats: int, rounds: int, threads: int
) -> Iterator[str]:
    """What `python -m benchmark.measure library` prints. Raises UserError.

    Args:
        model: the network that trains.
        batch: images.
        pruned: the network whose weights are pruned in one shot.
        iterations: training steps of one turn.
        repeats: turns of the training loops.
        rounds: turns of the pruning.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    of_problems = ((model, "cifar10"), (pruned, "imagenet"))
    network, other = (models.build(load_problem(problem, {"model": name})[0], 0) for name, problem in of_problems)
    turns = compare_loops(network, batch, iterations, repeats)
    extra = {clock: [100 * (1 / ratio - 1) for ratio in turns.ratios(WHOLE, clock)] for clock in Seconds._fields}
    share = [100 * part / whole for part, whole in zip(_walls(turns, STEP), _walls(turns, WHOLE), strict=True)]
    parts = ", ".join(f"{name} {quartiles([1000 * s for s in _walls(turns, name)], 2)} ms" for name in (UPDATE, STEP))
    where = f"{threads} thread{'' if threads == 1 else 's'}; medians (quartiles) of"
    yield (
        f"{model}, 3x{PIXELS}x{PIXELS}, batch {batch}, {where} {repeats} turns of {iterations} steps: a training step "
        f"with {STEP} takes {quartiles(extra['wall'], 1)} % more than "
        f"without, by processor time {quartiles(extra['processor'], 1)} % more; {parts}, "
        f"{STEP} is {quartiles(share, 2)} % of the step"
    )
    count = sum(weight.numel() for weight in prunable(other).values())
    turns, different = compare_one_shot(other, rounds)
    yield (
        f"one-shot pruning of {pruned}'s {count / 1e6:.2f} M weights, {where} {rounds} turns: sparsify "
        f"{quartiles(turns.ratios('sparsify'), 1)} times as fast as global_unstructured, by processor time "
        f"{quartiles(turns.ratios('sparsify', 'processor'), 1)}, "
        f"{1000 * statistics.median(_walls(turns, 'sparsify')):.0f} ms against "
        f"{1000 * statistics.median(seconds.wall for seconds in turns.baseline):.0f}; {different} masks differ"
    )


def compare_loops(network: nn.Module, batch: int, iterations: int, repeats: int) -> Turns:
    """Seconds a training step without (the baseline) and with sparse.step(), and of the two calls alone.

    Both train pruned networks of the same weights: what a processor makes of zeros is no difference.
    """
    network = copy.deepcopy(network)
    optimizer = make_optimizer(network)
    sparse = sparsify(network, optimizer, SPARSITY, retrain=2 * iterations * (repeats + 1))
    plain = copy.deepcopy(network)
    images, labels = torch.randn(batch, 3, PIXELS, PIXELS), torch.randint(CLASSES, (batch,))

    def loop(model: nn.Module, optimizer: torch.optim.Optimizer, after: Callable[[], object]) -> Callable[[], None]:
        def steps() -> None:
            for _ in range(iterations):
                loss = functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                after()

        model.train()
        return steps

    def alone(call: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            for _ in range(iterations):
                call()

        return calls

    contestants = {
        WHOLE: loop(network, optimizer, sparse.step),
        UPDATE: alone(make_optimizer(network).step),  # the other would miss sparse.step() after each
        STEP: alone(sparse.step),
    }
    baseline = clocked(loop(plain, make_optimizer(plain), lambda: None), iterations, CPU)
    return take_turns(baseline, {name: clocked(call, iterations, CPU) for name, call in contestants.items()}, repeats)


def make_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)


def compare_one_shot(network: nn.Module, rounds: int) -> tuple[Turns, int]:
    """(seconds of pruning a fresh copy with torch's function, the baseline, and with sparsify; masks that differ)."""
    # torch's function refuses channels_last
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    zeros: dict[str, list[torch.Tensor]] = {}

    def with_torch() -> Seconds:
        model = copy.deepcopy(network)
        names = [name.rpartition(".") for name in prunable(model)]
        places = [(model.get_submodule(path), name) for path, _, name in names]
        seconds, _ = timed(
            lambda: prune.global_unstructured(places, prune.L1Unstructured, amount=SPARSITY)  # type: ignore[no-untyped-call]
        )
        zeros["torch"] = [getattr(module, f"{name}_mask") == 0 for module, name in places]
        return seconds

    def with_sparsify() -> Seconds:
        model = copy.deepcopy(network)
        optimizer = make_optimizer(model)
        seconds, sparse = timed(lambda: sparsify(model, optimizer, SPARSITY, retrain=1))
        zeros["ours"] = [mask == 0 for mask in sparse.masks.tensors]
        return seconds

    turns = take_turns(with_torch, {"sparsify": with_sparsify}, rounds)
    return turns, sum(not torch.equal(*pair) for pair in zip(zeros["torch"], zeros["ours"], strict=True))


def _walls(turns: Turns, name: str) -> list[float]:
    return [seconds.wall for seconds in turns.others[name]]
