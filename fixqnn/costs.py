"""What a layer costs, whatever machine runs it: multiplications and parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fixqnn.graph import Graph, Node


def macs(graph: Graph, node: Node) -> int:
    """Multiplications of one sample in a sum of products; 0 for every other operation.

    A convolution is counted at every output, padding included.
    """
    return multiplications(node.op.name, [graph.values[name].shape for name in (*node.inputs, node.output)])


def multiplications(operation: str, shapes: Sequence[tuple[int | None, ...]]) -> int:
    """Multiplications of one sample, from the name of an operation and the shapes of its inputs and of its output.

    >>> multiplications("linear", [(None, 20), (10, 20), (None, 10)])
    200
    """
    out = math.prod(shapes[-1][1:])
    match operation:
        case "linear":
            return out * shapes[0][-1]
        case "conv":
            return out * math.prod(shapes[1][1:])
        case "conv_transpose":
            return math.prod(shapes[0][1:]) * math.prod(shapes[1][1:])
        case "matmul":
            return out * shapes[0][-1]
    return 0


def parameters(graph: Graph, node: Node) -> int:
    """Constants that a node reads, counted."""
    return sum(math.prod(graph.values[name].shape) for name in node.inputs if name in graph.constants)
