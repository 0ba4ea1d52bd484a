"""What all methods of Table 2 share, and what defines BIMP, GMP and DPF, which prune at set times."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.methods import gsm as gsm_module
from benchmark.methods import lc as lc_module
from benchmark.methods.scratch import Transformed
from benchmark.planning.plan import refuse_unfit
from benchmark.pruning import masks as masks_module
from benchmark.pruning import selection
from benchmark.pruning.flat import Vector
from benchmark.pruning.gradual import due
from benchmark.recording import make_record
from benchmark.training.loop import Run
from benchmark.training.schedules import dense_learning_rates
from tests.fake_gpu import Waits
from tests.method_runs import (
    PER_EPOCH,
    PROBLEM,
    SCRATCH,
    backward,
    data_with,
    flat,
    leaves,
    loss_with,
    make_run,
    prunable,
    run_size,
    train,
    watch,
)

# --- for all methods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SCRATCH)
def test_batch_norm_and_biases_are_trained_as_in_the_dense_run(method: str):
    """The recipe's momentum and weight decay, whatever the method does to weights; every parameter in one group."""
    run = make_run(method, decay=7.0)
    prunable = {id(weight) for weight in run.method.weights.values()}
    own = {id(tensor) for tensor in run.method.own_parameters()}
    seen = []
    for group in run.step.optimizer.param_groups:
        for tensor in group["params"]:
            seen.append(id(tensor))
            if id(tensor) not in prunable | own:
                assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (1e-4, 0.9, True)
    assert sorted(seen) == sorted({id(tensor) for tensor in run.network.parameters()} | own)


@pytest.mark.parametrize("method", SCRATCH)
def test_weight_decay_counts_once(method: str):
    """Without any loss gradient a first step moves what is decayed by lr (1 + momentum) decay w, and by no more."""
    settings = {"momentum": 0.9} if method == "GSM" else {}
    run = make_run(method, decay=50.0, **settings)
    run.method.enter_forward()  # methods that transform have seen these weights
    run.method.exit_forward()
    before = {name: weight.detach().clone() for name, weight in run.network.named_parameters()}
    for weight in run.network.parameters():
        weight.grad = torch.zeros_like(weight)
    run.method.after_backward()
    for group in run.step.optimizer.param_groups:
        group["lr"] = 0.1
    run.step.optimizer.step()
    moved = []
    for name, weight in run.network.named_parameters():
        factor = 0.1 * 1.9 * (50e-4 if name in run.method.weights else 1e-4)
        step = before[name] - weight.detach()
        decayed = (step != 0) & (before[name] != 0)
        torch.testing.assert_close(step[decayed], factor * before[name][decayed], rtol=1e-3, atol=1e-6)
        moved.append(decayed[before[name] != 0])
    share = flat(moved).float().mean()
    assert share > 0.85  # LC leaves its largest tenth alone; rounding can hide a step of a bias near zero


@pytest.mark.parametrize("method", ["GMP", "DPF", "DNW", "STR", "DST", "CS"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_forward_pass_leaves_the_trained_weights_bit_for_bit(method: str, channels_last: bool):
    run = make_run(method, channels_last=channels_last, **({"returning": True} if method == "GMP" else {}))
    train(run, 20)
    before = prunable(run)
    run.method.enter_forward()
    run.method.exit_forward()
    assert torch.equal(prunable(run), before)


@pytest.mark.parametrize("method", ["GSM", "LC", "DNW", "STR", "DST", "CS"])
def test_the_memory_layout_does_not_change_what_is_trained(method: str):
    """Up to rounding: with channels last the same weight goes with the same gradient and threshold."""
    plain, other = make_run(method), make_run(method, channels_last=True)
    for run in (plain, other):
        backward(run)
    for name, weight in plain.method.weights.items():
        found = other.method.weights[name].grad
        torch.testing.assert_close(found, weight.grad, rtol=1e-3, atol=1e-6)
    for tensor, same in zip(plain.method.own_parameters(), other.method.own_parameters(), strict=True):
        assert torch.isclose(tensor.grad.norm(), same.grad.norm(), rtol=1e-3)


@pytest.mark.parametrize("method", SCRATCH)
def test_every_run_ends_at_its_target_to_one_weight_or_above_it(method: str):
    run = make_run(method, sparsity=0.95)
    run.execute()
    record = make_record(run.cell, run, None)
    weights = prunable(run)
    zeros = int((weights == 0).sum())
    assert zeros >= round(0.95 * weights.numel())
    learned = record["sparsity"]["learned"]
    assert zeros == max(round(0.95 * weights.numel()), round(learned * weights.numel()))
    assert (learned >= 0.95) == (method in ("BIMP", "GMP", "DPF", "DNW"))


@pytest.mark.parametrize("method", ["GSM", "DNW", "STR", "DST", "CS"])
def test_a_run_that_diverges_is_a_record_that_says_so(method: str):
    run = make_run(method, data=data_with(learning_rate=1e20))
    run.execute()
    record = make_record(run.cell, run, None)
    assert record["status"] == "collapsed"
    assert "not finite" in record["remarks"][0]


def test_more_than_the_target_is_kept_and_marked():
    run = make_run("STR", sparsity=0.5, s_init=-1.5)
    run.execute()
    record = make_record(run.cell, run, None)
    assert record["sparsity"]["prunable"] == record["sparsity"]["learned"] > 0.6
    assert record["status"] in ("missed_target", "collapsed")


def test_batch_statistics_are_re_estimated_after_the_final_prune_unless_the_recipe_says_no():
    """For every method alike: the switch is the recipe's."""
    outcomes = {}
    for batches in (0, 100):
        data = data_with(recalibration_batches=batches, epochs=2, training_share=0.25)
        for method in SCRATCH:
            run = make_run(method, data=data)
            run.execute()
            bn = run.network.get_submodule("bn1")
            outcomes[method, batches] = bn.running_mean.clone()
    for method in SCRATCH:
        assert not torch.equal(outcomes[method, 0], outcomes[method, 100])


@pytest.mark.parametrize("method", SCRATCH)
def test_no_step_of_a_method_waits_for_an_accelerator(method: str, monkeypatch: pytest.MonkeyPatch):
    """The way of accelerators, taken on the CPU: nothing is read back, and the gradients are those of the CPU's way."""
    gradients = {}
    for accelerated in (False, True):
        run = make_run(method, alpha=0.003) if method == "DST" else make_run(method)
        train(run, 20)
        if accelerated:
            for module in (masks_module, gsm_module, lc_module):
                monkeypatch.setattr(module, "mask_smallest", mask_without_waiting)
            if isinstance(run.method, Transformed):
                run.method.flat.device = torch.device("cuda")  # it decides by this which way to go
        backward(run, 20)
        with Waits() as waits:
            run.method.before_iteration(20)
            run.method.enter_forward()
            run.method.exit_forward()
            run.method.after_backward()
            run.method.after_step()
        assert not (accelerated and waits.seen), waits.seen
        run.network.zero_grad()
        backward(run, 20)
        gradients[accelerated] = [w.grad for w in run.network.parameters()]
        gradients[accelerated] += [tensor.grad for tensor in run.method.own_parameters()]
    for one, other in zip(gradients[False], gradients[True], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def mask_without_waiting(scores: Vector, k: int, *, magnitude: bool = False, bracket=None, out: Vector) -> None:
    selection.mask_on_device(scores.parts, k, magnitude, out.parts)


def test_the_test_for_waiting_sees_a_wait():
    with Waits() as waits:
        torch.ones(3).sum().item()
    assert waits.seen


# --- BIMP --------------------------------------------------------------------------------------------------------


HALF, CYCLE = 3 * PER_EPOCH, 3 * PER_EPOCH // 2
"""Iterations of the dense half of a run, and of the first of two cycles in the other; the last takes the remainder."""


def test_bimp_trains_densely_on_a_line_to_zero_then_prunes_and_retrains_within_the_same_epochs():
    run = make_run("BIMP", dense_share=0.5, cycles=2)
    progress = run.execute()
    dense, first, second = (torch.tensor(rates, dtype=torch.float64) for rates in progress.rates)
    assert (len(dense), len(first), len(second)) == (HALF, CYCLE, HALF - CYCLE)
    warmup = PER_EPOCH
    line = 0.1 * (1 - torch.arange(HALF - warmup) / (HALF - warmup))
    torch.testing.assert_close(dense[warmup:], line.double(), rtol=1e-6, atol=1e-9)
    assert [round(cycle["sparsity"], 3) for cycle in progress.cycles] == [round(1 - math.sqrt(0.1), 3), 0.9]
    assert progress.cycles[0]["d2"] == pytest.approx(CYCLE / HALF)
    assert float(first.max()) == pytest.approx(0.1 * progress.cycles[0]["d"])
    assert run.progress.position == 6 * PER_EPOCH


def test_bimp_can_read_t_as_the_whole_budget():
    run = make_run("BIMP", dense_share=0.5, cycles=2, span="T")
    assert run.execute().cycles[0]["d2"] == pytest.approx(CYCLE / (2 * HALF))


def test_bimp_is_dense_until_its_first_cycle_and_never_loses_a_zero_afterwards():
    zeros = []
    watch("BIMP", lambda run, k: zeros.append(int((prunable(run) == 0).sum())), dense_share=0.5, cycles=2)
    total = run_size()
    assert not any(zeros[:HALF])
    assert set(zeros[HALF : HALF + CYCLE]) == {round((1 - math.sqrt(0.1)) * total)}
    assert set(zeros[HALF + CYCLE :]) == {round(0.9 * total)}


@pytest.mark.parametrize(("setting", "value"), [("dense_share", 0), ("dense_share", 1), ("cycles", 0), ("span", "T1")])
def test_settings_that_bimp_cannot_use_are_named(setting: str, value):
    with pytest.raises(UserError, match=f"method BIMP: hyperparameter {setting} is '?{value}'?;"):
        make_run("BIMP", **{setting: value})


# --- GMP ---------------------------------------------------------------------------------------------------------


def cubic(epoch: int, interval: int, target: float = 0.9, epochs: int = 6) -> float:
    """Zhu & Gupta's sparsity after `epoch` epochs."""
    steps = epochs // interval - 1
    return target - target * (1 - min(epoch // interval, steps) / steps) ** 3


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("returning", [False, True])
def test_gmp_has_the_cubic_sparsity_at_every_pruning_step(interval: int, returning: bool):
    found = []

    def look(run: Run, k: int) -> None:
        run.method.enter_forward()
        found.append(int((prunable(run) == 0).sum()))
        run.method.exit_forward()

    run = watch("GMP", look, interval=interval, returning=returning)
    total = run_size()
    for k in range(1, 6 * PER_EPOCH):
        # Before iteration k one sees what iteration k - 1 computed with.
        assert found[k] == round(cubic((k - 1) // PER_EPOCH, interval) * total)
    assert int((prunable(run) == 0).sum()) == round(0.9 * total)


def test_gmp_clears_the_momentum_of_what_it_prunes():
    run = make_run("GMP")
    train(run, 5)
    run.method.before_iteration(PER_EPOCH)
    for weight, mask in zip(run.method.weights.values(), run.method.masks.tensors, strict=True):
        momentum = run.step.optimizer.state[weight]["momentum_buffer"]
        assert not momentum[mask == 0].any()
        assert momentum[mask == 1].any()


def test_only_where_asked_to_weights_return_to_gmp():
    for returning in (False, True):
        ever: list[Tensor] = []
        revived = 0

        def look(run: Run, k: int, ever: list[Tensor] = ever) -> None:
            nonlocal revived
            mask = flat(run.method.masks.tensors)
            if ever:
                revived += int(((ever[-1] == 0) & (mask == 1)).sum())
            ever.append(mask)

        watch("GMP", look, sparsity=0.3, returning=returning)
        assert (revived > 0) == returning


def test_pruned_weights_of_returning_gmp_feel_no_loss():
    run = make_run("GMP", returning=True)
    train(run, 5)
    backward(run, PER_EPOCH)
    for weight, mask in zip(run.method.weights.values(), run.method.masks.tensors, strict=True):
        assert not weight.grad[mask == 0].any()
        assert weight.detach()[mask == 0].all()  # kept aside, not zeroed


@pytest.mark.parametrize("method", ["GMP", "DPF"])
def test_an_interval_that_leaves_no_pruning_step_is_refused(method: str):
    with pytest.raises(UserError, match=f"method {method}: hyperparameter interval is 4 epochs.* 1 to 3"):
        refuse_unfit([Cell(PROBLEM, method, 0, None, 0.9, hyperparameters=(("interval", 4),))])


# --- DPF ---------------------------------------------------------------------------------------------------------


def test_dpf_has_a_new_mask_of_the_cubic_sparsity_every_16_iterations_only():
    masks = []
    watch("DPF", lambda run, k: masks.append(flat(run.method.masks.tensors)), sparsity=0.8, interval=2)
    for k in range(1, len(masks)):
        pruned = int((masks[k] == 0).sum())
        selected = (k - 1) // 16 * 16  # the last iteration that chose a mask
        assert pruned == round(cubic(selected // PER_EPOCH, 2, 0.8) * run_size())
        if (k - 1) % 16:
            assert torch.equal(masks[k], masks[k - 1])


def test_dpf_ends_with_the_largest_of_all_its_weights_where_no_masks_were_due_since_the_last_rise():
    method = make_run("DPF").method
    method.masks.select(0.5)
    method.masks.weights[0].data.mul_(3)  # what was masked is among the largest by now
    smallest = flat(method.masks.weights).abs().argsort()[: round(0.9 * run_size())]
    method.finish()
    after = flat(method.masks.weights)
    assert not after[smallest].any()
    assert int(after.count_nonzero()) == run_size() - len(smallest)


def test_dpf_keeps_its_last_masks_where_they_are_at_the_target():
    """Rounded to whole weights that may be a little below it, as of these 10,662 weights."""
    method = make_run("DPF", 0.7).method
    method.masks.select(0.7)
    assert method.masks.sparsity < 0.7
    before = flat(method.masks.tensors).clone()
    method.masks.weights[0].data.mul_(3)
    method.finish()
    assert torch.equal(flat(method.masks.tensors), before)


def test_a_pruning_step_holds_from_its_iteration_on():
    method = make_run("DPF", interval=2).method
    first, second = 2 * PER_EPOCH, 4 * PER_EPOCH
    found = [due(method.steps, k) for k in (first - 1, first, second - 1, second)]
    assert found == pytest.approx([0, 0.9 * (1 - 1 / 8), 0.9 * (1 - 1 / 8), 0.9])


def test_dpf_updates_the_dense_weights_with_the_gradient_at_the_pruned_ones():
    run = make_run("DPF")
    train(run, 40)
    run.method.before_iteration(48)
    dense = leaves(run)
    masks = dict(zip(dense, run.method.masks.tensors, strict=True))
    assert 0 < flat(masks.values()).mean() < 1
    pruned = {name: (weight * masks[name]).detach().requires_grad_() for name, weight in dense.items()}
    loss_with(run, pruned).backward()
    backward(run, 48)
    for name, weight in run.method.weights.items():
        torch.testing.assert_close(weight.grad, pruned[name].grad, rtol=1e-4, atol=1e-7)
        assert torch.equal(weight, dense[name])


def test_pruned_weights_recover_in_dpf():
    """They go on moving while they are pruned, and some come back."""
    run = make_run("DPF")
    train(run, 49)
    mask, dense = flat(run.method.masks.tensors), prunable(run)
    train(run, 40, first=49)
    assert (prunable(run) != dense)[mask == 0].float().mean() > 0.9
    assert ((mask == 0) & (flat(run.method.masks.tensors) == 1)).any()


def test_a_diverged_network_is_not_asked_for_weights_it_does_not_have():
    run = make_run("DNW")
    with torch.no_grad():
        next(iter(run.method.weights.values())).fill_(float("nan"))
    run.execute()
    assert run.progress.cut_short
    assert isinstance(run.network, nn.Module)
    assert make_record(run.cell, run, None)["status"] == "collapsed"


@pytest.mark.parametrize("method", [name for name in SCRATCH if name != "BIMP"])
def test_a_method_trains_with_the_decay_that_its_cell_names(method: str):
    run = make_run(method, schedule="linear")
    rates = run.execute().rates[0]
    linear = dense_learning_rates(run.cell.problem.model_copy(update={"decay": "linear"}), PER_EPOCH)
    assert rates == linear.tolist()
    assert make_run(method).method.begin(0).tolist() != rates
