"""A task, a data set and a network of one's own, tried on a few examples before a sweep trains anything.

What the suite itself offers fits together by construction (`benchmark.problems.fits`). `benchmark.check --problem` asks
more: that batches and weights repeat, that sums add up, that something is learned.
"""

from __future__ import annotations

import math

import torch

from benchmark.errors import UserError, told
from benchmark.problems import models
from benchmark.problems.batches import Batch, Batches
from benchmark.tasks import make_task
from benchmark.tasks.task import predict
from benchmark.training.evaluation import number_of

TRIED = 2
"""Examples: the least that batch norm takes."""


def try_first_batch(data: Batches) -> None:
    """Compute the loss, its gradient and the metric of a few examples with the initial weights of seed 0.

    Raises UserError where they do not fit, with the line of code at which that shows.
    """
    problem = data.problem
    where = f"problem {problem.name}: task {problem.task}, dataset {problem.dataset}, model {problem.model}"
    task, network = make_task(problem), models.build(problem, 0)
    try:
        task.use(data)
        inputs, targets = _part(next(iter(data.training_batches(0, 0, 0, 1))))
        loss = task.loss(predict(network, inputs), targets)
        if loss.shape != () or not math.isfinite(loss.item()):
            raise UserError(f"the loss of {TRIED} examples is {loss.tolist()}, not one finite number")
        loss.backward()
        network.eval()
        with torch.no_grad():
            zeros = task.zeros(data.device)
            parts = task.sums(network, inputs, predict(network, inputs).float(), targets)
            number_of(task, tuple(zero + part for zero, part in zip(zeros, parts, strict=True)))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever somebody else's code does
        raise UserError(f"{where} do not fit together: {told(error)}") from error


def _part(batch: Batch) -> Batch:
    inputs, targets = batch
    some = slice(TRIED)
    return (tuple(part[some] for part in inputs) if isinstance(inputs, tuple) else inputs[some]), targets[some]
