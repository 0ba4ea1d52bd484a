"""The loops of docs/library.md and docs/examples/, run as they stand, and without the lines that are ours."""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pruning.masks import prunable
from benchmark.training.schedules import Retraining, learning_rates
from tests.conftest import ROOT

OURS = re.compile(r"^( *).*\b(benchmark|sparsify|sparse)\b.*\n", re.M)
"""A line that mentions an object of the suite, with its indentation."""
KINDS = {
    "library.md": (200, 0.1),
    "timm_model.py": (6, 0.01),
    "trainer.py": (12, 0.01),
    "lightning_callback.py": (12, 0.1),
}
"""Optimizer steps and peak learning rate of each."""
PACKAGES = {"timm_model.py": ["timm"], "trainer.py": ["accelerate"], "lightning_callback.py": ["lightning"]}
pytestmark = pytest.mark.filterwarnings("ignore")  # of the other packages


def code_of(name: str) -> str:
    if name.endswith(".py"):
        return (ROOT / "docs" / "examples" / name).read_text().partition('"""\n')[2]
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.S)
    return code


def rates_of_updates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Filled with the learning rate of each group at each update that SGD or Adam computes from here on."""
    steps: list[float] = []

    def watch(name: str) -> None:
        module = importlib.import_module(f"torch.optim.{name}")
        update = getattr(module, name)

        def watched(*tensors: Any, lr: float, **options: Any) -> Any:
            steps.append(float(lr))
            return update(*tensors, lr=lr, **options)

        monkeypatch.setattr(module, name, watched)

    watch("sgd")
    watch("adam")
    return steps


def run(name: str, code: str) -> dict[str, Any]:
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, name, "exec"), names)
    return names


@pytest.fixture(
    params=[name if name == "library.md" else pytest.param(name, marks=pytest.mark.examples) for name in KINDS]
)
def example(request: pytest.FixtureRequest) -> str:
    for package in PACKAGES.get(request.param, []):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[examples]'")
    return request.param


def test_three_lines_prune_exactly_and_retrain_with_the_rates_of_the_schedule(example: str, monkeypatch):
    code, (count, peak) = code_of(example), KINDS[example]
    assert len(OURS.findall(code)) == 3
    rates = rates_of_updates(monkeypatch)
    names = run(example, code)
    sparse = names["pruning"].sparse if "pruning" in names else names["sparse"]
    weights = prunable(names["model"])
    total = sum(weight.numel() for weight in weights.values())
    assert sum(int((weight == 0).sum()) for weight in weights.values()) == round(0.9 * total)
    assert all(
        not weight[mask == 0].any() for weight, mask in zip(sparse.masks.weights, sparse.masks.tensors, strict=True)
    )
    assert sparse.done == count
    (distance,) = sparse.distances
    groups = len(sparse.optimizer.param_groups)
    expected = learning_rates("ALLR", Retraining(np.full(1, peak), 0, count, distance, 0.0))
    assert rates == pytest.approx(np.repeat(expected, groups).tolist(), rel=1e-6)


def test_without_these_lines_the_loop_trains_the_dense_network(example: str, monkeypatch):
    rates = rates_of_updates(monkeypatch)
    names = run(example, OURS.sub(r"\1pass\n", code_of(example)))
    assert len(rates) >= KINDS[example][0]
    assert not any((weight == 0).any() for weight in prunable(names["model"]).values())
