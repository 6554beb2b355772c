"""Products, element by element."""

from __future__ import annotations

import numpy as np

from fixqnn.ops.elementwise import exact, prepare
from fixqnn.ops.layout import Shape, broadcast
from fixqnn.ops.op import Op
from fixqnn.ops.remembered import fast


def shape(a: Shape, b: Shape) -> Shape:
    """Broadcast as numpy does."""
    return broadcast(a, b)


def real(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply."""
    return np.multiply(a, b)


MULTIPLY = Op("multiply", shape, real, prepare, exact, fast)
