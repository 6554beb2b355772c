"""Whole products into a narrow saturating register, every step clamped: 32-bit lanes in plain loops.

Lanes are outputs that share one operand at a time, the reduction is outside, eight terms per pass, so that every sum is loaded
and stored once for eight additions. Many output channels make lanes of their own, with an input as the common factor; few
channels over many positions put the positions into the lanes and a weight is the common factor. Rows of operands are
taken as views: an index that might be negative keeps a loop from being vectorised.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import add_clamped, kernel
from fixqnn.kernels.wide import _enter, _pass

LANES = 512


@kernel
def tiles(scalars, vectors, bounds, low, high, start, acc, under, over):
    """Sum every tile of terms with a clamp after each term.

    scalars (rows, terms) int32, vectors (terms, lanes) int16 or int32; tile t covers terms bounds[t] … bounds[t+1]. A tile
    begins at start (rows, lanes) int32. acc (rows, tiles, lanes) int32 receives the clamped totals, or, with a middle axis of
    one, their sum. under, over (rows, lanes) int32 count the steps at which the sum left [low, high].
    """
    lanes = vectors.shape[1]
    merge = acc.shape[1] == 1
    total = np.empty(LANES, np.int32)
    below = np.empty(LANES, np.int32)
    above = np.empty(LANES, np.int32)
    for c0 in range(0, lanes, LANES):
        c1 = min(c0 + LANES, lanes)
        width = c1 - c0
        for r in range(scalars.shape[0]):
            row = scalars[r]
            begin = start[r, c0:c1]
            below[:width] = np.int32(0)
            above[:width] = np.int32(0)
            acc[r, 0, c0:c1] = np.int32(0)
            for t in range(bounds.size - 1):
                for c in range(width):
                    total[c] = begin[c]
                k = bounds[t]
                end = bounds[t + 1]
                while k + 8 <= end:
                    x0, x1, x2, x3, x4, x5, x6, x7 = (
                        row[k],
                        row[k + 1],
                        row[k + 2],
                        row[k + 3],
                        row[k + 4],
                        row[k + 5],
                        row[k + 6],
                        row[k + 7],
                    )
                    w0, w1, w2, w3 = (
                        vectors[k, c0:c1],
                        vectors[k + 1, c0:c1],
                        vectors[k + 2, c0:c1],
                        vectors[k + 3, c0:c1],
                    )
                    w4, w5, w6, w7 = (
                        vectors[k + 4, c0:c1],
                        vectors[k + 5, c0:c1],
                        vectors[k + 6, c0:c1],
                        vectors[k + 7, c0:c1],
                    )
                    for c in range(width):
                        s, u, o = total[c], below[c], above[c]
                        s, u, o = add_clamped(s, x0, w0[c], low, high, u, o)
                        s, u, o = add_clamped(s, x1, w1[c], low, high, u, o)
                        s, u, o = add_clamped(s, x2, w2[c], low, high, u, o)
                        s, u, o = add_clamped(s, x3, w3[c], low, high, u, o)
                        s, u, o = add_clamped(s, x4, w4[c], low, high, u, o)
                        s, u, o = add_clamped(s, x5, w5[c], low, high, u, o)
                        s, u, o = add_clamped(s, x6, w6[c], low, high, u, o)
                        s, u, o = add_clamped(s, x7, w7[c], low, high, u, o)
                        total[c], below[c], above[c] = s, u, o
                    k += 8
                while k < end:
                    xk, wk = row[k], vectors[k, c0:c1]
                    for c in range(width):
                        s, u, o = add_clamped(total[c], xk, wk[c], low, high, below[c], above[c])
                        total[c], below[c], above[c] = s, u, o
                    k += 1
                target = acc[r, 0 if merge else t, c0:c1]
                if merge:
                    for c in range(width):
                        target[c] = np.int32(target[c] + total[c])
                else:
                    for c in range(width):
                        target[c] = total[c]
            for c in range(width):
                under[r, c0 + c] = below[c]
                over[r, c0 + c] = above[c]


@kernel
def fold_tiles(tile_totals, bias, places, used, last_level, bias_first, flush, acc, hits):
    """Fold tile totals (rows, tiles, lanes) through the outer registers, in 64 bits.

    Arguments are those of `fixqnn.kernels.wide.wide`, with a bias of shape (rows, lanes); hits (2, places, rows, lanes) receives
    the events of the outer registers.
    """
    rows, tile_count, lanes = tile_totals.shape
    totals = np.zeros((last_level + 1, lanes), np.int64)
    carry = np.zeros(lanes, np.int64)
    kinds = places.shape[0]
    for r in range(rows):
        totals[:, :] = 0
        if bias_first and last_level > 0:
            carry[:] = bias[r]
            _enter(
                carry,
                totals[last_level],
                places[kinds - 1],
                False,
                lanes,
                hits[:, kinds - 1, r],
                None,
                0,
                0,
                1,
                0,
                0,
                1,
                0,
            )
        for t in range(tile_count):
            for c in range(lanes):
                totals[0, c] = tile_totals[r, t, c]
            for level in range(flush[t]):
                for c in range(lanes):
                    carry[c] = totals[level, c]
                    totals[level, c] = 0
                out = 2 + 2 * level
                if used[out]:
                    _pass(carry, places[out], lanes, hits[:, out, r], None, 0, 0, 1, 0, 0, 1, 0)
                _enter(
                    carry,
                    totals[level + 1],
                    places[out + 1],
                    True,
                    lanes,
                    hits[:, out + 1, r],
                    None,
                    0,
                    0,
                    1,
                    0,
                    0,
                    1,
                    0,
                )
        if used[kinds - 1] and not bias_first:
            carry[:] = bias[r]
            _enter(
                carry,
                totals[last_level],
                places[kinds - 1],
                True,
                lanes,
                hits[:, kinds - 1, r],
                None,
                0,
                0,
                1,
                0,
                0,
                1,
                0,
            )
        carry[:] = totals[last_level]
        if used[2 + 2 * last_level]:
            out = 2 + 2 * last_level
            _pass(carry, places[out], lanes, hits[:, out, r], None, 0, 0, 1, 0, 0, 1, 0)
        acc[r] = carry
