"""DS-CNN: keyword spotting on 49 frames of 10 coefficients, the shape used by the MLPerf Tiny benchmark.

Zhang et al., "Hello Edge: keyword spotting on microcontrollers", 2017; layer sizes as in the MLPerf Tiny reference
(github.com/mlcommons/tiny). The first convolution there pads as TensorFlow's "same" does, more after than before: hence
the pad.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled


class SeparableConv(nn.Module):
    """A depthwise and a pointwise convolution, each with batch norm and relu."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an array of the same shape."""
        x = torch.relu(self.bn1(self.depthwise(x)))
        return torch.relu(self.bn2(self.pointwise(x)))


class DsCnn(nn.Module):
    """A strided convolution, four separable ones, global average, classifier."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 1, 4, 5))
        self.conv = nn.Conv2d(1, channels, (10, 4), stride=2)
        self.bn = nn.BatchNorm2d(channels)
        self.dropout1 = nn.Dropout(0.2)
        self.blocks = nn.Sequential(*(SeparableConv(channels) for _ in range(4)))
        self.dropout2 = nn.Dropout(0.4)
        self.pool = nn.AvgPool2d((25, 5))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score per keyword."""
        x = self.dropout1(torch.relu(self.bn(self.conv(self.pad(x)))))
        x = self.pool(self.dropout2(self.blocks(x)))
        return self.classifier(torch.flatten(x, 1))


def build(classes: int = 12, channels: int = 64, seed: int = 4) -> nn.Module:
    """Make the network."""
    return filled(lambda: DsCnn(classes, channels), example(8), seed)


def example(batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, 1, 49, 10, generator=torch.Generator().manual_seed(seed)),)
