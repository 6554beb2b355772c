"""From a range to a scale: the formats of values and of weights.

Every range contains 0. A range *fits* a format when neither end lies half a step or more beyond the codes, so that
rounding to nearest clips nothing, however ties are broken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from fixqnn.calibration.observe import Observation
from fixqnn.calibration.policy import Policy
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.modes import bounds

HALF = Fraction(1, 2)
# Where the least squared error is sought: ranges shrink by this factor, until clipping alone costs more than the best
# found; free scales are then tried at REFINED more places up to the next on each side.
SHRINK = 2.0**-0.125
REFINED = 7
LEAST_FLOAT32, MOST_FLOAT32 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


# ---------------------------------------------------------------------------------------------- formats of values
def value_format(seen: Observation, policy: Policy, name: str) -> Format:
    """Choose the format of a value.

    A value that was always zero is taken to reach from −1 to 1: nothing is known of it, and a scale much wider would
    also make the biases of what reads it coarse.
    """
    low, high = (-1.0, 1.0) if seen.dead else (min(seen.low, 0.0), max(seen.high, 0.0))
    if policy.activations == 1 and policy.style == "symmetric" and _is_signed(low, policy):
        return signs(seen.mean_size(), policy.scales, name)
    if policy.ranges == "percentile" and not seen.dead:
        inner = seen.within(policy.percentile, policy.style == "affine")
        low, high = inner if inner[0] < inner[1] else (low, high)  # so many zeros that all else would be left out
    if policy.ranges == "mse" and not seen.dead:
        return least_error(seen, lambda factor: _fitted(low * factor, high * factor, policy, name))
    return _fitted(low, high, policy, name)


def _is_signed(low: float, policy: Policy) -> bool:
    return low < 0 if policy.signed == "auto" else policy.signed


def _fitted(low: float, high: float, policy: Policy, name: str) -> Format:
    """Find the finest format that a range fits, in the policy's style."""
    if policy.style == "affine":
        return spanning(low, high, policy.activations, policy.signed is not False, policy.scales, name)
    signed = _is_signed(low, policy)
    return centred(low if signed else 0.0, high, policy.activations, signed, False, policy.scales, name)


def centred(low: float, high: float, bits: int, signed: bool, narrow_range: bool, scales: str, name: str) -> Format:
    """Find the finest format with zero point 0 that [low, high] fits.

    Parameters
    ----------
    low, high : float
        The range; it contains 0.
    bits : int
        Width of a code.
    signed, narrow_range : bool
        As in Format.
    scales : "power_of_two" or "free"
        A free scale brings the larger magnitude onto the highest code.
    name : str
        What messages call the value.

    Examples
    --------
    >>> centred(-1.0, 0.7, 8, True, False, "power_of_two", "x")
    fixed(8, 7)
    >>> centred(0.0, 6.0, 8, False, False, "power_of_two", "x")
    fixed(8, 5, signed=False)
    """
    first, last = bounds(bits, signed, narrow_range)
    ends = Fraction(low), Fraction(high if low < high else 1)

    def fits(scale: Fraction) -> bool:
        return ends[1] / scale < last + HALF and ends[0] / scale > first - HALF

    start = max(-ends[0], ends[1]) / max(last, 1)
    return Format(bits, signed, _finest(start, fits, scales, name), 0, None, narrow_range)


def spanning(low: float, high: float, bits: int, signed: bool, scales: str, name: str) -> Format:
    """Find the finest format whose codes span [low, high], which contains 0; 0 is a code.

    A free scale is (high − low) / (2^bits − 1). Where several zero points would do, the one nearest 0 is taken.

    >>> spanning(-1.0, 2.9, 8, True, "power_of_two", "x")
    affine(8, 0.015625, -59)
    >>> spanning(-1.0, 1.55, 8, False, "free", "x").zero_point
    100
    """
    first, last = bounds(bits, signed)
    ends = Fraction(low), Fraction(high if low < high else 1)

    def zero_points(scale: Fraction) -> tuple[int, int]:
        """Smallest and largest zero point with which both ends fit; there is none if they cross."""
        return math.floor(first - HALF - ends[0] / scale) + 1, math.ceil(last + HALF - ends[1] / scale) - 1

    def fits(scale: Fraction) -> bool:
        least, most = zero_points(scale)
        return least <= most

    scale = _finest((ends[1] - ends[0]) / (last - first), fits, scales, name)
    least, most = zero_points(scale)
    return Format(bits, signed, scale, min(max(least, 0), most))


def signs(size: float, scales: str, name: str) -> Format:
    """Give the one-bit format ±s for numbers of mean magnitude `size`: s is where the squared error is least.

    The error of ±s is s² − 2·s·size + constant, least at s = size (Rastegari et al., "XNOR-Net", 2016), and among
    powers of two at the one nearest to it.

    >>> signs(0.3, "power_of_two", "w")
    affine(1, 0.5, 0.5, signed=False)
    """
    s = Fraction(size) if size else Fraction(1)
    if scales == "power_of_two":
        lower = _power_below(s)
        s = lower if s - lower <= 2 * lower - s else 2 * lower
    else:
        s = _float32(s, name)
    return Format(1, False, 2 * s, HALF)


# --------------------------------------------------------------------------------------------- formats of weights
def weight_format(array: np.ndarray, policy: Policy, axis: int | None, name: str) -> Format:
    """Choose the format of weights: symmetric and signed, one scale for all, or one per channel along `axis`.

    A channel of zeros is taken to reach from −1 to 1: its scale matters to its bias alone.
    """
    if axis is None:
        return _weight_format(array, policy, name)
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    # The search for the least error takes all channels at once; here each one's whole range comes first.
    whole = policy.having({"weight_ranges": "max"})
    channels = [_weight_format(row, whole, f"{name}, channel {i}") for i, row in enumerate(rows)]
    one = channels[0]
    found = [form.scale for form in channels]
    if _searched(policy):
        found = least_error_of_rows(rows, found, one.low, one.high, policy.scales, name)
    return Format(one.bits, one.signed, found, one.zero_point, axis, one.narrow_range)


def _weight_format(array: np.ndarray, policy: Policy, name: str) -> Format:
    bits, narrow_range = policy.weights, policy.narrow_weights
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    if bits in (1, "binary"):
        return signs(float(np.abs(array).mean()), policy.scales, name)
    if bits == "ternary":
        bits, narrow_range = 2, True
    if low == high:
        return centred(-1.0, 1.0, bits, True, narrow_range, policy.scales, name)

    def shrunk(factor: float) -> Format:
        return centred(low * factor, high * factor, bits, True, narrow_range, policy.scales, name)

    return least_error(Observation.of(array), shrunk) if _searched(policy) else shrunk(1.0)


def _searched(policy: Policy) -> bool:
    """Whether the scale of weights is where the squared error is least."""
    return policy.weights not in (1, "binary") and (policy.weights == "ternary" or policy.weight_ranges == "mse")


# ------------------------------------------------------------------------------------------- least squared error
def least_error(seen: Observation, make: Callable[[float], Format]) -> Format:
    """Find the format with the least mean squared error among those that `make` gives for shrunk ranges.

    ``make(1.0)`` covers the whole range. Smaller factors clip more and round finer; the search ends where clipping
    alone costs more than the best found.
    """
    best, best_error, best_factor = make(1.0), math.inf, 1.0
    previous: Format | None = None
    for power in range(8 * 64):
        factor = SHRINK**power
        form = make(factor)
        if form == previous:
            continue
        previous = form
        error, clipping = squared_error(seen, form)
        if error < best_error:
            best, best_error, best_factor = form, error, factor
        if clipping > best_error:
            break
    if best.is_power_of_two:
        return best
    for part in range(-REFINED, REFINED + 1):
        factor = min(1.0, best_factor * SHRINK ** (part / (REFINED + 1)))
        form = make(factor)
        error, _ = squared_error(seen, form)
        if error < best_error:
            best, best_error = form, error
    return best


def least_error_of_rows(
    rows: np.ndarray, whole: Sequence[Fraction], low: int, high: int, scales: str, name: str
) -> list[Fraction]:
    """Find the scale of least squared error for every row, as `least_error` does for one array.

    Parameters
    ----------
    rows : ndarray
        Numbers (rows, numbers per row).
    whole : sequence of Fraction
        Per row, the scale that covers its whole range.
    low, high : int
        The codes, for a zero point of 0.
    scales : "power_of_two" or "free"
        What scales may be.
    name : str
        What messages call the rows.
    """
    units = rows / np.array([float(s) for s in whole])[:, None]  # in steps of the scale that covers all
    best = np.ones(len(rows))
    best_error = _error_of_rows(units, best, low, high)
    step = 0.5 if scales == "power_of_two" else SHRINK
    active, factor = np.arange(len(rows)), 1.0
    while active.size and factor > SHRINK ** (8 * 64):
        factor *= step
        part = units[active]
        error = _error_of_rows(part, np.full(len(part), factor), low, high)
        better = error < best_error[active]
        best_error[active[better]], best[active[better]] = error[better], factor
        clipping = ((part - np.clip(part, low * factor, high * factor)) ** 2).sum(axis=1)
        active = active[clipping <= best_error[active]]
    if scales == "power_of_two":
        return [s * Fraction(f) for s, f in zip(whole, best.tolist(), strict=True)]
    coarse = best.copy()
    for place in range(-REFINED, REFINED + 1):
        factors = np.minimum(coarse * SHRINK ** (place / (REFINED + 1)), 1.0)
        error = _error_of_rows(units, factors, low, high)
        better = error < best_error
        best_error[better], best[better] = error[better], factors[better]
    return [_float32(s * Fraction(f), name) for s, f in zip(whole, best.tolist(), strict=True)]


def _error_of_rows(units: np.ndarray, factors: np.ndarray, low: int, high: int) -> np.ndarray:
    """Squared error of every row when it is rounded to multiples of its factor."""
    factors = factors[:, None]
    return ((np.clip(np.rint(units / factors), low, high) * factors - units) ** 2).sum(axis=1)


def squared_error(seen: Observation, form: Format) -> tuple[float, float]:
    """Mean squared error of rounding to the format, and the part that clipping makes, in squared widths of a bin.

    Within a bin, numbers count as spread evenly, so that steps finer than a bin are judged fairly too: the integral of
    the squared error over every bin, in closed form.
    """
    width = Fraction(2) ** seen.step
    scale, low, high = (float(number / width) for number in (form.scale, form.real_low, form.real_high))
    left, counts = seen.bins()
    edges = np.stack([left, left + 1])
    inside = np.clip(edges, low, high) / scale
    whole = np.rint(inside)
    # One step holds ∫ t² dt from −1/2 to 1/2 = 1/12; what is left over, its own cube.
    rounding = np.diff(whole / 12 + (inside - whole) ** 3 / 3, axis=0)[0] * scale**3
    clipping = np.diff((np.maximum(edges - high, 0) ** 3 + np.minimum(edges - low, 0) ** 3) / 3, axis=0)[0]
    clipped = float((clipping * counts).sum()) / seen.count
    return float((rounding * counts).sum()) / seen.count + clipped, clipped


# ---------------------------------------------------------------------------------------------- search for scales
def _finest(start: Fraction, fits: Callable[[Fraction], bool], scales: str, name: str) -> Fraction:
    """Find the smallest power of two that fits; or the smallest float32 from `start` on that fits."""
    if scales == "power_of_two":
        scale = _power_below(start)
        while fits(scale / 2):
            scale /= 2
        while not fits(scale):
            scale *= 2
        return scale
    scale = _float32(start, name)
    while not fits(scale):
        scale = Fraction(float(np.nextafter(np.float32(float(scale)), np.float32(np.inf))))
    return scale


def _power_below(value: Fraction) -> Fraction:
    """Find the largest power of two up to a positive number."""
    power = Fraction(2) ** (value.numerator.bit_length() - value.denominator.bit_length())
    return power if power <= value else power / 2


def _float32(value: Fraction, name: str) -> Fraction:
    """Round to float32, as quantized models store scales; the smallest normal number at least."""
    if value > MOST_FLOAT32:
        raise BadInput(
            f"{name!r} reaches so far that its scale {float(value):.4g} is beyond float32; scales='power_of_two' has no limit"
        )
    return Fraction(float(np.float32(max(float(value), LEAST_FLOAT32))))
