"""Values as rows: one row per sample and position, channels last.

In the fast engine a value is logically (N, C, *spatial), as everywhere, but its memory order is free: sums write channels
last, because their lanes are channels. Rows number outputs in the order of witnesses and of random draws: by sample,
position, channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def rows_of(x: np.ndarray) -> np.ndarray:
    """View (N, C, *S) as C-contiguous rows (N·positions, C); copied only where channels are not last in memory.

    >>> rows_of(np.arange(12).reshape(1, 2, 2, 3))
    array([[ 0,  6],
           [ 1,  7],
           [ 2,  8],
           [ 3,  9],
           [ 4, 10],
           [ 5, 11]])
    """
    if x.ndim == 1:
        return np.ascontiguousarray(x).reshape(-1, 1)
    last = np.ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1))
    return last.reshape(math.prod(last.shape[:-1]), x.shape[1])


def from_rows(rows: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """View rows (N·positions, C) as a logical (N, C, *S) array; `shape` is that logical shape."""
    if len(shape) == 1:
        return rows.reshape(shape)
    return rows.reshape(shape[0], *shape[2:], shape[1]).transpose(0, len(shape) - 1, *range(1, len(shape) - 1))
