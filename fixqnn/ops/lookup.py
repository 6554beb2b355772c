"""Every function of one code."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.arith.functions import FUNCTIONS
from fixqnn.errors import BadInput
from fixqnn.ops.layout import Shape
from fixqnn.ops.op import Op

todo = None

def shape(x: Shape, *, function: str, **parameters: Any) -> Shape:
    """Keep the shape; the function and its parameters must be known."""
    if function not in FUNCTIONS:
        raise BadInput(f"there is no function {function!r}; there are {', '.join(sorted(FUNCTIONS))}")
    FUNCTIONS[function].complete(parameters)
    return x


def real(x: np.ndarray, *, function: str, **parameters: Any) -> np.ndarray:
    """Apply the function to every number."""
    return FUNCTIONS[function].real(x, **parameters)


LOOKUP = Op("lookup", shape, real, todo, todo, todo)
