"""Add, subtract and multiply on codes so narrow that what becomes of every pair of them can be found beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.datapath import Register
from fixqnn.errors import TooWide
from fixqnn.events import Run, Witness
from fixqnn.kernels.elementwise import EVENTS, combine_line, first_pair, look_up_pairs
from fixqnn.kernels.products import output_limits
from fixqnn.kernels.rescale import Rescale
from fixqnn.kernels.rescale_choice import width_of
from fixqnn.kernels.rows import from_rows, rows_of
from fixqnn.modes import Rounding
from fixqnn.ops.elementwise import combiner, rescale_of
from fixqnn.ops.layout import lanes_of, position_of, positions_of
from fixqnn.ops.op import Step
from fixqnn.ops.pair import EstimatedPair, FloatPair, Pair, build, draws, line_of

# What turns half_even into another mode, for quotients that are whole multiples of more than 2^-12
NUDGES = {
    Rounding.floor: Fraction(1, 1 << 12) - Fraction(1, 2),
    Rounding.ceil: Fraction(1, 2) - Fraction(1, 1 << 12),
    Rounding.half_up: Fraction(1, 1 << 12),
    Rounding.half_down: -Fraction(1, 1 << 12),
}
REMEMBERED = 16  # bits of both operands together up to which all pairs of codes are computed beforehand


def fast(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the same codes on 64-bit arrays."""
    try:
        if "pair" not in step.cache:
            step.cache["pair"] = Remembered.of(step, build(step))
        return step.cache["pair"].fast(run, a, b)
    except TooWide as problem:
        raise TooWide(f"{step.name} ({step.op.name}): {problem}") from None


@dataclass
class Remembered:
    """A pair of narrow formats as a table: what becomes of every two codes, and which registers act on them.

    The table is filled, by the pair's own loops, as soon as as many outputs were computed without it: by then it is
    cheaper. Every two codes stand in a channel of their own while it is filled, so that events come out by pair. Where
    floats on a line give the same codes and events for every pair, they are quicker than the table, and as exact.
    """

    step: Step
    pair: Pair | FloatPair | EstimatedPair
    missing: int | None  # outputs that come without a table before it is filled; None: there will be none
    table: np.ndarray | None = None
    counters: int = 0
    line: np.ndarray | None = None

    @classmethod
    def of(cls, step: Step, pair: Pair | FloatPair | EstimatedPair) -> Remembered:
        """Make the working form of a step."""
        bits = sum(step.in_format(i).bits for i in (0, 1))
        narrow = bits <= REMEMBERED and step.out_format.bits < 32 - EVENTS
        datapath = step.datapath
        random = draws(datapath.scaler) or draws(datapath.align) or draws(datapath.register)
        return cls(step, pair, 1 << REMEMBERED if narrow and not random else None)

    def fast(self, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Output codes."""
        alike, out = a.shape == b.shape, self.step.out_format.narrow_dtype
        shape = a.shape if alike else np.broadcast_shapes(a.shape, b.shape)
        size = math.prod(shape)
        if self.missing is not None and self.table is None:
            self.missing -= size
            if self.missing <= 0:
                self._fill()
        if self.table is None or not size:
            return self.pair.fast(run, a, b).astype(out, copy=False)
        flat = self.counters == 0 and alike and a.flags.c_contiguous and b.flags.c_contiguous
        left, right = (a, b) if flat else (rows_of(v if alike else np.broadcast_to(v, shape)) for v in (a, b))
        codes, channels = np.empty(left.shape, out), lanes_of(shape)
        width = width_of(channels)
        counts = np.zeros((max(self.counters, 2), width), np.int32)
        pairs = left.reshape(-1), right.reshape(-1)
        if self.line is None:
            look_up_pairs(*pairs, *self._places, self.table, codes.reshape(-1), counts[: self.counters])
        else:
            combine_line(*pairs, self.line, self._zero, codes.reshape(-1), counts[-2:])
        counts = counts.reshape(-1, width // channels, channels).sum(axis=1, dtype=np.int64)
        for i, (name, register) in enumerate(self._registers):
            below, above = counts[2 * i : 2 * i + 2] if 2 * i < self.counters else np.zeros((2, channels), np.int64)
            first = None
            if 2 * i < self.counters and (below.any() or above.any()) and not run.has_witness(name):
                first = self._witness(run, i, left, right, shape)
            run.note(name, register, below, above, first)
        return codes if flat else from_rows(codes, shape)

    @cached_property
    def _registers(self) -> tuple[tuple[str, Register], ...]:
        return self.pair.registers

    @cached_property
    def _places(self) -> tuple[int, int, int]:
        """Smallest codes, and how many codes the second operand has."""
        first, second = (self.step.in_format(i) for i in (0, 1))
        return first.low, second.low, second.high - second.low + 1

    def _fill(self) -> None:
        formats = [self.step.in_format(i) for i in (0, 1)]
        grid = np.meshgrid(*(np.arange(f.low, f.high + 1, dtype=f.narrow_dtype) for f in formats), indexing="ij")
        a, b = (v.reshape(1, -1) for v in grid)
        run, flags = Run(), np.zeros(a.size, np.int64)
        codes = self.pair.fast(run, a, b).reshape(-1)
        for i, (name, _) in enumerate(self._registers):
            events = run.events[name]
            flags |= (events.below << (2 * i)) | (events.above << (2 * i + 1))
            if events.count:
                self.counters = 2 * i + 2
        entries = (codes.astype(np.int64) << EVENTS) | flags
        self.table = entries.astype(np.int16 if self.step.out_format.bits < 16 - EVENTS else np.int32)
        self.line = self._line(a.reshape(-1), b.reshape(-1), codes, flags)

    def _line(self, a: np.ndarray, b: np.ndarray, codes: np.ndarray, flags: np.ndarray) -> np.ndarray | None:
        """The numbers of `combine_line`, in the narrowest floats that give every pair its code and its events."""
        if self.step.op.name == "multiply":
            return None
        numbers = line_of(self.step)
        first, last, _ = output_limits(self._store.register)
        nudge = NUDGES.get(getattr(self.step.datapath.scaler, "rounding", None), 0)
        numbers = [*numbers[:2], numbers[2] + nudge, first - self._zero, last - self._zero]
        if max(map(abs, numbers)) >= 1 << 30:
            return None
        for dtype in (np.float32, np.float64):
            line, tried = np.array([float(v) for v in numbers], dtype), np.empty_like(codes)
            counts = np.zeros((2, a.size), np.int32)
            combine_line(a, b, line, self._zero, tried, counts)
            acted = (counts[0] + 2 * counts[1]) * 4 ** (len(self._registers) - 1)  # the output's register is the last
            if np.array_equal(tried, codes) and np.array_equal(acted, flags):
                return line
        return None

    @cached_property
    def _zero(self) -> np.int64:
        """What a line adds behind its rounding."""
        return np.int64(line_of(self.step)[3])

    @cached_property
    def _store(self) -> Rescale:
        return rescale_of(self.step, self.step.prepared, 0)

    @cached_property
    def _combined(self) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        return combiner(self.step)

    def _witness(self, run: Run, which: int, left: np.ndarray, right: np.ndarray, shape: Any) -> Witness:
        """The first event: the first pair in order whose entry has one of the register's bits, computed by the definition."""
        row, channel = first_pair(left, right, *self._places, self.table, 3 << (2 * which))
        total, asked = self._combined(left[row, channel], right[row, channel], _no_draw)
        if which == len(self._registers) - 1:
            asked = self._store.exact(total, 0, 0, run, _no_draw)[1]
        sample, place = divmod(row, positions_of(shape))
        return Witness(run.first_sample + sample, position_of(shape)(place), channel, -1, asked)


def _no_draw(place: int, index: int) -> int:
    return 0
