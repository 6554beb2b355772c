"""What all kernel paths share: samples in parts, operands laid out, rows in ranges that threads may share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.events import Run
from fixqnn.kernels import pool
from fixqnn.kernels.pack import Operands, lane_count, lanes_of, pack_weights, panels_of, words_of
from fixqnn.kernels.tally import Tally
from fixqnn.kernels.vectors import ROWS
from fixqnn.kernels.window import Window

if TYPE_CHECKING:
    from fixqnn.kernels.contract import Contraction

PACKED = 1 << 23  # bytes of operands that are laid out at once, if more than one sample is
CACHED = 1 << 19  # bytes of accumulators that are summed before they are rescaled: they stay in the second-level cache
SHARE = 1 << 27  # multiplications worth a thread's share of an exact sum; a step costs more


Finish = Callable[[np.ndarray, int], Any]  # (accumulators (rows, outputs), number of the first row in this call)


class Part:
    """Some samples, laid out when an attempt first asks for it; threads may ask at once."""

    def __init__(self, x: np.ndarray, window: Window, zeros: int, whole_words: bool) -> None:
        self.x, self.window, self.zeros, self.whole_words = x, window, zeros, whole_words
        self.count = len(x) * window.volume
        self._packed: dict[Operands, np.ndarray] = {}
        self._lock = Lock()

    def packed(self, operands: Operands) -> np.ndarray:
        """Operands of all samples, as bytes; `zeros` of zero follow the first `count` operands."""
        with self._lock:
            if operands not in self._packed:
                self._packed[operands] = operands.pack(self.x, self.window, self.zeros, self.whole_words)
            return self._packed[operands]


class Way:
    """What all ways share: samples in parts, rows in ranges.

    A sum over one input channel per group has that channel's operands in lanes (depthwise); where several outputs share
    it, the channel is repeated.
    """

    dtype: Any = np.int64
    operand_size = 8
    step_cost = 1  # of one multiplication, against that of an exact sum
    zeros = 0

    def __init__(self, contraction: Contraction, in_lanes: bool = True) -> None:
        self.c = contraction
        window = contraction.window
        self.by_channel = in_lanes and window.channels == 1 and window.groups > 1
        self.repeat = window.outputs if self.by_channel else 1
        self._known: tuple[int, np.ndarray] = (0, np.empty(0, np.int64))
        self.window: Window = (
            replace(window, groups=window.groups * window.outputs, outputs=1) if self.repeat > 1 else window
        )

    def __call__(self, x: np.ndarray, run: Run, tally: Tally, finish: Finish) -> list[Any]:
        """Sum codes (samples, channels, depth, row, column), and `finish` the accumulators some rows at a time, in cache.

        Returns what `finish` gave for all parts, in the order of rows.
        """
        x = self.laid_out(x)
        positions, volume = self.window.positions, self.window.volume
        made: list[Any] = []
        some = max(1, PACKED // max(1, volume * self.operand_size))
        for n in range(0, len(x), some):
            part = self.part(x[n : n + some])
            made += self._rows(part, self._offsets(len(part.x)), n * positions, run, tally, finish)
        return made

    def laid_out(self, x: np.ndarray) -> np.ndarray:
        """Codes (samples, channels, …) with channels last, each as often as outputs share it."""
        return channels_last(np.repeat(x, self.repeat, axis=1) if self.repeat > 1 else x)

    def part(self, x: np.ndarray) -> Part:
        """Some samples, channels last."""
        return Part(x, self.window, self.zeros, not self.by_channel)

    def _offsets(self, samples: int) -> np.ndarray:
        """Places of the first operands of all rows of so many samples."""
        known, places = self._known
        if samples != known:
            places = np.add.outer(np.arange(samples) * self.window.volume, self.window.offsets).reshape(-1)
            self._known = samples, places
        return places

    def _rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, tally: Tally, finish: Finish) -> list[Any]:
        width = max(1, CACHED // (self.c.outputs * np.dtype(self.dtype).itemsize * ROWS)) * ROWS
        if offsets.size <= width and run.threads == 1:  # what follows, for a single part
            acc = np.empty((offsets.size, self.c.outputs), self.dtype)
            self.rows(part, offsets, row0, run, acc, tally)
            return [finish(acc, row0)]

        def some(start: int, stop: int) -> tuple[Tally, list[Any]]:
            mine, made = tally.empty(), []
            acc = np.empty((min(width, stop - start), self.c.outputs), self.dtype)
            for row in range(start, stop, width):
                rows = acc[: min(width, stop - row)]
                self.rows(part, offsets[row : row + len(rows)], row0 + row, run, rows, mine)
                made.append(finish(rows, row0 + row))
            return mine, made

        cost = max(1, self.c.window.terms * self.c.outputs * self.step_cost)
        least = -(-SHARE // cost // ROWS) * ROWS or ROWS
        pieces = pool.split(some, offsets.size, least, run.threads)
        for events, _ in pieces:
            tally.add(events)
        return [one for _, made in pieces for one in made]

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum the rows at `offsets` into `acc`; row0 numbers the first one in this call."""
        raise NotImplementedError


class Form:
    """Weights, places of terms and panels for one kind of tile.

    Parameters
    ----------
    way : Way
        Whose rows they serve.
    w : ndarray
        Weights (outputs, terms) as packed, in the order of terms.
    runs : ndarray
        Number of the run, or block, that each term belongs to.
    group : int
        Terms of one word.
    slots : int
        Operands of one lane of a weight vector; more than `group`: the rest is zero, or `twice` the first.
    """

    def __init__(
        self, way: Way, w: np.ndarray, runs: np.ndarray, size: int, group: int, slots: int, dtype: type,
        twice: bool = False, per_lane: int = 1,
    ) -> None:  # fmt: skip
        steps = way.window.steps(way.c.order)
        words = words_of(steps, runs, group)
        self.panels = panels_of(way.c.window, size, len(words.steps), per_lane, way.by_channel)
        self.count = lane_count(self.panels, per_lane)
        weights = pack_weights(w, self.panels, words, slots, dtype, per_lane)
        if twice:
            pairs = weights.view(dtype).reshape(-1, 2)
            pairs[:, 1] = pairs[:, 0]
        self.w, self.steps, self.ends, self.size = weights, words.steps * size, words.ends, size
        self.reach = (
            int(self.steps.max(initial=0) + self.panels[:, 0].max(initial=0)) + 8
        )  # bytes that one row may span

    def lanes(self, per_channel: np.ndarray) -> np.ndarray:
        """Spread rows (…, channels) over the lanes of all panels."""
        return lanes_of(self.panels, per_channel, self.count)

    def todo(self, rows: int) -> np.ndarray:
        """All blocks of rows, for all panels."""
        return np.ones((-(-rows // ROWS), len(self.panels)), np.uint8)


def outer_bias(c: Contraction) -> list[int]:
    """Bias per channel in steps of the outermost register, where it enters without rounding; else zeros."""
    shift = -c.bound.bias_register.drop
    return [b << shift for b in c.bias] if c.bias and shift >= 0 else [0] * c.outputs


def wrapped(values: np.ndarray) -> np.ndarray:
    """Whole numbers modulo 2^32, as 32-bit ones."""
    return ((values + (1 << 31)) % (1 << 32) - (1 << 31)).astype(np.int32)


def channels_last(x: np.ndarray) -> np.ndarray:
    """(samples, channels, depth, row, column) as (samples, depth, row, column, channel), copied only where it must be."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 4, 1))
