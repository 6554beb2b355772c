"""Which codes meet: a sum of products as terms in the datapath's order, and where their operands lie in memory.

Every sum of products is brought to one shape: an input (samples, channels, depth, row, column), weights
(groups, outputs, channels, depth, row, column), and a window that walks over the input. A linear layer has a window of
one; an average pool has as many groups as channels and weights of one.

Operands are laid out once per run with their padding, channels last: (depth, row, column, channel) for every sample. Then
term k of the output at position p stands at ``offsets[p] + steps[k]``, whatever the stride, the dilation and the order of
terms: no matrix of windows is ever built. Under a transposed window the inputs stand `stride` apart, with padding between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

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

    @cached_property
    def positions(self) -> int:
        """Output positions per sample and channel."""
        return math.prod(self.out)

    @cached_property
    def terms(self) -> int:
        """Terms of one sum, padding included."""
        return self.channels * math.prod(self.kernel)

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

    # -- where operands lie ----------------------------------------------------------------------------------------------

    @cached_property
    def apart(self) -> tuple[int, int, int]:
        """How far apart neighbouring inputs lie, per spatial axis."""
        return self.stride if self.transposed else (1, 1, 1)

    @cached_property
    def lead(self) -> tuple[int, int, int]:
        """Where the first input lies, per spatial axis; negative where the window never reaches it."""
        reach = zip(self.kernel, self.dilation, self.before, strict=True)
        return tuple((k - 1) * d - b for k, d, b in reach) if self.transposed else self.before  # type: ignore[return-value]

    @cached_property
    def padded(self) -> tuple[int, int, int]:
        """Lengths with padding, as far as any window reaches."""
        steps = (1, 1, 1) if self.transposed else self.stride
        return tuple(  # type: ignore[return-value]
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(self.out, steps, self.kernel, self.dilation, strict=True)
        )

    @cached_property
    def geometry(self) -> np.ndarray:
        """`lead`, `apart` and channels, for the compiled layout, which takes columns and channels together."""
        channels, (depth, row, column) = self.channels * self.groups, self.lead
        return np.array([depth, row, column * channels, *self.apart, channels], np.int64)

    @cached_property
    def bare(self) -> bool:
        """Whether operands lie as the inputs do: nothing is padded, cut off or spread."""
        return self.padded == self.size and self.lead == (0, 0, 0) and self.apart == (1, 1, 1)

    @cached_property
    def volume(self) -> int:
        """Operands of one sample, all groups' channels and padding included."""
        return math.prod(self.padded) * self.channels * self.groups

    @cached_property
    def _pitch(self) -> np.ndarray:
        """Distance of neighbours along depth, row and column."""
        _, h, w = self.padded
        return np.array([h * w, w, 1], np.int64) * (self.channels * self.groups)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Place of every output position's first operand."""
        steps = (1, 1, 1) if self.transposed else self.stride
        return np.tensordot(self._pitch * np.array(steps), np.indices(self.out).reshape(3, -1), 1)

    def steps(self, order: Sequence[str]) -> np.ndarray:
        """Place of every term's operand beyond the position's, in `order`."""
        channel, *taps = self.walk(order)
        if self.transposed:
            taps = [k - 1 - t for k, t in zip(self.kernel, taps, strict=True)]
        spread = np.array(self.dilation)[:, None] * np.stack(taps)
        return channel + np.tensordot(self._pitch, spread, 1)


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
