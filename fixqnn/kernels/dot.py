"""Exact sums by float32 and float64 products of torch: allowed only where a bound proves that nothing is rounded.

If Σ|w|·max|x| stays within 2^24 (float32) or 2^53 (float64), every intermediate value of every blocking is an integer that
the type holds exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from fixqnn.kernels.window import Window

FLOAT32_BOUND = 1 << 24
FLOAT64_BOUND = 1 << 53


@contextmanager
def plain_floats() -> Iterator[Any]:
    """Run torch without autocast, gradients or reduced-precision products; the user's settings come back afterwards."""
    import torch

    precision = torch.get_float32_matmul_precision()
    try:
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            yield torch
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)


@functools.cache
def self_test() -> bool:
    """Whether float32 convolutions of this torch are exact at the edge of the bound; asked once per process.

    Guards against transforms (Winograd) and reduced precisions that a backend might choose by itself.
    """
    random = np.random.default_rng(7)
    x = random.choice([-128, 127, 255, 1], (2, 32, 9, 9)).astype(np.float32)
    w = random.choice([-127, 127, -1, 3], (33, 32, 3, 3)).astype(np.float32)
    with plain_floats() as torch:
        found = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1).numpy()
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return bool(np.array_equal(found, np.einsum("nchwij,ocij->nohw", windows, w.astype(np.int64))))


class FloatSum:
    """A sum of products of whole numbers held in floats, input channels in blocks whose sums the floats hold exactly.

    Parameters
    ----------
    window : Window
        How weights walk over the input.
    w : ndarray
        Weight operands (groups, outputs, channels, d, h, w), whole numbers.
    bias : sequence of int, optional
        Added once per output.
    largest : int
        No input operand passes this magnitude.
    padding : int
        The operand that padding contributes.
    """

    def __init__(self, window: Window, w: np.ndarray, bias: Sequence[int] | None, largest: int, padding: int) -> None:
        self.window, self.padding = window, padding
        weight = np.abs(w).sum(axis=(3, 4, 5)).astype(object) * largest  # (groups, outputs, channels)
        extra = max(map(abs, bias), default=0) if bias is not None else 0
        channels = self._blocks(weight, extra)
        self.dtype = np.dtype(np.float32 if channels else np.float64)
        self.blocks = []
        for i, part in enumerate(channels or [slice(0, window.channels)]):
            first = None if bias is None or i else np.array(bias, self.dtype)
            self.blocks.append((part, np.ascontiguousarray(w[:, :, part], self.dtype), first))

    def _blocks(self, weight: np.ndarray, extra: int) -> list[slice]:
        """Cut the input channels so that float32 holds the sums of every block; empty if more than eight are needed."""
        channels = self.window.channels
        for count in (1, 2, 3, 4, 6, 8) if self.window.groups == 1 else (1,):
            if count > channels:
                break
            edges = [channels * i // count for i in range(count + 1)]
            slices = [slice(a, b) for a, b in pairwise(edges)]
            if all(int(weight[:, :, s].sum(axis=2).max()) + extra <= FLOAT32_BOUND for s in slices):
                return slices
        return []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Sum operands (samples, channels, d, h, w) of type `dtype` to (samples, outputs, positions)."""
        with plain_floats() as torch:
            if len(self.blocks) == 1:
                _, w, bias = self.blocks[0]
                return _sum(torch, x, w, bias, self.window, self.padding)
            total = None
            for channels, w, bias in self.blocks:
                part = replace(self.window, channels=channels.stop - channels.start)
                piece = _sum(torch, np.ascontiguousarray(x[:, channels]), w, bias, part, self.padding)
                total = piece.astype(np.float64) if total is None else np.add(total, piece, out=total)
            return total


def _sum(
    torch: Any, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, window: Window, padding: float
) -> np.ndarray:
    functional = torch.nn.functional
    samples, rank = x.shape[0], max(window.rank, 1)
    outputs = window.groups * window.outputs
    b = None if bias is None else torch.from_numpy(bias)
    if (
        window.kernel == window.stride == window.dilation == (1, 1, 1)
        and window.out == window.size
        and window.groups == 1
    ):
        matrix = torch.from_numpy(w.reshape(outputs, -1))
        flat = torch.from_numpy(x.reshape(samples, x.shape[1], -1))
        if window.positions == 1:
            return functional.linear(flat[:, :, 0], matrix, b).numpy()[:, :, None]
        total = torch.matmul(matrix, flat)
        return (total if b is None else total.add_(b[:, None])).numpy()
    used = slice(3 - rank, 3)
    kernel, stride, dilation = window.kernel[used], window.stride[used], window.dilation[used]
    before, out = window.before[used], window.out[used]
    data = torch.from_numpy(x.reshape(samples, x.shape[1], *x.shape[5 - rank :]))
    if window.transposed:
        size = window.size[used]
        extra = [
            o - ((n - 1) * s - 2 * p + d * (k - 1) + 1)
            for o, n, s, p, d, k in zip(out, size, stride, before, dilation, kernel, strict=True)
        ]
        weights = torch.from_numpy(np.ascontiguousarray(w.swapaxes(1, 2)).reshape(-1, window.outputs, *kernel))
        call = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
        total = call(data, weights, b, stride, before, extra, window.groups, dilation)
    else:
        reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, stride, dilation, kernel, strict=True)]
        after = [r - n - p for r, n, p in zip(reach, window.size[used], before, strict=True)]
        even = all((n + 2 * p - d * (k - 1) - 1) // s + 1 == o for n, p, d, k, s, o in zip(
            window.size[used], before, dilation, kernel, stride, out, strict=True))  # fmt: skip
        if padding or not even:
            pairs = [side for p, a in zip(reversed(before), reversed(after), strict=True) for side in (p, a)]
            data = functional.pad(data, pairs, value=float(padding))  # a negative `after` crops what no window reaches
            before = (0,) * rank
        weights = torch.from_numpy(w.reshape(outputs, window.channels, *kernel))
        call = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
        total = call(data, weights, b, stride, before, dilation, window.groups)
    return total.contiguous().numpy().reshape(samples, outputs, window.positions)
