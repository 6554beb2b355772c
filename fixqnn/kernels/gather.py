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
        axes = {name: k for name, k in zip(SPATIAL, self.kernel, strict=True)}
        used = {name: axes[name] for name in SPATIAL[3 - self.rank:]}
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
def gather_rows(x, window, walk, group, channels, position, scale, offset, padding, rows):  # noqa: ANN001, ANN201
    # rows[r, k] = the operand that term k meets at output position `position + r` of one sample, or `padding`
    size_d, size_h, size_w = window[0], window[1], window[2]
    stride_d, stride_h, stride_w = window[6], window[7], window[8]
    step_d, step_h, step_w = window[9], window[10], window[11]
    before_d, before_h, before_w = window[12], window[13], window[14]
    out_h, out_w = window[16], window[17]
    transposed = window[18]
    for r in range(rows.shape[0]):
        p = position + r
        ow = p % out_w
        oh = p // out_w % out_h
        od = p // (out_w * out_h)
        for k in range(rows.shape[1]):
            if transposed:
                d = od + before_d - walk[1, k] * step_d
                h = oh + before_h - walk[2, k] * step_h
                w = ow + before_w - walk[3, k] * step_w
                on_grid = (d % stride_d == 0) & (h % stride_h == 0) & (w % stride_w == 0)
                d, h, w = d // stride_d, h // stride_h, w // stride_w
            else:
                on_grid = True
                d = od * stride_d - before_d + walk[1, k] * step_d
                h = oh * stride_h - before_h + walk[2, k] * step_h
                w = ow * stride_w - before_w + walk[3, k] * step_w
            inside = (d >= 0) & (d < size_d) & (h >= 0) & (h < size_h) & (w >= 0) & (w < size_w) & on_grid
            if inside:
                rows[r, k] = scale * x[group * channels + walk[0, k], d, h, w] - offset
            else:
                rows[r, k] = padding
