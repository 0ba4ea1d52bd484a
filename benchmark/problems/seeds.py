"""Random generators, seeded from the cell's seed and the purpose of the stream.

Initial weights, data order and augmentation depend on the data set, the model and the seed, never on schedule, method,
sparsity or budget: cells of one seed are paired by construction.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; different purposes and seeds give unrelated streams."""
    text = "/".join(str(part) for part in (seed, *purpose))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)
