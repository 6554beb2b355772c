"""Averages: mean over axes, average pooling with fixed windows, and adaptive average pooling.

An average is a sum of codes with weights of one, then a scaler that knows the number of terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.kernels.window import Window, window_of
from fixqnn.ops.op import Op, Step
from fixqnn.ops.sums import Layout, Sum, build, cached, datapath_of, prepare_sum

Shape = tuple[int | None, ...]
Pairs = Sequence[tuple[int, int]]
ONE = ((Fraction(1), 0),)


def shape(
    x: Shape, *, kernel: Sequence[int], stride: Sequence[int], padding: Pairs, include_padding: bool = True
) -> Shape:
    """(N, C, *S) → (N, C, *S′)."""
    rank = len(x) - 2
    if not (1 <= rank <= 3 and len(kernel) == len(stride) == len(padding) == rank):
        raise BadInput(
            f"average_pool takes (N, C, *spatial) and a kernel, stride and padding per spatial axis; got {x}, {kernel}"
        )
    out = [(n + a + b - k) // s + 1 for n, k, s, (a, b) in zip(x[2:], kernel, stride, padding, strict=True)]
    if min(out) < 1:
        raise BadInput(f"average_pool: a window {tuple(kernel)} does not fit the padded input {x[2:]}")
    return (*x[:2], *out)


def real(
    x: np.ndarray, *, kernel: Sequence[int], stride: Sequence[int], padding: Pairs, include_padding: bool = True
) -> np.ndarray:
    """Average the window; padding counts as zeros if `include_padding`, else not at all."""
    window = _pool_window(x.shape, kernel, stride, padding)
    padded = np.pad(x, [(0, 0), (0, 0), *padding])
    total = np.zeros((*x.shape[:2], *window.out[3 - len(kernel) :]))
    for tap in np.ndindex(*kernel):
        reach = tuple(slice(k, k + (n - 1) * s + 1, s) for k, n, s in zip(tap, total.shape[2:], stride, strict=True))
        total += padded[(slice(None), slice(None), *reach)]
    counts = pool_counts(x.shape[2:], window, kernel, padding, include_padding)
    return total / np.array(counts).reshape(total.shape[2:])


def _pool_window(x: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Pairs) -> Window:
    out = shape(x, kernel=kernel, stride=stride, padding=padding)[2:]
    ones = (1,) * len(kernel)
    return window_of(x[2:], kernel, stride, ones, [a for a, _ in padding], out, 1, x[1], 1)


def pool_counts(
    size: Sequence[int], window: Window, kernel: Sequence[int], padding: Pairs, include_padding: bool
) -> tuple[int, ...]:
    """Terms that every output position is divided by."""
    rank = len(kernel)
    per_axis = []
    for n, k, s, o, (before, after) in zip(
        size, kernel, window.stride[3 - rank :], window.out[3 - rank :], padding, strict=True
    ):
        starts = np.arange(o) * s - before
        low, high = (-before, n + after) if include_padding else (0, n)
        per_axis.append(np.minimum(starts + k, high) - np.maximum(starts, low))
    counts = per_axis[0]
    for axis in per_axis[1:]:
        counts = np.multiply.outer(counts, axis)
    return tuple(int(c) for c in np.ravel(counts))


def _pool_layout(step: Step) -> Layout:
    attributes, x = step.attributes, step.shapes[step.inputs[0]]
    kernel, padding = attributes["kernel"], attributes["padding"]
    window = _pool_window(x, kernel, attributes["stride"], padding)
    # LiteRT and others that ignore zero points divide by the positions inside the image only
    inside = datapath_of(step).zero_point == "ignored" or not attributes.get("include_padding", True)
    counts = pool_counts(x[2:], window, kernel, padding, not inside)
    return _ones(window, counts)


def _ones(window: Window, counts: tuple[int, ...]) -> Layout:
    return Layout(window, np.ones((window.groups, 1, 1, *window.kernel), np.int64), None, ONE, None, counts)


# -- adaptive: windows that cover the input evenly; lengths that do not divide give windows of different size ---------


def adaptive_shape(x: Shape, *, output: Sequence[int]) -> Shape:
    """(N, C, *S) → (N, C, *output)."""
    if len(output) != len(x) - 2 or min(output) < 1:
        raise BadInput(
            f"adaptive_average_pool takes (N, C, *spatial) and one output length per spatial axis; got {x}, {output}"
        )
    return (*x[:2], *output)


def _bins(length: int, out: int) -> list[tuple[int, int]]:
    """Start and end of every bin, as torch has them: floor(i·n/o), ceil((i + 1)·n/o)."""
    return [(i * length // out, -(-(i + 1) * length // out)) for i in range(out)]


def adaptive_real(x: np.ndarray, *, output: Sequence[int]) -> np.ndarray:
    """Average every bin."""
    y = np.empty((*x.shape[:2], *output))
    bins = [_bins(n, o) for n, o in zip(x.shape[2:], output, strict=True)]
    for index in np.ndindex(*output):
        part = x[(..., *(slice(*bins[axis][i]) for axis, i in enumerate(index)))]
        y[(..., *index)] = part.mean(axis=tuple(range(2, x.ndim)))
    return y


def _adaptive_parts(step: Step) -> list[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """(output position, its bin) for every position."""
    x, output = step.shapes[step.inputs[0]][2:], step.attributes["output"]
    bins = [_bins(n, o) for n, o in zip(x, output, strict=True)]
    return [(index, tuple(slice(*bins[a][i]) for a, i in enumerate(index))) for index in np.ndindex(*output)]


def adaptive_layout(step: Step, terms: int) -> Layout:
    """Which codes of a bin are averaged."""
    channels = step.shapes[step.inputs[0]][1]
    return _ones(window_of((terms,), (terms,), (1,), (1,), (0,), (1,), 1, channels, 1), (terms,))


def _bin_terms(where: tuple[slice, ...]) -> int:
    return int(np.prod([s.stop - s.start for s in where]))


def adaptive_prepare(step: Step) -> dict[str, Any]:
    """Scaler constants for every bin size that occurs."""
    counts = sorted({_bin_terms(where) for _, where in _adaptive_parts(step)})
    made = [prepare_sum(step, adaptive_layout(step, terms)) for terms in counts]
    return {**made[0], "scaler": tuple(row for one in made for row in one["scaler"])}


def adaptive_works(step: Step) -> list[tuple[tuple[int, ...], tuple[slice, ...], Sum]]:
    """(output position, its bin, the sum over so many terms) for every position."""
    if "bins" not in step.cache:
        sums, works = {}, []
        for index, where in _adaptive_parts(step):
            terms = _bin_terms(where)
            if terms not in sums:
                rows = tuple(row for row in step.prepared["scaler"] if row[0] == terms)
                one = replace(step, prepared={**step.prepared, "scaler": rows})
                sums[terms] = build(one, adaptive_layout(step, terms))
            works.append((index, (slice(None), slice(None), *where), sums[terms]))
        step.cache["bins"] = works
    return step.cache["bins"]


def _adaptive_run(step: Step, engine: str, run: Run, x: np.ndarray) -> np.ndarray:
    dtype = object if engine == "exact" else step.out_format.narrow_dtype
    y = np.empty((*x.shape[:2], *step.attributes["output"]), dtype)
    for number, (index, where, work) in enumerate(adaptive_works(step)):
        # every position draws its own random numbers
        part = Run(run.seed + (number << 32), run.stream, run.first_sample, threads=run.threads)
        codes = getattr(work, engine)(in_order(step, x[where], range(2, x.ndim)), part)
        y[(..., *index)] = codes[:, :, 0]
        for name, events in part.events.items():
            first = events.first and replace(events.first, position=tuple(int(i) for i in index))
            run.note(name, events.record, events.below, events.above, first)
    return y


def adaptive_exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Add the codes of every bin one after another, on Python integers."""
    return _adaptive_run(step, "exact", run, x)


def adaptive_fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Compute the same codes along the planned kernel path."""
    return _adaptive_run(step, "fast", run, x)


# -- mean over axes --------------------------------------------------------------------------------------------------


def mean_shape(x: Shape, *, axes: Sequence[int], keepdims: bool = False) -> Shape:
    """Drop the averaged axes, or leave them as one."""
    if not axes or any(not 1 <= a < len(x) for a in axes) or len(set(axes)) != len(axes):
        raise BadInput(
            f"mean takes axes between 1 and {len(x) - 1} of {x}, each once, never the batch; got {tuple(axes)}"
        )
    return tuple(1 if i in axes else n for i, n in enumerate(x) if keepdims or i not in axes)


def mean_real(x: np.ndarray, *, axes: Sequence[int], keepdims: bool = False) -> np.ndarray:
    """Average over axes."""
    return x.mean(axis=tuple(axes), keepdims=keepdims)


def _mean_layout(step: Step) -> Layout:
    """Kept axes become channels, averaged ones a window over the whole of them, in the datapath's order."""
    x, axes = step.shapes[step.inputs[0]], step.attributes["axes"]
    lanes = int(np.prod([n for i, n in enumerate(x) if i and i not in axes]))
    terms = int(np.prod([x[a] for a in axes]))
    return _ones(window_of((terms,), (terms,), (1,), (1,), (0,), (1,), 1, lanes, 1), (terms,))


def in_order(step: Step, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """(samples, kept axes as one, 1, 1, averaged axes as one, walked in the datapath's order)."""
    names = {1: "channel", **{i: ("depth", "row", "column")[i - x.ndim] for i in range(2, x.ndim)}}
    order = datapath_of(step).order
    walked = sorted(axes, key=lambda a: order.index(names[a]) if names.get(a) in order else -1)
    kept = [i for i in range(1, x.ndim) if i not in axes]
    lanes = math.prod(x.shape[i] for i in kept)
    terms = math.prod(x.shape[i] for i in walked)
    return x.transpose(0, *kept, *walked).reshape(x.shape[0], lanes, 1, 1, terms)


# -- both engines ----------------------------------------------------------------------------------------------------


def layout(step: Step) -> Layout:
    """Which codes are averaged."""
    return _mean_layout(step) if step.op.name == "mean" else _pool_layout(step)


def prepare(step: Step) -> dict[str, Any]:
    """Scaler constants for every number of terms that occurs."""
    return prepare_sum(step, layout(step))


def _run(step: Step, engine: str, run: Run, x: np.ndarray) -> np.ndarray:
    work = cached(step, layout)
    if step.op.name == "mean":
        rows = in_order(step, x, step.attributes["axes"])
    else:
        rows = x.reshape(*x.shape[:2], *work.contraction.window.size)
    return getattr(work, engine)(rows, run).reshape(x.shape[0], *step.shapes[step.output][1:])


def plan(step: Step) -> tuple[str, str]:
    """Kernel path and reason."""
    return cached(step, layout).plan


def exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Add codes one after another, on Python integers."""
    return _run(step, "exact", run, x)


def fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Compute the same codes along the planned kernel path."""
    return _run(step, "fast", run, x).astype(step.out_format.narrow_dtype, copy=False)


AVERAGE_POOL = Op("average_pool", shape, real, prepare, exact, fast, plan)
ADAPTIVE_AVERAGE_POOL = Op(
    "adaptive_average_pool", adaptive_shape, adaptive_real, adaptive_prepare, adaptive_exact, adaptive_fast
)
MEAN = Op("mean", mean_shape, mean_real, prepare, exact, fast, plan)
