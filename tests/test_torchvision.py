"""`benchmark.api` on a small member of each of torchvision's twenty families of classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from benchmark.api import sparsify
from benchmark.pruning.prunable import prunable

FAMILIES: dict[str, dict[str, Any]] = {
    "alexnet": {},
    "convnext_tiny": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "efficientnet_v2_s": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    "maxvit_t": {"input_size": (224, 224)},
    "mnasnet0_5": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "regnet_y_400mf": {},
    "resnet18": {},
    "resnext50_32x4d": {},
    "shufflenet_v2_x0_5": {},
    "squeezenet1_1": {},
    "swin_t": {},
    "vgg11": {},
    "vit_b_32": {"image_size": 64},
    "wide_resnet50_2": {},
}
PIXELS = {"inception_v3": 96, "maxvit_t": 224}


def build(name: str) -> nn.Module:
    return models.get_model(name, num_classes=10, **FAMILIES[name])


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_a_pruned_and_retrained_network_is_read_back_and_computes_the_same(name: str, tmp_path: Path):
    torch.manual_seed(0)
    size = PIXELS.get(name, 64)
    model, images = build(name), torch.randn(2, 3, size, size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    sparse = sparsify(model, optimizer, 0.9, retrain=2)
    total = sum(weight.numel() for weight in prunable(model).values())
    assert total > 0.8 * sum(parameter.numel() for parameter in model.parameters()), "nearly all weights can go"
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.tensor([1, 2])).backward()
        optimizer.step()
        sparse.step()
    torch.save(sparse.finish().state_dict(), tmp_path / "weights.pt")
    fresh = build(name)
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt"))
    zeros = sum(int((weight == 0).sum()) for weight in prunable(fresh).values())
    assert zeros == round(0.9 * total)
    with torch.no_grad():
        outputs = fresh.eval()(images)
        assert outputs.isfinite().all()
        assert torch.equal(outputs, model.eval()(images))
