"""The same real numbers in another format: a scaler between two codes."""

from __future__ import annotations

import numpy as np

from fixqnn.ops.layout import Shape
from fixqnn.ops.op import Op

todo = None

def shape(x: Shape) -> Shape:
    """Keep the shape."""
    return x


def real(x: np.ndarray) -> np.ndarray:
    """Keep the numbers."""
    return x


REQUANTIZE = Op("requantize", shape, real, todo, todo, todo)
