"""LeNet-5 for 32×32 grey pictures (LeCun et al., "Gradient-based learning applied to document recognition", 1998).

Average pooling without its trainable factor, tanh unscaled, a linear last layer.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled


class LeNet(nn.Module):
    """Two convolutions with tanh and average pooling, then three linear layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.pool = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score per class."""
        x = self.pool(torch.tanh(self.conv1(x)))
        x = self.pool(torch.tanh(self.conv2(x)))
        x = torch.tanh(self.conv3(x)).flatten(1)
        return self.fc2(torch.tanh(self.fc1(x)))


def build(classes: int = 10, seed: int = 2) -> nn.Module:
    """Make the network."""
    return filled(lambda: LeNet(classes), example(8), seed)


def example(batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, 1, 32, 32, generator=torch.Generator().manual_seed(seed)),)
