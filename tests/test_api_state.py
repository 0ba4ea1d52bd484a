"""What `benchmark.api` keeps from one step, checkpoint and pruning to the next."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.api import Sparse, prune_gradually, sparsify
from benchmark.pruning.masks import norm
from tests.test_api import network, sgd, written

# DPF's two sets of weights, and checkpoints of them


def under_dpf(steps: int = 40) -> tuple[nn.Module, torch.optim.Optimizer, Sparse]:
    torch.manual_seed(0)
    model = nn.Linear(8, 9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, optimizer, prune_gradually(model, optimizer, 0.8, steps=steps, interval=8, feedback=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, sparse: Sparse, first: int, last: int) -> None:
    for k in range(first, last):
        optimizer.zero_grad()
        model(torch.full((2, 8), 0.1 * k)).square().sum().backward()
        optimizer.step()
        sparse.step()


def test_a_state_taken_after_finish_leaves_the_network_pruned():
    model, optimizer, sparse = under_dpf()
    train(model, optimizer, sparse, 0, 40)
    final = sparse.finish().state_dict()
    sparse.state_dict()
    assert int((final["weight"] == 0).sum()) == int((model.weight == 0).sum()) == 58


@pytest.mark.parametrize("evaluated", [False, True], ids=["", "after an evaluation"])
def test_dpf_goes_on_whichever_state_is_saved_first_and_whatever_was_computed_before_it_is_loaded(evaluated: bool):
    model, optimizer, sparse = under_dpf()
    train(model, optimizer, sparse, 0, 25)
    if evaluated:
        model(torch.ones(1, 8))
    saved = [copy.deepcopy(part.state_dict()) for part in (model, optimizer, sparse)]  # as a trainer: the model first
    train(model, optimizer, sparse, 25, 40)
    again, fresh, resumed = under_dpf()
    again(torch.ones(1, 8))  # a first validation
    again.load_state_dict(saved[0])
    fresh.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    train(again, fresh, resumed, 25, 40)
    assert torch.equal(resumed.finish().weight, sparse.finish().weight)


def test_dpf_s_dense_weights_are_what_is_saved_of_the_network_within_a_wrapper():
    torch.manual_seed(0)
    model = nn.Linear(8, 9)
    wrapper = nn.DataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sparse = prune_gradually(wrapper, optimizer, 0.8, steps=40, interval=8, feedback=True)
    train(wrapper, optimizer, sparse, 0, 25)
    wrapper(torch.ones(1, 8))
    assert not model.weight.all()
    assert model.state_dict()["weight"].all()


def test_weights_that_are_loaded_after_an_evaluation_are_those_that_dpf_goes_on_with():
    """As where the best ones are kept."""
    model, optimizer, sparse = under_dpf()
    train(model, optimizer, sparse, 0, 40)
    best = copy.deepcopy(model.state_dict())
    model(torch.ones(1, 8))
    model.load_state_dict(best)
    final = sparse.finish().weight
    assert int((final == 0).sum()) == 58
    assert torch.equal(final[final != 0], best["weight"][final != 0])


def test_a_finished_network_stays_pruned_whatever_follows():
    model, optimizer, sparse = under_dpf()
    train(model, optimizer, sparse, 0, 40)
    zeros = sparse.finish().weight == 0
    optimizer.step()
    assert int((sparse.finish().weight == 0).sum()) == int(zeros.sum()) == 58


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
def test_dpf_takes_a_network_with_a_scripted_part():
    model = nn.Sequential(torch.jit.script(nn.ReLU()), nn.Linear(8, 9))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sparse = prune_gradually(model, optimizer, 0.8, steps=40, interval=8, feedback=True)
    train(model, optimizer, sparse, 0, 40)
    assert int((sparse.finish()[1].weight == 0).sum()) == 58


def test_an_optimizer_s_state_of_before_or_of_the_middle_can_be_loaded():
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dense = optimizer.state_dict()
    sparse = sparsify(model, optimizer, 0.5, retrain=20, schedule="LLR")
    middle = optimizer.state_dict()

    def steps() -> None:
        for _ in range(8):
            model(torch.ones(1, 10)).sum().backward()
            optimizer.step()
            sparse.step()

    steps()
    optimizer.load_state_dict(middle)
    steps()
    optimizer.load_state_dict(dense)
    steps()
    optimizer.load_state_dict(middle)
    sparse.finish()
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_copy_of_a_network_under_dpf_is_a_network_of_its_own():
    model, optimizer, sparse = under_dpf()
    train(model, optimizer, sparse, 0, 20)
    copied = copy.deepcopy(model)
    copied(torch.ones(1, 8))
    assert torch.equal(copied.weight, model.weight)
    content = io.BytesIO()
    torch.save(model, content)


def test_dpf_takes_a_first_forward_in_inference_mode():
    model, optimizer, sparse = under_dpf()
    with torch.inference_mode():
        model(torch.ones(1, 8))
    train(model, optimizer, sparse, 0, 40)
    assert int((sparse.finish().weight == 0).sum()) == 58


# One network after another, and beside others


def test_pruning_again_begins_with_the_rate_that_the_loop_had():
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for sparsity in (0.5, 0.8):
        sparse = sparsify(model, optimizer, sparsity, retrain=20, schedule="LLR")
        assert max(sparse.rates) == pytest.approx(0.1)
        for _ in range(20):
            model(torch.ones(1, 10)).sum().backward()
            optimizer.step()
            sparse.step()
        sparse.finish()
        assert optimizer.param_groups[0].keys() == torch.optim.SGD(model.parameters(), lr=1).param_groups[0].keys()
        assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_rate_that_somebody_set_since_is_the_one_that_pruning_again_begins_with():
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse = sparsify(model, optimizer, 0.5, retrain=20, schedule="LLR")
    sparse.step()
    optimizer.param_groups[0]["lr"] = 0.01
    assert max(sparsify(model, optimizer, 0.8, retrain=20, schedule="LLR").rates) == pytest.approx(0.01)
    sparse.finish()
    assert optimizer.param_groups[0]["lr"] != 0.1


def test_a_loop_without_a_scheduler_goes_on_at_the_start_of_a_cycle():
    """The rate of that step is 0, the first of a warm-up."""
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse = sparsify(model, optimizer, 0.8, retrain=40, cycles=2)
    for _ in range(20):
        model(torch.ones(1, 10)).sum().backward()
        optimizer.step()
        sparse.step()
    again = nn.Linear(10, 10)
    fresh = torch.optim.SGD(again.parameters(), lr=0.1)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed = sparsify(again, fresh, 0.8, retrain=40, cycles=2)
    resumed.load_state_dict(sparse.state_dict())
    assert resumed.rates == sparse.rates


def test_groups_that_are_added_later_follow_the_schedule_too():
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    model.not_prunable = {"0.weight"}
    sparse = sparsify(model, optimizer, 0.5, retrain=20)
    optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.02})
    model(torch.ones(1, 6)).sum().backward()
    optimizer.step()
    sparse.step()
    high, low = (group["lr"] for group in optimizer.param_groups)
    assert low == pytest.approx(high / 5)
    assert high == pytest.approx(sparse.rates[1])


def test_a_learning_rate_that_is_a_tensor_stays_that_tensor():
    """Compiled and captured optimizer steps read it; torch's schedulers write into it, too."""
    model = network()
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    sparse = sparsify(model, optimizer, 0.5, retrain=3)
    assert optimizer.param_groups[0]["lr"] is rate
    for _ in range(3):
        assert float(rate) == pytest.approx(sparse.rates[sparse.done])
        optimizer.step()
        sparse.step()
    sparse.finish()
    assert float(rate) == pytest.approx(0.1)


def test_a_group_that_is_added_later_begins_with_the_tensor_s_rate_of_before():
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model[1].parameters(), lr=torch.tensor(0.1))
    model.not_prunable = {"0.weight"}
    sparse = sparsify(model, optimizer, 0.5, retrain=20)
    optimizer.step()
    sparse.step()
    optimizer.add_param_group({"params": list(model[0].parameters())})
    sparse.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([sparse.rates[2]] * 2)


def test_a_state_with_numpy_s_numbers_is_one_that_torch_reads():
    model = network()
    sparse = sparsify(model, sgd(model), np.linspace(0.5, 0.9, 5)[3], retrain=np.int64(40), peak_rate=0.1)
    assert torch.load(io.BytesIO(written(sparse.state_dict())), weights_only=True)["done"] == 0


def test_parameters_that_are_no_real_numbers_do_not_hinder_the_others():
    class Fourier(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 8)
            self.phases = nn.Parameter(torch.ones(4, dtype=torch.complex64))
            self.table = nn.Parameter(torch.zeros(3, dtype=torch.long), requires_grad=False)

    model = Fourier()
    sparse = sparsify(model, torch.optim.SGD(model.layer.parameters(), lr=0.1), 0.5, retrain=5)
    assert 0 < sparse.distances[0] < 1
    squares = [parameter.detach().abs().double().square().sum() for parameter in model.parameters()]
    assert norm(model) == pytest.approx(float(torch.stack(squares).sum().sqrt()))
