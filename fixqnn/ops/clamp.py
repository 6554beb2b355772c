"""Bounds: relu, relu6, hardtanh. The bounds become codes, and codes are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.ops.layout import Shape, check_one_format
from fixqnn.ops.op import Op, Step


def shape(x: Shape, *, low: float | None = None, high: float | None = None) -> Shape:
    """Keep the shape; the bounds must not cross."""
    if low is not None and high is not None and not low <= high:
        raise BadInput(f"clamp needs low <= high, not [{low}, {high}]")
    return x


def real(x: np.ndarray, *, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Bring numbers into [low, high]; None is open."""
    return np.clip(x, low, high) if low is not None or high is not None else x.copy()


def prepare(step: Step) -> dict[str, Any]:
    """Round the bounds to codes, half away from zero, clipped into the format."""
    check_one_format(step)
    format = step.out_format

    def code(bound: float | None, open_end: int) -> int:
        return open_end if bound is None else int(format.encode(bound, "half_away", "saturate", name="bound"))

    return {
        "lowest": code(step.attributes.get("low"), format.low),
        "highest": code(step.attributes.get("high"), format.high),
    }


def exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Compare one code after another."""
    lowest, highest = step.prepared["lowest"], step.prepared["highest"]
    y = np.empty(x.shape, object)
    for place in np.ndindex(*x.shape):
        code = int(x[place])
        y[place] = lowest if code < lowest else highest if code > highest else code
    return y


def fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Compare all codes, in their own type and memory order; bounds that no code can pass cost nothing."""
    lowest, highest = step.prepared["lowest"], step.prepared["highest"]
    if lowest == step.out_format.low and highest == step.out_format.high:
        return x
    return x.clip(x.dtype.type(lowest), x.dtype.type(highest))


CLAMP = Op("clamp", shape, real, prepare, exact, fast)
