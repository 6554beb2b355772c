"""The largest code of every window; padding never wins."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.kernels import pool
from fixqnn.kernels.passes import largest
from fixqnn.kernels.rows import from_rows, rows_of
from fixqnn.ops.layout import Shape, check_one_format
from fixqnn.ops.op import Op, Step

Pairs = tuple[tuple[int, int], ...]
Ints = tuple[int, ...]
PIECE = 1 << 20  # codes of the input worth a thread


def shape(x: Shape, *, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Shape:
    """(N, C, *spatial) with one length per window; every window must reach inside the input."""
    rank = len(x) - 2
    if not 1 <= rank <= 3 or any(len(v) != rank for v in (kernel, stride, padding, dilation)):
        raise BadInput(
            f"max_pool of {x}: kernel {kernel}, stride {stride}, padding {padding} and dilation {dilation} need one "
            f"entry for each of 1 to 3 spatial axes"
        )
    if min(*kernel, *stride, *dilation) < 1 or any(n < 0 for pair in padding for n in pair):
        raise BadInput(
            f"max_pool: kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1, "
            f"padding {padding} at least 0"
        )
    lengths = []
    for n, k, s, (before, after), d in zip(x[2:], kernel, stride, padding, dilation, strict=True):
        length = (n + before + after - d * (k - 1) - 1) // s + 1
        if length < 1:
            raise BadInput(f"max_pool of {x}: kernel {kernel}, dilation {dilation} does not fit padding {padding}")
        if any(not any(0 <= i * s - before + j * d < n for j in range(k)) for i in range(length)):
            raise BadInput(f"max_pool of {x}: with padding {padding}, a window of {kernel} holds nothing else")
        lengths.append(length)
    return (*x[:2], *lengths)


def real(x: np.ndarray, *, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> np.ndarray:
    """Largest number of every window."""
    out = shape(x.shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    y = np.full(out, -np.inf)
    _take_larger(x, y, kernel, stride, padding, dilation)
    return y


def _take_larger(x: np.ndarray, y: np.ndarray, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> None:
    """Raise y to the largest number of its window, one kernel position after another, over all windows at once."""
    for offsets in itertools.product(*map(range, kernel)):
        into: list[slice] = [slice(None)] * 2
        source: list[slice] = [slice(None)] * 2
        axes = zip(offsets, x.shape[2:], y.shape[2:], stride, padding, dilation, strict=True)
        for offset, n, m, s, (before, _), d in axes:
            at = offset * d - before  # output i reads input i·s + at
            first = max(0, -(at // s))
            last = min(m, (n - 1 - at) // s + 1)
            into.append(slice(first, max(first, last)))
            source.append(slice(first * s + at, max(first * s + at, (last - 1) * s + at + 1), s))
        part = y[tuple(into)]
        np.maximum(part, x[tuple(source)], out=part)


def prepare(step: Step) -> dict[str, Any]:
    """Nothing; formats must agree."""
    check_one_format(step)
    return {}


def exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Gather the codes of one window after another, and take the largest."""
    kernel, stride, padding, dilation = (step.attributes[name] for name in ("kernel", "stride", "padding", "dilation"))
    y = np.empty(shape(x.shape, **step.attributes), object)
    for place in np.ndindex(*y.shape):
        window = []
        for offsets in itertools.product(*map(range, kernel)):
            source = tuple(
                i * s - before + j * d
                for i, s, (before, _), j, d in zip(place[2:], stride, padding, offsets, dilation, strict=True)
            )
            if all(0 <= i < n for i, n in zip(source, x.shape[2:], strict=True)):
                window.append(int(x[place[:2] + source]))
        y[place] = max(window)
    return y


def fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Compare whole lines of codes, in their own type; channels stay last in memory, or first, as they are."""
    out = (x.shape[0], *step.shapes[step.output][1:])
    if x.dtype.hasobject:
        y = np.full_like(x, step.out_format.low, shape=out)
        _take_larger(x, y, *(step.attributes[name] for name in ("kernel", "stride", "padding", "dilation")))
        return y
    if x.flags.c_contiguous:  # channels pool apart from each other: they may be samples of one channel each
        y = memory = np.empty(out, x.dtype)
        samples, channels = x.shape[0] * x.shape[1], 1
    else:
        memory = np.empty((math.prod((out[0], *out[2:])), out[1]), x.dtype)
        y = from_rows(memory, out)
        x, samples, channels = rows_of(x), *x.shape[:2]
    known = step.cache.setdefault("windows", {})
    if channels not in known:
        known[channels] = Windows.of(step, channels)
    windows = known[channels]
    x, memory = x.reshape(samples, *windows.size), memory.reshape(samples, *windows.places)
    least = PIECE // math.prod(windows.size) + 1
    pool.split(lambda start, stop: windows.largest(x[start:stop], memory[start:stop]), samples, least, run.threads)
    return y


@dataclass(frozen=True)
class Windows:
    """Where the windows of a step lie, in the words of the kernel `largest`."""

    size: tuple[int, int, int]  # depth, row, and column times channel, of the input
    places: tuple[int, int, int]  # the same of the output
    depths: np.ndarray
    rows: np.ndarray
    taps: np.ndarray
    pitch: np.ndarray
    line: int
    wide: int

    @classmethod
    def of(cls, step: Step, channels: int) -> Windows:
        """Windows on memory whose last axis is the channel."""
        size, places = (_three(step.shapes[name][2:], 1) for name in (step.inputs[0], step.output))
        neutral = {"kernel": 1, "stride": 1, "padding": (0, 0), "dilation": 1}
        kernel, stride, padding, dilation = (_three(step.attributes[name], one) for name, one in neutral.items())
        first_two = [
            _seen(*axis)
            for axis in itertools.islice(zip(size, places, kernel, stride, padding, dilation, strict=True), 2)
        ]
        before, wide = padding[2][0], (places[2] - 1) * stride[2] + 1
        line = max(before + size[2], wide + (kernel[2] - 1) * dilation[2])
        return cls(
            (*size[:2], size[2] * channels), (*places[:2], places[2] * channels), *first_two,
            np.arange(kernel[2]) * (dilation[2] * channels),
            np.array([before * channels, channels, stride[2] * channels]), line * channels, wide * channels,
        )  # fmt: skip

    def largest(self, x: np.ndarray, y: np.ndarray) -> None:
        """Fill y; scratch is new in every call, as several threads may run a step at once."""
        line, wide = np.full(self.line, np.iinfo(x.dtype).min, x.dtype), np.empty(self.wide, x.dtype)
        largest(x, self.depths, self.rows, self.taps, self.pitch, line, wide, y)


def _three(values: tuple[Any, ...], neutral: Any) -> tuple[Any, ...]:
    """Say of depth, row and column what is said of the last one to three of them."""
    return (*[neutral] * (3 - len(values)), *values)


def _seen(n: int, m: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> np.ndarray:
    """(first, end, step) of the inputs that each of m outputs sees along an axis."""
    at = np.arange(m) * stride - padding[0]
    skipped = np.maximum(0, -(at // dilation))  # taps that lie before the input
    return np.stack([at + skipped * dilation, np.minimum(n, at + kernel * dilation), np.full(m, dilation)], axis=1)


MAX_POOL = Op("max_pool", shape, real, prepare, exact, fast)
