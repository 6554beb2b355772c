"""Small graphs, written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.graph import Graph, Node, Value
from fixqnn.ops import OPS


def node(name: str, op: str, *inputs: str, **attributes: Any) -> Node:
    return Node(name, OPS[op], inputs, attributes=attributes)


def relu(name: str, x: str, high: float | None = None) -> Node:
    return node(name, "clamp", x, low=0.0, high=high)


def conv(name: str, x: str, w: str, b: str | None = None, padding: int = 0) -> Node:
    inputs = (x, w) if b is None else (x, w, b)
    return node(name, "conv", *inputs, stride=(1, 1), padding=((padding, padding),) * 2, dilation=(1, 1), groups=1)


def pool(name: str, x: str, op: str = "max_pool") -> Node:
    more = {"dilation": (1, 1)} if op == "max_pool" else {"include_padding": True}
    return node(name, op, x, kernel=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), **more)


def chain(*nodes: Node, shape: tuple[int, ...] = (4,), outputs: tuple[str, ...] = (), **constants: Any) -> Graph:
    """A graph with one input x, whose output is the last node's unless said otherwise."""
    outputs = outputs or (nodes[-1].output,)
    return Graph(
        (Value("x", (None, *shape)),), outputs, nodes, {name: np.asarray(c, float) for name, c in constants.items()}
    )


def mlp() -> Graph:
    generator = np.random.default_rng(0)
    return chain(
        node("fc1", "linear", "x", "fc1.weight", "fc1.bias"),
        relu("relu1", "fc1"),
        node("fc2", "linear", "relu1", "fc2.weight", "fc2.bias"),
        **{
            "fc1.weight": generator.normal(0, 0.5, (6, 4)),
            "fc1.bias": generator.normal(0, 0.5, 6),
            "fc2.weight": generator.normal(0, 0.5, (3, 6)),
            "fc2.bias": generator.normal(0, 0.5, 3),
        },
    )


def lenet() -> Graph:
    """Convolution, ReLU, pooling, twice over, then a linear layer."""
    generator = np.random.default_rng(1)
    return chain(
        conv("conv1", "x", "conv1.weight", "conv1.bias", padding=1),
        relu("relu1", "conv1"),
        pool("pool1", "relu1"),
        conv("conv2", "pool1", "conv2.weight", "conv2.bias", padding=1),
        pool("pool2", "conv2"),
        relu("relu2", "pool2"),
        pool("pool3", "relu2", "average_pool"),
        node("flat", "reshape", "pool3", shape=(None, 4)),
        node("fc", "linear", "flat", "fc.weight", "fc.bias"),
        shape=(1, 8, 8),
        **{
            "conv1.weight": generator.normal(0, 0.5, (3, 1, 3, 3)),
            "conv1.bias": generator.normal(0, 0.2, 3),
            "conv2.weight": generator.normal(0, 0.3, (4, 3, 3, 3)),
            "conv2.bias": generator.normal(0, 0.2, 4),
            "fc.weight": generator.normal(0, 0.5, (10, 4)),
            "fc.bias": generator.normal(0, 0.2, 10),
        },
    )


def pictures(count: int = 20, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 1, 8, 8))


def rows(count: int = 20, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 4))
