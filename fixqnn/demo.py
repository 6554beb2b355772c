"""A small residual network for handwritten digits, trained on the spot, and what several machines make of it.

The pictures are the 1797 digits of 8×8 pixels that come with scikit-learn (test set of the UCI "Optical Recognition of
Handwritten Digits" data), so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[int, int], None]

# A spread of machines: exact sums, narrow sums in two ways, types of an HLS flow, the rules of an int8 runtime.
MACHINES = (
    "ideal",
    "per_operation",
    "systolic(partial=16)",
    "systolic(partial=12)",
    "hls4ml",
    "tflite",
)
CLOSE_UP = "systolic(partial=12)"


@dataclass(frozen=True)
class Digits:
    """Pictures (N, 1, 8, 8) in [0, 1] and their labels: two thirds to train, one third to test."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits(seed: int = 0, images: int | None = None) -> Digits:
    """Split the digits, stratified by label and shuffled by `seed`; `images` keeps only so many of each part."""
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise BadInput(
            "the demo reads its pictures from scikit-learn, which is not installed: pip install 'fixqnn[demo]'"
        ) from None
    data = load()
    pictures = (data.images / 16).astype(np.float32)[:, None]
    parts = train_test_split(pictures, data.target, test_size=1 / 3, random_state=seed, stratify=data.target)
    train_images, test_images, train_labels, test_labels = (np.ascontiguousarray(part[:images]) for part in parts)
    return Digits(train_images, train_labels, test_images, test_labels)


def network() -> nn.Module:
    """Make the untrained network: stem, residual block, pooling, a second stage, classifier; ten thousand weights."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.relu1 = nn.ReLU()
            self.relu2 = nn.ReLU()

        def forward(self, x: Any) -> Any:
            y = self.relu1(self.bn1(self.conv1(x)))
            return self.relu2(x + self.bn2(self.conv2(y)))

    class DigitsNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(16)
            self.relu = nn.ReLU()
            self.block = Block(16)
            self.pool = nn.MaxPool2d(2)
            self.conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(32)
            self.relu2 = nn.ReLU()
            self.average = nn.AvgPool2d(4)
            self.classifier = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.block(self.relu(self.bn(self.stem(x)))))
            x = self.average(self.relu2(self.bn2(self.conv(x))))
            return self.classifier(x.flatten(1))

    return DigitsNet()


def train(digits: Digits, epochs: int = 6, seed: int = 0, progress: Progress | None = None) -> nn.Module:
    """Train the network with Adam on batches of 64; the same seed and torch version give the same network.

    Parameters
    ----------
    digits : Digits
        Where to learn from.
    epochs : int
        Passes over the training pictures.
    seed : int
        Seed of first weights and shuffling.
    progress : callable, optional
        ``progress(done, all)`` in epochs.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.
    """
    import torch

    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network()
        batches = max(1, -(-len(images) // 64))
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=max(1, epochs * batches))
        net.train()
        for epoch in range(epochs):
            for batch in torch.randperm(len(images)).chunk(batches):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimiser.step()
                schedule.step()
            if progress is not None:
                progress(epoch + 1, epochs)
    return net.eval()
