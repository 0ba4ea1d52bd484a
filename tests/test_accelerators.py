"""What an accelerator would notice, without one: tensors on torch's meta device, and reads of tensors counted."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.training import checkpoint
from benchmark.training.evaluation import recalibrate
from tests.conftest import ROOT
from tests.method_runs import PROBLEM, make_run


def test_a_checkpoint_that_is_loaded_onto_another_device_gives_rates_that_the_host_reads(tmp_path):
    """Everything in it lands on the device, learning rates too. `meta` holds no values, so they stay out of this."""
    run = make_run("DNW")
    run.rates = run.method.begin(0)
    state = run.state()
    content, _ = checkpoint.encode("cell", state)
    (tmp_path / "c.pt").write_bytes(content)
    loaded, _ = checkpoint.load(tmp_path / "c.pt", "cell", "meta")
    assert loaded["rates"].device.type == "meta"

    class Moved(torch.Tensor):
        """A tensor that numpy refuses, as one of a GPU."""

        def numpy(self, *arguments, **named):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

        def cpu(self, *arguments, **named):
            return self.as_subclass(torch.Tensor)

    again = make_run("DNW")
    again.adopt({**state, "rates": state["rates"].as_subclass(Moved)})
    assert again.rates.tolist() == run.rates.tolist()


def test_batch_statistics_are_re_estimated_without_reading_a_counter_of_the_device(monkeypatch: pytest.MonkeyPatch):
    """torch reads num_batches_tracked on the host where a batch norm has no momentum."""
    network, data = models.build(PROBLEM, 0), Data(PROBLEM, torch.device("cpu"))
    momenta = []
    network.bn1.register_forward_pre_hook(lambda module, inputs: momenta.append(module.momentum))
    recalibrate(network, data, 0)
    assert momenta == [1 / (k + 1) for k in range(data.iterations_per_epoch)]
    assert network.bn1.momentum == 0.1


def test_images_of_an_evaluation_are_copied_to_a_device_once_and_in_their_order():
    data = Data(PROBLEM, torch.device("cpu"))
    copied = data._on_device("validation")
    assert data._on_device("validation") is copied
    pixels = torch.cat([images for images, _ in data.evaluation_batches("validation")]).permute(0, 2, 3, 1)
    assert torch.equal(data.normalise(copied.to(torch.float32)), pixels)


@pytest.mark.parametrize("missing", ["wandb", "submitit", "plotly", "torch_pruning", "sklearn", "pandas"])
def test_a_worker_starts_without_packages_that_its_cells_do_not_use(missing: str):
    code = f"""
import sys
sys.modules[{missing!r}] = None
import benchmark.worker, benchmark.methods
from benchmark.methods import METHODS, load
for name in METHODS:
    load(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
