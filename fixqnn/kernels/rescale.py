"""Accumulators to codes, for every scaler, over arrays of shape (samples, channels, positions).

One class serves both engines: `exact_array` by the definition, `fast` by the loop that fits the scaler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith import exact
from fixqnn.arith.bind import output_register
from fixqnn.arith.fast import WIDEST, mode_flags, register_constants, sequence_key, shift_constants
from fixqnn.datapath import Register
from fixqnn.errors import DoesNotFit, TooWide
from fixqnn.events import Counter, Run, Witness
from fixqnn.format import Format
from fixqnn.kernels.rescale_loops import (
    divide_round,
    fill_random,
    rescale_estimate,
    rescale_float,
    rescale_multiply,
    rescale_ratio,
    rescale_split,
    rescale_two_step,
)
from fixqnn.modes import GOLDEN, Overflow, Rounding, mix64
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Scaler, Shift, TwoStepMultiplier

Position = Callable[[int], tuple[int, ...]]


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
    _fast: Callable[..., Any] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.zero_point is None:
            self.zero_point = self.out.zero_point
        self.register = check_output(self.scaler, self.out, self.zero_point)

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
        run.note("output", self.register, counter.below, counter.above, counter.first)
        return codes

    def fast(self, acc: np.ndarray, run: Run, position: Position) -> np.ndarray:
        """Carry an array (samples, channels, positions) of whole numbers, integer or float, to int64 codes."""
        if self._fast is None:
            self._fast = self._choose()
        channels = acc.shape[1]
        codes = np.empty(acc.shape, self.out.code_dtype)
        below, above = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
        self._fast(acc, codes, run, below, above)
        first = None
        if (below.any() or above.any()) and not run.has_witness("output"):
            first = self._witness(acc, codes, run, position)
        run.note("output", self.register, below, above, first)
        return codes

    def _witness(self, acc: np.ndarray, codes: np.ndarray, run: Run, position: Position) -> Witness | None:
        """Find the first event by the definition: only outputs at an edge of the register, or wrapped, can be it."""
        register, (_, channels, positions) = self.register, acc.shape
        key = int(sequence_key(run.seed, run.stream))
        saturates = register.overflow in ("saturate", "saturate_symmetric", "forbid")
        for n in range(acc.shape[0]):
            chosen = (
                (codes[n] == register.low) | (codes[n] == register.high) if saturates else np.ones(codes[n].shape, bool)
            )
            for p in np.flatnonzero(chosen.any(axis=0)).tolist():
                for c in np.flatnonzero(chosen[:, p]).tolist():
                    element = ((run.first_sample + n) * positions + p) * channels + c
                    draw = element_draw(key, element, self.terms, self.places)
                    stored, asked = self.exact(_whole(acc[n, c, p]), c, element, run, draw)
                    if stored != asked:
                        return Witness(run.first_sample + n, position(p), c, -1, asked)
        return None

    # -- choosing a kernel -------------------------------------------------------------------------------------------

    def _choose(self) -> Callable[..., None]:
        match self.scaler:
            case None:
                return self._multiply(((1, 0),), Rounding.floor)
            case Shift():
                return self._multiply(tuple((1 << max(-s, 0), max(s, 0)) for s in self.constants), self.scaler.rounding)
            case Multiplier():
                lifted = tuple((m << max(-s, 0), max(s, 0)) for m, s in self.constants)
                return self._multiply(lifted, self.scaler.rounding)
            case TwoStepMultiplier():
                return self._two_step()
            case Float():
                return self._float()
            case Exact():
                return self._exact()
            case Divide():
                return self._divide()
        raise TypeError(f"not a scaler: {self.scaler!r}")

    def _output(self) -> np.ndarray:
        return register_constants(self.register, 0)

    def _random(self, acc: np.ndarray, run: Run) -> np.ndarray:
        random = np.empty(acc.shape, np.uint64)
        fill_random(sequence_key(run.seed, run.stream), run.first_sample, self.places, self.place, self.terms, random)
        return random

    def _multiply(self, pairs: tuple[tuple[int, int], ...], rounding: Rounding) -> Callable[..., None]:
        if Fraction(self.zero_point).denominator != 1:
            lifted = tuple((m << 1, s + 1) if s < 1 else (m, s) for m, s in pairs)
            offsets = [int(Fraction(self.zero_point) * (1 << s)) for _, s in lifted]
            pairs, zero = lifted, 0
        else:
            offsets, zero = [0] * len(pairs), int(self.zero_point)
        product = max(self.bound * m + abs(o) for (m, _), o in zip(pairs, offsets, strict=True))
        deepest = max(s for _, s in pairs)
        output = self._output()
        split = product.bit_length() > WIDEST - 1
        if (
            split
            and not (
                not any(offsets)
                and min(s for _, s in pairs) >= 25
                and max((self.bound >> 24) * m + (m << 1) for m, _ in pairs).bit_length() < WIDEST - 2
                and max(m for m, _ in pairs).bit_length() <= 36
                and rounding is not Rounding.stochastic
            )
        ) or deepest > WIDEST:
            raise TooWide(
                f"rescaling by {max(m for m, _ in pairs)} / 2^{deepest} an accumulator of up to ±{self.bound} passes 62 bits; "
                "use a narrower multiplier or accumulator, or engine='exact'"
            )
        m = np.array([m for m, _ in pairs], np.int64)
        rows = np.array([shift_constants(s - 23 if split else s, rounding)[:5] for _, s in pairs], np.int64)
        offset = np.array(offsets, np.int64)
        if split:
            return lambda acc, y, run, below, above: rescale_split(acc, m, rows, zero, output, y, below, above)
        stochastic = rounding is Rounding.stochastic

        def multiply(acc: np.ndarray, y: np.ndarray, run: Run, below: np.ndarray, above: np.ndarray) -> None:
            random = self._random(acc, run) if stochastic else None
            rescale_multiply(acc, m, rows, offset, zero, output, random, y, below, above)

        return multiply

    def _two_step(self) -> Callable[..., None]:
        scaler = self.scaler
        if scaler.bits > 32:
            raise TooWide(f"{scaler}: the compiled form takes up to 32 bits; use engine='exact'")
        if Rounding.stochastic in (scaler.first, scaler.second):
            return self._redo_all
        m = np.array([m for m, _ in self.constants], np.int64)
        left = np.array([max(e, 0) for _, e in self.constants], np.int64)
        rows = np.array([shift_constants(max(-e, 0), scaler.second)[:5] for _, e in self.constants], np.int64)
        if left.max() > 31:
            raise TooWide(f"{scaler}: a left shift by {left.max()} passes 62 bits; use engine='exact'")
        first = np.array(shift_constants(scaler.bits - 1, scaler.first)[:5], np.int64)
        zero, output = int(self.zero_point), self._output()
        return lambda acc, y, run, below, above: rescale_two_step(
            acc, scaler.bits, first, m, left, rows, zero, output, y, below, above
        )

    def _float(self) -> Callable[..., None]:
        scaler = self.scaler
        if scaler.rounding is Rounding.stochastic:
            return self._redo_all
        fl = scaler.dtype
        c = np.array(self.constants, fl)
        bias = np.array(self.bias or (0.0,), fl)
        flags, divide = np.array(mode_flags(scaler.rounding), np.int64), scaler.by == "divide"
        before = fl(float(self.zero_point)) if scaler.zero_point == "before" else fl(0)
        after = 0 if scaler.zero_point == "before" else int(self.zero_point)
        output = self._output()
        return lambda acc, y, run, below, above: rescale_float(
            acc, bias, c, divide, before, flags, after, output, y, below, above
        )

    def _exact(self) -> Callable[..., None]:
        rounding, zero = self.scaler.rounding, Fraction(self.zero_point)
        ratios = self.constants
        if all(r.denominator & (r.denominator - 1) == 0 for r in ratios):
            try:
                return self._multiply(tuple((r.numerator, r.denominator.bit_length() - 1) for r in ratios), rounding)
            except TooWide:
                pass
        if rounding is Rounding.stochastic:
            return self._redo_all
        whole = int(zero) if zero.denominator == 1 else 0
        part = zero - whole
        output, flags = self._output(), np.array(mode_flags(rounding), np.int64)
        top = [r.numerator * part.denominator for r in ratios]
        bottom = [r.denominator * part.denominator for r in ratios]
        offset = [r.denominator * part.numerator for r in ratios]
        largest = max(self.bound * t + abs(o) for t, o in zip(top, offset, strict=True))
        if max(largest, 2 * max(bottom)).bit_length() < WIDEST:
            p, q, o = (np.array(v, np.int64) for v in (top, bottom, offset))
            return lambda acc, y, run, below, above: rescale_ratio(acc, p, q, o, flags, whole, output, y, below, above)
        estimate = np.array([float(r) for r in ratios])

        def decided(acc: np.ndarray, y: np.ndarray, run: Run, below: np.ndarray, above: np.ndarray) -> None:
            doubtful = np.empty(max(64, acc.size // 1024), np.int64)
            found = rescale_estimate(acc, estimate, float(part), flags, whole, output, y, below, above, doubtful)
            if found > doubtful.size:
                below[:] = above[:] = 0
                self._redo_all(acc, y, run, below, above)
            else:
                self._redo(acc, y, run, below, above, doubtful[:found])

        return decided

    def _divide(self) -> Callable[..., None]:
        modes = [getattr(self.scaler.then, name, None) for name in ("rounding", "first", "second")]
        if Rounding.stochastic in (self.scaler.rounding, *modes):
            return self._redo_all
        count, flags = self.constants, np.array(mode_flags(self.scaler.rounding), np.int64)
        divisors = np.array([c for c, _ in count], np.int64)
        then = Rescale(self.scaler.then, tuple(c for _, c in count), self.out, self.bound, self.zero_point)
        inner = then._choose()

        def divide(acc: np.ndarray, y: np.ndarray, run: Run, below: np.ndarray, above: np.ndarray) -> None:
            mean = np.empty(acc.shape, np.int64)
            divide_round(acc, divisors, flags, mean)
            inner(mean, y, run, below, above)

        return divide

    def _redo_all(self, acc: np.ndarray, y: np.ndarray, run: Run, below: np.ndarray, above: np.ndarray) -> None:
        self._redo(acc, y, run, below, above, np.arange(acc.size))

    def _redo(
        self, acc: np.ndarray, y: np.ndarray, run: Run, below: np.ndarray, above: np.ndarray, indices: np.ndarray
    ) -> None:
        """Compute the outputs at flat `indices` by the definition."""
        _, channels, positions = acc.shape
        key = int(sequence_key(run.seed, run.stream))
        for index in indices.tolist():
            n, c, p = index // (channels * positions), index // positions % channels, index % positions
            element = ((run.first_sample + n) * positions + p) * channels + c
            draw = element_draw(key, element, self.terms, self.places)
            y[n, c, p], asked = self.exact(_whole(acc[n, c, p]), c, element, run, draw)
            below[c] += asked < self.register.low
            above[c] += asked > self.register.high


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
