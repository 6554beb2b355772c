"""All operations, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fixqnn.ops.add import ADD, SUBTRACT
from fixqnn.ops.clamp import CLAMP
from fixqnn.ops.conv import CONV, CONV_TRANSPOSE
from fixqnn.ops.linear import LINEAR
from fixqnn.ops.lookup import LOOKUP
from fixqnn.ops.matmul import MATMUL
from fixqnn.ops.max_pool import MAX_POOL
from fixqnn.ops.mean import ADAPTIVE_AVERAGE_POOL, AVERAGE_POOL, MEAN
from fixqnn.ops.move import CONCAT, PAD, PIXEL_SHUFFLE, RESHAPE, SLICE, TRANSPOSE
from fixqnn.ops.multiply import MULTIPLY
from fixqnn.ops.op import Op, Step
from fixqnn.ops.requantize import REQUANTIZE
from fixqnn.ops.resize import RESIZE

__all__ = ["OPS", "Op", "Step"]

_ALL = (
    # sums of products
    LINEAR,
    CONV,
    CONV_TRANSPOSE,
    MATMUL,
    AVERAGE_POOL,
    ADAPTIVE_AVERAGE_POOL,
    MEAN,
    # element by element
    ADD,
    SUBTRACT,
    MULTIPLY,
    REQUANTIZE,
    # tables and comparisons
    LOOKUP,
    CLAMP,
    MAX_POOL,
    # codes travel
    RESHAPE,
    TRANSPOSE,
    SLICE,
    PAD,
    CONCAT,
    PIXEL_SHUFFLE,
    RESIZE,
)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _ALL})
