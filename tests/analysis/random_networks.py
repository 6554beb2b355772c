"""Random networks over every operation, with weights and inputs made to measure, for tests of theorems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fixqnn as fq

FUNCTIONS = (
    "sigmoid", "tanh", "silu", "gelu", "hardswish", "square", "abs", "softplus", "mish", "erf", "elu", "sin", "leaky_relu",
    "hardsigmoid", "relu6", "sign", "gaussian", "softsign",
)  # fmt: skip


class Builder:
    """A graph that grows by one random operation after another, from one value (N, C, H, W)."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[fq.Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[Any, ...]] = {"x": (None, 2, 4, 4)}
        self.last = "x"

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        shapes = [self.shapes[n] for n in inputs]
        self.shapes[name] = fq.OPS[op].shape(*shapes, **attributes)
        self.nodes.append(fq.Node(name, fq.OPS[op], inputs, attributes=attributes))
        return name

    def weight(self, *shape: int, size: float = 1.0) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = self.random.normal(size=shape) * size
        self.shapes[name] = shape
        return name

    def pick(self, *choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    # ------------------------------------------------------------------ one operation each
    def conv(self, x: str) -> str:
        channels, k, groups = self.shapes[x][1], self.pick(1, 2, 3), 1
        if channels % 2 == 0 and self.pick(True, False):
            groups = 2
        dilation = self.pick(1, 1, 2) if self.shapes[x][2] >= 2 * k - 1 else 1
        k = min(k, *self.shapes[x][2:])
        w = self.weight(2 * groups, channels // groups, k, k, size=(channels // groups * k * k) ** -0.5)
        inputs = (x, w, self.weight(2 * groups, size=0.3)) if self.pick(True, False) else (x, w)
        padding = ((self.pick(0, 1), 1), (1, self.pick(0, 1)))
        return self.add(
            "conv", *inputs, stride=(1, self.pick(1, 2)), padding=padding, dilation=(dilation, 1), groups=groups
        )

    def conv_transpose(self, x: str) -> str:
        channels = self.shapes[x][1]
        w = self.weight(channels, 2, 2, 2, size=channels**-0.5)
        return self.add(
            "conv_transpose",
            x,
            w,
            self.weight(2),
            stride=(1, 1),
            padding=(int(self.shapes[x][2] > 1), 0),
            output_padding=(0, 0),
            dilation=(1, 1),
        )

    def clamp(self, x: str) -> str:
        return self.add("clamp", x, **self.pick({"low": 0.0}, {"low": 0.0, "high": 0.7}, {"low": -0.45, "high": 0.45}))

    def lookup(self, x: str) -> str:
        return self.add("lookup", x, function=self.pick(*FUNCTIONS))

    def max_pool(self, x: str) -> str:
        return self.add("max_pool", x, kernel=(2, 2), stride=(1, 1), padding=((1, 0), (0, 1)), dilation=(1, 1))

    def average_pool(self, x: str) -> str:
        return self.add(
            "average_pool",
            x,
            kernel=(2, 2),
            stride=(1, 2),
            padding=((1, 0), (0, 1)),
            include_padding=self.pick(True, False),
        )

    def adaptive(self, x: str) -> str:
        return self.add("adaptive_average_pool", x, output=(2, 2))

    def residual(self, x: str) -> str:
        return self.add(self.pick("add", "subtract", "multiply"), x, self.pick(self.lookup, self.clamp)(x))

    def with_constant(self, x: str) -> str:
        return self.add(self.pick("add", "multiply", "subtract"), x, self.weight(self.shapes[x][1], 1, 1, size=0.7))

    def concat(self, x: str) -> str:
        return self.add("concat", x, self.add("slice", x, axis=1, start=0, stop=1, step=1), axis=1)

    def matmul(self, x: str) -> str:
        return self.add("matmul", x, self.add("transpose", x, axes=(0, 1, 3, 2)))

    def pad(self, x: str) -> str:
        return self.add("pad", x, padding=((0, 0), (0, 0), (1, 0), (0, 0)), value=0.0)

    def resize(self, x: str) -> str:
        return self.add("resize", x, factor=(1, 2))

    def shuffle(self, x: str) -> str:
        _n, c, _h, _w = self.shapes[x]
        if c % 4:
            return self.add("transpose", x, axes=(0, 1, 3, 2))
        return self.add("pixel_shuffle", x, factor=2)

    def ways(self) -> list[Callable[[str], str]]:
        return [
            self.conv, self.conv, self.conv_transpose, self.clamp, self.lookup, self.max_pool, self.average_pool,
            self.adaptive, self.residual, self.residual, self.with_constant, self.concat, self.matmul, self.pad, self.resize,
            self.shuffle,
        ]  # fmt: skip


def random_graph(seed: int, operations: int = 6) -> fq.Graph:
    """A network of that many random operations, then an average or a flattening, and a classifier of three classes."""
    made = Builder(seed)
    x = made.conv("x")
    ways = made.ways()
    for _ in range(operations):
        if np.prod(made.shapes[x][1:]) > 400:
            x = made.adaptive(x)
        x = made.pick(*ways)(x)
    if made.pick(True, False):
        x = made.add("mean", x, axes=(2, 3), keepdims=False)
    else:
        x = made.add("reshape", x, shape=(None, int(np.prod(made.shapes[x][1:]))))
    features = made.shapes[x][1]
    x = made.add("linear", x, made.weight(3, features, size=features**-0.5), made.weight(3, size=0.2))
    return fq.Graph((fq.Value("x", (None, 2, 4, 4)),), (x,), tuple(made.nodes), made.constants)


def random_policy(seed: int, power_of_two: bool = False) -> fq.Policy:
    """Any widths and styles."""
    random = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    return fq.Policy(
        weights=pick(2, 3, 4, 6, 8, "ternary"), activations=pick(3, 4, 6, 8, 10), bias=pick(8, 32), fuse_relu=pick(True, False),
        scales="power_of_two" if power_of_two else pick("power_of_two", "free"),
        style="symmetric" if power_of_two else pick("symmetric", "affine"), per_channel=pick(False, not power_of_two),
        share=pick(True, False), ranges=pick("min_max", "mse"),
    )  # fmt: skip


def samples(seed: int, count: int = 12, reach: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2, 4, 4)) * reach
