"""The batches that batch norms count, which nothing here reads but every state holds: one operation for all of them.

Each would count by an operation of its own, which a GPU's host starts one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NAME = "num_batches_tracked"


class BatchCounters:
    """Counts the batches of a network's batch norms. A forward pass has to call each of them exactly once."""

    def __init__(self, network: nn.Module):
        self.norms = [module for module in network.modules() if type(module) in KINDS and module.track_running_stats]

    @contextmanager
    def counting(self) -> Iterator[None]:
        """A block with one forward pass."""
        buffers: list[dict[str, Any]] = [
            norm._buffers for norm in self.norms if norm.training and norm.momentum is not None
        ]
        counts = [buffer[NAME] for buffer in buffers]
        for buffer in buffers:
            buffer[NAME] = None  # a norm without a counter uses its momentum all the same
        try:
            yield
        finally:
            for buffer, count in zip(buffers, counts, strict=True):
                buffer[NAME] = count
        if counts:
            torch._foreach_add_(counts, 1)
