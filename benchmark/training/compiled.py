"""torch.compile for the forward and backward pass of training, where the recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.cells import Problem
from benchmark.errors import CannotGoOn, UserError
from benchmark.training.group import Group

Forward = Callable[..., Tensor]


def compiled(network: nn.Module, problem: Problem) -> Forward:
    """`network` compiled for batches of the recipe's size; smaller ones, such as an epoch's last, run uncompiled.

    Masks and methods may change the weights in place. `network` itself stays as it is, for evaluation. The first full
    batch compiles, once per process and architecture; a call raises CannotGoOn if that fails.
    """
    from torch._dynamo.exc import BackendCompilerFailed

    graph = torch.compile(network, mode=problem.compile, dynamic=False)

    def forward(*inputs: Tensor) -> Tensor:
        if len(inputs[0]) != problem.batch_size:
            return network(*inputs)
        try:
            return graph(*inputs)
        except BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CannotGoOn(
                f"problem {problem.name}: compile={problem.compile} does not work here ({reason}); it needs a C++ "
                "compiler (g++, or what CXX names); compile=none needs nothing"
            ) from None

    return forward


def check_compile(problem: Problem, group: Group) -> None:
    """Raises UserError for a combination that has not been tested."""
    if problem.compile != "none" and group.ranks > 1:
        raise UserError(
            f"problem {problem.name}: compile={problem.compile} with --gpus-per-cell {group.ranks} is not supported: "
            "compile=none, or one GPU a cell"
        )
