"""Linear layer: y = x·wᵀ + b over the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.kernels.window import window_of
from fixqnn.ops.op import Op, Step
from fixqnn.ops.sums import Layout, cached, prepare_sum, weight_scales

Shape = tuple[int | None, ...]


def shape(x: Shape, w: Shape, b: Shape | None = None) -> Shape:
    """(N, …, d), (m, d), (m,) → (N, …, m)."""
    if len(x) < 2 or len(w) != 2 or x[-1] != w[1] or (b is not None and b != (w[0],)):
        raise BadInput(
            f"linear takes (N, ..., d), (m, d) and a bias (m,); got {x}, {w}" + (f", {b}" if b is not None else "")
        )
    return (*x[:-1], w[0])


def real(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Compute the layer in real numbers."""
    y = x @ w.T
    return y if b is None else y + b


def layout(step: Step) -> Layout:
    """Which codes and weights meet."""
    w = step.constants[step.inputs[1]]
    between = step.shapes[step.inputs[0]][1:-1]
    window = window_of(between, (1,) * len(between), (1,) * len(between), (1,) * len(between), (0,) * len(between),
                       between, w.shape[1], 1, w.shape[0]) if len(between) <= 3 else None  # fmt: skip
    if window is None:
        raise BadInput(f"{step.name}: linear takes at most three axes between batch and features, not {len(between)}")
    form = step.in_format(1)
    bias = step.inputs[2] if len(step.inputs) > 2 else None
    scales = weight_scales(form, 0, w.shape[0], f"{step.name}: weight {step.inputs[1]!r}")
    return Layout(window, w.reshape(1, *w.shape, 1, 1, 1), form, scales, bias)


def prepare(step: Step) -> dict[str, Any]:
    """Scaler and bias constants."""
    return prepare_sum(step, layout(step))


def _run(step: Step, engine: str, run: Run, x: np.ndarray) -> np.ndarray:
    work = cached(step, layout)
    between = work.contraction.window.out
    channels_first = np.moveaxis(x, -1, 1).reshape(x.shape[0], x.shape[-1], *between)
    y = getattr(work, engine)(channels_first, run)
    return np.moveaxis(y, 1, -1).reshape(*x.shape[:-1], y.shape[1])


def plan(step: Step) -> tuple[str, str]:
    """Kernel path and reason."""
    return cached(step, layout).plan


def exact(step: Step, run: Run, x: np.ndarray, *constants: np.ndarray) -> np.ndarray:
    """Add products one after another, on Python integers."""
    return _run(step, "exact", run, x)


def fast(step: Step, run: Run, x: np.ndarray, *constants: np.ndarray) -> np.ndarray:
    """Compute the same codes along the planned kernel path."""
    return _run(step, "fast", run, x).astype(step.out_format.narrow_dtype, copy=False)


LINEAR = Op("linear", shape, real, prepare, exact, fast, plan)
