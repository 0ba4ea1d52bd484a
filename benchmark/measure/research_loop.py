"""What a research script usually does, to compare the suite's speed with: `python -m benchmark.throughput --against`.

torchvision's transforms image by image in a two-worker DataLoader, torch.nn.utils.prune's reparametrisation, SGD and a
scheduler with their defaults, float32, and metrics of torchmetrics, or of `item()` in every step where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset

from benchmark.cells import Problem
from benchmark.problems.cache import Split

LOADERS = 2


class PillowImages(Dataset[Any]):
    """Images as torchvision's CIFAR10 gives them: made a PIL image, transformed and made a tensor one by one."""

    def __init__(self, split: Split, problem: Problem):
        from torchvision import transforms

        inner = slice(split.padding, split.images.shape[1] - split.padding)
        self.images, self.labels = np.ascontiguousarray(split.images[:, inner, inner]), split.labels
        steps: list[Any] = [transforms.RandomCrop(problem.image_size, problem.crop_padding)]
        if problem.flip:
            steps.append(transforms.RandomHorizontalFlip())
        if problem.rotation:
            steps.append(transforms.RandomRotation(problem.rotation))
        half = [0.5] * problem.channels
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(half, half)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.images[index]
        image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        return self.transform(image), int(self.labels[index])


def pillow_batches(split: Split, problem: Problem) -> DataLoader[Any]:
    """An iterable of shuffled batches whose worker processes live on."""
    return DataLoader(
        PillowImages(split, problem),
        batch_size=problem.batch_size,
        shuffle=True,
        num_workers=LOADERS,
        persistent_workers=True,
    )


class PlainLoop:
    """A training loop with the parts above; `run` does some iterations, each time from where the last ended: a loader
    that is begun anew has no batch ready."""

    def __init__(self, problem: Problem, network: nn.Module, split: Split, device: torch.device, sparsity: float):
        self.network, self.device = network.to(device), device
        weights = [(module, "weight") for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=sparsity)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=problem.learning_rate / 10,
            momentum=problem.momentum,
            nesterov=problem.nesterov,
            weight_decay=problem.weight_decay,
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda k: 1 / (1 + k / 1000))
        self.batches = _endless(pillow_batches(split, problem))
        self.count = _metric(problem.classes, device)

    def run(self, iterations: int) -> None:
        self.network.train()
        for images, labels in islice(self.batches, iterations):
            images, labels = images.to(self.device), labels.to(self.device)
            logits = self.network(images)
            loss = functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.count(logits, labels, loss)


def _endless(batches: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from batches


def _metric(classes: int, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], None]:
    try:
        from torchmetrics import MeanMetric
        from torchmetrics.classification import MulticlassAccuracy
    except ImportError:
        sums = [0.0, 0.0]

        def count_items(logits: Tensor, labels: Tensor, loss: Tensor) -> None:
            sums[0] += loss.item()
            sums[1] += (logits.argmax(1) == labels).float().mean().item()

        return count_items
    accuracy, mean = MulticlassAccuracy(classes).to(device), MeanMetric().to(device)

    def count(logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        accuracy(logits, labels)
        mean(loss)

    return count


class Null(nn.Module):
    """Next to nothing to compute: what remains is the loop and the data."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.fc = nn.Linear(problem.channels, problem.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))
