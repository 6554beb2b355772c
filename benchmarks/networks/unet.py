"""A small U-Net for 64×64 colour pictures (Ronneberger et al., "U-Net", 2015), with padding, so that shapes stay."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled


class TwoConvs(nn.Module):
    """Two 3×3 convolutions with batch norm and relu."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an array of the same height and width."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)))


class UNet(nn.Module):
    """Down by max pooling, up by transposed convolution, with the way down joined to the way up."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.down1 = TwoConvs(3, channels)
        self.down2 = TwoConvs(channels, 2 * channels)
        self.bottom = TwoConvs(2 * channels, 4 * channels)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * channels, 2 * channels, 2, stride=2)
        self.join2 = TwoConvs(4 * channels, 2 * channels)
        self.up1 = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.join1 = TwoConvs(2 * channels, channels)
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score per class and pixel."""
        fine = self.down1(x)
        coarse = self.down2(self.pool(fine))
        y = self.bottom(self.pool(coarse))
        y = self.join2(torch.cat([self.up2(y), coarse], dim=1))
        y = self.join1(torch.cat([self.up1(y), fine], dim=1))
        return self.head(y)


def build(classes: int = 3, channels: int = 16, seed: int = 8) -> nn.Module:
    """Make the network."""
    return filled(lambda: UNet(classes, channels), example(2), seed)


def example(batch: int = 2, size: int = 64, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)),)
