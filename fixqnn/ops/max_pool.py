"""The largest code of every window; padding never wins."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.ops.layout import Shape, check_one_format
from fixqnn.ops.op import Op, Step

Pairs = tuple[tuple[int, int], ...]
Ints = tuple[int, ...]


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
    """Take the larger of two arrays as often as the kernel has positions."""
    y = np.full(shape(x.shape, **step.attributes), step.out_format.low, step.out_format.code_dtype)
    _take_larger(x, y, *(step.attributes[name] for name in ("kernel", "stride", "padding", "dilation")))
    return y


MAX_POOL = Op("max_pool", shape, real, prepare, exact, fast)
