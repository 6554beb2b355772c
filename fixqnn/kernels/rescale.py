"""Accumulators to codes, for every scaler.

One class serves both engines: `exact_array` by the definition, `fast`, over rows, by the loop that fits the scaler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fixqnn.arith import exact
from fixqnn.arith.bind import output_register
from fixqnn.arith.fast import sequence_key
from fixqnn.datapath import Register
from fixqnn.errors import DoesNotFit
from fixqnn.events import Counter, Run, Witness
from fixqnn.format import Format
from fixqnn.kernels.products import Products, output_limits, products_of
from fixqnn.kernels.rescale_choice import Loop, choose, width_of
from fixqnn.kernels.rescale_loops import first_edge
from fixqnn.modes import GOLDEN, Overflow, mix64
from fixqnn.scaler import Exact, Float, Scaler

TRIES = 4  # codes at the register's edges that are looked at one by one for the first event

Position = Callable[[int], tuple[int, ...]]


class Stored(NamedTuple):
    """Events of some rows: per channel below and above, and (row, channel, number asked) of the first."""

    below: np.ndarray
    above: np.ndarray
    first: tuple[int, int, int] | None = None


@dataclass
class Rescale:
    """One scaler at its place: constants per channel, output zero point and output register.

    Parameters
    ----------
    scaler : Scaler or None
        None: the accumulator's content is the code.
    constants : tuple
        What ``scaler.prepare`` made, for every channel (or once for all).
    out : Format
        Format of the codes.
    bound : int
        No accumulator passes this magnitude.
    zero_point : int or Fraction, optional
        Added to the rescaled value; the output format's by default.
    bias : tuple of float
        Real numbers that a Float scaler adds to the accumulator, per channel.
    places, place, terms : int
        Where among the random numbers of one output this scaler draws.
    named : tuple, optional
        Name and record under which its register's events are noted; "output" and the register by default.
    """

    scaler: Scaler | None
    constants: tuple[Any, ...]
    out: Format
    bound: int
    zero_point: int | Fraction | None = None
    bias: tuple[float, ...] = ()
    places: int = 1
    place: int = 0
    terms: int = 0
    named: tuple[str, Register] | None = None
    _loops: dict[int, Loop] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.zero_point is None:
            self.zero_point = self.out.zero_point
        self.register = check_output(self.scaler, self.out, self.zero_point)
        self.named = self.named or ("output", self.register)

    def exact(self, acc: Any, channel: int, element: int, run: Run, draw: Callable[[int, int], int]) -> tuple[int, int]:
        """Carry one accumulator to its code: what the output register holds, and what it was asked to hold."""
        if self.scaler is None:
            asked = acc + int(self.zero_point)
        else:
            c = self.constants[channel % len(self.constants)]
            bias = self.bias[channel % len(self.bias)] if self.bias else 0.0
            asked = exact.scale(acc, self.scaler, c, self.zero_point, draw(self.place, self.terms), bias)
        stored, _ = exact.keep(asked, 0, self.register)
        return stored, asked

    def exact_array(self, acc: np.ndarray, run: Run, position: Position) -> np.ndarray:
        """Carry an object array (samples, channels, positions) of Python integers to codes, counting events."""
        _, channels, positions = acc.shape
        codes = np.empty(acc.shape, object)
        counter = Counter(channels)
        key = int(sequence_key(run.seed, run.stream))
        for n, c, p in np.ndindex(acc.shape):
            element = ((run.first_sample + n) * positions + p) * channels + c
            draw = element_draw(key, element, self.terms, self.places)
            codes[n, c, p], asked = self.exact(acc[n, c, p], c, element, run, draw)
            if codes[n, c, p] != asked:
                counter.add(Witness(run.first_sample + n, position(p), c, -1, asked), self.register.high)
        run.note(*self.named, counter.below, counter.above, counter.first)
        return codes

    def fast(self, acc: np.ndarray, run: Run, position: Position, positions: int, narrow: bool = False) -> np.ndarray:
        """Carry rows (rows, channels) of whole numbers, integer or float, to codes.

        Parameters
        ----------
        acc : ndarray
            Accumulators, row by row: sample, then position.
        run : Run
            Where random numbers come from, and events go.
        position : callable
            Names a position within a sample.
        positions : int
            How many rows a sample has.
        narrow : bool
            Whether codes come in their format's `narrow_dtype`.
        """
        codes = np.empty(acc.shape, self.out.narrow_dtype if narrow else self.out.code_dtype)
        self.note(run, [self.store(acc, codes, run, run.first_sample * positions)], position, positions)
        return codes

    def store(self, acc: np.ndarray, codes: np.ndarray, run: Run, first_row: int, seek: bool = True) -> Stored:
        """Carry some rows to `codes`; first_row numbers the first of them among all of the step's. Threads may call it.

        Without `seek` no first event is looked for: one is known in an earlier row.
        """
        channels = acc.shape[1]
        if channels not in self._loops:
            self._loops[channels] = choose(self, channels)
        loop, acc = self._loops[channels], np.ascontiguousarray(acc)
        below, above = counts = _over(loop, acc, codes, run, first_row * channels)
        if not (seek and np.count_nonzero(counts)) or run.has_witness(self.named[0]):
            return Stored(below, above)
        return Stored(below, above, self._first(loop, acc, codes, run, first_row))

    def note(self, run: Run, parts: Sequence[Stored], position: Position, positions: int) -> None:
        """Report the events of all parts, in the order of their rows."""
        if not parts:
            return
        below, above = (sum(counts[1:], counts[0]) for counts in zip(*(p[:2] for p in parts), strict=True))
        found = next((p.first for p in parts if p.first is not None), None)
        first = None
        if found is not None:
            sample, place = divmod(found[0], positions)
            first = Witness(sample, position(place), found[1], -1, found[2])
        run.note(*self.named, below, above, first)

    def _first(self, loop: Loop, acc: np.ndarray, codes: np.ndarray, run: Run, first_row: int) -> tuple[int, int, int]:
        """(Row, channel, number asked) of the first event, where there is one.

        What clamps leaves a code on an edge of the register: of the first few of them one is the first event nearly always.
        """
        channels, flat = acc.shape[1], codes.reshape(-1)

        def asked(row: int, channel: int) -> tuple[int, int]:
            draw = self._draw(run, (first_row + row) * channels + channel)
            return self.exact(_whole(acc[row, channel]), channel, 0, run, draw)

        first, last, other = self._edges
        index = -1
        for _ in range(TRIES if other is None else 0):
            index = first_edge(flat, index + 1, first, last)
            row, channel = divmod(index, channels)
            stored, wanted = asked(row, channel)
            if stored != wanted:
                return first_row + row, channel, wanted
        row, channel = self._first_event(loop, acc, run, first_row, codes.dtype)
        return first_row + row, channel, asked(row, channel)[1]

    def _first_event(self, loop: Loop, acc: np.ndarray, run: Run, first_row: int, dtype: Any) -> tuple[int, int]:
        """Row and channel of the first event, where there is one: the loop again, over ever longer runs, then halves."""
        channels = acc.shape[1]

        def counted(start: int, stop: int) -> np.ndarray:
            part = acc[start:stop]
            codes = np.empty(part.shape, dtype)
            return _over(loop, part, codes, run, (first_row + start) * channels).any(axis=0)

        start, length = 0, 1
        while not counted(start, start + length).any():
            start, length = start + length, 2 * length
        while length > 1:
            length = (length + 1) // 2
            if not counted(start, start + length).any():
                start += length
        return start, int(np.flatnonzero(counted(start, start + 1))[0])

    def _draw(self, run: Run, element: int) -> Callable[[int, int], int]:
        return element_draw(int(sequence_key(run.seed, run.stream)), element, self.terms, self.places)

    @cached_property
    def _edges(self) -> tuple[int, int, tuple[int, ...] | None]:
        return output_limits(self.register)

    @cached_property
    def products(self) -> Products | None:
        """The products that the scaler makes, or that provably come to the same; None where there are none."""
        return products_of(self.scaler, self.constants, self.bound, Fraction(self.zero_point), self.register)

    def redo(
        self,
        acc: np.ndarray,
        y: np.ndarray,
        run: Run,
        counts: np.ndarray,
        element: int,
        channels: int,
        indices: np.ndarray,
    ) -> None:
        """Compute the outputs at flat `indices` by the definition."""
        flat, codes = acc.reshape(-1), y.reshape(-1)
        for index in indices.tolist():
            c, draw = index % channels, self._draw(run, element + index)
            codes[index], asked = self.exact(_whole(flat[index]), c, element, run, draw)
            counts[0, c] += asked < self.register.low
            counts[1, c] += asked > self.register.high


def _over(loop: Loop, acc: np.ndarray, codes: np.ndarray, run: Run, element: int) -> np.ndarray:
    """Run a loop over rows (rows, channels); events (2, channels)."""
    channels = acc.shape[1]
    counts = np.zeros((2, width_of(channels)), np.int32)
    loop(acc.reshape(-1), codes.reshape(-1), run, counts, element)
    return np.add.reduce(counts.reshape(2, -1, channels), axis=1, dtype=np.int64)


def check_output(scaler: Scaler | None, out: Format, zero_point: int | Fraction) -> Register:
    """The output register of a scaler; DoesNotFit where the scaler cannot serve the output's format."""
    adds_any = isinstance(scaler, Exact) or (isinstance(scaler, Float) and scaler.zero_point == "before")
    if Fraction(zero_point).denominator != 1 and not adds_any:
        raise DoesNotFit(
            f"the output's zero point {zero_point} is no whole number; only Exact and Float(zero_point='before') can add it"
        )
    overflow = scaler.overflow if scaler is not None else Overflow.saturate
    return output_register(out, overflow, getattr(scaler, "kept", 0))


def element_draw(key: int, element: int, terms: int, places: int) -> Callable[[int, int], int]:
    """Random numbers of one output: ``draw(place, index)``, by the Python definition."""

    def draw(place: int, index: int) -> int:
        counter = (element * (terms + 2) + index + 1) * places + place
        return mix64((key + GOLDEN * (counter + 1)) % (1 << 64))

    return draw


def _whole(acc: Any) -> int | float:
    """The number itself: a whole one as a Python integer, an operand's float as it is."""
    return float(acc) if isinstance(acc, np.floating) and not acc.is_integer() else int(acc)
