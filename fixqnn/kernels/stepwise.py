"""A register that may act at every addition, in vector lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.arith.fast import shift_constants, store_constants
from fixqnn.events import Run
from fixqnn.kernels import tiles
from fixqnn.kernels.extent import BLOCK
from fixqnn.kernels.fold import fold_runs
from fixqnn.kernels.lanes import Lanes
from fixqnn.kernels.pack import PLAIN, TWICE, Operands, lane_count
from fixqnn.kernels.plain_ways import attempts
from fixqnn.kernels.portable import PORTABLE
from fixqnn.kernels.tally import INNER, Tally
from fixqnn.kernels.vectors import LANES, ROWS
from fixqnn.kernels.way import Form, Part, Way, outer_bias, wrapped
from fixqnn.kernels.wide import NEVER
from fixqnn.modes import Overflow, Rounding

if TYPE_CHECKING:
    from fixqnn.kernels.contract import Contraction

TOTALS = 1 << 21  # totals of runs that are kept at once
REST = 7  # blocks of rows for which an attempt that settles less than half rests
INT32 = np.iinfo(np.int32)


class Stepwise(Way):
    """A register that may act: watched exact sums, then the lane's own saturation, then steps that count.

    It is the register of stage `plan.level`; those before it do not act, and those after it fold what it hands on.

    Every attempt settles the blocks of rows for which it can tell that the register did not act; the last one counts.
    """

    dtype = np.int32
    operand_size = 4
    step_cost = 8

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction)
        c, plan = contraction, contraction.plan
        self.level, self.register = plan.level, c.bound.stages[plan.level].register
        self.outermost = plan.level == len(c.bound.stages) - 1
        ended = np.array([c.window.terms - 1]) if self.outermost else np.flatnonzero(c.flush > plan.level)
        self.outer = np.zeros(1, np.int64) if self.outermost else c.flush[ended] - plan.level
        self.count = len(ended)
        self.runs = np.searchsorted(ended, np.arange(c.window.terms))  # number of the run that each term belongs to
        self.first_bias = np.array(outer_bias(c) if self.outermost else [0] * c.outputs, np.int64)
        self.merges = _merges(c, plan.level, self.count)
        if not self.merges:
            self.dtype = np.int64
        self.attempts: list[Any] = attempts(self) if PORTABLE else []
        if plan.path == "certified" and not PORTABLE:
            self.attempts.append(Watched(self))
        if plan.counting is not None and not PORTABLE:
            lanes = plan.by_channel if self.by_channel and plan.by_channel else plan.lanes
            if lanes.form == "saturate32" or (lanes.form != "any32" and not self.by_channel):
                self.attempts.append(Saturating(self, lanes))
            else:
                self.attempts.append(Any32(self, plan.counting, counting=False))
            self.attempts.append(Any32(self, plan.counting, counting=True))
        self.zeros = max(a.form.reach for a in self.attempts)
        self.rest = [0] * len(self.attempts)  # how often each attempt is passed over, as it settled next to nothing

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum rows, as many at a time as totals of their runs are kept."""
        runs = 1 if self.merges else self.count
        some = max(1, TOTALS // (runs * self.c.outputs) // ROWS) * ROWS if runs > 1 else offsets.size
        for a in range(0, offsets.size, some):
            b = min(a + some, offsets.size)
            out = acc[a:b, None] if self.merges else np.empty((b - a, runs, self.c.outputs), np.int32)
            self._settle(part, offsets[a:b], row0 + a, out, tally)
            if not self.merges:
                self._fold(out, row0 + a, acc[a:b], tally)
        if self.merges and not self.outermost and self.c.bias:
            acc += np.array(outer_bias(self.c), np.int32)

    def _fold(self, totals: np.ndarray, row0: int, acc: np.ndarray, tally: Tally) -> None:
        """Fold totals of runs through the stages after the one that is followed, as if it were the first."""
        (places, used), skip = self.c.places, 2 * self.level
        counts = np.zeros((2, len(used) - skip, self.c.outputs), np.int64)
        first = np.full((len(used) - skip, self.c.outputs), NEVER)
        fold_runs(totals, np.array(self.c.bias or (0,) * self.c.outputs, np.int64), places[skip:], used[skip:],
                  len(self.c.bound.stages) - 1 - self.level, bool(self.c.bias) and self.c.bound.bias == "first", self.outer,
                  row0, acc, counts, first)  # fmt: skip
        if counts.any():
            tally.counts[:, skip:] += counts
            np.minimum(tally.first[skip:], first, out=tally.first[skip:])

    def _settle(self, part: Part, offsets: np.ndarray, row0: int, out: np.ndarray, tally: Tally) -> None:
        todo = self.attempts[0].form.todo(offsets.size)
        for i, attempt in enumerate(self.attempts):
            if self.rest[i] and i < len(self.attempts) - 1:
                self.rest[i] -= 1
                continue
            before = int(todo.sum())
            attempt(part, offsets, todo, out, row0, tally)
            after = int(todo.sum())
            if after == 0:
                return
            self.rest[i] = REST if 2 * after > before else 0
        raise AssertionError("the last attempt settles every block")

    def first_acted(self, x: np.ndarray, row: int) -> tuple[int, int]:
        """Row and channel in which the followed register acted first, among the rows of the block that begins with `row`."""
        count, place, known, part = self.attempts[-1], INNER + 2 * self.level, -1, None
        while True:
            sample, position = divmod(row, self.window.positions)
            if sample != known:
                part, known = self.part(self.laid_out(x[sample : sample + 1])), sample
            found = Tally(len(self.c.places[0]), self.c.outputs)
            out = np.empty((1, 1 if self.merges else self.count, self.c.outputs), np.int32)
            count(part, self.window.offsets[position : position + 1], count.form.todo(1), out, 0, found)
            if found.touched:
                return row, int(np.flatnonzero(found.counts[:, place].any(axis=0))[0])
            row += 1


class Watched:
    """Exact sums; a block of rows is settled if no running sum came so near the register's ends that some terms could pass them.

    Before each `BLOCK` terms of a run, what these terms can add or take away at most, in whatever order, is known per channel.
    """

    def __init__(self, way: Stepwise) -> None:
        c, w = way.c, way.c.rows_of_weights.astype(np.int64)
        starts = np.flatnonzero(np.diff(way.runs, prepend=-1))
        along = np.arange(c.window.terms) - starts[way.runs]
        blocks = np.cumsum(along % BLOCK == 0) - 1
        self.operands, self.form, base = _whole(way, w, blocks)
        drives = (tiles.run_watched8, tiles.run_watched16, tiles.run_watched_channels)
        self.drive = drives[_kind(way, self.operands)]
        firsts = np.flatnonzero(along % BLOCK == 0)  # first term of every block
        run = way.runs[firsts]
        low, high = w * c.x_low, w * c.x_high
        up = np.add.reduceat(np.maximum(np.maximum(low, high), 0), firsts, axis=1)
        down = np.add.reduceat(np.minimum(np.minimum(low, high), 0), firsts, axis=1)
        weight = np.add.reduceat(w, firsts, axis=1)
        whole = np.add.reduceat(w, starts, axis=1)
        done = np.cumsum(weight, axis=1) - weight  # weights before the block; then those of its own run
        done -= done[:, np.flatnonzero(np.diff(run, prepend=-1))][:, run]
        # what is watched begins with base·Σw of its run, so that it ends as the sum of operands
        ahead = base * (whole[:, run] - done)
        register = way.register.register
        limits = np.stack([register.low - down + ahead, register.high - up + ahead])  # (2, channels, blocks)
        if not c.plan.watched:
            limits[0], limits[1] = INT32.min, INT32.max
        never = (limits[0] > INT32.max) | (limits[1] < INT32.min)
        limits = np.where(never, np.array([INT32.max, INT32.min])[:, None, None], limits).clip(INT32.min, INT32.max)
        self.limits = _by_panel(self.form, limits.transpose(2, 0, 1).reshape(-1, c.outputs).astype(np.int32))
        start = way.first_bias + (whole * base).T
        self.start = _by_panel(self.form, wrapped(start))
        self.blocks = self.form.ends
        self.ends = np.append(np.flatnonzero(np.diff(run, prepend=-1)), len(firsts))

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle what has a certificate."""
        form = self.form
        self.drive(part.packed(self.operands), offsets * form.size, form.steps, self.ends, form.w, form.panels, self.start,
                   self.blocks, self.limits, todo, out)  # fmt: skip


class Saturating:
    """The lane's own saturation; a block is settled if the spare low bits show that no lane was clamped."""

    def __init__(self, way: Stepwise, lanes: Lanes) -> None:
        c = way.c
        narrow, high = lanes.form == "saturate16", lanes.form == "high32"
        size = 2 if way.by_channel else 4
        self.spare = lanes.spare
        self.operands = Operands(
            np.int16 if way.by_channel else np.int32, c.scale, c.offset, c.padding, lanes.x_shift,
            PLAIN if way.by_channel else TWICE,
        )  # fmt: skip
        w = c.rows_of_weights.astype(np.int64) << lanes.w_shift
        slots, per_lane = (1, 2) if narrow or high else (2, 1)
        self.form = Form(way, w, way.runs, size, 1, slots, np.int16, lanes.doubled, per_lane)
        if high:  # the two channels of a lane go to sums in vectors of their own
            pairs = self.form.w.view(np.int16).reshape(-1, 2, LANES).swapaxes(1, 2)
            self.form.w = np.ascontiguousarray(pairs).reshape(-1).view(np.uint8)
        start = (way.first_bias << lanes.spare) + 1
        self.start = self.form.lanes(start.astype(np.int16 if narrow else np.int32))
        if self.spare:
            self.start[self.start == 0] = 1  # lanes without a channel hold the pattern too
        self.drive = {
            "saturate16": tiles.run_saturate16,
            "saturate32": tiles.run_saturate_channels if way.by_channel else tiles.run_saturate32,
            "high32": tiles.run_high_half_up if lanes.mode is Rounding.half_up else tiles.run_high_floor,
        }[lanes.form]

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle what was not clamped."""
        form = self.form
        self.drive(part.packed(self.operands), offsets * form.size, form.steps, form.ends, form.w, form.panels, self.start,
                   self.spare, todo, out)  # fmt: skip


class Any32:
    """Any rounding and any register in 32-bit lanes: settles what has no event, or, counting, everything."""

    def __init__(self, way: Stepwise, lanes: Lanes, counting: bool) -> None:
        c, place = way.c, way.register
        self.way, self.lanes = way, lanes
        w = c.rows_of_weights.astype(np.int64) << lanes.w_shift
        if way.level:
            self._sums(w)
        else:
            self.operands = Operands(
                np.int16 if way.by_channel else np.int32, c.scale, c.offset, c.padding, lanes.x_shift,
                PLAIN if way.by_channel else TWICE,
            )  # fmt: skip
            self.form = Form(way, w, way.runs, 2 if way.by_channel else 4, 1, 2, np.int16)
            self.ends, self.words, self.base = self.form.ends, np.zeros(1, np.int64), np.zeros(0, np.int32)
            self.drive = tiles.run_any_channels if way.by_channel else tiles.run_any
        self.start = self.form.lanes((way.first_bias << lanes.spare).astype(np.int32))
        rounding = np.array(shift_constants(lanes.drop, lanes.mode)[:5], np.int32)
        self.looks = [rounding if rounding[i] else None for i in (2, 3)]  # at the sign, at the last bit that is kept
        self.term = rounding if lanes.rounding == "term" else None
        self.sum = rounding if lanes.rounding == "sum" else None
        self.register = (np.array(store_constants(place.register), np.int64) << lanes.spare).astype(np.int32)
        clamps = place.register.overflow in (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid)
        self.wraps = None if clamps else self.register
        self.counting = self.register if counting else None

    def _sums(self, w: np.ndarray) -> None:
        """Let exact totals of the stage before be the terms."""
        way = self.way
        ended = np.flatnonzero(way.c.flush >= way.level)
        terms = np.searchsorted(ended, np.arange(way.c.window.terms))
        self.operands, self.form, base = _whole(way, w, terms, self.lanes)
        drives = (tiles.run_sums8, tiles.run_sums16, tiles.run_sums_channels)
        self.drive = drives[_kind(way, self.operands)]
        self.words = self.form.ends
        self.ends = np.searchsorted(way.runs[ended], np.arange(way.count + 1))
        weight = np.add.reduceat(w, np.flatnonzero(np.diff(terms, prepend=-1)), axis=1)
        self.base = _by_panel(self.form, wrapped((weight * base).T))

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle blocks of rows; events go to the tally."""
        form = self.form
        counts = np.zeros((2, form.count), np.int64)
        earliest = self.drive(
            part.packed(self.operands), offsets * form.size, form.steps, self.ends, form.w, form.panels, self.start,
            self.lanes.spare, todo, out, self.term, self.sum, *self.looks, self.register, self.wraps,
            part.count * form.size, self.counting, counts, self.words, self.base,
        )  # fmt: skip
        if earliest >= 0:
            tally.suspect = min(tally.suspect, row0 + earliest * ROWS)
            for _, _, _, lane, channel, width in form.panels.tolist():
                tally.counts[:, INNER + 2 * self.way.level, channel : channel + width] += counts[:, lane : lane + width]


def _whole(way: Stepwise, w: np.ndarray, runs: np.ndarray, lanes: Lanes | None = None) -> tuple[Operands, Form, int]:
    """Operands and weights of exact sums over runs, and what a byte of zero stands for.

    Bytes take neither shifts nor, behind the last of them, a zero that is none of theirs.
    """
    c, shift = way.c, lanes.x_shift if lanes else 0
    fits = not lanes or (not (shift or lanes.w_shift) and c.x_low <= 0 <= c.x_high)
    if c.plan.operands == "int8" and not way.by_channel and fits:
        base = c.x_low
        operands = Operands(np.uint8, c.scale, c.offset + base, c.padding - base, behind=-base if lanes else 0)
        return operands, Form(way, w, runs, 1, 4, 4, np.int8), base
    operands = Operands(np.int16, c.scale, c.offset, c.padding, shift)
    return operands, Form(way, w, runs, 2, 1 if way.by_channel else 2, 2, np.int16), 0


def _kind(way: Stepwise, operands: Operands) -> int:
    """Which of three tiles takes such operands: of bytes, of 16 bits, or of 16 bits of every channel's own."""
    return 0 if operands.dtype is np.uint8 else 2 if way.by_channel else 1


def _by_panel(form: Form, rows: np.ndarray) -> np.ndarray:
    """Rows (…, channels) over lanes, the rows of each panel one after another; lanes without a channel get zeros."""
    lanes = form.lanes(rows)
    parts = [lanes[:, p[3] : p[3] + lane_count(p[None], 1)] for p in form.panels]
    return np.concatenate([p.reshape(-1) for p in parts]) if parts else np.zeros(0, np.int32)


def _merges(c: Contraction, level: int, runs: int) -> bool:
    """Whether the outer registers are proved inert, so that totals of runs may simply be added in 32 bits."""
    inner, *outer = c.bound.stages[level:]
    if any(s.out for s in (inner, *outer)):
        return False
    if not outer:
        return True
    if any(s.register.drop for s in outer) or c.bound.bias_register.drop:
        return False
    most = max(-inner.register.register.low, inner.register.register.high) * runs + max(map(abs, c.bias), default=0)
    registers = [s.register.register for s in outer]
    return all(r.low <= -most and most <= r.high for r in registers) and most < 1 << 31
