"""What becomes of torch's operators that move values without computing: views, slices, joins, padding, casts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fixqnn.importers.torch_call import Activation, Call, Constant, Unsupported, number, whole
from fixqnn.importers.torch_layers import axes_of, per_sample


def same(call: Call, count: int = 1) -> Any:
    """Nothing happens in real numbers; `count` results, of which only the first is used."""
    x = call.activation(next(iter(call.arguments)))
    return x if count == 1 else (x, *(None,) * (count - 1))


def dropout(call: Call) -> Any:
    """Nothing happens after training."""
    if call.get("train", False):
        raise Unsupported(
            "it drops values at random", "module.eval() before export, training=self.training in F.dropout"
        )
    return same(call, len(call.shapes))


def cast(call: Call) -> Activation:
    """Another type of float is the same real number."""
    if call.dtype not in ("torch.float32", "torch.float64"):
        raise Unsupported(f"it casts to {call.dtype}", "float32 throughout; fixqnn chooses the codes itself")
    return same(call)


def reshape(call: Call) -> Activation:
    """All operators that keep the order of numbers; the walk has already checked that the batch stays in front."""
    x = call.activation("self")
    return x if x.shape == call.shape else call.emit("reshape", x, shape=call.shape)


def permute(call: Call, axes: Callable[[Call, int], list[int]]) -> Activation:
    """Permute axes but for the batch."""
    x = call.activation("self")
    order = tuple(axis % x.rank for axis in axes(call, x.rank))
    if order[0] != 0:
        raise Unsupported("it moves the batch axis", "a permutation of the axes after the batch")
    return x if order == tuple(range(x.rank)) else call.emit("transpose", x, axes=order)


def swapped(call: Call, rank: int, first: str = "dim0", second: str = "dim1") -> list[int]:
    """Return all axes with two of them exchanged."""
    a, b = (call[name] % rank for name in (first, second))
    order = list(range(rank))
    order[a], order[b] = b, a
    return order


def axis_of(x: Activation, dim: Any) -> int:
    """Return one axis as a positive number, the batch refused."""
    return axes_of(x, whole(dim, "axis"))[0]


def cut(call: Call) -> Activation:
    """Every step-th place from start to end along an axis."""
    x = call.activation("self")
    axis = call.get("dim", 0) % x.rank
    start, end, step = call.get("start"), call.get("end"), call.get("step", 1)
    bounds = [None if bound is None else whole(bound, "bound") for bound in (start, end)]
    if axis == 0 and bounds[0] in (None, 0) and (bounds[1] is None or bounds[1] == 2**63 - 1) and step == 1:
        return x
    axis = axis_of(x, axis)
    places = range(x.shape[axis])[slice(*bounds, step)]
    if not places:
        raise Unsupported("it leaves nothing", "a slice that takes something")
    if len(places) == x.shape[axis]:
        return x
    return call.emit("slice", x, axis=axis, start=places.start, stop=places.stop, step=step)


def put(call: Call) -> Any:
    """Replace a slice, as writing into one in place does: what is before, the new piece, what is after."""
    x, new = call.activation("self"), call["src"]
    axis = call["dim"] % x.rank
    if whole(call["step"], "step") != 1 or not isinstance(new, Activation):
        raise Unsupported("it writes constants or every other place", "cat of the pieces")
    size = new.shape[axis]
    if size == x.shape[axis]:
        return new
    start = range(x.shape[axis])[whole(call["start"] or 0, "start") :].start
    before = [piece(call, x, axis, 0, start, part="before")] if start else []
    rest = x.shape[axis] - start - size
    after = [piece(call, x, axis, start + size, rest, part="after")] if rest else []
    return call.emit("concat", *before, new, *after, axis=axis)


def copy(call: Call) -> Any:
    """Return what is copied in; what was there before is gone."""
    source = call["src"]
    if isinstance(source, Activation) and source.shape == call.shape:
        return source
    raise Unsupported("it copies with a broadcast", "an array of the same shape")


def piece(call: Call, x: Activation, axis: int, start: int, size: int, part: str = "") -> Activation:
    """Cut `size` places from `start`."""
    if size == x.shape[axis]:
        return x
    return call.emit("slice", x, part=part, axis=axis, start=start, stop=start + size, step=1)


def pick(call: Call, x: Activation, axis: int, index: int) -> Activation:
    """Take one place along an axis, which vanishes."""
    cut = piece(call, x, axis, index % x.shape[axis], 1, part="slice")
    return call.emit("reshape", cut, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))


def select(call: Call) -> Activation:
    """Take one place along an axis."""
    x = call.activation("self")
    return pick(call, x, axis_of(x, call["dim"]), whole(call["index"], "index"))


def unbind(call: Call) -> tuple[Activation, ...]:
    """Take every place along an axis."""
    x = call.activation("self")
    axis = axis_of(x, call["dim"])
    return tuple(pick(call, x, axis, i) for i in range(x.shape[axis]))


def split(call: Call) -> tuple[Activation, ...]:
    """Cut into consecutive pieces; their sizes are those of the results."""
    x = call.activation("self")
    axis = axis_of(x, call["dim"])
    pieces, start = [], 0
    for shape in call.shapes:
        pieces.append(piece(call, x, axis, start, shape[axis]))
        start += shape[axis]
    return tuple(pieces)


def concat(call: Call) -> Activation:
    """Join along an axis."""
    xs = call["tensors"]
    rank = len(call.shape)
    axis = call["dim"] % rank
    if axis == 0:
        raise Unsupported("it joins along the batch axis", "an axis from 1 on")
    return call.emit("concat", *(per_sample(x, rank) for x in xs), axis=axis)


def stack(call: Call) -> Activation:
    """Join along a new axis."""
    rank, shape = len(call.shape), call.shape
    axis = call["dim"] % rank
    if axis == 0 or not all(isinstance(x, Activation) for x in call["tensors"]):
        raise Unsupported("it stacks constants or samples", "activations along an axis from 1 on")
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [call.emit("reshape", x, part="unsqueeze", shape=single) for x in call["tensors"]]
    return call.emit("concat", *parts, axis=axis)


def pad(call: Call) -> Activation:
    """Surround by a constant."""
    x, sizes = call.activation("self"), call["pad"]
    if call.get("mode", "constant") != "constant":
        raise Unsupported(f"its mode is {call['mode']}", 'mode="constant" (zero padding)')
    if any(not isinstance(size, int) or size < 0 for size in sizes):
        raise Unsupported(f"it pads by {list(sizes)}; a negative number crops", "a slice, then padding")
    pairs = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)]  # torch lists the last axis first
    padding = ((0, 0),) * (x.rank - len(pairs)) + tuple(reversed(pairs))
    if not any(map(any, padding)):
        return x
    if padding[0] != (0, 0):
        raise Unsupported("it pads the batch axis", "padding of the axes after the batch")
    value = call.get("value")
    return call.emit("pad", x, padding=padding, value=0.0 if value is None else number(value, "value"))


def expand(call: Call) -> Activation | Constant:
    """Repeat without copying: nothing to do where only the batch grows."""
    x, shape = call["self"], call.shape
    if isinstance(x, Activation) and x.shape == shape:
        return x
    if isinstance(x, Constant) and x.shape == (1, *shape[1:]):
        return replace(x, samples=True)
    if isinstance(x, Constant) and not x.samples and (len(x.shape) < len(shape) or x.shape[0] == 1):
        return replace(call.constant(np.broadcast_to(x.array, (1, *shape[1:])), "repeated"), samples=True)
    raise Unsupported("it repeats values", "nothing: add, sub and mul broadcast by themselves")


def filled(call: Call, value: float | None = None) -> Constant:
    """An array of one number, as large as the batch: kept once, since every sample has the same."""
    fill = number(call["fill_value"] if value is None else value, "value")
    return replace(call.constant(np.full((1, *call.shape[1:]), fill), "value"), samples=True)


def interpolate(call: Call) -> Activation:
    """Nearest upsampling by whole factors."""
    x = call.activation("input" if "input" in call.arguments else "self")
    sizes = list(zip(x.shape[2:], call.shape[2:], strict=True))
    if any(out % size for size, out in sizes):
        raise Unsupported(f"it resizes {x.shape[2:]} to {call.shape[2:]}", "a whole factor per axis")
    factor = tuple(out // size for size, out in sizes)
    given = call.get("scale_factors") or [v for name, v in call.arguments.items() if name.startswith("scales")]
    if any(scale is not None and scale != f for scale, f in zip(given, factor, strict=False)):
        raise Unsupported(f"its scale is {list(given)}", "a whole factor per axis")
    return call.emit("resize", x, factor=factor)


def pixel_shuffle(call: Call) -> Activation:
    """Spread channels over space."""
    return call.emit("pixel_shuffle", call.activation("self"), factor=call["upscale_factor"])


def pixel_unshuffle(call: Call) -> Activation:
    """Gather space into channels."""
    x, f = call.activation("self"), call["downscale_factor"]
    n, c, h, w = x.shape
    blocks = call.emit("reshape", x, part="blocks", shape=(n, c, h // f, f, w // f, f))
    turned = call.emit("transpose", blocks, part="turned", axes=(0, 1, 3, 5, 2, 4))
    return call.emit("reshape", turned, shape=call.shape)


def channel_shuffle(call: Call) -> Activation:
    """Deal channels out like cards, group by group."""
    x, groups = call.activation("self"), call["groups"]
    n, c, *spatial = x.shape
    split = call.emit("reshape", x, part="groups", shape=(n, groups, c // groups, *spatial))
    turned = call.emit("transpose", split, part="turned", axes=(0, 2, 1, *range(3, x.rank + 1)))
    return call.emit("reshape", turned, shape=x.shape)


def glu(call: Call) -> Activation:
    """First half times the sigmoid of the second."""
    x = call.activation("self")
    axis = axis_of(x, call["dim"])
    half = x.shape[axis] // 2
    gate = call.emit("lookup", piece(call, x, axis, half, half, part="second"), part="sigmoid", function="sigmoid")
    return call.emit("multiply", piece(call, x, axis, 0, half, part="first"), gate)


def listed_axes(call: Call, rank: int) -> list[int]:
    """Return the axes that permute is given."""
    return list(call["dims"])


def reversed_axes(call: Call, rank: int) -> list[int]:
    """Return the axes of a matrix transpose: refused by permute, since axis 0 is the batch."""
    return list(reversed(range(rank)))
