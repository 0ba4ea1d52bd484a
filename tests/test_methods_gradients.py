"""What defines DNW, GSM, LC, STR, DST and CS: the weights they compute with and the gradients they train by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.methods.dst import LEAST_DENSITY
from tests.method_runs import (
    PER_EPOCH,
    backward,
    data_with,
    flat,
    leaves,
    loss_with,
    make_run,
    prunable,
    run_size,
    train,
)

# --- DNW ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
def test_dnw_computes_with_exactly_the_global_top_fraction(sparsity: float):
    run = make_run("DNW", sparsity)
    train(run, 10)
    dense = prunable(run)
    run.method.enter_forward()
    used = prunable(run)
    kept = dense.numel() - round(sparsity * dense.numel())
    top = torch.zeros_like(dense, dtype=torch.bool)
    top[dense.abs().topk(kept).indices] = True
    assert torch.equal(used, dense * top)


def test_dnw_passes_the_gradient_straight_through_to_all_weights():
    run = make_run("DNW")
    train(run, 10)
    dense = leaves(run)
    threshold = flat(dense.values()).abs().topk(run_size() - round(0.9 * run_size())).values[-1]
    used = {name: (weight * (weight.abs() >= threshold)).detach().requires_grad_() for name, weight in dense.items()}
    loss_with(run, used).backward()
    backward(run)
    left_out = 0
    for name, weight in run.method.weights.items():
        torch.testing.assert_close(weight.grad, used[name].grad, rtol=1e-4, atol=1e-7)
        left_out += int(weight.grad[used[name] == 0].count_nonzero())
    assert left_out > 0.5 * run_size()


# --- GSM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.7, 0.9])
def test_gsm_keeps_exactly_q_gradients_those_of_the_largest_influence(sparsity: float):
    run = make_run("GSM", sparsity)
    train(run, 10)
    gradients = backward(run)
    influence = flat(weight * gradients[name] for name, weight in run.method.weights.items()).abs()
    kept = flat(weight.grad for weight in run.method.weights.values())
    q = run_size() - round(sparsity * run_size())
    assert int(kept.count_nonzero()) == q
    live = torch.zeros_like(kept, dtype=torch.bool)
    live[influence.topk(q).indices] = True
    assert torch.equal(kept, flat(gradients[name] for name in run.method.weights) * live)


def test_in_gsm_the_others_move_by_weight_decay_and_momentum_alone():
    run = make_run("GSM", decay=10.0, momentum=0.8)
    train(run, 10)
    state = run.step.optimizer.state
    velocity = {name: state[weight]["momentum_buffer"].clone() for name, weight in run.method.weights.items()}
    before = leaves(run)
    backward(run)
    live = {name: weight.grad != 0 for name, weight in run.method.weights.items()}
    run.step.optimizer.step()
    for name, weight in run.method.weights.items():
        decay = 10e-4 * before[name].detach()
        buffer = 0.8 * velocity[name] + decay
        expected = before[name].detach() - 0.1 * (decay + 0.8 * buffer)
        torch.testing.assert_close(weight.detach()[~live[name]], expected[~live[name]], rtol=1e-4, atol=1e-7)


# --- LC ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.7, 0.9])
def test_lc_decays_only_the_weights_outside_the_current_top(sparsity: float):
    run = make_run("LC", sparsity, decay=100.0)
    train(run, 10)
    weights = prunable(run)
    gradients = backward(run)
    loss = flat(gradients[name] for name in run.method.weights)
    found = flat(weight.grad for weight in run.method.weights.values())
    top = torch.zeros_like(weights, dtype=torch.bool)
    top[weights.abs().topk(run_size() - round(sparsity * run_size())).indices] = True
    assert torch.equal(found[top], loss[top])
    torch.testing.assert_close(found[~top], loss[~top] + 100e-4 * weights[~top], rtol=1e-5, atol=1e-9)


def test_lc_decays_beside_the_gradient_where_the_optimizer_is_adamw():
    rate, decay = 0.01, 100e-4
    run = make_run("LC", 0.7, data=data_with(optimizer="adamw", learning_rate=rate), decay=100.0)
    train(run, 10)
    for group in run.step.optimizer.param_groups:
        group["lr"] = rate
    weights = prunable(run)
    gradients = backward(run)
    assert all(torch.equal(weight.grad, gradients[name]) for name, weight in run.method.weights.items())
    top = torch.zeros_like(weights, dtype=torch.bool)
    top[weights.abs().topk(run_size() - round(0.7 * run_size())).indices] = True
    assert torch.equal(prunable(run)[top], weights[top])
    torch.testing.assert_close(prunable(run)[~top], (1 - rate * decay) * weights[~top])


# --- STR, DST, CS: gradients against autograd ----------------------------------------------------------------------


def per_layer(values: Tensor, counts: list[int]) -> list[Tensor]:
    """A flat parameter of a method, cut into the layers' parts, to differentiate by."""
    return [part.detach().clone().requires_grad_() for part in values.split(counts)]


def test_str_has_the_gradients_of_the_soft_threshold():
    run = make_run("STR", s_init=-3.0)
    train(run, 10)
    dense = leaves(run)
    s = dict(zip(dense, per_layer(run.method.s, [1] * len(dense)), strict=True))
    used = {
        name: torch.sign(weight) * torch.relu(weight.abs() - torch.sigmoid(s[name])) for name, weight in dense.items()
    }
    loss_with(run, used).backward()
    run.method.enter_forward()
    for name, weight in run.method.weights.items():
        torch.testing.assert_close(weight.detach(), used[name].detach())
        assert 0 < int((weight == 0).sum()) < weight.numel()
    run.method.exit_forward()
    backward(run)
    for name, weight in run.method.weights.items():
        torch.testing.assert_close(weight.grad, dense[name].grad, rtol=1e-4, atol=1e-7)
    expected = torch.cat([s[name].grad for name in dense])
    torch.testing.assert_close(run.method.s.grad, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("method", "decay"), [("STR", 7e-4), ("DST", 0.0), ("CS", 0.0)])
def test_only_in_str_the_thresholds_themselves_decay(method: str, decay: float):
    """Without any gradient a step moves STR's s towards 0 as it does the weights, and nothing of the kind elsewhere."""
    run = make_run(method, decay=7.0)
    (own,) = run.method.own_parameters()
    with torch.no_grad():
        own.fill_(-3.0)
    own.grad = torch.zeros_like(own)
    for weight in run.network.parameters():
        weight.grad = torch.zeros_like(weight)
    run.step.optimizer.step()
    assert torch.allclose(own.detach(), torch.tensor(-3.0 + 0.1 * 1.9 * decay * 3.0), rtol=0, atol=1e-6)


class Step(torch.autograd.Function):
    """Liu et al.'s step with its long-tailed derivative, element by element."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slopes = [2 - 4 * abs(v) if abs(v) <= 0.4 else 0.4 if abs(v) <= 1 else 0.0 for v in x.flatten().tolist()]
        return gradient * torch.tensor(slopes).view_as(x)


def test_dst_has_the_gradients_of_its_masked_weights_and_penalty():
    run = make_run("DST", alpha=0.003)
    train(run, 30)
    with torch.no_grad():
        for weight in run.method.weights.values():
            weight.mul_(2)  # some distances beyond 0.4 and beyond 1, so that every piece of the slope is met
    dense = leaves(run)
    counts = [weight.shape[0] for weight in dense.values()]
    thresholds = dict(zip(dense, per_layer(run.method.thresholds, counts), strict=True))
    distances, used = {}, {}
    for name, weight in dense.items():
        shape = (-1,) + (1,) * (weight.dim() - 1)
        distances[name] = weight.abs() - thresholds[name].view(shape)
        used[name] = weight * Step.apply(distances[name])
    every = flat(distances.values()).abs()
    assert (every > 1).any()
    assert ((every > 0.4) & (every <= 1)).any()
    penalty = 0.003 * sum(torch.exp(-t).sum() for t in thresholds.values())
    (loss_with(run, used) + penalty).backward()
    backward(run)
    for name, weight in run.method.weights.items():
        torch.testing.assert_close(weight.grad, dense[name].grad, rtol=1e-3, atol=1e-6)
    expected = torch.cat([t.grad for t in thresholds.values()])
    torch.testing.assert_close(run.method.thresholds.grad, expected, rtol=1e-3, atol=1e-6)


def test_thresholds_of_dst_start_again_where_a_layer_is_nearly_empty_and_only_there():
    run = make_run("DST")
    method, counts = run.method, [weight.shape[0] for weight in run.method.weights.values()]
    first, second = (weight.detach().abs().flatten(1) for weight in list(run.method.weights.values())[:2])
    with torch.no_grad():
        method.thresholds.fill_(0.01)
        method.thresholds[: counts[0]] = first.max()  # nothing of the first layer is left
        keep = int(LEAST_DENSITY * second.numel()) + 1
        method.thresholds[counts[0] : counts[0] + counts[1]] = second.flatten().topk(keep + 1).values[-1]
    before = method.thresholds.detach().clone()
    method.enter_forward()
    weights = list(method.weights.values())
    assert not method.thresholds[: counts[0]].any()
    assert torch.equal(method.thresholds[counts[0] :], before[counts[0] :])
    assert torch.equal(weights[0].detach().flatten(1).abs(), first)  # whole again, in the same forward pass
    assert int(weights[1].count_nonzero()) == keep


def test_cs_has_the_gradients_of_its_soft_mask_and_penalty():
    run = make_run("CS", s_init=0.2, penalty=0.001)
    train(run, 60)
    k = 80
    run.method.before_iteration(k)
    beta = 200 ** (k / (6 * PER_EPOCH))
    dense = leaves(run)
    counts = [weight.numel() for weight in dense.values()]
    scores = dict(zip(dense, per_layer(run.method.scores, counts), strict=True))
    soft = {name: torch.sigmoid(beta * scores[name].view_as(dense[name])) for name in dense}
    scale = 1 / torch.sigmoid(torch.tensor(0.2))
    used = {name: weight * soft[name] * scale for name, weight in dense.items()}
    (loss_with(run, used) + 0.001 * sum(mask.sum() for mask in soft.values())).backward()
    backward(run, k)
    for name, weight in run.method.weights.items():
        torch.testing.assert_close(weight.grad, dense[name].grad, rtol=1e-4, atol=1e-7)
    expected = torch.cat([score.grad for score in scores.values()])
    torch.testing.assert_close(run.method.scores.grad, expected, rtol=1e-3, atol=1e-7)


def test_the_mask_of_cs_hardens_to_the_step_of_its_scores():
    run = make_run("CS", sparsity=0.05, s_init=0.1)
    train(run, 20)
    weights = prunable(run)
    with torch.no_grad():
        run.method.scores.copy_(torch.linspace(-1, 3, run_size()))
    run.method.finish()
    hard = weights * (run.method.scores > 0) / torch.sigmoid(torch.tensor(0.1))
    torch.testing.assert_close(prunable(run), hard)
    assert run.method.learned_sparsity == pytest.approx(0.25, abs=0.001)


def test_the_soft_mask_of_cs_ends_where_its_hardening_is_mostly_done():
    """beta grows to beta_final, so the hard mask computes nearly what the last soft one did."""
    run = make_run("CS", sparsity=0.01, beta_final=1e6)
    run.method.before_iteration(6 * PER_EPOCH)
    with torch.no_grad():
        run.method.scores.copy_(torch.linspace(-1, 1, run_size()))
    run.method.enter_forward()
    soft = prunable(run)
    run.method.exit_forward()
    run.method.finish()
    torch.testing.assert_close(prunable(run), soft, rtol=1e-5, atol=1e-5)
