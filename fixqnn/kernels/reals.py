"""Arrays of floats to codes in one compiled pass, for formats of few bits; the rest goes the way that `Format` goes.

Why it is exact: the product of a float with the float64 next to 1/scale is off by at most 2**-52 of its size (both round
once). Farther than that from a tie, it rounds as the real quotient does; nearer, the definition decides. Where the scale
is a power of two nothing rounds, and ties are seen as what they are.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from fixqnn.encoding import SCALE_HIGH, SCALE_LOW, SLACK, encode
from fixqnn.format import Format
from fixqnn.kernels.passes import alike, doubtful_reals, encode_reals
from fixqnn.modes import Overflow, Rounding
from fixqnn.rationals import nearest_float

LARGEST = 1 << 24  # codes and zero points up to which all is far below 2^31, and a slack far below one


def encode_and_count(form: Format, values: np.ndarray, name: str = "values") -> tuple[np.ndarray, int]:
    """Encode half to even, saturating, and count the clipped values: ``form.encode_and_count(values, name=name)``.

    Codes come in the format's `narrow_dtype`; the memory order of the values is kept where there is a single scale.
    """
    constants = _constants(form)
    if constants is None or values.dtype not in (np.float32, np.float64):
        return _by_definition(form, values, name)
    form.check_shape(values.shape, name)
    if form.axis is None:
        memory, codes, target = alike(values, form.narrow_dtype)
        x, y = memory.reshape(1, -1), target.reshape(1, -1)
    else:
        moved = np.ascontiguousarray(np.moveaxis(values, form.axis, 0))
        target = np.empty(moved.shape, form.narrow_dtype)
        codes = np.moveaxis(target, 0, form.axis)
        x, y = (a.reshape(form.channels, moved[0].size) for a in (moved, target))
    *columns, slack = constants
    clipped, doubtful, strange = encode_reals(x, *columns, slack, y)
    if strange:
        return _by_definition(form, values, name)  # says which one is not finite
    if doubtful:
        clipped += _decide(form, x, y, columns, slack, doubtful)
    return codes, int(clipped)


def _by_definition(form: Format, values: np.ndarray, name: str) -> tuple[np.ndarray, int]:
    codes, clipped = form.encode_and_count(values, name=name)
    return codes.astype(form.narrow_dtype, copy=False), clipped


def _decide(form: Format, x: np.ndarray, y: np.ndarray, columns: list[np.ndarray], slack: float, doubtful: int) -> int:
    """Encode the doubtful values by the definition; returns how many of them are clipped."""
    rows, places = np.empty((2, doubtful), np.int64)
    doubtful_reals(x, *columns[:3], slack, rows, places)
    clipped = 0
    for row in np.unique(rows):
        where = places[rows == row]
        few, back = np.unique(x[row, where], return_inverse=True)  # as many as there are ties, and their neighbours
        one = form if form.axis is None else form.channel(int(row))
        codes, acted = encode(few, one, Rounding.half_even, Overflow.saturate, 0, 0, "values")
        y[row, where] = codes[back]
        clipped += np.count_nonzero(acted[back])
    return clipped


@lru_cache(maxsize=256)
def _constants(form: Format) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float] | None:
    """What `encode_reals` needs, one row per channel, or None where its argument does not hold."""
    zeros = form.zero_points
    if any(Fraction(z).denominator != 1 for z in zeros) or max(-form.low, form.high, *map(abs, zeros)) > LARGEST:
        return None
    if not SCALE_LOW < min(form.scales) <= max(form.scales) < SCALE_HIGH:
        return None
    inverse = np.array([nearest_float(1 / scale) for scale in form.scales])
    zero = np.array(zeros, np.int64)
    low, high = (np.float64(end) - zero for end in (form.low, form.high))
    slack = 0.0 if form.is_power_of_two else SLACK * (np.maximum(np.abs(low), np.abs(high)).max() + 1)
    return inverse, low, high, zero.astype(np.int32), float(slack)
