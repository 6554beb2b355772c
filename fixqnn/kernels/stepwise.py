"""Whole products into a narrow saturating register, every step clamped: 32-bit lanes in plain loops.

Lanes are output channels, the reduction is outside, eight terms per pass, so that every sum is loaded and stored once for
eight additions. The innermost register is done here; whole tiles then go through the outer registers.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import kernel
from fixqnn.kernels.wide import _enter, _pass

LANES = 256


@kernel
def tiles(x, w, bounds, low, high, start, keep_start, acc, under, over):  # noqa: ANN001, ANN201
    """Sum every tile of terms with a clamp after each term.

    x (rows, terms) int32, w (terms, lanes) int16; tile t covers terms bounds[t] … bounds[t+1]. acc (rows, tiles, lanes) int32
    receives the clamped totals; a tile begins at start[lane] where `keep_start`, else at zero. under, over (rows, lanes) int32 count
    the steps at which the sum left [low, high].
    """
    rows = x.shape[0]
    lanes = w.shape[1]
    total = np.empty(LANES, np.int32)
    below = np.empty(LANES, np.int32)
    above = np.empty(LANES, np.int32)
    for c0 in range(0, lanes, LANES):
        width = min(LANES, lanes - c0)
        for r in range(rows):
            below[:width] = np.int32(0)
            above[:width] = np.int32(0)
            for t in range(bounds.size - 1):
                if keep_start:
                    for c in range(width):
                        total[c] = start[c0 + c]
                else:
                    total[:width] = np.int32(0)
                k = bounds[t]
                end = bounds[t + 1]
                while k + 8 <= end:
                    x0, x1, x2, x3 = x[r, k], x[r, k + 1], x[r, k + 2], x[r, k + 3]
                    x4, x5, x6, x7 = x[r, k + 4], x[r, k + 5], x[r, k + 6], x[r, k + 7]
                    for c in range(width):
                        lane = c0 + c
                        s, u, o = total[c], below[c], above[c]
                        v = np.int32(s + np.int32(x0 * np.int32(w[k, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x1 * np.int32(w[k + 1, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x2 * np.int32(w[k + 2, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x3 * np.int32(w[k + 3, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x4 * np.int32(w[k + 4, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x5 * np.int32(w[k + 5, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x6 * np.int32(w[k + 6, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        v = np.int32(s + np.int32(x7 * np.int32(w[k + 7, lane])))
                        s = min(max(v, low), high)
                        u = np.int32(u + np.int32(v < low))
                        o = np.int32(o + np.int32(v > high))
                        total[c] = s
                        below[c] = u
                        above[c] = o
                    k += 8
                while k < end:
                    xk = x[r, k]
                    for c in range(width):
                        v = np.int32(total[c] + np.int32(xk * np.int32(w[k, c0 + c])))
                        below[c] = np.int32(below[c] + np.int32(v < low))
                        above[c] = np.int32(above[c] + np.int32(v > high))
                        total[c] = min(max(v, low), high)
                    k += 1
                for c in range(width):
                    acc[r, t, c0 + c] = total[c]
            for c in range(width):
                under[r, c0 + c] = below[c]
                over[r, c0 + c] = above[c]


@kernel
def fold_tiles(tile_totals, bias, places, used, last_level, bias_first, flush, acc, counts, touched):  # noqa: ANN001, ANN201
    """Fold tile totals (rows, tiles, lanes) through the outer registers, in 64 bits.

    Arguments are those of `fixqnn.kernels.wide.wide`; flush[t] counts from the second stage. touched (rows, places, lanes) marks
    events by row.
    """
    rows, tile_count, lanes = tile_totals.shape
    totals = np.zeros((last_level + 1, lanes), np.int64)
    carry = np.zeros(lanes, np.int64)
    kinds = places.shape[0]
    hits = np.zeros((2, kinds, lanes), np.int64)
    for r in range(rows):
        totals[:, :] = 0
        hits[:, :, :] = 0
        if bias_first and last_level > 0:
            carry[:] = bias
            _enter(carry, totals[last_level], places[kinds - 1], False, lanes, hits[:, kinds - 1], None, 0, 0, 1, 0, 0, 1, 0)
        for t in range(tile_count):
            for c in range(lanes):
                totals[0, c] = tile_totals[r, t, c]
            for level in range(flush[t]):
                for c in range(lanes):
                    carry[c] = totals[level, c]
                    totals[level, c] = 0
                out = 2 + 2 * level
                if used[out]:
                    _pass(carry, places[out], lanes, hits[:, out], None, 0, 0, 1, 0, 0, 1, 0)
                _enter(carry, totals[level + 1], places[out + 1], True, lanes, hits[:, out + 1], None, 0, 0, 1, 0, 0, 1, 0)
        if used[kinds - 1] and not bias_first:
            carry[:] = bias
            _enter(carry, totals[last_level], places[kinds - 1], True, lanes, hits[:, kinds - 1], None, 0, 0, 1, 0, 0, 1, 0)
        carry[:] = totals[last_level]
        if used[2 + 2 * last_level]:
            out = 2 + 2 * last_level
            _pass(carry, places[out], lanes, hits[:, out], None, 0, 0, 1, 0, 0, 1, 0)
        acc[r] = carry
        for place in range(kinds):
            for c in range(lanes):
                counts[0, place, c] += hits[0, place, c]
                counts[1, place, c] += hits[1, place, c]
                touched[r, place, c] = hits[0, place, c] + hits[1, place, c] > 0
