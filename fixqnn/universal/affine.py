"""Networks without hidden layer: whether a function is one rounded affine map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

from fixqnn.universal.grid import Setting

__all__ = ["Affine", "find_affine"]

MOST_STEPS = 3 * 10**8  # weights times inputs
UNLIMITED = 2**62


@dataclass(frozen=True)
class Affine:
    """The function is ``round(Σ wᵢxᵢ + b)``: no hidden layer.

    Attributes
    ----------
    weights : tuple of int
        In units of 1/s.
    bias : int
        In units of 1/s².
    """

    weights: tuple[int, ...]
    bias: int

    def __str__(self) -> str:
        return f"one rounded affine map: weight codes {self.weights}, bias {self.bias} in units of 1/s²"


def find_affine(setting: Setting, target: np.ndarray) -> Affine | bool | None:
    """Find weights and a bias of a rounded affine map; None: there are none; False: too many to try.

    For given weights every input confines the bias to an interval, that of the wanted code's cell.

    Examples
    --------
    >>> find_affine(Setting(2, 1), np.array([-3, -3, -1, 1, 3, 3, 3]))
    Affine(weights=(2,), bias=1)
    >>> find_affine(Setting(2, 1), np.array([0, 1, 0, 0, 0, 0, 0])) is None
    True
    """
    codes = np.array(setting.codes)
    cells = [setting.cell(int(k)) for k in codes]
    low = np.array([-UNLIMITED if first is None else first for first, _ in cells])[target + setting.largest]
    high = np.array([UNLIMITED if last is None else last for _, last in cells])[target + setting.largest]
    dimension, middle = target.ndim, setting.largest
    if setting.has_zero and (found := _fits(setting, [(0,) * dimension], low, high)):
        return found
    likely = []
    for axis in range(dimension):
        line = tuple(slice(None) if other == axis else middle for other in range(dimension))
        likely.append([w for w in setting.weight_codes if _fits(setting, [(w,)], low[line], high[line])])
    tries = np.prod([float(len(some)) for some in likely])
    if tries * target.size > MOST_STEPS:
        return False
    return _fits(setting, product(*likely), low, high)


def _fits(setting: Setting, candidates: Iterable[tuple[int, ...]], low: np.ndarray, high: np.ndarray) -> Affine | None:
    codes, unit, limit = np.array(setting.codes), setting.bias_unit, setting.bias_limit
    for weights in candidates:
        sums = np.zeros(low.shape, np.int64)
        for axis, weight in enumerate(weights):
            sums = sums + weight * codes.reshape([-1 if other == axis else 1 for other in range(low.ndim)])
        least, most = int((low - sums).max()), int((high - sums).min())
        if limit is not None:
            least, most = max(least, -limit), min(most, limit)
        # Of a half-infinite interval any point will do; take the one near zero.
        bias = min(max(0, least), most) // unit * unit
        for choice in (bias, bias + unit):
            if least <= choice <= most:
                return Affine(tuple(map(int, weights)), choice)
    return None
