"""The plain implementation of DST that ours is measured against trains the same network."""

from __future__ import annotations

import torch

from benchmark.measure.plain_dst import PlainDST
from benchmark.problems import models
from tests.method_runs import PROBLEM, batch, flat, make_run


def test_both_train_the_same_network_up_to_rounding():
    """Weights, thresholds, batch norm; with distances in all pieces of the slope and a layer that starts again."""
    alpha = 0.01
    run = make_run("DST", alpha=alpha)
    plain = PlainDST(PROBLEM, models.build(PROBLEM, 0), alpha)
    with torch.no_grad():
        for weight, layer in zip(run.method.weights.values(), plain.layers, strict=True):
            weight.mul_(3)
            layer.layer.weight.copy_(weight)
        empty = len(plain.layers[0].thresholds.values)
        run.method.thresholds[:empty] = plain.layers[0].thresholds.values[:] = 100.0
    run.network.train()
    plain.network.train()
    for k in range(8):
        run.step(k, 0.02, *batch(k))
        plain.step(0.02, *batch(k))
    theirs = flat(layer.layer.weight for layer in plain.layers)
    thresholds = flat(layer.thresholds.values for layer in plain.layers)
    torch.testing.assert_close(flat(run.method.weights.values()), theirs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(run.method.thresholds.detach(), thresholds, rtol=1e-3, atol=1e-4)
    assert thresholds.abs().max() < 1
    norms = [
        module.running_var
        for network in (run.network, plain.network)
        for module in network.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    torch.testing.assert_close(flat(norms[: len(norms) // 2]), flat(norms[len(norms) // 2 :]), rtol=1e-3, atol=1e-4)


def test_the_part_without_the_network_is_that_of_whole_steps():
    """From the gradients that the network gives, it moves weights and thresholds as a whole step does."""
    whole, part = (PlainDST(PROBLEM, models.build(PROBLEM, 0), 0.01) for _ in range(2))
    images, labels = batch()
    for plain in (whole, part):
        plain.network.train()
    run = make_run("DST", alpha=0.01)
    run.network.train()
    run.method.enter_forward()
    torch.nn.functional.cross_entropy(run.network(images), labels).backward()
    gradients = [weight.grad.clone() for weight in run.method.weights.values()]
    whole.step(0.1, images, labels)
    part.step_without_network(0.1, gradients)
    for one, other in zip(whole.layers, part.layers, strict=True):
        torch.testing.assert_close(one.layer.weight, other.layer.weight, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.thresholds.values, other.thresholds.values, rtol=1e-3, atol=1e-5)
