"""Which codes meet: a sum of products as rows of terms, in the datapath's order.

Every sum of products is brought to one shape: an input (samples, channels, depth, row, column), weights
(groups, outputs, channels, depth, row, column), and a window that walks over the input. A linear layer has a window of
one; an average pool has as many groups as channels and weights of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fixqnn.arith.fast import kernel

SPATIAL = ("depth", "row", "column")


@dataclass(frozen=True)
class Window:
    """How a window of weights walks over an input; three spatial axes, unused ones of length one.

    Attributes
    ----------
    size : tuple of int
        Input lengths (depth, row, column).
    kernel, stride, dilation, before : tuple of int
        Window lengths, steps, spacing, and padding in front, per spatial axis.
    out : tuple of int
        Output lengths.
    channels : int
        Input channels that meet in one sum.
    groups, outputs : int
        Groups, and output channels per group.
    rank : int
        How many spatial axes the operation has; the last ones.
    transposed : bool
        Whether the input steps by `stride` under the output (transposed convolution).
    """

    size: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    before: tuple[int, int, int]
    out: tuple[int, int, int]
    channels: int
    groups: int
    outputs: int
    rank: int
    transposed: bool = False

    @property
    def positions(self) -> int:
        """Output positions per sample and channel."""
        return int(np.prod(self.out))

    @property
    def terms(self) -> int:
        """Terms of one sum, padding included."""
        return self.channels * int(np.prod(self.kernel))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Length of every reduction axis, by name."""
        axes = dict(zip(SPATIAL, self.kernel, strict=True))
        used = {name: axes[name] for name in SPATIAL[3 - self.rank :]}
        return {**used, "channel": self.channels}

    def walk(self, order: Sequence[str]) -> np.ndarray:
        """Channel and kernel coordinates of every term, in `order` (the fastest axis last): int64 (4, terms)."""
        axes = [axis for axis in order if axis in self.sizes]
        axes += [axis for axis in self.sizes if axis not in axes]  # of length one, or bind_sum refused
        grid = np.indices([self.sizes[axis] for axis in axes]).reshape(len(axes), -1)
        where = dict(zip(axes, grid, strict=True))
        none = np.zeros(self.terms, np.int64)
        return np.stack([where.get(axis, none) for axis in ("channel", *SPATIAL)]).astype(np.int64)

    @cached_property
    def integers(self) -> np.ndarray:
        """The window as one int64 array, for the compiled gather."""
        rows = (self.size, self.kernel, self.stride, self.dilation, self.before, self.out)
        return np.array([*np.ravel(rows), int(self.transposed)], np.int64)


def window_of(
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    before: Sequence[int],
    out: Sequence[int],
    channels: int,
    groups: int,
    outputs: int,
    transposed: bool = False,
) -> Window:
    """Make a Window from the spatial lengths of an operation with one to three spatial axes."""

    def three(values: Sequence[int], fill: int) -> tuple[int, int, int]:
        return (*[fill] * (3 - len(values)), *map(int, values))  # type: ignore[return-value]

    return Window(
        three(shape, 1), three(kernel, 1), three(stride, 1), three(dilation, 1), three(before, 0), three(out, 1),
        int(channels), int(groups), int(outputs), len(shape), transposed,
    )  # fmt: skip


@kernel
def gather_rows(x, window, walk, group, channels, position, scale, offset, padding, rows):
    """rows[r, k] = the operand that term k meets at output position `position + r` of one sample, or `padding`."""
    size_d, size_h, size_w = window[0], window[1], window[2]
    out_h, out_w = window[16], window[17]
    for r in range(rows.shape[0]):
        p = position + r
        ow = p % out_w
        oh = p // out_w % out_h
        od = p // (out_w * out_h)
        for k in range(rows.shape[1]):
            d = input_place(od, walk[1, k], window, 0)
            h = input_place(oh, walk[2, k], window, 1)
            w = input_place(ow, walk[3, k], window, 2)
            if (d >= 0) & (d < size_d) & (h >= 0) & (h < size_h) & (w >= 0) & (w < size_w):
                rows[r, k] = scale * x[group * channels + walk[0, k], d, h, w] - offset
            else:
                rows[r, k] = padding


@kernel
def gather_columns(x, window, walk, group, channels, position, scale, offset, padding, columns):
    """columns[k, p] = the operand that term k meets at output position `position + p` of one sample, or `padding`."""
    size_d, size_h, size_w = window[0], window[1], window[2]
    out_h, out_w = window[16], window[17]
    for k in range(columns.shape[0]):
        image = x[group * channels + walk[0, k]]
        target = columns[k]
        p = 0
        while p < target.size:
            q = position + p
            ow = q % out_w
            d = input_place(q // (out_w * out_h), walk[1, k], window, 0)
            h = input_place(q // out_w % out_h, walk[2, k], window, 1)
            run = min(out_w - ow, target.size - p)
            if (d >= 0) & (d < size_d) & (h >= 0) & (h < size_h):
                line = image[d, h]
                for i in range(run):
                    w = input_place(ow + i, walk[3, k], window, 2)
                    target[p + i] = scale * line[w] - offset if (w >= 0) & (w < size_w) else padding
            else:
                for i in range(run):
                    target[p + i] = padding
            p += run


@kernel
def input_place(out, tap, window, axis):
    """Where an output place and a tap meet the input along an axis; −1 between the inputs of a transposed window."""
    stride, step, before = window[6 + axis], window[9 + axis], window[12 + axis]
    if window[18]:
        place = out + before - tap * step
        return place // stride if place % stride == 0 else -1
    return out * stride - before + tap * step
