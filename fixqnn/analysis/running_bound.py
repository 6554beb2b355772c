"""The error of an integer network carried from step to step: a theorem, one rule per operation.

With e a bound of |x' − x|, elementwise, primes marking the integer network: a sum of products has
``e_y = |W'|·e_x + |W' − W|·|x| + |b' − b| + ρ``, ρ being what the scaler rounds; then saturation, which never reverses an
order, is applied to both ends of where the result may lie. What only moves, compares or averages does the same to errors.
Tables are looked up at every code that the input may have. The rules hold for weights and values of any sign; they are
derived here, in the manner of running error analysis (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 3.3).

The reference is the float network as `Graph.evaluate` computes it, and the exact real one: |x| is charged for the float64
rounding of its own sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fixqnn.analysis.departures import (
    Departure,
    all_codes,
    departure,
    output_bounds,
    pair_departure,
    refuse,
    sum_departure,
)
from fixqnn.analysis.enclosure import UNIT, UP, Enclosure
from fixqnn.analysis.steepness import EVALUATION, image, jump, steepest
from fixqnn.datapath import Lookup
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.ops.pair import draws
from fixqnn.ops.sums import Operand

Rule = Callable[..., Enclosure]


def entered(form: Format, real_low: np.ndarray, real_high: np.ndarray, codes: np.ndarray | None = None) -> Enclosure:
    """An input: encoded half to even and saturating, as `run` does; its code is known where the real number is.

    Parameters
    ----------
    form : Format
        The input's.
    real_low, real_high : ndarray
        The real input, or the ends of a box; one array where they are the same.
    codes : ndarray, optional
        The codes, where they came as such.
    """
    if codes is not None:
        return Enclosure.known(real_low, form.decode(codes))
    if real_low is real_high:
        return Enclosure.known(real_low, form.decode(form.encode(real_low)))
    low, high = form.decode(form.encode(real_low)), form.decode(form.encode(real_high))
    half, inside = float(max(form.scales)) / 2, (float(form.real_low), float(form.real_high))
    beyond = np.maximum(np.maximum(inside[0] - real_low, real_high - inside[1]), 0.0)
    return Enclosure.of(real_low, real_high, low, high, half + beyond)


def constant(real: np.ndarray, form: Format, codes: np.ndarray) -> Enclosure:
    """A constant that meets values as one of them."""
    return Enclosure.known(real, form.decode(codes))


def carry(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """Enclose the output of one step.

    Parameters
    ----------
    step : Step
        Prepared.
    inputs : sequence of Enclosure
        Of its inputs in order; weights and biases may be left out.
    reals : mapping of str to ndarray
        Real constants of the float network, by name.

    Raises
    ------
    DoesNotFit
        For an operation without a rule, and where registers may act.
    """
    rule = RULES.get(step.op.name)
    if rule is None or OPS.get(step.op.name) is not step.op:
        raise refuse(step, f"no error bound is known for this operation; there are {', '.join(RULES)}")
    return rule(step, inputs, reals)


# -- the end of every step that rounds ------------------------------------------------------------------------------


def _left(
    step: Step, real: tuple[np.ndarray, np.ndarray], error: np.ndarray, made: Departure, overflow: Any
) -> Enclosure:
    """Let the scaler round and the output register saturate: `error` is how far the exact result may be off."""
    real_low, real_high = real
    size = np.maximum(np.abs(real_low), np.abs(real_high)) + error
    error = (error + made.steps * float(step.out_format.scale) + made.share * size) * UP
    whole = Enclosure.near(real_low, real_high, error)
    low, high, nearest = output_bounds(step, Overflow.of(overflow))
    if nearest:
        # clip(y + d) − y never grows with y: it is largest at the lower end of where y lies, and least at the upper
        above = np.clip(real_low + error, low, high) - real_low
        below = real_high - np.clip(real_high - error, low, high)
        error = np.maximum(above, below) + UNIT * size
        return Enclosure.of(
            real_low, real_high, np.clip(whole.low, low, high), np.clip(whole.high, low, high), np.maximum(error, 0.0)
        )
    stays = (whole.low >= low) & (whole.high <= high)
    any_code = np.maximum(high - real_low, real_high - low)
    return Enclosure.of(
        real_low, real_high, np.where(stays, whole.low, low), np.where(stays, whole.high, high),
        np.where(stays, whole.error, any_code),
    )  # fmt: skip


def _overflow(datapath: Any) -> Overflow:
    scaler = getattr(datapath, "scaler", datapath)
    return Overflow.forbid if scaler is None else Overflow.of(scaler.overflow)


# -- sums of products ---------------------------------------------------------------------------------------------------


def _weighted(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """linear, conv, conv_transpose."""
    x, attributes = inputs[0], step.attributes
    names = step.inputs[1:]
    floats = [reals[name] for name in names]
    made = [step.formats[name].decode(step.constants[name]) for name in names]
    terms = math.prod(floats[0].shape[1:]) * 2 + 4
    changes = [np.abs(m - f) + terms * UNIT * np.abs(f) for m, f in zip(made, floats, strict=True)]

    def apply(values: np.ndarray, *constants: np.ndarray) -> np.ndarray:
        return step.op.real(values, *constants, **attributes)

    if x.point:
        low = high = apply(x.real_low, *floats)
    else:
        up, down = np.maximum(floats[0], 0), np.minimum(floats[0], 0)
        low = apply(x.real_low, up, *floats[1:]) + apply(x.real_high, down)
        high = apply(x.real_high, up, *floats[1:]) + apply(x.real_low, down)
        slack = terms * UNIT * apply(x.magnitude, *map(np.abs, floats))
        low, high = low - slack, high + slack
    error = apply(x.error, np.abs(made[0])) + apply(x.magnitude, *changes)
    return _left(step, (low, high), error, sum_departure(step), _overflow(step.datapath))


def _matmul(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """a'·b' − a·b = a'·(b' − b) + (a' − a)·b, both of them values."""
    a, b = inputs
    terms = 2 * a.real_low.shape[-1] + 4
    if a.point and b.point:
        low = high = a.real_low @ b.real_low
    else:
        low, high = _product_range(a, b)
    rounding = terms * UNIT * (a.magnitude @ b.magnitude)
    if low is not high:
        low, high = low - rounding, high + rounding
    error = a.reach @ b.error + a.error @ b.magnitude + rounding
    return _left(step, (low, high), error, sum_departure(step), _overflow(step.datapath))


def _product_range(a: Enclosure, b: Enclosure) -> tuple[np.ndarray, np.ndarray]:
    """Enclose a·b by middle and radius: |ab − mₐm_b| ≤ |mₐ|r_b + rₐ|m_b| + rₐr_b, summed."""
    centres, radii = zip(
        *(((v.real_low + v.real_high) / 2, (v.real_high - v.real_low) / 2) for v in (a, b)), strict=True
    )
    middle = centres[0] @ centres[1]
    radius = np.abs(centres[0]) @ radii[1] + radii[0] @ np.abs(centres[1]) + radii[0] @ radii[1]
    return middle - radius * UP, middle + radius * UP


def _average(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """mean, average_pool, adaptive_average_pool."""
    x = inputs[0]
    padded = any(n for pair in step.attributes.get("padding", ()) for n in pair)
    if step.datapath.zero_point == "ignored" and padded and step.attributes.get("include_padding", True):
        raise refuse(step, "this machine divides by the positions inside the image, the float network by all of them")

    def apply(values: np.ndarray) -> np.ndarray:
        return step.op.real(values, **step.attributes)

    low = apply(x.real_low)
    high = low if x.point else apply(x.real_high)
    terms = math.prod(step.shapes[step.inputs[0]][1:])
    rounding = 2 * terms * UNIT * apply(x.magnitude)
    if not x.point:
        low, high = low - rounding, high + rounding
    return _left(step, (low, high), apply(x.error) + rounding, sum_departure(step), _overflow(step.datapath))


# -- two operands ------------------------------------------------------------------------------------------------------


def _pair(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """add, subtract, multiply."""
    a, b = inputs
    sides, made = pair_departure(step)
    point = a.point and b.point
    combine = step.op.real
    if step.op.name == "multiply":
        error = a.reach * b.error + a.error * b.magnitude
        corners = [combine(x, y) for x in {id(v): v for v in (a.real_low, a.real_high)}.values()
                   for y in {id(v): v for v in (b.real_low, b.real_high)}.values()]  # fmt: skip
        low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    else:
        aligned = [v.error + s.real + s.share * v.reach for v, s in zip((a, b), sides, strict=True)]
        error = aligned[0] + aligned[1]
        other = (b.real_low, b.real_high) if step.op.name == "add" else (b.real_high, b.real_low)
        low, high = combine(a.real_low, other[0]), combine(a.real_high, other[1])
    if point:
        high = low
    rounding = 2 * UNIT * np.maximum(np.abs(low), np.abs(high))
    if not point:
        low, high = low - rounding, high + rounding
    return _left(step, (low, high), error + rounding, made, _overflow(step.datapath))


def _requantize(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    x, form, out = inputs[0], step.in_format(0), step.out_format
    operand = Operand.of(form.scale, form.zero_point)
    reach = max(map(abs, operand.range(form)))
    made = departure(step, step.datapath, step.prepared["rescale"], operand.step / out.scale, out.zero_point, reach)
    return _left(step, (x.real_low, x.real_high), x.error, made, _overflow(step.datapath))


# -- one operand -------------------------------------------------------------------------------------------------------


def _clamp(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """Bounds are rounded to codes: where the value may meet them, that difference adds to the error."""
    x, form = inputs[0], step.out_format
    lowest, highest = (float(form.decode(step.prepared[name])) for name in ("lowest", "highest"))
    low, high = step.attributes.get("low"), step.attributes.get("high")
    added = np.zeros(np.shape(x.error))
    if low is not None and low > form.real_low:
        added = np.where(x.low < max(low, lowest), abs(lowest - low), added)
    if high is not None and high < form.real_high:
        added = np.maximum(added, np.where(x.high > min(high, highest), abs(highest - high), 0.0))
    real_low = step.op.real(x.real_low, **step.attributes)
    real_high = real_low if x.point else step.op.real(x.real_high, **step.attributes)
    return Enclosure.of(
        real_low, real_high, np.clip(x.low, lowest, highest), np.clip(x.high, lowest, highest), x.error + added
    )


def _moved(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """max_pool, and all that only moves codes; what padding brings has no error."""

    def apply(values: np.ndarray) -> np.ndarray:
        return step.op.real(values, **step.attributes)

    def errors(values: np.ndarray) -> np.ndarray:
        return step.op.real(values, **{**step.attributes, "value": 0.0} if step.op.name == "pad" else step.attributes)

    return inputs[0].moved(apply, errors)


def _concat(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    def join(field: str) -> np.ndarray:
        return step.op.real(*(getattr(v, field) for v in inputs), **step.attributes)

    real_low = join("real_low")
    real_high = real_low if all(v.point for v in inputs) else join("real_high")
    return Enclosure(real_low, real_high, join("low"), join("high"), join("error"))


def _lookup(step: Step, inputs: Sequence[Enclosure], reals: Mapping[str, np.ndarray]) -> Enclosure:
    """Look at the table's output for every code that the input may have."""
    x, form = inputs[0], step.in_format(0)
    scalers = (step.datapath.scaler,) if isinstance(step.datapath, Lookup) else (step.datapath,)
    roundings = [getattr(step.datapath, "output_rounding", None), *(getattr(s, "rounding", None) for s in scalers)]
    if Rounding.stochastic in roundings or any(s is not None and draws(s) for s in scalers):
        raise refuse(step, "its roundings are drawn at random, so that no table says what comes out")
    codes = all_codes(step)
    table = step.out_format.decode(step.op.fast(step, Run(), codes.reshape(-1, 1)).reshape(-1).astype(np.int64))
    places = _codes_between(form, x.low, x.high)
    low, high = _extremes(table, places)
    function = step.attributes["function"]
    settings = {name: value for name, value in step.attributes.items() if name != "function"}
    if x.point:
        real = step.op.real(x.real_low, **step.attributes)
        if not np.isfinite(real).all():
            raise refuse(step, "the float network's value is not finite for some input")
        slack = EVALUATION * (1 + np.abs(real) + np.abs(x.real_low))
        return Enclosure.of(real, real, low, high, np.maximum(high - real, real - low) + slack)
    points = form.decode(codes)
    off = np.abs(table - step.op.real(points, **step.attributes))
    off = np.where(np.isfinite(off), off, np.inf)
    ends = np.minimum(x.low, x.real_low), np.maximum(x.high, x.real_high)
    with np.errstate(invalid="ignore"):
        drift = np.where(x.error > 0, steepest(function, *ends, **settings) * x.error, 0.0) + jump(function, **settings)
    real_low, real_high = image(function, x.real_low, x.real_high, **settings)
    if not (np.isfinite(real_low).all() and np.isfinite(real_high).all()):
        raise refuse(step, "the box holds inputs at which the float network's value is not finite")
    slack = EVALUATION * (1 + np.maximum(np.abs(real_low), np.abs(real_high)) + x.magnitude)
    return Enclosure.of(real_low, real_high, low, high, _extremes(off, places)[1] + drift + 2 * slack)


def _codes_between(form: Format, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index, among all codes ascending, whose reals may lie in [low, high]; a hair wider, never empty."""
    scale, zero, last = float(form.scale), float(form.zero_point), form.high - form.low
    first = np.floor(low / scale + zero - form.low + 1 - 1e-6)
    final = np.ceil(high / scale + zero - form.low - 1 + 1e-6)
    first, final = np.minimum(first, final), np.maximum(first, final)
    return tuple(np.clip(v, 0, last).astype(np.int64) for v in (first, final))  # type: ignore[return-value]


def _extremes(table: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest entry between two places, both included: of two overlapping runs whose length is a power of two."""
    first, last = places
    level = np.floor(np.log2(last - first + 1) + 1e-9).astype(np.int64)
    least, most = np.empty(first.shape), np.empty(first.shape)
    low = high = table
    for power in range(int(level.max(initial=0)) + 1):
        here = level == power
        if here.any():
            ends = last[here] - (1 << power) + 1
            least[here] = np.minimum(low[first[here]], low[ends])
            most[here] = np.maximum(high[first[here]], high[ends])
        half = 1 << power
        if half >= len(low):
            break
        low, high = np.minimum(low[:-half], low[half:]), np.maximum(high[:-half], high[half:])
    return least, most


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("linear", "conv", "conv_transpose"), _weighted),
    "matmul": _matmul,
    **dict.fromkeys(("average_pool", "adaptive_average_pool", "mean"), _average),
    **dict.fromkeys(("add", "subtract", "multiply"), _pair),
    "requantize": _requantize,
    "lookup": _lookup,
    "clamp": _clamp,
    **dict.fromkeys(("max_pool", "reshape", "transpose", "slice", "pad", "pixel_shuffle", "resize"), _moved),
    "concat": _concat,
}
