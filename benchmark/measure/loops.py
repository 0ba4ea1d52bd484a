"""Training loops to be timed: the suite's, and forward, backward and step alone."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.cells import Cell
from benchmark.methods import METHODS, load
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.tasks.task import predict
from benchmark.training.loop import Run
from benchmark.training.optimizer import clip, make_optimizer
from benchmark.training.precision import autocast, prepare_device


def dense_run(data: Batches) -> Run:
    """A dense run, ready to be driven. Raises UserError where the device cannot train in the recipe's precision."""
    problem = data.problem
    prepare_device(problem, data.device)
    network = models.build(problem, 0).to(data.device)
    run = Run(Cell.dense(problem, 0), network, data, load("dense"), dict(METHODS["dense"].defaults))
    network.train()
    return run


def drive(run: Run, iterations: int) -> None:
    """Iterations of the suite's loop, batches as training draws them: losses are counted, stopping is asked for."""
    per_epoch = run.data.iterations_per_epoch
    rate = run.cell.problem.learning_rate / 10
    for first in range(0, iterations, per_epoch):
        batches = run.data.training_batches(0, first // per_epoch, 0, min(per_epoch, iterations - first))
        for k, (inputs, targets) in enumerate(batches, first):
            run.step(k, rate, inputs, targets)
            run.session.pause(run)
    _ = run.step.loss.item() / run.step.count


def bare_loop(run: Run, iterations: int) -> Callable[[], None]:
    """As many forward, backward and optimizer steps on prepared batches of the same sizes, nothing else."""
    problem, data = run.cell.problem, run.data
    optimizer = make_optimizer(run.method, problem)
    last = data.iterations_per_epoch - 1
    whole, rest = (next(data.training_batches(0, 0, k, k + 1)) for k in (0, last))
    order = [rest if k % (last + 1) == last else whole for k in range(iterations)]

    def loop() -> None:
        for inputs, targets in order:
            with autocast(problem.precision, data.device):
                loss = run.task.loss(predict(run.network, inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            if problem.gradient_norm:
                clip(run.network, problem.gradient_norm)
            optimizer.step()

    return loop
