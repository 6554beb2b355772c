"""Random formats, codes, registers and scalers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fixqnn.datapath import Register
from fixqnn.format import Format
from fixqnn.modes import Overflow, Rounding
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier

# Every mode but stochastic; that one has tests of its own, as few places can draw.
roundings = st.sampled_from([mode for mode in Rounding if mode is not Rounding.stochastic])
# What a compiled output register can do; wrap_sign_magnitude asks for a bit that is gone by then.
overflows = st.sampled_from([mode for mode in Overflow if mode is not Overflow.wrap_sign_magnitude])

free_scales = st.one_of(
    st.floats(2**-10, 2).map(Fraction),
    st.floats(2**-10, 2, width=32).map(Fraction),
    st.fractions(Fraction(1, 50), 2, max_denominator=60),
)


@st.composite
def formats(
    draw: Any,
    bits: Any = (1, 10),
    power_of_two: bool | None = None,
    zero_points: bool = True,
    signed: bool | None = None,
) -> Format:
    """A format with one scale.

    Parameters
    ----------
    draw
        From hypothesis.
    bits : pair of int
        Least and largest width.
    power_of_two : bool, optional
        Whether the scale is one; None: either.
    zero_points : bool
        Whether the zero point may be other than 0.
    signed : bool, optional
        None: either.
    """
    width = draw(st.integers(*bits))
    is_signed = draw(st.booleans()) if signed is None else signed
    shift = draw(st.booleans()) if power_of_two is None else power_of_two
    scale = Fraction(2) ** draw(st.integers(-6, 2)) if shift else draw(free_scales)
    form = Format(width, is_signed, scale)
    zero_point = 0
    if zero_points and not (shift and draw(st.booleans())):
        zero_point = draw(st.integers(form.low - 2, form.high + 2))
    narrow = width > 1 and is_signed and draw(st.integers(0, 5)) == 0
    return Format(width, is_signed, scale, zero_point, None, narrow)


def codes_of(form: Format, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Codes of a format: every fourth one an extreme, a neighbour of one, or real zero."""
    random = np.random.default_rng(seed)
    if form.bits > 62:
        codes = np.array([form.low + int.from_bytes(random.bytes(16)) % (form.high - form.low + 1) for _ in range(
            int(np.prod(shape)))], object).reshape(shape)  # fmt: skip
    else:
        codes = random.integers(form.low, form.high, shape, np.int64, endpoint=True).astype(object)
    zero = min(max(round(form.zero_point), form.low), form.high)
    corners = np.array([form.low, form.high, max(form.low, form.high - 1), min(form.low + 1, form.high), zero], object)
    return np.where(random.integers(0, 4, shape) == 0, random.choice(corners, shape), codes).astype(form.code_dtype)


@st.composite
def registers(draw: Any, bits: Any = (2, 24), drops: Any = (0, 6)) -> Register:
    """A register with a relative drop."""
    width, overflow = draw(st.integers(*bits)), draw(overflows)
    kept = draw(st.integers(0, min(2, width - 1))) if overflow is Overflow.wrap else 0
    return Register(width, overflow, draw(st.booleans()), draw(roundings), draw(st.integers(*drops)), None, kept)


@st.composite
def scalers(draw: Any, power_of_two: bool = False, divide: bool = True) -> Any:
    """A scaler that rounds; a Shift, exact only for power-of-two scales, when `power_of_two`."""
    kinds = ["exact", "multiplier", "two_step", "float"] + ["shift"] * (3 if power_of_two else 0) + ["divide"] * divide
    rounding, overflow = draw(roundings), draw(overflows)
    match draw(st.sampled_from(kinds)):
        case "exact":
            return Exact(rounding, overflow)
        case "shift":
            return Shift(rounding, overflow, draw(st.integers(0, 1)) if overflow is Overflow.wrap else 0)
        case "multiplier":
            ratio = draw(st.sampled_from(["exact", "float64", "float32"]))
            return Multiplier(draw(st.integers(4, 32)), rounding, ratio, None, draw(roundings_to_nearest), overflow)
        case "two_step":
            ratio = draw(st.sampled_from(["float64", "float32"]))
            return TwoStepMultiplier(32, rounding, draw(roundings), ratio, overflow)
        case "float":
            by = draw(st.sampled_from(["multiply", "divide", "reciprocal"]))
            precision = draw(st.sampled_from(["float32", "float64"]))
            zero_point = draw(st.sampled_from(["after", "before"]))
            return Float(precision, rounding, by, zero_point, overflow)
    return Divide(rounding, draw(scalers(power_of_two, divide=False)))


roundings_to_nearest = st.sampled_from([mode for mode in Rounding if mode.nearest])
