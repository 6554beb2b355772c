"""Edits of what meets in a step, not of how it is summed: weights, biases, inputs, constants of scalers, dumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fixqnn.analysis.edits import Edit
from fixqnn.errors import DoesNotFit
from fixqnn.format import Format
from fixqnn.ops.op import Step
from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier

SUMS = ("linear", "conv", "conv_transpose")


def data_edits(step: Step, flattened: tuple[int, ...] | None = None) -> Iterator[Edit]:
    """Every edit of a step's data.

    Parameters
    ----------
    step : Step
        The step.
    flattened : tuple of int, optional
        Shape (channels, *spatial), without the batch, of what became its input by a reshape to one axis.
    """
    yield from _reversals(step)
    yield from _constants(step)
    yield from _nudges(step)
    yield from _zero_points(step)
    yield from _inputs(step, flattened)
    yield from _bounds(step)
    yield from result_edits()


# -- the order of additions, backwards -----------------------------------------------------------------------------------


def _reversals(step: Step) -> Iterator[Edit]:
    if step.op.name not in ("linear", "conv") or step.inputs[1] not in step.constants:
        return
    rank = len(step.shapes[step.inputs[0]]) - 2 if step.op.name == "conv" else 0
    names = ("depth", "row", "column")[3 - rank :]
    axes = [*(("channel", None),), *((name, i) for i, name in enumerate(names))]
    for name, axis in axes:
        yield _reversal(step, f"additions along {name} in reverse order", (axis,))
    if rank:
        yield _reversal(step, "all additions in reverse order", tuple(axis for _, axis in axes))


def _reversal(step: Step, words: str, axes: Sequence[int | None]) -> Edit:
    """The same products, met from the other end: operands, weights and results are turned around."""
    weight, spatial = step.inputs[1], tuple(a for a in axes if a is not None)

    def constants(s: Step) -> dict[str, Any]:
        w = s.constants[weight]
        turned = (1,) if None in axes else ()
        return {weight: np.ascontiguousarray(np.flip(w, (*turned, *(a + 2 for a in spatial))))}

    def attributes(s: Step) -> dict[str, Any]:
        if s.op.name != "conv":
            return {}
        padding = list(s.attributes["padding"])
        for a in spatial:
            before, after = padding[a]
            rest = _unused(s, a)
            if rest > after:
                raise DoesNotFit("a window that leaves inputs out has no other end")
            padding[a] = (after - rest, before)
        return {"padding": tuple(padding)}

    def operands(s: Step, arrays: list[np.ndarray]) -> list[np.ndarray]:
        x = arrays[0]
        if None in axes and s.op.name == "linear":
            x = x[..., ::-1]
        elif None in axes:
            groups = s.attributes.get("groups", 1)
            x = x.reshape(len(x), groups, -1, *x.shape[2:])[:, :, ::-1].reshape(x.shape)
        return [np.ascontiguousarray(np.flip(x, tuple(a + 2 for a in spatial))), *arrays[1:]]

    def result(s: Step, y: np.ndarray) -> np.ndarray:
        return np.flip(y, tuple(a + 2 for a in spatial))

    return Edit(words, 1, 1.0, constants=constants, attributes=attributes, operands=operands, result=result)


def _unused(step: Step, axis: int) -> int:
    """Padded inputs at the far end that no window reaches."""
    n, k = step.shapes[step.inputs[0]][2 + axis], step.constants[step.inputs[1]].shape[2 + axis]
    attributes = step.attributes
    before, after = attributes["padding"][axis]
    reach = attributes["dilation"][axis] * (k - 1) + 1
    return (n + before + after - reach) % attributes["stride"][axis]


# -- weights and biases --------------------------------------------------------------------------------------------------


def _constants(step: Step) -> Iterator[Edit]:
    if step.op.name not in SUMS or step.inputs[1] not in step.constants:
        return
    name = step.inputs[1]
    w, form = step.constants[name], step.formats[name]

    def weights(words: str, array: np.ndarray, distance: float = 1.0) -> Edit:
        return Edit(words, 1, distance, constants=lambda _: {name: np.ascontiguousarray(array)})

    if w.shape[0] == w.shape[1] and not form.per_channel and step.attributes.get("groups", 1) == 1:
        yield weights("weights transposed (outputs and inputs swapped)", w.swapaxes(0, 1))
    if w.ndim >= 4 and w.shape[-1] == w.shape[-2] > 1:
        yield weights("weights transposed (rows and columns of the kernel swapped)", w.swapaxes(-1, -2))
    if w.ndim > 2:
        yield weights("kernel flipped (convolution in place of correlation)", np.flip(w, tuple(range(2, w.ndim))))
    yield weights("inputs of the weights in reverse order", w[:, ::-1])
    if not form.per_channel:
        yield weights("outputs of the weights in reverse order", w[::-1])
    yield weights("weights with flipped sign", _negative(w, form))
    yield Edit("weights as magnitudes, without their sign", 1, 2.0, constants=lambda _: {name: np.abs(w)})
    if len(step.inputs) < 3 or step.inputs[2] not in step.constants:
        return
    bias = step.inputs[2]
    b, wide = step.constants[bias], step.formats[bias]
    for words, array in (
        ("no bias", np.zeros_like(b)), ("bias with flipped sign", _negative(b, wide)), ("bias added twice", b * 2),
        ("bias shifted right by one", b >> 1), ("outputs of the bias in reverse order", b[::-1]),
    ):  # fmt: skip
        yield Edit(words, 1, 1.0, constants=lambda _, array=array: {bias: np.ascontiguousarray(array)})


def _negative(codes: np.ndarray, form: Format) -> np.ndarray:
    """Codes with flipped sign; the lowest one, which has no counterpart, stays."""
    return np.where(codes == form.low, codes, -codes) if form.signed else -codes


# -- constants of scalers, entries of tables -----------------------------------------------------------------------------


def _nudges(step: Step) -> Iterator[Edit]:
    scaler = getattr(step.datapath, "scaler", step.datapath)
    key = "scaler" if "scaler" in step.prepared else "rescale"
    if scaler is not None and step.prepared.get(key):
        for words, distance, way in (
            ("scaler shift one larger than the scales ask", 1.0, ("shift", 1)),
            ("scaler shift one smaller than the scales ask", 1.0, ("shift", -1)),
            ("scaler multiplier one larger than the scales ask", 1.0, ("multiplier", 1)),
            ("scaler multiplier one smaller than the scales ask", 1.0, ("multiplier", -1)),
        ):
            yield Edit(words, 1, distance, prepared=lambda s, way=way, key=key: {key: _nudged(s, key, *way)})
    if "entries" in step.prepared:
        for words, by in (("table read one entry too high", 1), ("table read one entry too low", -1)):
            yield Edit(
                words, 1, 1.0, prepared=lambda s, by=by: {n: _rolled(s.prepared[n], by) for n in ("entries", "flags")}
            )


def _rolled(entries: np.ndarray, by: int) -> np.ndarray:
    return entries[np.clip(np.arange(len(entries)) + by, 0, len(entries) - 1)]


def _nudged(step: Step, key: str, what: str, by: int) -> Any:
    scaler = getattr(step.datapath, "scaler", step.datapath)
    constants = step.prepared[key]
    if key == "scaler":
        return tuple(
            (count, tuple(_nudge(scaler, c, what, by) for c in per_channel)) for count, per_channel in constants
        )
    pairs = step.op.name == "lookup" and "entries" not in step.prepared  # one constant per sign
    return tuple(_nudge(scaler, c, what, by) for c in constants) if pairs else _nudge(scaler, constants, what, by)


def _nudge(scaler: Any, constants: Any, what: str, by: int) -> Any:
    """A scaler's constant with its shift, or its multiplier, one off; DoesNotFit where it has none."""
    shift = what == "shift"
    match scaler:
        case Multiplier():
            m, s = constants
            return (m, s + by) if shift else (m + by, s)
        case TwoStepMultiplier():
            m, e = constants
            return (m, e - by) if shift else (m + by, e)
        case Shift() if shift:
            return constants + by
        case Exact() if shift:
            return constants / 2 if by > 0 else constants * 2
        case Float() if shift:
            return constants / 2.0 if (by > 0) == (scaler.by != "divide") else constants * 2.0
        case Divide():
            count, then = constants
            return count, _nudge(scaler.then, then, what, by)
    raise DoesNotFit(f"{scaler!r} has no {what}")


# -- zero points, inputs, bounds -----------------------------------------------------------------------------------------


def _zero_points(step: Step) -> Iterator[Edit]:
    for which, name in [*((f"input {n!r}", n) for n in dict.fromkeys(step.inputs)), ("output", step.output)]:
        form = step.formats[name]
        if not form.per_channel and form.zero_point != 0:
            without = replace(form, zero_point=0)
            yield Edit(f"zero point of {which} taken as 0", 1, 1.0, formats=lambda _, n=name, f=without: {n: f})


def _inputs(step: Step, flattened: tuple[int, ...] | None) -> Iterator[Edit]:
    reads = [i for i, name in enumerate(step.inputs) if name not in step.constants]
    if len(reads) == 2:
        yield Edit("operands swapped", operands=lambda _, arrays: arrays[::-1])
    for i in reads:
        name, shape = step.inputs[i], step.shapes[step.inputs[i]]
        for words, change in _readings(shape):
            yield Edit(
                f"input {name!r} {words}", 1, 2.0,
                operands=lambda s, arrays, i=i, change=change: [
                    np.ascontiguousarray(change(s.in_format(i), a)) if j == i else a for j, a in enumerate(arrays)
                ],
            )  # fmt: skip
    if flattened is not None and len(flattened) > 1 and len(step.shapes[step.inputs[0]]) == 2:
        order = (0, *range(2, len(flattened) + 1), 1)

        def channels_last(s: Step, arrays: list[np.ndarray]) -> list[np.ndarray]:
            x = arrays[0].reshape(-1, *flattened).transpose(order)
            return [np.ascontiguousarray(x.reshape(len(x), -1)), *arrays[1:]]

        yield Edit(
            f"input {step.inputs[0]!r} flattened channels last instead of channels first", operands=channels_last
        )


def _readings(shape: tuple[int | None, ...]) -> Iterator[tuple[str, Any]]:
    """Ways of reading codes wrongly that stay within their format."""
    yield "with flipped sign", lambda form, a: np.clip(-a.astype(np.int64), form.low, form.high)
    yield "shifted right by one", lambda form, a: a >> 1
    yield "with its lowest bit cleared", lambda form, a: (a >> 1) << 1
    if len(shape) > 2:
        yield "with channels in reverse order", lambda form, a: a[:, ::-1]
    if len(shape) >= 4 and shape[-1] == shape[-2]:
        yield "with rows and columns swapped", lambda form, a: a.swapaxes(-1, -2)


def _bounds(step: Step) -> Iterator[Edit]:
    attributes = step.attributes
    if step.op.name == "clamp":
        for side in ("low", "high"):
            if attributes.get(side) is not None:
                words = (
                    "no relu (the lower bound is missing)"
                    if (side, attributes[side]) == ("low", 0)
                    else f"no {side} bound"
                )
                yield Edit(words, attributes=lambda _, side=side: {side: None})
    else:
        yield Edit("a relu on the result", 1, 1.0, result=lambda s, y: np.maximum(y, int(s.out_format.zero_point)))
    if "include_padding" in attributes:
        yield Edit(
            "padding counted otherwise", attributes=lambda s: {"include_padding": not s.attributes["include_padding"]}
        )
    if step.op.name == "conv" and any(a != b for a, b in attributes["padding"]):
        swapped = tuple((b, a) for a, b in attributes["padding"])
        yield Edit("padding before and after swapped", attributes=lambda _: {"padding": swapped})


def result_edits() -> Iterator[Edit]:
    """What may have become of codes on their way into a dump."""

    def unsigned(step: Any, y: np.ndarray) -> np.ndarray:
        form = step.out_format
        return np.where(y < 0, y.astype(np.int64) + (1 << form.bits), y)

    yield Edit("codes written as unsigned numbers", 1, 2.0, result=unsigned)
    yield Edit("codes with flipped sign", 1, 2.0, result=lambda s, y: -y.astype(np.int64))
    yield Edit(
        "codes without their zero point", 1, 2.0, result=lambda s, y: y.astype(np.int64) - int(s.out_format.zero_point)
    )
    yield Edit("channels in reverse order", 1, 2.0, result=lambda s, y: y[:, ::-1] if y.ndim > 1 else y)
    yield Edit("rows and columns swapped", 1, 2.0, result=_swapped)
    yield Edit("memory laid out channels last", 1, 2.0, result=_channels_last)


def _swapped(step: Any, y: np.ndarray) -> np.ndarray:
    return y.swapaxes(-1, -2) if y.ndim >= 4 and y.shape[-1] == y.shape[-2] else y


def _channels_last(step: Any, y: np.ndarray) -> np.ndarray:
    return np.moveaxis(y, 1, -1).reshape(y.shape) if y.ndim > 2 else y
