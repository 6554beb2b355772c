"""Passes over codes that sum nothing: tables, largest of windows, reals to codes. Memory order is kept.

Every loop works on memory as it lies, in the codes' own type: a code of 8 bits costs a byte, and lanes are as many as fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.arith.fast import kernel

# Adding and taking away 1.5 · 2^52 rounds any float64 below 2^51 in size half to even: beyond 2^52 only integers are left.
WHOLE = 1.5 * 2.0**52


def alike(x: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The memory of x in one row, a new array in the same memory order, and that one's memory in one row.

    >>> x, y, memory = alike(np.arange(6).reshape(2, 3).T, np.int8)
    >>> x, y.shape, y.strides, memory.shape
    (array([0, 1, 2, 3, 4, 5]), (3, 2), (1, 3), (6,))
    """
    if x.flags.c_contiguous:
        y = np.empty(x.shape, dtype)
        return x.reshape(-1), y, y.reshape(-1)
    y = np.empty_like(x, dtype=dtype)
    if x.strides != y.strides and not _equally_dense(x, y):
        x = x.copy(order="K")  # gaps, repeats or backward strides: closed up, in the order that y has
    return x.ravel(order="K"), y, y.ravel(order="K")


def _equally_dense(x: np.ndarray, y: np.ndarray) -> bool:
    places = zip(x.shape, x.strides, y.strides, strict=True)
    return all(n == 1 or a * y.itemsize == b * x.itemsize for n, a, b in places)


def unsigned(codes: np.ndarray) -> np.ndarray:
    """View codes as unsigned numbers: two's complement, modulo the type's width, where a table's mask cuts them."""
    return codes.view(np.dtype(f"u{codes.itemsize}"))


@kernel
def look_up(codes, table, mask, y):
    """Read the entry of every code; `codes` are unsigned, so that no index can be negative."""
    for i in range(codes.size):
        y[i] = table[codes[i] & mask]


@kernel
def count_flags(codes, flags, mask, below, above):
    """Count, per channel, reads of entries that are flagged −1 and +1; codes are rows (rows, channels), unsigned."""
    for r in range(codes.shape[0]):
        row = codes[r]
        for c in range(row.size):
            flag = flags[row[c] & mask]
            below[c] += flag < 0
            above[c] += flag > 0


@kernel
def first_flag(codes, flags, mask):
    """Row and channel of the first read of a flagged entry; (−1, −1) if there is none."""
    for r in range(codes.shape[0]):
        for c in range(codes.shape[1]):
            if flags[codes[r, c] & mask] != 0:
                return r, c
    return -1, -1


@kernel
def largest(x, depths, rows, taps, pitch, line, wide, y):
    """Largest code of every window: x is (samples, depth, row, column·channel), y likewise.

    First along depth and rows, a whole line of columns and channels at a time, then along the line. `depths` and `rows`
    hold (first, end, step) of the inputs that each output sees; `taps` says how far apart the columns of a window lie in
    `line`, whose ends were filled with the lowest code and are not written; `pitch` is (start of the inputs in `line`,
    channels, distance of two outputs in `wide`). `wide` is scratch.
    """
    start, channels, step = np.uint64(pitch[0]), np.uint64(pitch[1]), np.uint64(pitch[2])
    middle = line[start : start + np.uint64(x.shape[3])]
    for n in range(y.shape[0]):
        for d in range(y.shape[1]):
            for h in range(y.shape[2]):
                other = x[n, depths[d, 0], rows[h, 0]]
                for c in range(middle.size):
                    middle[c] = other[c]
                for i in range(depths[d, 0], depths[d, 1], depths[d, 2]):
                    for j in range(rows[h, 0], rows[h, 1], rows[h, 2]):
                        if i > depths[d, 0] or j > rows[h, 0]:
                            other = x[n, i, j]
                            for c in range(middle.size):
                                middle[c] = max(middle[c], other[c])
                for c in range(wide.size):
                    wide[c] = line[c]
                for k in range(1, taps.size):
                    other = line[taps[k] : taps[k] + wide.size]
                    for c in range(wide.size):
                        wide[c] = max(wide[c], other[c])
                out = y[n, d, h]
                a, b = np.uint64(0), np.uint64(0)
                while a < out.size:
                    for c in range(channels):
                        out[a + c] = wide[b + c]
                    a += channels
                    b += step


@kernel
def encode_reals(x, inverse, low, high, zero, slack, y):
    """Codes round(x·inverse) + zero clipped to [low, high] + zero, by row; returns (clipped, doubtful, not finite).

    `inverse` is the float64 next to 1/scale. A quotient nearer than `slack` to a tie is doubtful: its code is not to be
    trusted, nor is it counted among the clipped ones.
    """
    clipped, doubtful, strange = 0, 0, 0
    for r in range(x.shape[0]):
        row, out = x[r], y[r]
        factor, first, last, origin = inverse[r], low[r], high[r], zero[r]
        for i in range(row.size):
            v = np.float64(row[i])
            strange += not (abs(v) < np.inf)
            q = min(max(v * factor, first - 1.0), last + 1.0)
            whole = (q + WHOLE) - WHOLE
            doubt = abs(abs(q - whole) - 0.5) < slack
            doubtful += doubt
            clipped += ((whole < first) | (whole > last)) & (not doubt)
            out[i] = np.int32(min(max(whole, first), last)) + origin
    return clipped, doubtful, strange


@kernel
def doubtful_reals(x, inverse, low, high, slack, rows, places):
    """Row and place within it of the values that `encode_reals` counted as doubtful, by the same arithmetic."""
    found = 0
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            q = min(max(np.float64(x[r, i]) * inverse[r], low[r] - 1.0), high[r] + 1.0)
            if abs(abs(q - ((q + WHOLE) - WHOLE)) - 0.5) < slack and found < places.size:
                rows[found], places[found] = r, i
                found += 1
