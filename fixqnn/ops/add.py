"""Sums and differences, element by element."""

from __future__ import annotations

import numpy as np

from fixqnn.ops.elementwise import exact, prepare
from fixqnn.ops.layout import Shape, broadcast
from fixqnn.ops.op import Op
from fixqnn.ops.remembered import fast


def shape(a: Shape, b: Shape) -> Shape:
    """Broadcast as numpy does."""
    return broadcast(a, b)


def real_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add."""
    return np.add(a, b)


def real_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Subtract."""
    return np.subtract(a, b)


ADD = Op("add", shape, real_sum, prepare, exact, fast)
SUBTRACT = Op("subtract", shape, real_difference, prepare, exact, fast)
