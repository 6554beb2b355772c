"""What a layer costs, whatever machine runs it: multiplications and parameters."""

from __future__ import annotations

import math

from fixqnn.graph import Graph, Node


def macs(graph: Graph, node: Node) -> int:
    """Multiplications of one sample in a sum of products; 0 for every other operation.

    A convolution is counted at every output, padding included.
    """
    shapes = [graph.values[name].shape for name in (*node.inputs, node.output)]
    out = math.prod(shapes[-1][1:])
    match node.op.name:
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
