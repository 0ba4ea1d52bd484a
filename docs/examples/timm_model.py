"""A model of timm, with an optimizer and a loss of timm: https://huggingface.co/docs/timm."""

import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2

from benchmark.api import sparsify

model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10)  # pretrained=True fetches weights
optimizer = create_optimizer_v2(model, opt="momentum", lr=0.01, weight_decay=1e-4)
loss_of = LabelSmoothingCrossEntropy(0.1)
batches = [(torch.randn(4, 3, 32, 32), torch.randint(10, (4,))) for _ in range(6)]

sparse = sparsify(model, optimizer, sparsity=0.9, retrain=len(batches))
model.train()
for images, labels in batches:
    optimizer.zero_grad()
    loss_of(model(images), labels).backward()
    optimizer.step()
    sparse.step()
