"""Training one cell with several processes (ranks), each with a GPU: DistributedDataParallel. In tests, on the CPU.

The recipe's batch is split among the ranks, so that learning rates and iterations stay as they are. Loss and batch-norm
statistics are taken over the whole batch, so that all ranks make the same steps and masks. Rank 0 decides when to stop
and save, and it alone writes; the others follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

WAIT = timedelta(days=7)
"""Ranks wait for their next cell. With gloo a rank that dies is noticed at once, since its connection closes; with NCCL
`benchmark.launch.ranks.leave_after` ends those that are left."""


@dataclass(frozen=True)
class Group:
    """rank: of this process, 0 leads. ranks: how many there are. local_rank: the GPU of its machine that it uses."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def announce(self, value: Any) -> Any:
        """Rank 0's value, on every rank. All ranks must call this, and in the same order."""
        if self.ranks == 1:
            return value
        content = [value]
        dist.broadcast_object_list(content, src=0, device=torch.device("cpu"))
        return content[0]

    def decide(self, *flags: bool) -> tuple[bool, ...]:
        """Rank 0's flags, on every rank."""
        if self.ranks == 1:
            return flags
        tensor = torch.tensor(flags, dtype=torch.uint8)
        dist.broadcast(tensor, src=0)
        return tuple(bool(flag) for flag in tensor)

    def total(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Sums over the ranks, as new tensors."""
        if self.ranks == 1:
            return tensors
        summed = tuple(tensor.clone() for tensor in tensors)
        for tensor in summed:
            dist.all_reduce(tensor)
        return summed

    def of_each(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """For each tensor of shape () its values on all ranks: shape (ranks,), in the order of the ranks."""
        gathered = []
        for tensor in tensors:
            parts = [tensor.clone() for _ in range(self.ranks)]
            if self.ranks > 1:
                dist.all_gather(parts, tensor)
            gathered.append(torch.stack(parts))
        return tuple(gathered)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network to train with: its gradients are means over the ranks. It shares the modules of `network`."""
        if self.ranks == 1:
            return network
        devices = [self.local_rank] if next(network.parameters()).is_cuda else None
        return DistributedDataParallel(network, device_ids=devices)

    def weigh(self, loss: Tensor, count: int | Tensor) -> Tensor:
        """Weight the mean loss of `count` units here: its mean over the ranks is then the mean over all units."""
        if self.ranks == 1:
            return loss
        # a number added on the device: one copied to it would wait for all that the device has to do
        total = torch.zeros((), device=loss.device) + count
        dist.all_reduce(total)
        return (loss if count else torch.nan_to_num(loss)) * (count * self.ranks / total)

    def leave(self) -> None:
        if self.ranks > 1:
            dist.destroy_process_group()


ALONE = Group()


def join(group: Group, device: torch.device, meeting: str) -> None:
    """Connect to the other ranks. meeting: "env://", or "file:///path" of a file that does not exist yet."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=group.rank, world_size=group.ranks, timeout=WAIT)


def lost_a_rank(error: BaseException) -> bool:
    """Whether the end of another rank raised this: NCCL has a class for it, gloo only a message."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def synchronise_batch_norm(network: nn.Module, group: Group) -> nn.Module:
    """The network with batch norms over the whole batch of all ranks; names and values of its tensors stay."""
    if group.ranks == 1:
        return network
    if next(network.parameters()).is_cuda:
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in synchronised.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.register_forward_pre_hook(_empty_as_float)
        return synchronised
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, _WholeBatchNorm.like(child))
    return network


def _empty_as_float(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A rank without an image of a small last batch sends zeros of its input's type; the others send float32."""
    return tuple(x.float() if not len(x) else x for x in inputs)


class _Sum(torch.autograd.Function):
    """The sum over the ranks; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed


class _WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all ranks on the CPU; torch's SyncBatchNorm needs a GPU."""

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> _WholeBatchNorm:
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(new, name, tensor)
        return new.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        local = torch.cat([values.sum((0, 2, 3)), values.new_tensor([float(x.numel() // x.shape[1])])])
        sums = _Sum.apply(local)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean[:, None, None]
        variance = _Sum.apply((centred**2).sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
