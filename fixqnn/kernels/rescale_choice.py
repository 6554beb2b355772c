"""Which loop of `fixqnn.kernels.rescale_loops` does the work of a scaler, with which constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from fixqnn.arith.fast import WIDEST, mode_flags, sequence_key, shift_constants
from fixqnn.errors import TooWide
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.kernels.products import output_limits, shifts_of, spread
from fixqnn.kernels.rescale_loops import (
    fill_random,
    rescale_estimate,
    rescale_float,
    rescale_float_any,
    rescale_multiply,
    rescale_ratio,
    rescale_split,
    rescale_two_step,
)
from fixqnn.modes import Rounding
from fixqnn.scaler import Divide, Exact, Float, TwoStepMultiplier

if TYPE_CHECKING:
    from fixqnn.kernels.rescale import Rescale

Loop = Callable[
    [np.ndarray, np.ndarray, Run, np.ndarray, int], None
]  # (flat acc, flat codes, run, counts, first element)

WIDTH = 256  # outputs that one pass of an inner loop takes at least, if channels are fewer


def width_of(channels: int) -> int:
    """How many outputs one pass of an inner loop takes: a whole number of rows, enough of them to fill vectors."""
    return channels * max(1, WIDTH // max(channels, 1))


def choose(rescale: Rescale, channels: int) -> Loop:
    """The loop for rows of so many channels; TooWide where 62 bits do not carry it."""
    products = rescale.products
    if products is not None:
        if not products.too_long:
            return _multiply(rescale, channels)
        constants = products.halves(channels, width_of(channels))
        return lambda acc, y, run, counts, element: rescale_split(acc, *constants, y, counts)
    match rescale.scaler:
        case TwoStepMultiplier():
            return _two_step(rescale, channels)
        case Float():
            return _float(rescale, channels)
        case Exact():
            return _exact(rescale, channels)
        case Divide():
            return _divide(rescale, channels)
    raise TypeError(f"not a scaler: {rescale.scaler!r}")


def _multiply(rescale: Rescale, channels: int) -> Loop:
    constants = rescale.products.simple(channels, width_of(channels))
    stochastic = rescale.products.rounding is Rounding.stochastic

    def multiply(acc: np.ndarray, y: np.ndarray, run: Run, counts: np.ndarray, element: int) -> None:
        random = None
        if stochastic:
            random = np.empty(acc.size, np.uint64)
            key = sequence_key(run.seed, run.stream)
            fill_random(key, element, rescale.places, rescale.place, rescale.terms, random)
        rescale_multiply(acc, *constants, random, y, counts)

    return multiply


def _two_step(rescale: Rescale, channels: int) -> Loop:
    scaler, width = rescale.scaler, width_of(channels)
    if scaler.bits > 32:
        raise TooWide(f"{scaler}: the compiled form takes up to 32 bits; use engine='exact'")
    half, most = 1 << (scaler.bits - 1), max(max(e, 0) for _, e in rescale.constants)
    if Rounding.stochastic in (scaler.first, scaler.second) or max(m for m, _ in rescale.constants) >= half:
        return _redo_all(rescale, channels)
    if most > 31:
        raise TooWide(f"{scaler}: a left shift by {most} passes 62 bits; use engine='exact'")
    m = spread([m for m, _ in rescale.constants], channels, width, np.int32)
    left = spread([max(e, 0) for _, e in rescale.constants], channels, width) if most else None
    wraps = np.array([half, 2 * half - 1], np.int64) if rescale.bound << most >= half else None
    step = [
        v if i in (0, 1, 4) or v else None for i, v in enumerate(shift_constants(scaler.bits - 1, scaler.first)[:5])
    ]
    *rows, flip = shifts_of([max(-e, 0) for _, e in rescale.constants], scaler.second)
    rows = [spread(row, channels, width) if i < 2 or any(row) else None for i, row in enumerate(rows)]
    zero, output = int(rescale.zero_point), output_limits(rescale.register)
    return lambda acc, y, run, counts, element: rescale_two_step(
        acc, wraps, *step, left, m, *rows, max(flip), zero, *output, y, counts
    )


def _float(rescale: Rescale, channels: int) -> Loop:
    scaler, fl, width = rescale.scaler, rescale.scaler.dtype, width_of(channels)
    if scaler.rounding is Rounding.stochastic:
        return _redo_all(rescale, channels)
    factor = spread(rescale.constants, channels, width, fl)
    bias = spread(rescale.bias, channels, width, fl) if any(rescale.bias) else None
    flags, divide = mode_flags(scaler.rounding), True if scaler.by == "divide" else None
    shifts = scaler.zero_point == "before" and rescale.zero_point != 0
    before = fl(float(rescale.zero_point)) if shifts else None
    zero = 0 if scaler.zero_point == "before" else int(rescale.zero_point)
    first, last, other = output_limits(rescale.register)
    narrow = max(abs(v) for v in (zero, first, last, first - zero, last - zero)) < 1 << (24 if fl is np.float32 else 31)
    if other is not None or not narrow or scaler.rounding is Rounding.half_odd:
        return lambda acc, y, run, counts, element: rescale_float_any(
            acc, bias, factor, divide, before, flags, zero, first, last, other, y, counts
        )
    up = None
    if scaler.rounding is not Rounding.half_even:
        nearest, *ties, _, _, any_positive, any_negative = flags
        parts = (0.5, 0.5) if nearest else (0.0 if any_positive else 1.0, 0.0 if any_negative else 1.0)
        up = tuple(fl(v) for v in (parts[0], ties[0], parts[1], ties[1]))
    limits = np.int32(zero), fl(first - zero), fl(last - zero)
    return lambda acc, y, run, counts, element: rescale_float(acc, bias, factor, divide, before, up, *limits, y, counts)


def _exact(rescale: Rescale, channels: int) -> Loop:
    rounding, zero, ratios = rescale.scaler.rounding, Fraction(rescale.zero_point), rescale.constants
    if rounding is Rounding.stochastic:
        return _redo_all(rescale, channels)
    whole, width = int(zero) if zero.denominator == 1 else 0, width_of(channels)
    part = zero - whole
    output, flags = output_limits(rescale.register), mode_flags(rounding)
    top = [r.numerator * part.denominator for r in ratios]
    bottom = [r.denominator * part.denominator for r in ratios]
    offset = [r.denominator * part.numerator for r in ratios]
    largest = max(rescale.bound * t + abs(o) for t, o in zip(top, offset, strict=True))
    if max(largest, 2 * max(bottom)).bit_length() < WIDEST and largest < min(bottom) << 50:
        p, q, o = (spread(v, channels, width) for v in (top, bottom, offset))
        inverse = 1.0 / q
        return lambda acc, y, run, counts, element: rescale_ratio(
            acc, p, q, inverse, o, flags, whole, *output, y, counts
        )
    estimate = spread([float(r) for r in ratios], channels, width, np.float64)
    redo_all = _redo_all(rescale, channels)

    def decided(acc: np.ndarray, y: np.ndarray, run: Run, counts: np.ndarray, element: int) -> None:
        doubtful = np.empty(max(64, acc.size // 1024), np.int64)
        before = counts.copy()
        found = rescale_estimate(acc, estimate, float(part), flags, whole, *output, y, counts, doubtful)
        if found > doubtful.size:
            counts[:] = before
            redo_all(acc, y, run, counts, element)
        else:
            rescale.redo(acc, y, run, counts, element, channels, doubtful[:found])

    return decided


def _divide(rescale: Rescale, channels: int) -> Loop:
    modes = [getattr(rescale.scaler.then, name, None) for name in ("rounding", "first", "second")]
    if Rounding.stochastic in (rescale.scaler.rounding, *modes):
        return _redo_all(rescale, channels)
    means = tuple(Fraction(1, count) for count, _ in rescale.constants)
    divide = choose(
        replace(rescale, scaler=Exact(rescale.scaler.rounding), constants=means, out=Format(WIDEST), zero_point=0),
        channels,
    )
    then = tuple(c for _, c in rescale.constants)
    inner = choose(replace(rescale, scaler=rescale.scaler.then, constants=then), channels)

    def divided(acc: np.ndarray, y: np.ndarray, run: Run, counts: np.ndarray, element: int) -> None:
        mean = np.empty(acc.shape, np.int64)
        divide(acc, mean, run, np.zeros_like(counts), element)
        inner(mean, y, run, counts, element)

    return divided


def _redo_all(rescale: Rescale, channels: int) -> Loop:
    return lambda acc, y, run, counts, element: rescale.redo(
        acc, y, run, counts, element, channels, np.arange(acc.size)
    )
