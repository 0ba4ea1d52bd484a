"""Mixed precision: a recipe's `precision` on a device, and the loss scaling that float16 needs."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.training.method import Method
from benchmark.training.optimizer import SGD

LOWER = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtype in which torch.autocast lets layers compute; weights, momentum and loss stay float32."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """The block to run a forward pass in, for a recipe's `precision`."""
    if precision not in LOWER:
        return nullcontext()  # a disabled autocast would take a tenth of a step of the smallest networks
    return torch.autocast(device.type, dtype=LOWER[precision])


class LossScale:
    """Multiplies the loss so that float16 gradients do not vanish, and skips steps whose gradients overflow.

    The scale halves after each skipped step and doubles after 2000 others (Micikevicius et al. 2018). `skipped`, a
    tensor of shape (), counts the skipped steps. The fused optimizer decides on the device; the host does not wait.
    """

    def __init__(self, device: torch.device):
        self.scaler = torch.amp.GradScaler(device.type)
        self.skipped = torch.zeros((), device=device)

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the momentum to zeros. torch allocates it in the first step, and if that step is skipped, leaves it
        uninitialised. A first step from zeros gives the same bits."""
        for group in optimizer.param_groups:
            for weight in group["params"] if group.get("momentum") else ():
                optimizer.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))

    def scale(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer, method: Method) -> None:
        """Undo the scaling of the gradients, before the method sees them."""
        self.scaler.unscale_(optimizer)
        if type(method).after_backward is not Method.after_backward:
            # A step with infinite gradients is skipped, but the method selects weights before that.
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:
                        weight.grad.nan_to_num_(0, 0, 0)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        # GradScaler has no public way to ask whether a step overflowed without waiting for the device.
        self.skipped += sum(self.scaler._found_inf_per_device(optimizer).values()) > 0
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])
        self.skipped.copy_(state["skipped"])


def prepare_device(problem: Problem, device: torch.device, alone: bool = True) -> None:
    """Set torch up for this recipe. Raises UserError if the device does not work, or not in the recipe's precision.

    fp32 means float32 throughout; torch's default for convolutions on recent NVIDIA GPUs is TF32. cuDNN times its
    algorithms, which pays since batches have one shape, but not where other processes on the GPU (not `alone`) would
    disturb its timings.
    """
    if device.type == "cuda":
        _check_cuda(device)
        torch.backends.cudnn.benchmark = alone
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = problem.precision == "tf32"
    elif problem.precision == "tf32":
        raise UserError(
            f"problem {problem.name}: precision tf32 is for NVIDIA GPUs, not {device.type}; fp32 is for all"
        )
    if problem.precision in LOWER:
        _try_on_one_layer(problem, device)


def _check_cuda(device: torch.device) -> None:
    """Raises UserError where no cell could train: no driver, one that is too old, a GPU that is not there or that this
    build of torch has no code for. A GPU that others have filled may be free for the next try."""
    try:
        torch.ones(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError) as error:
        if "out of memory" in str(error):
            raise
        reason = " ".join(str(error).split()).split(". ")[0][:200]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        named = "" if visible is None else f", CUDA_VISIBLE_DEVICES is {visible!r}"
        raise UserError(
            f"--device cuda: torch {torch.__version__} cannot use a GPU here ({reason}{named}); --device cpu works"
        ) from None


def _try_on_one_layer(problem: Problem, device: torch.device) -> None:
    try:
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 2)).to(device)
        optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
        with autocast(problem.precision, device):
            loss = functional.cross_entropy(
                network(torch.zeros(4, 3, 8, 8, device=device)), torch.zeros(4, dtype=torch.int64, device=device)
            )
        if problem.precision == "fp16":
            scale = LossScale(device)
            scale.prepare(optimizer)
            scale.scale(loss).backward()
            scale.scaler.unscale_(optimizer)
            scale.step(optimizer)
        else:
            loss.backward()
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"problem {problem.name}: precision {problem.precision} does not work on {device.type} with torch "
            f"{torch.__version__} ({reason}); precision fp32 does"
        ) from None
