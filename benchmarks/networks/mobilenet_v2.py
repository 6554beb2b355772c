"""MobileNetV2 for 224×224 pictures (Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018).

Parameters carry the names of the usual published weights (features.0.0 … classifier.1), so such a file
loads as it is.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled

# Table 2 of the paper: how much wider inside, channels out, how often, stride of the first
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def conv_bn_relu6(inputs: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Make a convolution with batch norm and relu6."""
    conv = nn.Conv2d(inputs, channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Widen by a 1×1 convolution, filter each channel, narrow again; add the input where shapes allow."""

    def __init__(self, inputs: int, channels: int, stride: int, widen: int) -> None:
        super().__init__()
        hidden = inputs * widen
        layers: list[nn.Module] = [] if widen == 1 else [conv_bn_relu6(inputs, hidden, 1)]
        layers += [conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden)]
        layers += [nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the narrow result, with x added where shapes allow."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """A strided stem, seventeen inverted residuals, a wide 1×1 convolution, global average, classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn_relu6(3, 32, 3, stride=2)]
        inputs = 32
        for widen, channels, repeats, stride in STAGES:
            for i in range(repeats):
                layers.append(InvertedResidual(inputs, channels, stride if i == 0 else 1, widen))
                inputs = channels
        layers.append(conv_bn_relu6(inputs, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score per class."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def build(classes: int = 1000, seed: int = 7) -> nn.Module:
    """Make the network."""
    return filled(lambda: MobileNetV2(classes), example(2), seed)


def example(batch: int = 2, size: int = 224, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)),)
