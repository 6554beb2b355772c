"""Sums of products over all rows and panels: the loops around the tiles of `fixqnn.kernels.register_tiles`.

All take packed operands x (bytes), the byte offset of every row (`offsets`) and of every term or group of terms (`steps`),
weights w (bytes) and a table of panels, one row each: byte offset of its operands, byte offset of its weights, vectors, first
lane in `start`, first channel in `out`, channels. A block of ROWS rows meets one panel at a time where todo[block, panel]
is set, and clears it unless the result must be found in another way; a block that runs over the end repeats its last row.
`ends` cuts the terms into the runs of the first stage; `start` holds what a run begins with, per lane.
out (rows, runs or 1, channels) gets the totals of the runs, or their sum.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import inlined, kernel
from fixqnn.kernels.register_tiles import address, any_tile, tile, watched_tile
from fixqnn.kernels.vectors import (
    DOT8,
    DOT16,
    FEW,
    HALF,
    HIGH_FLOOR,
    HIGH_HALF_UP,
    LANES,
    MOST,
    ROWS,
    SATURATE16,
    SATURATE32,
    VECTORS,
)


@kernel
def run_saturate32(x, offsets, steps, ends, w, panels, start, spare, todo, out):
    """Saturating sums in 32-bit lanes; blocks in which a lane was clamped stay to do."""
    _drive(SATURATE32, False, x, offsets, steps, ends, w, panels, start, spare, todo, out)


@kernel
def run_saturate_channels(x, offsets, steps, ends, w, panels, start, spare, todo, out):
    """The same where every channel has operands of its own."""
    _drive(SATURATE32, True, x, offsets, steps, ends, w, panels, start, spare, todo, out)


@kernel
def run_saturate16(x, offsets, steps, ends, w, panels, start, spare, todo, out):
    """Saturating sums in 16-bit lanes; blocks in which a lane was clamped stay to do."""
    _drive(SATURATE16, False, x, offsets, steps, ends, w, panels, start, spare, todo, out)


@kernel
def run_high_floor(x, offsets, steps, ends, w, panels, start, spare, todo, out):
    """Saturating sums of products rounded down; blocks in which a lane was clamped stay to do."""
    _drive(HIGH_FLOOR, False, x, offsets, steps, ends, w, panels, start, spare, todo, out)


@kernel
def run_high_half_up(x, offsets, steps, ends, w, panels, start, spare, todo, out):
    """The same of products rounded half up."""
    _drive(HIGH_HALF_UP, False, x, offsets, steps, ends, w, panels, start, spare, todo, out)


@inlined
def _drive(form, by_channel, x, offsets, steps, ends, w, panels, start, spare, todo, out):
    runs, parts = ends.size - 1, out.shape[1]
    local = np.empty(ROWS, np.int64)
    total = np.empty((parts, 2 * ROWS * MOST), np.int32)
    for j in range(panels.shape[0]):
        x_at, w_at, vectors, lane, channel, width = panels[j]
        stride = total.shape[1] * 4 if parts > 1 else 0
        lanes = vectors * LANES * (2 if form >= SATURATE16 else 1)
        a, o, s, b, e = address(x), address(local), address(steps), address(w) + w_at, address(ends)
        f, c = address(start) + lane * start.itemsize, address(total)
        for i in range(todo.shape[0]):
            if todo[i, j] == 0:
                continue
            _place(local, offsets, i * ROWS, x_at, offsets[offsets.size - 1])
            total[:] = 0
            if vectors == VECTORS:
                left = tile(form, ROWS, VECTORS, by_channel, a, o, s, b, e, runs, f, c, stride, spare)
            elif vectors == HALF:
                left = tile(form, ROWS, HALF, by_channel, a, o, s, b, e, runs, f, c, stride, spare)
            else:
                left = tile(form, ROWS, 1, by_channel, a, o, s, b, e, runs, f, c, stride, spare)
            _hand_out(total, lanes, out, i * ROWS, channel, width)
            todo[i, j] = left


@kernel
def run_watched8(x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out):
    """Exact sums of bytes under watch; blocks of rows in which a register might have acted stay to do."""
    _drive_watched(DOT8, False, x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out)


@kernel
def run_watched16(x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out):
    """The same for 16-bit operands."""
    _drive_watched(DOT16, False, x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out)


@kernel
def run_watched_channels(x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out):
    """The same where every channel has operands of its own."""
    _drive_watched(DOT16, True, x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out)


@inlined
def _drive_watched(form, by_channel, x, offsets, steps, ends, w, panels, start, blocks, limits, todo, out):
    """As `_drive`; `ends` counts blocks, and words blocks[i] … blocks[i + 1] make block i.

    start holds a row of lanes per run, and limits two rows per block, each panel's one after another: they begin at the panel's
    first lane times the number of rows.
    """
    runs, parts = ends.size - 1, out.shape[1]
    local = np.empty(ROWS, np.int64)
    total = np.empty((parts, ROWS * MOST), np.int32)
    for j in range(panels.shape[0]):
        x_at, w_at, vectors, lane, channel, width = panels[j]
        stride = total.shape[1] * 4 if parts > 1 else 0
        lanes = vectors * LANES
        a, o, s, b, e = address(x), address(local), address(steps), address(w) + w_at, address(ends)
        k, f, c = address(blocks), address(start) + lane * runs * 4, address(total)
        h = address(limits) + lane * 2 * (blocks.size - 1) * 4
        for i in range(todo.shape[0]):
            if todo[i, j] == 0:
                continue
            _place(local, offsets, i * ROWS, x_at, offsets[offsets.size - 1])
            total[:] = 0
            if vectors == VECTORS:
                left = watched_tile(form, ROWS, VECTORS, by_channel, a, o, s, b, k, e, runs, f, c, stride, h)
            elif vectors == HALF:
                left = watched_tile(form, ROWS, HALF, by_channel, a, o, s, b, k, e, runs, f, c, stride, h)
            else:
                left = watched_tile(form, ROWS, 1, by_channel, a, o, s, b, k, e, runs, f, c, stride, h)
            _hand_out(total, lanes, out, i * ROWS, channel, width)
            todo[i, j] = left


@kernel
def run_any(
    x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd, register, wraps, nowhere,
    count, counts, words, base,
):  # fmt: skip
    """Sums step by step with any rounding and any register; a term is one product, and `words` and `base` are not read.

    Where `count` is None, blocks with an event stay to do; else all are done, and events below and above are added to
    counts (2, lanes). Returns the first block that was counted and had one (−1: none). `nowhere` is the byte offset of
    zeros: what rows past the end read, so that they have no events.
    """
    return _drive_any(None, False, x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd,
                      register, wraps, nowhere, count, counts, words, base)  # fmt: skip


@kernel
def run_any_channels(
    x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd, register, wraps, nowhere,
    count, counts, words, base,
):  # fmt: skip
    """The same where every channel has operands of its own."""
    return _drive_any(None, True, x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd,
                      register, wraps, nowhere, count, counts, words, base)  # fmt: skip


@kernel
def run_sums8(
    x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd, register, wraps, nowhere,
    count, counts, words, base,
):  # fmt: skip
    """The same where a term is an exact sum of bytes.

    Term k holds words words[k] … words[k + 1] and begins with row k of `base`, whose rows stand panel after panel; `ends` counts
    terms.
    """
    return _drive_any(DOT8, False, x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd,
                      register, wraps, nowhere, count, counts, words, base)  # fmt: skip


@kernel
def run_sums16(
    x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd, register, wraps, nowhere,
    count, counts, words, base,
):  # fmt: skip
    """The same of 16-bit operands."""
    return _drive_any(DOT16, False, x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd,
                      register, wraps, nowhere, count, counts, words, base)  # fmt: skip


@kernel
def run_sums_channels(
    x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd, register, wraps, nowhere,
    count, counts, words, base,
):  # fmt: skip
    """The same where every channel has operands of its own."""
    return _drive_any(DOT16, True, x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd,
                      register, wraps, nowhere, count, counts, words, base)  # fmt: skip


@inlined
def _drive_any(
    form, by_channel, x, offsets, steps, ends, w, panels, start, spare, todo, out, term, sum_, signed, odd, register, wraps,
    nowhere, count, counts, words, base,
):  # fmt: skip
    runs, parts = ends.size - 1, out.shape[1]
    local = np.empty(ROWS, np.int64)
    total = np.empty((parts, ROWS * MOST), np.int32)
    marks = np.empty(2 * MOST, np.int32)
    p, q, y, z = address(term), address(sum_), address(signed), address(odd)
    d, f, g, m, u = address(register), address(wraps), address(count), address(marks), address(words)
    earliest = np.int64(-1)
    for j in range(panels.shape[0]):
        x_at, w_at, vectors, lane, channel, width = panels[j]
        stride = total.shape[1] * 4 if parts > 1 else 0
        lanes = vectors * LANES
        a, s, b, e = address(x), address(steps), address(w) + w_at, address(ends)
        h, v = address(start) + lane * 4, address(base) + lane * (words.size - 1) * 4
        for i in range(todo.shape[0]):
            if todo[i, j] == 0:
                continue
            _place(local, offsets, i * ROWS, x_at, nowhere)
            total[:] = 0
            marks[:] = 0
            left = np.int64(0)
            for r in range(0, ROWS, FEW):
                o, c = address(local) + r * 8, address(total) + r * lanes * 4
                if vectors == VECTORS:
                    left |= any_tile(form, FEW, VECTORS, by_channel, a, o, s, b, e, runs, h, c, stride, spare, m, p, q, y, z,
                                     d, f, g, u, v)  # fmt: skip
                elif vectors == HALF:
                    left |= any_tile(form, FEW, HALF, by_channel, a, o, s, b, e, runs, h, c, stride, spare, m, p, q, y, z,
                                     d, f, g, u, v)  # fmt: skip
                else:
                    left |= any_tile(form, FEW, 1, by_channel, a, o, s, b, e, runs, h, c, stride, spare, m, p, q, y, z,
                                     d, f, g, u, v)  # fmt: skip
            _hand_out(total, lanes, out, i * ROWS, channel, width)
            todo[i, j] = left
            events = np.int64(0)
            for side in range(2):
                for n in range(lanes):
                    events += marks[side * lanes + n]
                    counts[side, lane + n] += marks[side * lanes + n]
            if events > 0 and (earliest < 0 or i < earliest):
                earliest = i
    return earliest


@inlined
def _place(local, offsets, row, x_at, nowhere):
    """Byte offsets of the rows of one block; rows past the end read `nowhere`."""
    for r in range(ROWS):
        local[r] = (offsets[row + r] if row + r < offsets.size else nowhere) + x_at


@inlined
def _hand_out(total, lanes, out, row, channel, width):
    """Copy the totals of one block to the rows that exist."""
    for t in range(out.shape[1]):
        for r in range(min(ROWS, out.shape[0] - row)):
            target = out[row + r, t, channel : channel + width]
            source = total[t, r * lanes : r * lanes + width]
            for c in range(width):
                target[c] = source[c]
