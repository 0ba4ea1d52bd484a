"""The loops of docs/library.md and docs/examples/, run as they stand, and without the lines that are ours."""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pruning.prunable import prunable
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
    return block(name, "")


def block(page: str, about: str) -> str:
    """The one block of code of a page that says so behind "python"."""
    (code,) = re.findall(rf"```python{about}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    return code


def resumable(name: str, after: str) -> str:
    """The example with the callback of docs/library.md that keeps what a checkpoint needs; after: what follows it."""
    start, _, rest = code_of(name).partition("class Pruning")
    _, found, end = rest.partition(after)
    assert found
    return f"{start}{block('library.md', f' {name}')}\n{after}{end}"


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


WRAPPED = """
class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = ViTForImageClassification(config)
        self.device = torch.device("cpu")

    def forward(self, pixel_values, labels):
        return self.inner(pixel_values=pixel_values, labels=labels)

model = Wrapped()"""


@pytest.mark.examples
def test_trainer_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install -e '.[examples]'")
    code = resumable("trainer.py", "\nconfig = ")
    for before, after in {
        "with tempfile.TemporaryDirectory() as folder:": f"for folder in [{str(tmp_path)!r}]:",
        'save_strategy="no"': 'save_strategy="steps", save_steps=5',
        # transformers 5 saves a ViT by names under which its own Trainer does not find it again
        "model = ViTForImageClassification(config)": WRAPPED,
    }.items():
        assert before in code
        code = code.replace(before, after)
    whole = run("trainer.py", code)
    resumed = run("trainer.py", code.replace(".train()", f".train({str(tmp_path / 'checkpoint-5')!r})"))
    assert_same_end(whole, resumed)


@pytest.mark.examples
def test_lightning_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    pytest.importorskip("lightning", reason="lightning is not installed: pip install -e '.[examples]'")
    code = resumable("lightning_callback.py", "\nclass Classifier")
    for before, after in {
        '"enable_checkpointing": False': f'"default_root_dir": {str(tmp_path)!r}',
        "callbacks=[pruning]": "callbacks=[pruning, lightning.pytorch.callbacks.ModelCheckpoint(save_top_k=-1)]",
    }.items():
        assert before in code
        code = code.replace(before, after)
    whole = run("lightning_callback.py", code)
    (saved,) = tmp_path.rglob("epoch=0*.ckpt")
    again = code.replace("(model, batches)", f"(model, batches, ckpt_path={str(saved)!r})")
    resumed = run("lightning_callback.py", again)
    assert_same_end(whole, resumed)


def assert_same_end(whole: dict[str, Any], resumed: dict[str, Any]) -> None:
    """Of two runs of an example, the second of which began at a checkpoint of the first."""
    first, second = (names["pruning"].sparse for names in (whole, resumed))
    assert first.done == second.done == 12
    assert first.rates == second.rates
    assert max(first.rates) > 0
    for one, other in zip(whole["model"].parameters(), resumed["model"].parameters(), strict=True):
        assert torch.equal(one, other)
