"""What linear, conv, matmul, mean and average pool share: from formats to a contraction, in both engines.

An operation says which codes meet (a Window and weights); everything else about its sums is here, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith.bind import BoundSum, bind_sum
from fixqnn.arith.exact import add_up
from fixqnn.arith.fast import sequence_key
from fixqnn.datapath import SumOfProducts
from fixqnn.errors import DoesNotFit
from fixqnn.events import Counter, Run, Witness
from fixqnn.format import Format
from fixqnn.kernels.contract import Contraction
from fixqnn.kernels.ranges import range_of
from fixqnn.kernels.rescale import Rescale, check_output, element_draw
from fixqnn.kernels.rows import from_rows
from fixqnn.kernels.window import SPATIAL, Window
from fixqnn.ops.op import Step
from fixqnn.scaler import Float


@dataclass(frozen=True)
class Operand:
    """How a code becomes a factor: scale·code − offset, in units of `step`. A zero point of ½ doubles the code."""

    scale: int
    offset: int
    step: Fraction

    @classmethod
    def of(cls, scale: Fraction, zero_point: Fraction | int) -> Operand:
        """The operand of one scale and zero point."""
        d = Fraction(zero_point).denominator
        return cls(d, int(zero_point * d), scale / d)

    def range(self, form: Format) -> tuple[int, int]:
        """Smallest and largest factor."""
        return self.scale * form.low - self.offset, self.scale * form.high - self.offset


@dataclass(frozen=True)
class Layout:
    """What an operation says of its sum: the window, the weights, and their format (None: every weight is one)."""

    window: Window
    w: np.ndarray  # codes (groups, outputs, channels, depth, row, column)
    w_format: Format | None
    w_scales: tuple[tuple[Fraction, Fraction | int], ...]  # (scale, zero point), for all or per output channel
    bias: str | None = None
    counts: tuple[int, ...] = ()  # terms averaged at every position; empty: no average


def weight_scales(form: Format, axis: int, outputs: int, name: str) -> tuple[tuple[Fraction, Fraction | int], ...]:
    """Scale and zero point of every output channel, for weights whose channels run along `axis`."""
    if not form.per_channel:
        return ((form.scale, form.zero_point),)
    if form.axis != axis:
        raise DoesNotFit(
            f"{name} has scales along axis {form.axis}; here they may run along axis {axis} (output channels) only"
        )
    pairs = tuple(zip(form.scales, form.zero_points, strict=True))
    return pairs * (outputs // len(pairs))


def datapath_of(step: Step) -> SumOfProducts:
    """The step's datapath; DoesNotFit when it is of another kind."""
    if not isinstance(step.datapath, SumOfProducts):
        raise DoesNotFit(f"{step.name} ({step.op.name}) needs a SumOfProducts, not {step.datapath!r}")
    return step.datapath


def prepare_sum(step: Step, layout: Layout) -> dict[str, Any]:
    """Make the constants of a sum: scaler constants per channel (and per count), and the bias.

    Raises
    ------
    DoesNotFit
        Where the datapath cannot carry the formats at hand; the message names the step.
    """
    datapath = datapath_of(step)
    x_format = step.in_format(0)
    if x_format.per_channel:
        raise DoesNotFit(
            f"{step.name}: input {step.inputs[0]!r} has one scale per channel; sums need one scale per tensor"
        )
    x = _input_operand(step, datapath)
    products = [x.step * Operand.of(s, z).step for s, z in layout.w_scales]
    if datapath.zero_point == "folded" and (x.scale != 1 or any(z != 0 for _, z in layout.w_scales)):
        raise DoesNotFit(f"{step.name}: folded zero points need symmetric weights and whole zero points")
    if datapath.zero_point == "ignored" and x_format != step.out_format:
        raise DoesNotFit(f"{step.name}: a datapath that ignores zero points needs equal formats on both sides")
    if datapath.term == "xnor" and (
        x_format.bits != 1 or layout.w_format is None or layout.w_format.bits != 1 or layout.bias
    ):
        raise DoesNotFit(f"{step.name}: xnor counts one-bit codes and takes no bias; quantize both sides with binary()")
    if datapath.term == "xnor" and any(layout.window.before):
        raise DoesNotFit(f"{step.name}: padding contributes zero, which is no code of binary(); xnor takes no padding")
    made: dict[str, Any] = {"bias": (), "bias_ratio": Fraction(1)}
    if layout.bias is not None:
        made |= _bias(step, datapath, layout.bias, products)
    bound = _bind(step, datapath, layout, products, made["bias_ratio"])
    out = step.out_format
    if out.per_channel and datapath.scaler is not None:
        raise DoesNotFit(f"{step.name}: output {step.output!r} has one scale per channel; give it one scale per tensor")
    ignored = datapath.zero_point == "ignored"
    try:
        check_output(datapath.scaler, out, 0 if ignored else out.zero_point)
    except DoesNotFit as problem:
        raise DoesNotFit(f"{step.name} ({step.op.name}): {problem}") from None
    two = Fraction(2) ** bound.drop
    if datapath.scaler is None:
        made["scaler"] = ()
        if any(p * two != out.scale_at(i if out.per_channel else 0) for i, p in enumerate(products)):
            raise DoesNotFit(
                f"{step.name}: scaler=None hands out the register as it is, in steps of {float(products[0] * two):.9g}; "
                f"the output has {out}"
            )
        return made
    ups = [
        (x_format.scale,) if layout.w_format is None else (x.step, Operand.of(s, z).step * two)
        for s, z in layout.w_scales
    ]
    if layout.w_format is None and bound.drop:
        ups = [(u[0] * two,) for u in ups]
    try:
        constants = {
            count: tuple(
                datapath.scaler.prepare(() if ignored else up, Fraction(1) if ignored else out.scale, count)
                for up in ups
            )
            for count in sorted(set(layout.counts) or {1})
        }
    except DoesNotFit as problem:
        raise DoesNotFit(f"{step.name} ({step.op.name}): {problem}") from None
    made["scaler"] = tuple((count, c) for count, c in constants.items())
    return made


def _input_operand(step: Step, datapath: SumOfProducts) -> Operand:
    form = step.in_format(0)
    if datapath.zero_point in ("folded", "ignored"):
        return Operand(Fraction(form.zero_point).denominator, 0, form.scale)
    return Operand.of(form.scale, form.zero_point)


def _bind(
    step: Step, datapath: SumOfProducts, layout: Layout, products: Sequence[Fraction], bias_ratio: Fraction
) -> BoundSum:
    same = len(set(products)) == 1
    try:
        return bind_sum(datapath, products[0] if same else None, layout.window.sizes, bias_ratio)
    except DoesNotFit as problem:
        raise DoesNotFit(f"{step.name} ({step.op.name}): {problem}") from None


def _bias(step: Step, datapath: SumOfProducts, name: str, products: Sequence[Fraction]) -> dict[str, Any]:
    form = step.formats[name]
    codes = step.constants[name]
    if form.zero_points != (0,) * form.channels:
        raise DoesNotFit(f"{step.name}: bias {name!r} has zero point {form.zero_point}; a bias needs zero point 0")
    if datapath.bias == "scaler":
        if not isinstance(datapath.scaler, Float):
            raise DoesNotFit(
                f"{step.name}: bias='scaler' adds a real number inside a Float scaler, not {datapath.scaler}"
            )
        return {"bias": (), "real_bias": _real_bias(form, codes, step, datapath.scaler, products)}
    several = len(codes) if form.per_channel or len(products) > 1 else min(len(codes), 1)
    ratios = {form.scale_at(i if form.per_channel else 0) / products[i % len(products)] for i in range(several)}
    if len(ratios) > 1:
        one = "has one step, products have one per channel; give the bias a scale per channel"
        raise DoesNotFit(f"{step.name}: bias {name!r} {one}")
    return {"bias": tuple(int(c) for c in codes), "bias_ratio": ratios.pop() if ratios else Fraction(1)}


def _real_bias(
    form: Format, codes: np.ndarray, step: Step, scaler: Float, products: Sequence[Fraction]
) -> tuple[float, ...]:
    """B / fl(x·w) in the scaler's precision (torch's quantized::linear)."""
    fl = scaler.dtype
    reals = form.decode(codes)
    x = fl(float(step.in_format(0).scale))
    scales = [fl(x * fl(float(p / step.in_format(0).scale))) for p in products]
    return tuple(float(fl(fl(b) / scales[i % len(scales)])) for i, b in enumerate(reals))


@dataclass
class Sum:
    """A prepared sum: its contraction, and one rescaling per count of averaged terms."""

    contraction: Contraction
    rescales: tuple[tuple[np.ndarray | None, Rescale], ...]  # (positions or all, rescale)
    xnor_terms: int

    @property
    def plan(self) -> tuple[str, str]:
        """Kernel path and reason; DoesNotFit where a register that forbids overflow cannot hold one product."""
        plan = self.contraction.plan
        if plan.refused:
            raise DoesNotFit(f"{plan.reason}, and forbids overflow; widen it, drop bits, or let it saturate")
        return plan.path, plan.reason

    def fast(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Codes (samples, channels, d, h, w) → codes (samples, outputs, positions), channels last in memory."""
        positions, outputs = self.contraction.window.positions, self.contraction.outputs
        position, rescale = self.contraction.position, self.rescales[0][1]
        codes = np.empty((len(x) * positions, outputs), rescale.out.narrow_dtype)
        first_row = run.first_sample * positions
        found: list[int] = []  # parts of rows in which the output register acted; threads only ever add to it

        def finish(acc: np.ndarray, row: int) -> Any:
            if self.xnor_terms:
                acc = 2 * acc - self.xnor_terms
            if len(self.rescales) > 1:
                return acc.copy()
            seek = all(row < earlier for earlier in found)
            stored = rescale.store(acc, codes[row : row + len(acc)], run, first_row + row, seek)
            if stored.first is not None:
                found.append(row)
            return stored

        made = self.contraction.sum(x, run, finish)
        if len(self.rescales) == 1:
            rescale.note(run, made, position, positions)
        elif made:
            acc = np.concatenate(made).reshape(-1, positions, outputs)
            target = codes.reshape(acc.shape)
            for where, one in self.rescales:
                part = np.ascontiguousarray(acc[:, where]).reshape(-1, outputs)
                some = one.fast(part, run, lambda p, where=where: position(int(where[p])), len(where), narrow=True)
                target[:, where] = some.reshape(-1, len(where), outputs)
        return from_rows(codes, (len(x), outputs, positions))

    def exact(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Compute the same on Python integers, by the definition."""
        acc = add_up_all(self.contraction, x, run)
        if self.xnor_terms:
            acc = 2 * acc - self.xnor_terms
        position = self.contraction.position
        if len(self.rescales) == 1:
            return self.rescales[0][1].exact_array(acc, run, position)
        codes = np.empty(acc.shape, object)
        for where, rescale in self.rescales:
            part = np.ascontiguousarray(acc[:, :, where])
            codes[:, :, where] = rescale.exact_array(part, run, lambda p, where=where: position(int(where[p])))
        return codes


def build(step: Step, layout: Layout) -> Sum:
    """Make the working form of a prepared sum."""
    datapath = datapath_of(step)
    window, x = layout.window, _input_operand(step, datapath)
    w = _weight_operands(layout)
    products = [x.step * Operand.of(s, z).step for s, z in layout.w_scales]
    low, high = (x.scale * code - x.offset for code in range_of(step, step.inputs[0]))
    padding = int(step.in_format(0).zero_point) if datapath.zero_point == "folded" else 0
    bias = step.prepared["bias"]
    if datapath.zero_point == "folded":
        bias = _fold(step, w, bias, padding, window)
    bound = _bind(step, datapath, layout, products, Fraction(step.prepared["bias_ratio"]))
    spatial = window.out[3 - window.rank :]
    contraction = Contraction(
        window, datapath.order, bound, w, bias, x.scale, x.offset, padding,
        min(low, padding), max(high, padding), datapath.term == "xnor", step.path or None,
        lambda p: tuple(int(i) for i in np.unravel_index(p, spatial)),
    )  # fmt: skip
    limit = contraction.limit
    xnor_terms = window.terms if datapath.term == "xnor" else 0
    if xnor_terms:
        limit = 2 * limit + xnor_terms
    zero = 0 if datapath.zero_point == "ignored" else step.out_format.zero_point
    real_bias = tuple(step.prepared.get("real_bias", ()))
    counts = np.array(layout.counts)
    rescales = []
    for count, constants in step.prepared["scaler"] or ((1, ()),):
        where = None if len(step.prepared["scaler"]) < 2 else np.flatnonzero(counts == count)
        rescales.append((where, Rescale(
            datapath.scaler, constants, step.out_format, limit, zero, real_bias,
            bound.places, bound.places - 1, window.terms,
        )))  # fmt: skip
    return Sum(contraction, tuple(rescales), xnor_terms)


def cached(step: Step, layout: Callable[[Step], Layout]) -> Sum:
    """Build the working form of a prepared sum once per step."""
    if "sum" not in step.cache:
        step.cache["sum"] = build(step, layout(step))
    return step.cache["sum"]


def _weight_operands(layout: Layout) -> np.ndarray:
    """Weights less their zero points, in the narrowest type: they stay in memory as long as the program."""
    if layout.w_format is None:
        return layout.w.astype(np.int8)
    w, (groups, outputs) = layout.w.astype(object if layout.w_format.bits > 62 else np.int64), layout.w.shape[:2]
    pairs = [Operand.of(s, z) for s, z in layout.w_scales]
    scale = np.array([p.scale for p in pairs], w.dtype)
    offset = np.array([p.offset for p in pairs], w.dtype)
    if len(pairs) > 1:
        scale, offset = (v.reshape(groups, outputs, 1, 1, 1, 1) for v in (scale, offset))
    w = w * scale - offset
    if w.dtype == object:
        return w
    low, high = w.min(initial=0), w.max(initial=0)
    fits = (t for t in (np.int8, np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return w.astype(next(fits, np.int64))


def _fold(step: Step, w: np.ndarray, bias: tuple[int, ...], zero_point: int, window: Window) -> tuple[int, ...]:
    if Fraction(step.prepared["bias_ratio"]) != 1:
        raise DoesNotFit(f"{step.name}: a folded zero point joins the bias, which must have the products' step")
    sums = w.reshape(window.groups * window.outputs, -1).sum(axis=1)
    return tuple(int(b) - zero_point * int(s) for b, s in zip(bias or [0] * len(sums), sums, strict=True))


# -- the definition ------------------------------------------------------------------------------------------------------


def meeting(
    window: Window, order: Sequence[str], channel: int, out: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """Index of the weight and index of the input (None: padding) of every term of one output, in order.

    Weights are indexed (channel, depth, row, column) within their output, inputs (channel, depth, row, column).
    """
    group = channel // window.outputs
    lengths = {"channel": window.channels, **dict(zip(SPATIAL, window.kernel, strict=True))}
    axes = [a for a in ("depth", "row", "column", "channel") if a not in order] + [a for a in order if a in lengths]
    pairs = []
    for index in itertools.product(*(range(lengths[a]) for a in axes)):
        at = dict(zip(axes, index, strict=True))
        tap = tuple(at[a] for a in SPATIAL)
        places = [_input_index(window, i, o, k) for i, (o, k) in enumerate(zip(out, tap, strict=True))]
        where = None if None in places else (group * window.channels + at["channel"], *places)
        pairs.append(((at["channel"], *tap), where))
    return pairs


def _input_index(window: Window, axis: int, out: int, tap: int) -> int | None:
    if window.transposed:
        place, rest = divmod(out + window.before[axis] - tap * window.dilation[axis], window.stride[axis])
        return place if rest == 0 and 0 <= place < window.size[axis] else None
    place = out * window.stride[axis] - window.before[axis] + tap * window.dilation[axis]
    return place if 0 <= place < window.size[axis] else None


def add_up_all(contraction: Contraction, x: np.ndarray, run: Run) -> np.ndarray:
    """Fold every output by the definition: Python integers (samples, outputs, positions)."""
    window, bound = contraction.window, contraction.bound
    places = {place.name: place for place in bound.registers}
    counters = {name: Counter(contraction.outputs) for name in places}
    key = int(sequence_key(run.seed, run.stream))
    base = run.first_sample * window.positions
    acc = np.empty((x.shape[0], contraction.outputs, window.positions), object)
    for c in range(contraction.outputs):
        weights = contraction.w[c // window.outputs, c % window.outputs]
        bias = contraction.bias[c] if contraction.bias else None
        for p in range(window.positions):
            pairs = meeting(window, contraction.order, c, np.unravel_index(p, window.out))
            factors = [int(weights[tap]) for tap, _ in pairs]
            for n in range(x.shape[0]):
                operands = [
                    contraction.padding if at is None else contraction.scale * int(x[n][at]) - contraction.offset
                    for _, at in pairs
                ]
                if contraction.xnor:
                    terms = [int(a == b) for a, b in zip(operands, factors, strict=True)]
                else:
                    terms = [a * b for a, b in zip(operands, factors, strict=True)]
                row = base + n * window.positions + p
                note = _noter(counters, places, divmod(row, window.positions), c, contraction.position)
                draw = element_draw(key, row * contraction.outputs + c, window.terms, bound.places)
                acc[n, c, p] = add_up(terms, bound, bias, note, draw)
    for name, counter in counters.items():
        run.note(name, places[name].register, counter.below, counter.above, counter.first)
    return acc


def _noter(
    counters: dict[str, Counter],
    places: dict[str, Any],
    row: tuple[int, int],
    channel: int,
    position: Callable[[int], tuple[int, ...]],
) -> Callable[[str, int, int], None]:
    sample, p = row

    def note(name: str, index: int, asked: int) -> None:
        counters[name].add(Witness(sample, position(p), channel, index, asked), places[name].register.high)

    return note
