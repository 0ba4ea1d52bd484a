"""The training forward and backward as torch.compile makes them, where the recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.cells import Problem
from benchmark.errors import CannotGoOn, UserError
from benchmark.training.group import Group

Forward = Callable[[Tensor], Tensor]


def compiled(network: nn.Module, problem: Problem) -> Forward:
    """`network` for whole batches, of which there is one graph; others, such as an epoch's last one, stay as they are.

    Weights are read where they lie, so that masks and methods may change them in place. The network itself remains for
    evaluation. The first whole batch compiles, once per process and architecture; a call raises CannotGoOn where that
    is impossible.
    """
    from torch._dynamo.exc import BackendCompilerFailed

    graph = torch.compile(network, mode=problem.compile, dynamic=False)

    def forward(images: Tensor) -> Tensor:
        if len(images) != problem.batch_size:
            return network(images)
        try:
            return graph(images)
        except BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CannotGoOn(
                f"problem {problem.name}: compile={problem.compile} does not work here ({reason}); it needs a C++ "
                "compiler (g++, or what CXX names); compile=none needs nothing"
            ) from None

    return forward


def check_compile(problem: Problem, group: Group) -> None:
    """Raises UserError for a combination that was never tried."""
    if problem.compile != "none" and group.ranks > 1:
        raise UserError(
            f"problem {problem.name}: compile={problem.compile} with --gpus-per-cell {group.ranks} is not supported: "
            "compile=none, or one GPU a cell"
        )
