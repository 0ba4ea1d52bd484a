"""What `benchmark.api` cannot use is said in one line, before anything is pruned where that can be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from benchmark.api import Sparse, prune_gradually, sparsify
from benchmark.errors import UserError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sparsity": 1.0}, "sparsity 1.0: a number above 0 and below 1"),
        ({"sparsity": "0.9"}, "sparsity '0.9': a number above 0 and below 1"),
        ({"schedule": "FT"}, "schedule FT needs dense_rates"),
        ({"schedule": "ALR"}, "unknown schedule 'ALR': use one of FT, LRW"),
        ({"schedule": "FTT", "dense_rates": [0.1]}, "unknown schedule 'FTT': use one of FT, LRW"),
        ({"cycles": 0}, "cycles 0: a count of cycles of a step or more, from 1 to 10"),
        ({"cycles": 11}, "cycles 11: a count of cycles of a step or more, from 1 to 10"),
        ({"retrain": float("inf")}, "retrain inf: a count of optimizer steps, from 1 up"),
        ({"retrain": 0}, "retrain 0: a count of optimizer steps, from 1 up"),
        ({"dense_steps": 0}, "dense_steps 0: a count of the dense training's steps, from 1 up"),
        ({"retrain": True}, "retrain True: a count of optimizer steps, from 1 up"),
        ({"dense_rates": [0.1], "peak_rate": 0.1}, "dense_rates says how long the dense training was and its peak"),
        ({"peak_rate": "a"}, "peak_rate 'a': the largest learning rate of the dense training, a number above 0"),
        ({"model": None}, "model NoneType: a torch.nn.Module"),
        ({"optimizer": None}, "optimizer NoneType: one of torch.optim's"),
        ({"peak_rate": 0.0}, "peak_rate 0.0: the largest learning rate of the dense training, a number above 0"),
        ({"schedule": "FT", "dense_rates": [0.1, 0.0]}, "schedule FT: its rates would all be 0; dense_warmup"),
        ({"model": nn.Embedding(3, 3)}, "Embedding has no convolution and no linear layer"),
    ],
)
def test_what_cannot_be_used_is_one_line(change: dict, words: str):
    model = change.pop("model", nn.Linear(4, 4))
    parameters = model.parameters() if isinstance(model, nn.Module) else [torch.zeros(1)]
    optimizer = change.pop("optimizer", torch.optim.SGD(parameters, lr=0.1))
    with pytest.raises(UserError) as caught:
        sparsify(model, optimizer, **{"sparsity": 0.5, "retrain": 10, **change})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps 0: a count of optimizer steps, from 2 up"),
        ({"interval": 6}, "interval 6: a count of steps, up to half of all, from 1 to 5"),
        ({"interval": 2.5}, "interval 2.5: a count of steps, up to half of all, from 1 to 5"),
        ({"sparsity": True}, "sparsity True: a number above 0 and below 1"),
    ],
)
def test_what_gradual_pruning_cannot_use_is_one_line(change: dict, words: str):
    model = nn.Linear(4, 4)
    with pytest.raises(UserError) as caught:
        prune_gradually(model, torch.optim.SGD(model.parameters(), lr=0.1), **{"steps": 10, "interval": 2, **change})
    assert str(caught.value) == words


def test_feedback_on_a_network_that_the_loop_does_not_call_is_refused():
    class Module(nn.Module):
        """As of Lightning: its training step calls the layers."""

        def __init__(self):
            super().__init__()
            self.layers = nn.Linear(4, 4)

    model = Module()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse = prune_gradually(model, optimizer, 0.5, steps=10, interval=2, feedback=True)
    model.layers(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    with pytest.raises(UserError, match="the forward of Module begins, and none came before a step"):
        sparse.step()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dense_rates": []}, "dense_rates, dense_warmup 0: the dense learning rates must be a non-empty vector"),
        ({"dense_rates": [float("nan")]}, "finite, non-negative"),
        ({"dense_rates": "abc"}, "could not convert string to float"),
        ({"dense_warmup": 5}, "peak_rate 0.1, dense_warmup 5: a dense warm-up of 5 iterations in a run of 1"),
        ({"dense_warmup": None}, "dense_warmup None"),
        ({"schedule": None}, "schedule None: a name such as ALLR"),
        ({"sparsity": 1e-9}, "sparsity 1e-09: of 80 weights that prunes none, or all"),
        ({"sparsity": 0.999}, "sparsity 0.999: of 80 weights that prunes none, or all"),
    ],
)
def test_arguments_are_refused_before_anything_is_pruned(change: dict, words: str):
    model = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 2))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError) as caught:
        sparsify(model, optimizer, **{"retrain": 5, **change})
    assert words in str(caught.value)
    assert not optimizer._optimizer_step_pre_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_allr_of_weights_that_were_pruned_before_is_refused_at_the_first_update():
    model = nn.Linear(10, 10)
    with torch.no_grad():
        model.weight.view(-1)[:95] = 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsify(model, optimizer, 0.9, retrain=5)
    model(torch.ones(1, 10)).sum().backward()
    with pytest.raises(UserError, match="ALLR has no distance to go by"):
        optimizer.step()


def test_an_optimizer_of_another_model_is_refused():
    model = nn.Linear(6, 10)
    with pytest.raises(UserError, match="the optimizer updates no weight of Linear that can be pruned"):
        sparsify(model, torch.optim.SGD(nn.Linear(6, 10).parameters(), lr=0.1), 0.5, retrain=5)


@pytest.mark.parametrize("kind", ["sparsify", "GMP", "DPF"])
def test_a_loop_that_forgets_sparse_step_is_told(kind: str):
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if kind == "sparsify":
        sparsify(model, optimizer, 0.5, retrain=5)
    else:
        prune_gradually(model, optimizer, 0.5, steps=10, interval=2, feedback=kind == "DPF")
    model(torch.ones(1, 6)).sum().backward()
    optimizer.step()
    with pytest.warns(UserWarning, match=r"two steps without sparse\.step\(\) between them"):
        optimizer.step()


@pytest.mark.parametrize(("name", "value"), [("weight", torch.nan), ("weight", torch.inf), ("bias", torch.nan)])
def test_weights_that_are_no_numbers_are_refused_in_a_line(name: str, value: float):
    model = nn.Linear(6, 10)
    getattr(model, name).data.view(-1)[0] = value
    before = model.weight.clone()
    with pytest.raises(UserError, match="Linear has weights that are not numbers"):
        sparsify(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, retrain=5)
    assert torch.equal(model.weight.nan_to_num(), before.nan_to_num()), "it was pruned all the same"


def test_weights_of_two_types_are_refused_in_a_line():
    model = nn.Sequential(nn.Linear(6, 10).bfloat16(), nn.Linear(10, 2))
    with pytest.raises(UserError, match="are bfloat16 on cpu and float32 on cpu: one type and device is accepted"):
        sparsify(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, retrain=5)


def test_a_state_of_other_steps_is_refused():
    def gradual(steps: int, sparsity: float = 0.9, feedback: bool = False) -> Sparse:
        model = nn.Linear(6, 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return prune_gradually(model, optimizer, sparsity, steps=steps, interval=2, feedback=feedback)

    def retrained(steps: int, schedule: str = "ALLR") -> Sparse:
        model = nn.Linear(6, 10)
        return sparsify(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, retrain=steps, schedule=schedule)

    for saved, other in (
        (gradual(40), gradual(20)),
        (gradual(40), gradual(40, 0.8)),
        (gradual(40), gradual(40, feedback=True)),
        (retrained(40), retrained(30)),
        (retrained(40), retrained(40, "LLR")),
    ):
        with pytest.raises(UserError, match=r"a state of other steps|did not give"):
            other.load_state_dict(saved.state_dict())
    gradual(40).load_state_dict(gradual(40).state_dict())


def parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 10)), nn.Linear(10, 2))


def pruned_by_torch() -> nn.Module:
    return nn.Sequential(prune.random_unstructured(nn.Linear(6, 10), "weight", 0.5), nn.Linear(10, 2))


def keeping(names: object) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 2))
    model.not_prunable = names
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (parametrized, "Sequential: 0.weight is computed from other parameters"),
        (pruned_by_torch, "Sequential: 0.weight is computed from other parameters"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "Sequential: its lazy layers have no weights before their first"),
        (lambda: nn.Linear(6, 10, dtype=torch.complex64), "Linear: weight has torch.complex64 for numbers"),
        (lambda: keeping({"0.wieght"}), "its not_prunable names '0.wieght', which is no parameter of it"),
        (lambda: keeping("0.weight"), "its not_prunable is '0.weight', not names of parameters"),
        (lambda: keeping(10), "its not_prunable is 10, not names of parameters"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_networks_whose_weights_would_not_be_what_is_pruned_are_refused(make, words: str):
    model = make()
    with pytest.raises(UserError) as caught:
        sparsify(model, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), 0.5, retrain=5)
    assert words in str(caught.value)


def test_a_parametrized_layer_may_be_kept_dense_and_is_not_computed_by_looking():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 10)), nn.Linear(10, 2))
    model.not_prunable = {"0.weight"}
    before = [buffer.clone() for buffer in model.buffers()]
    assert sparsify(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, retrain=5).masks.names == ["1.weight"]
    assert all(torch.equal(old, new) for old, new in zip(before, model.buffers(), strict=True))


def test_a_loop_that_calls_step_without_its_optimizer_is_told():
    """As with gradients that are accumulated over four batches, or where another optimizer steps."""
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse = sparsify(model, optimizer, 0.5, retrain=50)

    def loop() -> None:
        for k in range(12):
            model(torch.ones(1, 6)).sum().backward()
            if k % 4 == 3:
                optimizer.step()
            sparse.step()

    with pytest.warns(UserWarning, match=r"10 times sparse\.step\(\), and 2 steps of the optimizer") as warned:
        loop()
    assert len(warned) == 1


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("sparsity", [0.001, 0.999])
def test_gradual_pruning_of_none_or_all_is_refused(feedback: bool, sparsity: float):
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="of 60 weights that prunes none, or all"):
        prune_gradually(model, optimizer, sparsity, steps=40, interval=8, feedback=feedback)


@pytest.mark.parametrize("feedback", [False, True])
def test_a_run_that_diverges_under_gradual_pruning_ends_in_a_line(feedback: bool):
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse = prune_gradually(model, optimizer, 0.5, steps=64, interval=8, feedback=feedback)

    def loop() -> None:
        for _ in range(33):
            model(torch.full((1, 6), torch.nan)).sum().backward()
            optimizer.step()
            sparse.step()

    with pytest.raises(UserError, match="Linear has weights that are not numbers: it diverged"):
        loop()


def test_an_error_in_somebody_s_schedule_names_it_and_its_line(tmp_path, monkeypatch):
    (tmp_path / "broken_schedule.py").write_text("def rates(retraining):\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"schedule broken_schedule:rates, .*: ZeroDivisionError.*line 2: return 1"):
        sparsify(model, optimizer, 0.5, retrain=5, schedule="broken_schedule:rates", dense_rates=[0.1] * 9)


def test_a_rewinding_longer_than_the_dense_training_is_refused_before_the_first_cycle():
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="schedule LRW replays the last iterations of the dense run, which has 11"):
        sparsify(model, optimizer, 0.5, retrain=23, cycles=2, schedule="LRW", dense_rates=[0.1] * 11)
    assert model.weight.all()
