"""Nearest upsampling by whole factors: every code is repeated."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.ops.layout import Shape, check_one_format
from fixqnn.ops.op import Op, Step


def shape(x: Shape, *, factor: tuple[int, ...]) -> Shape:
    """(N, C, *spatial) with every spatial length times its factor."""
    if len(x) != len(factor) + 2 or any(f < 1 for f in factor):
        raise BadInput(f"resize of {x} by {factor}: needs one whole factor of at least 1 per spatial axis")
    return (*x[:2], *(n * f for n, f in zip(x[2:], factor, strict=True)))


def real(x: np.ndarray, *, factor: tuple[int, ...]) -> np.ndarray:
    """Repeat every number along the spatial axes; memory order is kept."""
    if x.flags.c_contiguous:
        for axis, times in enumerate(factor, start=2):
            x = np.repeat(x, times, axis=axis)
        return x
    y = np.empty_like(x, shape=shape(x.shape, factor=factor))
    # Every spatial axis as a pair (place, repetition): splitting an axis never copies.
    pairs = [n for pair in zip(x.shape[2:], factor, strict=True) for n in pair]
    y.reshape(*x.shape[:2], *pairs)[...] = np.expand_dims(x, tuple(range(3, 3 + 2 * len(factor), 2)))
    return y


def prepare(step: Step) -> dict[str, Any]:
    """Nothing; formats must agree."""
    check_one_format(step)
    return {}


def exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Fetch, for every output, the input at the index divided by the factor."""
    factor = (1, 1, *step.attributes["factor"])
    out = np.empty(tuple(n * f for n, f in zip(x.shape, factor, strict=True)), object)
    for place in np.ndindex(*out.shape):
        out[place] = int(x[tuple(i // f for i, f in zip(place, factor, strict=True))])
    return out


def fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Repeat codes."""
    return real(x, factor=step.attributes["factor"])


RESIZE = Op("resize", shape, real, prepare, exact, fast)
