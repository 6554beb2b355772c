"""A 1-D convolutional network for motion signals: 6 channels of 128 samples."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled


class DilatedBlock(nn.Module):
    """A residual block whose convolution looks further back without more weights."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding="same", dilation=dilation, bias=False)
        self.bn = nn.BatchNorm1d(channels)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x plus what the block adds."""
        return torch.relu(x + self.mix(torch.relu(self.bn(self.conv(x)))))


class Conv1dNet(nn.Module):
    """A strided stem, three dilated residual blocks, global average, classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(6, 32, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm1d(32)
        self.pool = nn.MaxPool1d(2)
        self.blocks = nn.Sequential(*(DilatedBlock(32, dilation) for dilation in (1, 2, 4)))
        self.head = nn.Linear(32, 64)
        self.head_bn = nn.BatchNorm1d(64)
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score per class."""
        x = self.blocks(self.pool(torch.relu(self.bn(self.stem(x)))))
        x = torch.relu(self.head_bn(self.head(x.mean(dim=2))))
        return self.classifier(x)


def build(classes: int = 6, seed: int = 3) -> nn.Module:
    """Make the network."""
    return filled(lambda: Conv1dNet(classes), example(16), seed)


def example(batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, 6, 128, generator=torch.Generator().manual_seed(seed)),)
