"""Product of two matrices, both of them values: a (…, n, k) · b (…, k, m) with numpy's broadcasting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.events import Run
from fixqnn.kernels.window import window_of
from fixqnn.ops.op import Op, Step
from fixqnn.ops.sums import Layout, build, prepare_sum

Shape = tuple[int | None, ...]


def shape(a: Shape, b: Shape) -> Shape:
    """(…, n, k), (…, k, m) → (…, n, m); leading axes broadcast."""
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise BadInput(f"matmul takes (..., n, k) and (..., k, m); got {a} and {b}")
    longest = max(len(a), len(b)) - 2
    lead = []
    for i in range(longest):
        pair = {s[i - longest + len(s) - 2] for s in (a, b) if i - longest + len(s) - 2 >= 0}
        rest = pair - {1}
        if len(rest) > 1:
            raise BadInput(f"matmul: the leading axes of {a} and {b} do not broadcast")
        lead.append(rest.pop() if rest else 1)
    return (*lead, a[-2], b[-1])


def real(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the product in real numbers."""
    return a @ b


def layout(step: Step, b: np.ndarray | None = None) -> Layout:
    """Which codes and weights meet."""
    rows, k = step.shapes[step.inputs[0]][-2:]
    m = step.shapes[step.inputs[1]][-1]
    if rows is None:
        raise DoesNotFit(f"{step.name}: the batch is the rows of this matmul; use linear with a constant instead")
    window = window_of((rows,), (1,), (1,), (1,), (0,), (rows,), k, 1, m)
    codes = np.zeros((m, k), np.int64) if b is None else b.T
    form = step.in_format(1)
    if form.per_channel:
        raise DoesNotFit(
            f"{step.name}: operand {step.inputs[1]!r} has one scale per channel; matmul needs one per tensor"
        )
    return Layout(window, codes.reshape(1, m, k, 1, 1, 1), form, ((form.scale, form.zero_point),))


def prepare(step: Step) -> dict[str, Any]:
    """Scaler constants."""
    return prepare_sum(step, layout(step))


def _run(step: Step, engine: str, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*lead, *a.shape[-2:]))
    b = np.broadcast_to(b, (*lead, *b.shape[-2:]))
    y = np.empty((*lead, a.shape[-2], b.shape[-1]), object if engine == "exact" else step.out_format.narrow_dtype)
    inner = int(np.prod(lead[1:]))
    for flat, index in enumerate(np.ndindex(*lead)):
        work = build(step, layout(step, b[index]))
        # matrices of one sample follow one another: they are numbered as if each were a sample of its own
        part = replace(run, first_sample=run.first_sample * inner + flat, events={})
        codes = getattr(work, engine)(a[index].T[None, :, None, None, :], part)
        y[index] = codes[0].T
        _merge(run, part, inner, lead[1:])
    return y


def _merge(run: Run, part: Run, inner: int, lead: tuple[int, ...]) -> None:
    for name, events in part.events.items():
        first = events.first
        if first is not None:
            sample, matrix = divmod(first.sample, inner)
            where = tuple(int(i) for i in np.unravel_index(matrix, lead)) if lead else ()
            first = replace(first, sample=sample, position=(*where, *first.position))
        run.note(name, events.record, events.below, events.above, first)


def exact(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add products one after another, on Python integers."""
    return _run(step, "exact", run, a, b)


def fast(step: Step, run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the same codes along the planned kernel path."""
    return _run(step, "fast", run, a, b)


MATMUL = Op("matmul", shape, real, prepare, exact, fast)
