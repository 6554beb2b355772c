"""ResNet-8 for 32×32 colour pictures, the size used by the MLPerf Tiny benchmark (github.com/mlcommons/tiny).

As there, convolutions have a bias besides their batch norm and shortcuts have no batch norm; strided convolutions pad by 1
on both sides, as torch models do, where the original pads only after.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.shortcut = nn.Conv2d(inputs, channels, 1, stride=stride) if stride != 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both ways, after relu."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(nn.Module):
    """A stem, three blocks of 16, 32 and 64 channels, global average, classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.block1 = Block(16, 16, stride=1)
        self.block2 = Block(16, 32, stride=2)
        self.block3 = Block(32, 64, stride=2)
        self.pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score per class."""
        x = self.relu(self.bn(self.conv(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.pool(x).flatten(1))


def build(classes: int = 10, seed: int = 5) -> nn.Module:
    """Make the network."""
    return filled(lambda: ResNet8(classes), example(8), seed)


def example(batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed)),)
