"""Codes travel, nothing is computed: reshape, transpose, slice, pad, concat, pixel_shuffle.

Real numbers and codes move alike, so `real` and `fast` are the same numpy calls; `exact` asks, for every place of the
output, which place of the input it came from. Memory order is kept, whatever it is; only a reshape may have to give it up,
as it is a statement about the logical order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.events import Run
from fixqnn.ops.layout import Shape, check_one_format
from fixqnn.ops.op import Op, Step
from fixqnn.rationals import rational


# ---------------------------------------------------------------------------------------------------------- reshape
def reshape_shape(x: Shape, *, shape: Shape) -> Shape:
    """Check that a new shape holds as many numbers per sample."""
    if not x or not shape or shape[0] not in (None, x[0]) or any(n is None or n < 0 for n in shape[1:]):
        raise BadInput(f"reshape to {shape} from {x}: the new shape starts with None, the batch, and is whole after it")
    if math.prod(shape[1:]) != math.prod(x[1:]):
        had, wants = math.prod(x[1:]), math.prod(shape[1:])
        raise BadInput(f"reshape from {x} to {shape}: {had} numbers per sample are not {wants}")
    return (x[0], *shape[1:])


def reshape_real(x: np.ndarray, *, shape: Shape) -> np.ndarray:
    """Move numbers to a new shape, in C order."""
    return x.reshape(x.shape[0], *shape[1:])


def reshape_source(place: tuple[int, ...], shapes: list, out: tuple[int, ...], *, shape: Shape) -> Source:
    """Where a number of the output came from."""
    flat = 0
    for index, length in zip(place[1:], out[1:], strict=True):
        flat = flat * length + index
    source: list[int] = []
    for length in reversed(shapes[0][1:]):
        source.append(flat % length)
        flat //= length
    return 0, (place[0], *reversed(source))


# -------------------------------------------------------------------------------------------------------- transpose
def transpose_shape(x: Shape, *, axes: tuple[int, ...]) -> Shape:
    """Permute axes; the batch stays first."""
    if sorted(axes) != list(range(len(x))) or axes[0] != 0:
        raise BadInput(f"transpose of {x} by {axes}: axes must name all {len(x)} axes once, 0 (the batch) first")
    return tuple(x[axis] for axis in axes)


def transpose_real(x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
    """Permute axes; memory stays as it is."""
    return x.transpose(axes)


def transpose_source(place: tuple[int, ...], shapes: list, out: tuple[int, ...], *, axes: tuple[int, ...]) -> Source:
    """Where a number of the output came from."""
    source = [0] * len(place)
    for index, axis in zip(place, axes, strict=True):
        source[axis] = index
    return 0, tuple(source)


# ------------------------------------------------------------------------------------------------------------ slice
def slice_shape(x: Shape, *, axis: int, start: int, stop: int, step: int) -> Shape:
    """Count the places that a slice takes."""
    if not 1 <= axis < len(x) or not 0 <= start <= stop <= x[axis] or step < 1:
        raise BadInput(
            f"slice of {x}: axis {axis} must be 1 to {len(x) - 1}, 0 <= start <= stop <= length, step >= 1; "
            f"start {start}, stop {stop}, step {step}"
        )
    return (*x[:axis], len(range(start, stop, step)), *x[axis + 1 :])


def slice_real(x: np.ndarray, *, axis: int, start: int, stop: int, step: int) -> np.ndarray:
    """Take every `step`-th place from `start` to `stop` along an axis."""
    part = x[(slice(None),) * axis + (slice(start, stop, step),)]
    return part.copy(order="K")  # a view would keep all of x in memory


def slice_source(
    place: tuple[int, ...], shapes: list, out: tuple[int, ...], *, axis: int, start: int, stop: int, step: int
) -> Source:
    """Where a number of the output came from."""
    return 0, (*place[:axis], start + step * place[axis], *place[axis + 1 :])


# -------------------------------------------------------------------------------------------------------------- pad
def pad_shape(x: Shape, *, padding: tuple[tuple[int, int], ...], value: float = 0.0) -> Shape:
    """Lengthen every axis by what comes before and after; the batch by nothing."""
    if len(padding) != len(x) or tuple(padding[0]) != (0, 0) or any(n < 0 for pair in padding for n in pair):
        raise BadInput(f"pad of {x} by {padding}: one (before, after) pair per axis, none negative, the batch's (0, 0)")
    return (x[0], *(n + before + after for n, (before, after) in zip(x[1:], padding[1:], strict=True)))


def pad_real(x: np.ndarray, *, padding: tuple[tuple[int, int], ...], value: float = 0.0) -> np.ndarray:
    """Surround numbers by a constant."""
    y = np.full_like(x, value, shape=pad_shape(x.shape, padding=padding))
    y[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, padding, strict=True))] = x
    return y


def pad_source(place: tuple[int, ...], shapes: list, out: tuple[int, ...], *, padding: Any, value: Any = 0) -> Source:
    """Where a number of the output came from; None: from nowhere."""
    source = tuple(index - before for index, (before, _) in zip(place, padding, strict=True))
    inside = all(0 <= index < length for index, length in zip(source, shapes[0], strict=True))
    return (0, source) if inside else None


# ----------------------------------------------------------------------------------------------------------- concat
def concat_shape(*xs: Shape, axis: int) -> Shape:
    """Add lengths along an axis; all others agree. A constant's batch of 1 serves every sample."""
    if not xs or not 1 <= axis < len(xs[0]) or any(len(x) != len(xs[0]) for x in xs):
        raise BadInput(f"concat along axis {axis} of {' and '.join(map(str, xs))}: equal ranks, and an axis from 1 on")
    result = []
    for i in range(len(xs[0])):
        sizes = {x[i] for x in xs}
        if i == 0 and None in sizes:
            sizes -= {1}
        if i != axis and len(sizes) > 1:
            raise BadInput(f"concat along axis {axis} of {' and '.join(map(str, xs))}: they differ along axis {i}")
        result.append(sum(x[axis] for x in xs) if i == axis else sizes.pop())
    return tuple(result)


def concat_real(*xs: np.ndarray, axis: int) -> np.ndarray:
    """Join arrays along an axis."""
    batch = _batch([x.shape for x in xs])
    return np.concatenate([np.broadcast_to(x, (batch, *x.shape[1:])) for x in xs], axis=axis)


def _batch(shapes: list[tuple[int, ...]]) -> int:
    """Samples of operands among which constants have a batch of 1; there may be none."""
    return max((s[0] for s in shapes if s[0] != 1), default=1)


def concat_source(place: tuple[int, ...], shapes: list, out: tuple[int, ...], *, axis: int) -> Source:
    """Where a number of the output came from."""
    index, operand = place[axis], 0
    while index >= shapes[operand][axis]:
        index -= shapes[operand][axis]
        operand += 1
    source = [*place]
    source[axis] = index
    source[0] %= shapes[operand][0]
    return operand, tuple(source)


# ---------------------------------------------------------------------------------------------------- pixel_shuffle
def pixel_shuffle_shape(x: Shape, *, factor: int) -> Shape:
    """(N, C·f², H, W) to (N, C, H·f, W·f)."""
    if len(x) != 4 or factor < 1 or x[1] % (factor * factor):
        raise BadInput(f"pixel_shuffle by {factor} needs (N, C·{factor * factor}, H, W), not {x}")
    return (x[0], x[1] // (factor * factor), x[2] * factor, x[3] * factor)


def pixel_shuffle_real(x: np.ndarray, *, factor: int) -> np.ndarray:
    """Spread channels over space, as torch does."""
    n, c, h, w = x.shape
    shape = (n, c // (factor * factor), h * factor, w * factor)
    y = np.empty_like(x, shape=shape)
    parts = x.reshape(*shape[:2], factor, factor, h, w).transpose(0, 1, 4, 2, 5, 3)
    y.reshape(*shape[:2], h, factor, w, factor)[...] = parts  # splitting axes never copies
    return y


def pixel_shuffle_source(place: tuple[int, ...], shapes: list, out: tuple[int, ...], *, factor: int) -> Source:
    """Where a number of the output came from."""
    n, c, row, column = place
    return 0, (n, (c * factor + row % factor) * factor + column % factor, row // factor, column // factor)


# ------------------------------------------------------------------------------------------------- what they share
Source = tuple[int, tuple[int, ...]] | None


def prepare(step: Step) -> dict[str, Any]:
    """Nothing but the code of a padding value; formats must agree."""
    check_one_format(step)
    if step.op.name != "pad":
        return {}
    value, format = step.attributes.get("value", 0.0), step.out_format
    code = rational(value, "value") / format.scale + Fraction(format.zero_point)
    if code.denominator != 1 or not format.low <= code <= format.high:
        raise DoesNotFit(
            f"{step.name} pads with {value}, which is no code of {format}; choose a format whose codes include {value}"
        )
    return {"padding_code": int(code)}


def mover(shape: Callable[..., Shape], real: Callable[..., np.ndarray], source: Callable[..., Source], name: str) -> Op:
    """Make the record of an operation that moves codes, from where each came from (`exact`) and numpy (`fast`)."""

    def exact(step: Step, run: Run, *codes: np.ndarray) -> np.ndarray:
        shapes = [c.shape for c in codes]
        out = (_batch(shapes), *step.shapes[step.output][1:])
        moved = np.empty(out, object)
        for place in np.ndindex(*out):
            found = source(place, shapes, out, **step.attributes)
            moved[place] = step.prepared["padding_code"] if found is None else int(codes[found[0]][found[1]])
        return moved

    def fast(step: Step, run: Run, *codes: np.ndarray) -> np.ndarray:
        attributes = dict(step.attributes)
        if "padding_code" in step.prepared:
            attributes["value"] = step.prepared["padding_code"]
        return real(*codes, **attributes).astype(step.out_format.narrow_dtype, copy=False)

    return Op(name, shape, real, prepare, exact, fast)


RESHAPE = mover(reshape_shape, reshape_real, reshape_source, "reshape")
TRANSPOSE = mover(transpose_shape, transpose_real, transpose_source, "transpose")
SLICE = mover(slice_shape, slice_real, slice_source, "slice")
PAD = mover(pad_shape, pad_real, pad_source, "pad")
CONCAT = mover(concat_shape, concat_real, concat_source, "concat")
PIXEL_SHUFFLE = mover(pixel_shuffle_shape, pixel_shuffle_real, pixel_shuffle_source, "pixel_shuffle")
