"""The process's global random generators: Python's, NumPy's and torch's.

The suite draws from its own generators (benchmark/problems/seeds.py), but a method from outside may use the global
ones. Every run seeds them at its start and keeps their states in its checkpoints, so that the result depends neither on
what the worker trained before nor on interruptions.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from benchmark.problems.seeds import generator


def seed_all(seed: int) -> None:
    """From the cell's seed alone, so that random draws of methods are paired between cells."""
    number = generator(seed, "global").initial_seed()
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def states() -> dict[str, Any]:
    """In lists, numbers and tensors, as checkpoints hold them."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        # of the GPU in use: of several that train one cell, rank 0 saves, and draws as the others do
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def restore(saved: dict[str, Any]) -> None:
    random.setstate(saved["python"])
    name, keys, position, has_gauss, gauss = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"][0].cpu())
