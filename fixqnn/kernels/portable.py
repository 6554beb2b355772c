"""Sums in plain loops that the compiler vectorises by itself, for processors whose vectors are narrow or unknown.

Lanes are output channels: a block of up to `MOST` sums meets eight terms per pass, so that each sum is loaded and stored once for
them, and the weights of a pass serve all rows of a block. Every intermediate value is cast: Numba widens whole numbers to
64 bits, and one forgotten cast halves the lanes.

All loops take operands x, the place of every row (`offsets`) and of every term (`places`) in them, weights (terms, lanes), and a
table of panels, one row each: place of its operands, first lane, first channel in `out`, channels. A block of ROWS rows meets a
panel where todo[block, panel] is set, and clears it unless the result must be found in another way. `ends` cuts the terms into
runs; `start` holds what a run begins with, per lane. out (rows, runs or 1, channels) gets the totals of the runs, or their sum.
"""

from __future__ import annotations

import os

import numpy as np
from numpy import int16, int32, int64

from fixqnn.arith.fast import inlined, kernel
from fixqnn.errors import BadInput
from fixqnn.kernels.vectors import ROWS, features

VARIABLE = "FIXQNN_KERNELS"
FORMS = ("vectors", "portable")
UNIT = 16  # channels: what is computed at once at the end of a panel, so that no vector is left unfilled
MOST = 32 * UNIT


def form_of_kernels(asked: str | None, able: frozenset[str]) -> str:
    """The form of kernels: what is asked for, else explicit vectors where the target's are known to be wide enough.

    Raises
    ------
    BadInput
        For a form that does not exist.
    """
    if asked and asked not in FORMS:
        raise BadInput(f"{VARIABLE} is {' or '.join(FORMS)}, not {asked!r}")
    return asked or ("vectors" if able & {"avx2", "neon"} else "portable")


KERNELS = form_of_kernels(os.environ.get(VARIABLE), features())  # what this process runs
PORTABLE = KERNELS == "portable"


# -- exact sums --------------------------------------------------------------------------------------------------------------


@kernel
def sums(x, offsets, places, ends, w, panels, start, todo, out):
    """Sums modulo 2^32 or 2^64, whatever `out` holds."""
    _sums(False, x, offsets, places, ends, w, panels, start, todo, out)


@kernel
def sums_of_channels(x, offsets, places, ends, w, panels, start, todo, out):
    """The same where every channel has operands of its own."""
    _sums(True, x, offsets, places, ends, w, panels, start, todo, out)


@inlined
def _sums(by_channel, x, offsets, places, ends, w, panels, start, todo, out):
    at, held = np.empty(ROWS, np.int64), np.empty((ROWS, MOST), out.dtype)
    for j in range(panels.shape[0]):
        lane, width, n = _panel(panels, j)
        for i in range(todo.shape[0]):
            rows = _place(at, offsets, i * ROWS, panels[j, 0])
            for t in range(ends.size - 1):
                for r in range(rows):
                    held[r, :n] = start[lane : lane + n]
                whole = ends[t] if by_channel else _whole(ends[t], ends[t + 1])
                for k in range(ends[t], whole, 8):
                    for r in range(rows):
                        _add_eight(held[r, :n], x, at[r], places[k:], w[k:], lane)
                for k in range(whole, ends[t + 1]):
                    for r in range(rows):
                        _add_one(by_channel, held[r, :n], x[at[r] + places[k] :], w[k, lane : lane + n])
                _hand_out(held, rows, 0, t, out, i * ROWS, panels[j, 2], width)
            todo[i, j] = 0


@inlined
def _add_eight(total, x, at, places, w, lane):
    kind = total.dtype.type
    x0, x1, x2, x3, x4, x5, x6, x7 = _eight(kind, x, at, places)
    w0, w1, w2, w3, w4, w5, w6, w7 = _eight_rows(w, lane, lane + total.size)
    for c in range(total.size):
        low = kind(kind(x0 * w0[c]) + kind(x1 * w1[c]) + kind(x2 * w2[c]) + kind(x3 * w3[c]))
        high = kind(kind(x4 * w4[c]) + kind(x5 * w5[c]) + kind(x6 * w6[c]) + kind(x7 * w7[c]))
        total[c] = kind(total[c] + low + high)


@inlined
def _add_one(by_channel, total, x, w):
    kind = total.dtype.type
    common = kind(x[0])
    for c in range(total.size):
        total[c] = kind(total[c] + kind((kind(x[c]) if by_channel else common) * w[c]))


# -- step by step: attempts that settle blocks without events ----------------------------------------------------------------


@kernel
def saturating(x, offsets, places, ends, w, panels, start, spare, todo, out):
    """The lane's own saturation in 16 bits: the clamp of a widened sum compiles to the saturating addition."""
    at, held = np.empty(ROWS, np.int64), np.empty((ROWS, MOST), np.int16)
    for j in range(panels.shape[0]):
        lane, width, n = _panel(panels, j)
        for i in range(todo.shape[0]):
            if todo[i, j] == 0:
                continue
            rows, left = _place(at, offsets, i * ROWS, panels[j, 0]), int16(0)
            for t in range(ends.size - 1):
                for r in range(rows):
                    held[r, :n] = start[lane : lane + n]
                whole = _whole(ends[t], ends[t + 1])
                for k in range(ends[t], whole, 8):
                    for r in range(rows):
                        left = int16(left | _saturate_eight(held[r, :n], x, at[r], places[k:], w[k:], lane))
                for k in range(whole, ends[t + 1]):
                    for r in range(rows):
                        left = int16(
                            left | _saturate_one(held[r, :n], int16(x[at[r] + places[k]]), w[k, lane : lane + n])
                        )
                _hand_out(held, rows, spare, t, out, i * ROWS, panels[j, 2], width)
            todo[i, j] = left != 0


@inlined
def _saturate_two(held, free, x0, w0, x1, w1):
    """Add two products with and without saturation: the sums differ afterwards if and only if the lane was clamped.

    A second clamp cannot undo a first one at the other end, 2^16 away: one product is smaller.
    """
    held, free = _saturate(held, free, x0, w0)
    return _saturate(held, free, x1, w1)


@inlined
def _saturate(held, free, x, w):
    product = int16(x * w)
    asked = int32(int32(held) + int32(product))
    return int16(min(max(asked, int32(-32768)), int32(32767))), int16(free + product)


@inlined
def _saturate_eight(total, x, at, places, w, lane):
    x0, x1, x2, x3, x4, x5, x6, x7 = _eight(int16, x, at, places)
    w0, w1, w2, w3, w4, w5, w6, w7 = _eight_rows(w, lane, lane + total.size)
    left = int16(0)
    for c in range(total.size):
        held, free = _saturate_two(total[c], total[c], x0, w0[c], x1, w1[c])
        left = int16(left | int16(held ^ free))
        held, free = _saturate_two(held, free, x2, w2[c], x3, w3[c])
        left = int16(left | int16(held ^ free))
        held, free = _saturate_two(held, free, x4, w4[c], x5, w5[c])
        left = int16(left | int16(held ^ free))
        held, free = _saturate_two(held, free, x6, w6[c], x7, w7[c])
        left = int16(left | int16(held ^ free))
        total[c] = held
    return left


@inlined
def _saturate_one(total, x, w):
    left = int16(0)
    for c in range(total.size):
        held, free = _saturate(total[c], total[c], x, w[c])
        left = int16(left | int16(held ^ free))
        total[c] = held
    return left


@kernel
def plain(x, offsets, places, ends, w, panels, start, spare, todo, out, low, high):
    """Sums of whole products as if no register acted; blocks in which one would have stay to do."""
    _plain(False, x, offsets, places, ends, w, panels, start, spare, todo, out, low, high)


@kernel
def plain_of_channels(x, offsets, places, ends, w, panels, start, spare, todo, out, low, high):
    """The same where every channel has operands of its own."""
    _plain(True, x, offsets, places, ends, w, panels, start, spare, todo, out, low, high)


@inlined
def _plain(by_channel, x, offsets, places, ends, w, panels, start, spare, todo, out, low, high):
    """Up to the first number that leaves the register, plain sums are what it was asked to hold.

    So it acted if and only if their extremes lie outside; what the lanes hold afterwards no longer matters.
    """
    at, held = np.empty(ROWS, np.int64), np.empty((ROWS, MOST), np.int32)
    for j in range(panels.shape[0]):
        lane, width, n = _panel(panels, j)
        for i in range(todo.shape[0]):
            if todo[i, j] == 0:
                continue
            rows = _place(at, offsets, i * ROWS, panels[j, 0])
            extremes = int32(low), int32(high)
            for t in range(ends.size - 1):
                for r in range(rows):
                    held[r, :n] = start[lane : lane + n]
                whole = ends[t] if by_channel else _whole(ends[t], ends[t + 1])
                for k in range(ends[t], whole, 8):
                    for r in range(rows):
                        extremes = _watch_eight(held[r, :n], x, at[r], places[k:], w[k:], lane, extremes)
                for k in range(whole, ends[t + 1]):
                    for r in range(rows):
                        values, factors = x[at[r] + places[k] :], w[k, lane : lane + n]
                        extremes = _watch_one(by_channel, held[r, :n], values, factors, extremes)
                _hand_out(held, rows, spare, t, out, i * ROWS, panels[j, 2], width)
            todo[i, j] = extremes[0] < low or extremes[1] > high


@inlined
def _watch(total, x, w, least, largest):
    asked = int32(total + int32(int32(x) * int32(w)))
    return asked, min(least, asked), max(largest, asked)


@inlined
def _watch_eight(total, x, at, places, w, lane, extremes):
    x0, x1, x2, x3, x4, x5, x6, x7 = _eight(int16, x, at, places)
    w0, w1, w2, w3, w4, w5, w6, w7 = _eight_rows(w, lane, lane + total.size)
    least, largest = extremes
    for c in range(total.size):
        held, least, largest = _watch(total[c], x0, w0[c], least, largest)
        held, least, largest = _watch(held, x1, w1[c], least, largest)
        held, least, largest = _watch(held, x2, w2[c], least, largest)
        held, least, largest = _watch(held, x3, w3[c], least, largest)
        held, least, largest = _watch(held, x4, w4[c], least, largest)
        held, least, largest = _watch(held, x5, w5[c], least, largest)
        held, least, largest = _watch(held, x6, w6[c], least, largest)
        total[c], least, largest = _watch(held, x7, w7[c], least, largest)
    return least, largest


@inlined
def _watch_one(by_channel, total, x, w, extremes):
    least, largest = extremes
    common = int16(x[0])
    for c in range(total.size):
        total[c], least, largest = _watch(total[c], int16(x[c]) if by_channel else common, w[c], least, largest)
    return least, largest


# -- step by step: any rounding, any register, events ------------------------------------------------------------------------


@kernel
def any_step(
    x, offsets, places, terms, ends, w, panels, start, spare, todo, out, first_rounding, then, register, counts
):
    """Any rounding of terms and of sums and any register, their constants as data; everything is settled.

    Term g is the sum of products terms[g] … terms[g + 1], and `ends` counts terms. Events below and above are added to
    counts (2, lanes). Returns the first block that had one (−1: none).
    """
    return _any(False, x, offsets, places, terms, ends, w, panels, start, spare, todo, out, first_rounding, then,
                register, counts)  # fmt: skip


@kernel
def any_step_of_channels(
    x, offsets, places, terms, ends, w, panels, start, spare, todo, out, first_rounding, then, register, counts
):
    """The same where every channel has operands of its own."""
    return _any(True, x, offsets, places, terms, ends, w, panels, start, spare, todo, out, first_rounding, then,
                register, counts)  # fmt: skip


@inlined
def _any(
    by_channel,
    x,
    offsets,
    places,
    terms,
    ends,
    w,
    panels,
    start,
    spare,
    todo,
    out,
    first_rounding,
    then,
    register,
    counts,
):
    at, held = np.empty(ROWS, np.int64), np.empty((ROWS, MOST), np.int32)
    term, below, above = np.empty(MOST, np.int32), np.empty(MOST, np.int32), np.empty(MOST, np.int32)
    earliest = int64(-1)
    for j in range(panels.shape[0]):
        lane, width, n = _panel(panels, j)
        for i in range(todo.shape[0]):
            if todo[i, j] == 0:
                continue
            rows = _place(at, offsets, i * ROWS, panels[j, 0])
            below[:n], above[:n] = 0, 0
            for t in range(ends.size - 1):
                for r in range(rows):
                    held[r, :n] = start[lane : lane + n]
                    for g in range(ends[t], ends[t + 1]):
                        term[:n] = 0
                        for k in range(terms[g], terms[g + 1]):
                            _add_one(by_channel, term[:n], x[at[r] + places[k] :], w[k, lane : lane + n])
                        _enter(held[r, :n], term[:n], first_rounding, then, register, below, above)
                _hand_out(held, rows, spare, t, out, i * ROWS, panels[j, 2], width)
            todo[i, j], events = 0, int64(0)
            for c in range(n):
                events += below[c] + above[c]
                counts[0, lane + c] += below[c]
                counts[1, lane + c] += above[c]
            if events > 0 and (earliest < 0 or i < earliest):
                earliest = i
    return earliest


@inlined
def _enter(total, term, first_rounding, then, register, below, above):
    p0, p1, p2, p3, p4 = first_rounding[0], first_rounding[1], first_rounding[2], first_rounding[3], first_rounding[4]
    s0, s1, s2, s3, s4 = then[0], then[1], then[2], then[3], then[4]
    first, last, low, rest, over, under = register[0], register[1], register[2], register[3], register[4], register[5]
    for c in range(total.size):
        asked = int32(total[c] + _rounded(term[c], p0, p1, p2, p3, p4))
        asked = int32(_rounded(asked, s0, s1, s2, s3, s4) << s0)  # a sum stays at the scale of products
        outside = int32(int32(int32(asked - low) & rest) + (over if asked > last else under))
        total[c] = outside if (asked < first) | (asked > last) else asked
        below[c] = int32(below[c] + int32(asked < first))
        above[c] = int32(above[c] + int32(asked > last))


@inlined
def _rounded(x, shift, add, if_negative, if_odd, flip):
    """As `fixqnn.arith.fast.round_shift`, in 32 bits."""
    kept = int32(int32(int32(x >> shift) ^ flip) & if_odd)
    return int32(int32(int32(x + add) + int32(int32(x >> 31) & if_negative) + kept) >> shift)


# -- rows and panels ---------------------------------------------------------------------------------------------------------


@inlined
def _panel(panels, j):
    """First lane, channels, and how many lanes are computed: channels, up to a whole unit."""
    return panels[j, 1], panels[j, 3], -(-panels[j, 3] // UNIT) * UNIT


@inlined
def _place(at, offsets, row, x_at):
    """Places of the operands of the rows of one block; returns how many rows it has."""
    rows = min(ROWS, offsets.size - row)
    for r in range(rows):
        at[r] = offsets[row + r] + x_at
    return rows


@inlined
def _whole(begin, end):
    """Where the terms end that make whole passes of eight."""
    return begin + (end - begin) // 8 * 8


@inlined
def _eight(kind, x, at, places):
    a, b, c, d = x[at + places[0]], x[at + places[1]], x[at + places[2]], x[at + places[3]]
    e, f, g, h = x[at + places[4]], x[at + places[5]], x[at + places[6]], x[at + places[7]]
    return kind(a), kind(b), kind(c), kind(d), kind(e), kind(f), kind(g), kind(h)


@inlined
def _eight_rows(w, a, b):
    """Rows as views that are known to be contiguous, which those of a cut matrix are not."""
    return w[0, a:b], w[1, a:b], w[2, a:b], w[3, a:b], w[4, a:b], w[5, a:b], w[6, a:b], w[7, a:b]


@inlined
def _hand_out(held, rows, spare, t, out, row, channel, width):
    """Add the sums of run t, without their spare bits, to the rows that exist."""
    part = t if out.shape[1] > 1 else 0
    for r in range(rows):
        target = out[row + r, part, channel : channel + width]
        if t == 0 or part > 0:
            target[:] = 0
        for c in range(width):
            target[c] += held[r, c] >> spare
