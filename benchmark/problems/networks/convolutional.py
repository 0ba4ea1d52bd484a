"""Residual networks and VGG for small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut without parameters: new channels are zeros (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + self.skip(x), inplace=True)

    def skip(self, x: Tensor) -> Tensor:
        if self.stride == 1 and not self.new_channels:
            return x
        half = self.new_channels // 2
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new_channels - half))


class ProjectionBlock(BasicBlock):
    """The same with a 1x1 convolution as the shortcut where the shape changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, stride)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def skip(self, x: Tensor) -> Tensor:
        return self.shortcut(x)


Block = Callable[[int, int, int], nn.Module]
"""Of (input channels, output channels, stride)."""


def chain(block: Block, inputs: int, widths: Sequence[int], blocks: int) -> nn.Sequential:
    """Stages of so many `blocks` each; widths: channels by stage. Each stage after the first halves the image."""
    layers: list[nn.Module] = []
    for stage, outputs in enumerate(widths):
        for number in range(blocks):
            layers.append(block(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
    return nn.Sequential(*layers)


class SmallImageResNet(nn.Module):
    """ResNet (He et al. 2016) for small images: a stem of one 3x3 convolution, no pooling.

    Args:
        block: BasicBlock or ProjectionBlock.
        stages: each with twice the channels of the one before.
        blocks: of each stage.
        width: channels of the first stage.
        channels: of the image.
        classes: outputs.
    """

    def __init__(self, block: type[BasicBlock], stages: int, blocks: int, width: int, channels: int, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.blocks = chain(block, width, [width << stage for stage in range(stages)], blocks)
        self.fc = nn.Linear(width << (stages - 1), classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.fc(self.blocks(x).mean((2, 3)))


class VGG(nn.Module):
    """VGG (Simonyan and Zisserman 2015) for small images: convolutions with batch norm, one linear layer.

    stages: convolutions and channels of each stage; 2x2 max pooling follows every stage, then the global average.
    """

    def __init__(self, stages: Sequence[tuple[int, int]], channels: int, classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        for convolutions, outputs in stages:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; a 1x1 shortcut where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(x), inplace=True)
        if self.shortcut is not None:
            x = self.shortcut(y)  # of the activated input, as in the authors' code
        y = functional.relu(self.bn2(self.conv1(y)), inplace=True)
        return x + self.conv2(y)


class WideResNet(nn.Module):
    """Wide ResNet (Zagoruyko and Komodakis 2016): three stages of `blocks` blocks, 6 * blocks + 4 layers.

    widening: the stages have 1, 2 and 4 times `widening * width` channels; the stem has `width`.
    """

    def __init__(self, blocks: int, widening: int, width: int, channels: int, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        widths = [(width << stage) * widening for stage in range(3)]
        self.blocks = chain(PreActivationBlock, width, widths, blocks)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1], classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.blocks(self.conv1(x))), inplace=True)
        return self.fc(x.mean((2, 3)))


def initialise(network: nn.Module) -> None:
    """He et al.'s normal initialisation of every convolution, biases of convolutions at 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
