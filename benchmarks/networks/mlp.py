"""A multilayer perceptron for 28×28 digits."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.networks.fill import filled


def build(inputs: int = 784, hidden: tuple[int, ...] = (256, 128), classes: int = 10, seed: int = 1) -> nn.Module:
    """Make the network: linear layers with relu between them."""

    def make() -> nn.Module:
        sizes = (inputs, *hidden)
        layers: list[nn.Module] = []
        for size, following in zip(sizes, hidden, strict=False):
            layers += [nn.Linear(size, following), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    return filled(make, (torch.zeros(64, inputs),), seed)


def example(batch: int = 2, inputs: int = 784, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Make inputs: noise of the right shape, the same for the same seed."""
    return (torch.randn(batch, inputs, generator=torch.Generator().manual_seed(seed)),)
