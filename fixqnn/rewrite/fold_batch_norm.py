"""Batch norms, whose statistics are fixed after training, join the layer before them or become one of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.graph import Graph, Node, Shape, show_shape
from fixqnn.ops import OPS
from fixqnn.ops.op import Op
from fixqnn.tensor import Tensor


def shape(x: Shape, *parameters: Shape, epsilon: float) -> Shape:
    """(N, C, *S) and four times (C,) → (N, C, *S)."""
    if len(x) < 2 or len(parameters) != 4 or any(p != (x[1],) for p in parameters):
        raise BadInput(
            f"batch_norm takes (N, C, *spatial) and weight, bias, mean, variance (C,); got x {show_shape(x)}, "
            f"parameters {parameters}"
        )
    return x


def affine(
    weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and offset per channel: batch norm is x · factor + offset.

    Ioffe & Szegedy, "Batch normalization", 2015, algorithm 2 with fixed statistics.

    >>> affine(np.array([2.0]), np.array([1.0]), np.array([3.0]), np.array([4.0]), 0.0)
    (array([1.]), array([-2.]))
    """
    factor = weight / np.sqrt(variance + epsilon)
    return factor, bias - mean * factor


def real(x: np.ndarray, *parameters: np.ndarray, epsilon: float) -> np.ndarray:
    """Scale and shift every channel."""
    factor, offset = (p.reshape(-1, *(1,) * (x.ndim - 2)) for p in affine(*parameters, epsilon))
    return x * factor + offset


def _refuse(*_: Any) -> Any:
    raise DoesNotFit("a batch norm has no integer meaning of its own; apply fold_batch_norm(graph) before lowering")


BATCH_NORM = Op("batch_norm", shape, real, _refuse, _refuse, _refuse)
LAYERS = ("linear", "conv", "conv_transpose")


def fold_batch_norm(graph: Graph) -> Graph:
    """Replace every batch norm by weights, in float64.

    A batch norm that alone reads the result of a linear, conv or conv_transpose node is multiplied into that node's
    weight and bias; the node keeps its name. Any other becomes a layer named after it: on (N, C, *spatial) a 1×1
    convolution of each channel by itself, on (N, C) a multiply and an add. A layer whose result, weight or bias already
    has a format is left as it is, since its codes are fixed.
    """
    folded, renamed = _plan(graph)
    nodes = [node for node in graph.nodes if node.op != BATCH_NORM and not folded.get(node.output)]
    names = _Constants(graph, kept={name for node in nodes for name in node.inputs})
    new: list[Node] = []
    for node in graph.nodes:
        if node.output in renamed:
            continue
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        if node.op == BATCH_NORM:
            new += _stand_alone(node, len(graph.values[node.output].shape) - 2, names)
        else:
            new.append(_merge(node, folded.get(node.output, ()), names))
    formats = {n: f for n, f in graph.formats.items() if n not in renamed and n not in names.dropped}
    formats.update({renamed[n]: f for n, f in graph.formats.items() if n in renamed})
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    return Graph(graph.inputs, outputs, tuple(new), names.read_by(new), formats)


def _plan(graph: Graph) -> tuple[dict[str, list[Node]], dict[str, str]]:
    """Decide which batch norms go into which layer (by its output), and the new name of what each of them wrote."""
    makers = {node.output: node for node in graph.nodes}
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    folded: dict[str, list[Node]] = {}
    renamed: dict[str, str] = {}
    for norm in graph.nodes:
        if norm.op != BATCH_NORM:
            continue
        x = norm.inputs[0]
        layer = makers.get(renamed.get(x, x))
        if layer is None or layer.op.name not in LAYERS or reads[x] != 1 or x in graph.outputs:
            continue
        fixed = any(name in graph.formats for name in (x, layer.output, *layer.inputs[1:]))
        constant = all(name in graph.constants for name in layer.inputs[1:])
        channels_last = layer.op.name == "linear" and len(graph.values[x].shape) != 2
        if constant and not fixed and not channels_last:
            folded.setdefault(layer.output, []).append(norm)
            renamed[norm.output] = layer.output
    return folded, renamed


class _Constants:
    """Old constants that stay and new ones, each new one under the name of what it replaces if nobody reads that."""

    def __init__(self, graph: Graph, kept: set[str]) -> None:
        self.old = graph.constants
        self.real = graph.real_constant
        self.dropped = set(graph.constants) - kept
        self.taken = set(graph.values) - self.dropped
        self.new: dict[str, np.ndarray] = {}
        self.made: dict[tuple[Any, ...], str] = {}

    def name(self, wish: str) -> str:
        """Reserve a name that is free."""
        name = free_name(wish, self.taken)
        self.taken.add(name)
        return name

    def add(self, wish: str, array: np.ndarray, source: tuple[Any, ...]) -> str:
        """Add a constant; one made from the same things is used again, as a shared layer's is."""
        if source not in self.made:
            self.made[source] = self.name(wish)
            self.new[self.made[source]] = array
        return self.made[source]

    def affine(self, norm: Node) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch norm's factor and offset."""
        moving = [name for name in norm.inputs[1:] if name not in self.old]
        if moving:
            raise BadInput(f"batch norm {norm.name!r} reads {moving}, which must be constants to be folded")
        return affine(*(self.real(name) for name in norm.inputs[1:]), norm.attributes["epsilon"])

    def read_by(self, nodes: list[Node]) -> dict[str, np.ndarray | Tensor]:
        """Return the constants that these nodes read, in that order."""
        stay = {name: c for name, c in self.old.items() if name not in self.dropped}
        all_of_them = {**stay, **self.new}
        return {name: all_of_them[name] for node in nodes for name in node.inputs if name in all_of_them}


def _merge(layer: Node, norms: Sequence[Node], names: _Constants) -> Node:
    if not norms:
        return layer
    x, weight_name, *bias_name = layer.inputs
    weight = names.real(weight_name)
    bias = names.real(bias_name[0]) if bias_name else None
    for norm in norms:
        factor, offset = names.affine(norm)
        weight = _scaled(weight, factor, layer)
        bias = offset if bias is None else bias * factor + offset
    source = (layer.op.name, *layer.inputs[1:], *map(_source, norms))
    wishes = (weight_name, bias_name[0] if bias_name else f"{layer.name}.bias")
    if weight_name in names.taken:  # a shared layer whose calls end in different batch norms
        wishes = (f"{layer.name}.weight", f"{layer.name}.bias")
    inputs = (x, names.add(wishes[0], weight, ("weight", *source)), names.add(wishes[1], bias, ("bias", *source)))
    return replace(layer, inputs=inputs)


def _scaled(weight: np.ndarray, factor: np.ndarray, layer: Node) -> np.ndarray:
    if layer.op.name != "conv_transpose":
        return weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    # (C, O/groups, *K): output channel g·(O/groups) + j is fed by the inputs of group g
    groups, columns = layer.attributes.get("groups", 1), weight.shape[1]
    split = weight.reshape(groups, -1, *weight.shape[1:])
    return (split * factor.reshape(groups, 1, columns, *(1,) * (weight.ndim - 2))).reshape(weight.shape)


def _stand_alone(norm: Node, spatial: int, names: _Constants) -> list[Node]:
    """Turn a batch norm into nodes of its own."""
    factor, offset = names.affine(norm)
    if spatial:
        factor = factor.reshape(-1, 1, *(1,) * spatial)
    weight = names.add(f"{norm.name}.weight", factor, ("factor", spatial, _source(norm)))
    bias = names.add(f"{norm.name}.bias", offset, ("offset", _source(norm)))
    if not spatial:
        product = names.name(f"{norm.name}.multiply")
        scaled = Node(product, OPS["multiply"], (norm.inputs[0], weight))
        return [scaled, replace(norm, op=OPS["add"], inputs=(product, bias), attributes={})]
    once, nothing = (1,) * spatial, ((0, 0),) * spatial
    attributes = {"stride": once, "padding": nothing, "dilation": once, "groups": offset.size}
    return [replace(norm, op=OPS["conv"], inputs=(norm.inputs[0], weight, bias), attributes=attributes)]


def _source(norm: Node) -> tuple[Any, ...]:
    return (*norm.inputs[1:], norm.attributes["epsilon"])


def free_name(name: str, taken: Container[str]) -> str:
    """Return the name, or the name with the first suffix _1, _2 … that nobody has.

    >>> free_name("relu", {"relu", "relu_1"})
    'relu_2'
    """
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
