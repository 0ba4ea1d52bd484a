"""One cell trained by several processes, each with a GPU (or, in tests, on the CPU): DistributedDataParallel.

The batch of the recipe is shared out, so that learning rates and iterations stay as they are; the loss is the mean over
the whole batch, batch norm takes its statistics over the whole batch, and every rank makes the same steps and masks
from the same numbers. Rank 0 decides when to stop and to save, and alone writes; the others follow.
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
"""Followers wait for their next cell; a rank that dies is noticed at once by its closed connection."""


@dataclass(frozen=True)
class Group:
    """rank: 0 is the one that decides and writes; ranks: how many; local_rank: which GPU of its machine it uses."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def announce(self, value: Any) -> Any:
        """Rank 0's value, on every rank. Everything that is announced must be announced by all ranks in turn."""
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
        """Sums over the ranks; the tensors themselves stay as they are."""
        if self.ranks == 1:
            return tensors
        summed = tuple(tensor.clone() for tensor in tensors)
        for tensor in summed:
            dist.all_reduce(tensor)
        return summed

    def of_each(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Each tensor, shape (), as all ranks have it: shape (ranks,), in the order of the ranks."""
        everyone = []
        for tensor in tensors:
            parts = [tensor.clone() for _ in range(self.ranks)]
            if self.ranks > 1:
                dist.all_gather(parts, tensor)
            everyone.append(torch.stack(parts))
        return tuple(everyone)

    def wrap(self, network: nn.Module) -> nn.Module:
        """What to call in training: gradients become means over the ranks. The network's modules stay its own."""
        if self.ranks == 1:
            return network
        devices = [self.local_rank] if next(network.parameters()).is_cuda else None
        return DistributedDataParallel(network, device_ids=devices)

    def weigh(self, loss: Tensor, count: int) -> Tensor:
        """The mean loss of `count` images here, such that the mean over the ranks is the mean over all their images."""
        if self.ranks == 1:
            return loss
        whole = torch.tensor(float(count), device=loss.device)
        dist.all_reduce(whole)
        return (loss if count else torch.nan_to_num(loss)) * (count * self.ranks / whole)

    def leave(self) -> None:
        if self.ranks > 1:
            dist.destroy_process_group()


ALONE = Group()


def join(group: Group, device: torch.device, meeting: str) -> None:
    """Meet the other ranks. meeting: "env://", or "file:///path" of a file that does not exist yet."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=group.rank, world_size=group.ranks, timeout=WAIT)


def lost_a_rank(error: BaseException) -> bool:
    """Whether another rank's end raised this: gloo says so in the message alone, NCCL in the class."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def synchronise_batch_norm(network: nn.Module, group: Group) -> nn.Module:
    """The network with batch norms over the whole batch; names and values of its tensors stay."""
    if group.ranks == 1:
        return network
    if next(network.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, _WholeBatchNorm.like(child))
    return network


class _Sum(torch.autograd.Function):
    """The sum over the ranks; so is its gradient."""

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
    """Batch norm over all ranks' images in plain operations: torch's own SyncBatchNorm needs a GPU."""

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
