"""Networks of the representability question as plain integers, and as graphs that any machine may run.

Weights have the unit 1/s, biases and sums 1/s². Every layer forms its sum exactly and rounds it once; hidden layers then
read the activation's table, the last one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from fixqnn.errors import TooWide
from fixqnn.format import Format, binary, symmetric, ternary
from fixqnn.graph import Graph, Node, Value
from fixqnn.ops import OPS
from fixqnn.tensor import Tensor
from fixqnn.universal.grid import Bias, Setting

__all__ = ["Layer", "Network", "Size", "grid", "nearest"]

PORTION = 1024  # points that are computed together: what a layer shows for them stays in the cache


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes
    ----------
    widths : tuple of int
        Neurons per layer, the last one included.
    weights, biases : int
        Those that are not zero.
    """

    widths: tuple[int, ...]
    weights: int
    biases: int

    @property
    def parameters(self) -> int:
        """Weights and biases that are not zero."""
        return self.weights + self.biases

    def __str__(self) -> str:
        widths = ", ".join(map(str, self.widths))
        return f"widths {widths}: {self.weights} weights and {self.biases} biases that are not zero"


@dataclass(frozen=True, eq=False)
class Layer:
    """One affine layer: weights (neurons, sources) in units of 1/s and biases (neurons,) in units of 1/s²."""

    weights: np.ndarray
    biases: np.ndarray

    def __post_init__(self) -> None:
        for name in ("weights", "biases"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.int64))


def nearest(setting: Setting, sums: np.ndarray) -> np.ndarray:
    """Round sums of unit 1/s² to codes, saturated: an array at a time, what ``Setting.round`` does to one.

    >>> nearest(Setting(2, 4), np.array([-2, 1, 2, 99])).tolist()
    [0, 0, 1, 3]
    """
    twice, s = 2 * np.asarray(sums, np.int64), setting.s
    down = np.floor_divide(twice + s, 2 * s)  # half up
    tie = down * (2 * s) == twice + s
    match str(setting.rounding):
        case "half_down":
            down = down - tie
        case "half_away":
            down = down - (tie & (down <= 0))
        case "half_toward_zero":
            down = down - (tie & (down > 0))
        case "half_even":
            down = down - (tie & (down % 2 != 0))
    return np.clip(down, -setting.largest, setting.largest)


def grid(setting: Setting, inputs: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Points of the grid in C order, from number `start` to `stop`: codes (points, inputs).

    >>> grid(Setting(1, 1), 2, 2, 5).tolist()
    [[-1, 1], [0, -1], [0, 0]]
    """
    base = 2 * setting.largest + 1
    stop = base**inputs if stop is None else stop
    digits = np.empty((stop - start, inputs), np.int32)
    rest = np.arange(start, stop, dtype=np.int64)
    for axis in reversed(range(inputs)):
        rest, digits[:, axis] = np.divmod(rest, base)
    return digits - setting.largest


@dataclass(frozen=True, eq=False)
class Network:
    """Affine layers with an activation's table between them.

    Attributes
    ----------
    setting : Setting
        Format, weights, biases and tie rule.
    table : tuple of int
        The activation's code for k = −M … M.
    layers : tuple of Layer
        From the inputs to the output.
    """

    setting: Setting
    table: tuple[int, ...]
    layers: tuple[Layer, ...]

    @cached_property
    def size(self) -> Size:
        """Widths, and weights and biases that are not zero."""
        return Size(
            tuple(len(layer.biases) for layer in self.layers),
            sum(int(np.count_nonzero(layer.weights)) for layer in self.layers),
            sum(int(np.count_nonzero(layer.biases)) for layer in self.layers),
        )

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.layers[0].weights.shape[1]

    def sums(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """Yield each layer's sums (points, neurons), before rounding."""
        entries, largest = np.array(self.table, np.int64), self.setting.largest
        hidden = np.asarray(codes, np.int64)
        for layer in self.layers:
            bound = np.abs(layer.weights).sum(axis=1, initial=0) * largest + np.abs(layer.biases)
            if len(bound) and int(bound.max()) >= 1 << 60:
                raise TooWide(f"a sum may reach {int(bound.max())}, which leaves 60 bits")
            # float64 holds whole numbers below 2^53 exactly, and multiplies matrices quickly
            kind = np.float64 if not len(bound) or int(bound.max()) < 1 << 52 else np.int64
            total = (hidden.astype(kind) @ layer.weights.T.astype(kind)).astype(np.int64) + layer.biases
            yield total
            hidden = entries[nearest(self.setting, total) + largest]

    def codes(self, codes: np.ndarray) -> np.ndarray:
        """Compute the output code of every point (points, inputs)."""
        shown = [np.empty(0, np.int64)]
        for start in range(0, len(codes), PORTION):
            *_, last = self.sums(codes[start : start + PORTION])
            shown.append(nearest(self.setting, last)[:, 0])
        return np.concatenate(shown)

    def graph(self, construction: str = "") -> Graph:
        """Write the network as a graph: linear, lookup, linear … with every code fixed.

        Weights of one or two bits travel as such; where biases are finer than their products, all weights are written
        in units of 1/s, since a machine adds a bias on the products' own step. The notes of the output ``y`` hold size,
        tie rule and the name of the construction.
        """
        values, setting = symmetric(self.setting.p, self.setting.s), self.setting
        unit = Fraction(1, setting.s)
        table = {
            "function": "table", "entries": tuple(Fraction(k, setting.s) for k in self.table),
            "first": values.low * unit, "step": unit,
        }  # fmt: skip
        nodes, constants, formats = [], {}, {"x": values}
        name = "x"
        for i, layer in enumerate(self.layers, 1):
            last = i == len(self.layers)
            weights, step = _weights(setting, layer.weights)
            biases = layer.biases // step
            bits = max(int(np.abs(biases).max(initial=0)).bit_length() + 1, 2)
            constants[f"weights{i}"] = weights
            constants[f"biases{i}"] = Tensor(biases, Format(bits, scale=step * unit * unit))
            sum_name = "y" if last else f"sum{i}"
            nodes.append(Node(sum_name, OPS["linear"], (name, f"weights{i}", f"biases{i}")))
            formats[sum_name] = values
            name = sum_name
            if not last:
                name = f"hidden{i}"
                nodes.append(Node(name, OPS["lookup"], (sum_name,), attributes=table))
                formats[name] = values
        size = self.size
        note = {
            "why": f"{construction}: {size}" if construction else str(size), "construction": construction,
            "widths": size.widths, "weights": size.weights, "biases": size.biases, "parameters": size.parameters,
            "rounding": str(setting.rounding),
        }  # fmt: skip
        inputs = (Value("x", (None, self.inputs), values),)
        return Graph(inputs, ("y",), tuple(nodes), constants, formats, {"y": note})


def _weights(setting: Setting, weights: np.ndarray) -> tuple[Tensor, int]:
    """Weights as a Tensor, and the step of their products in units of 1/s²."""
    s = setting.s
    if setting.bias != Bias.fine and setting.weights == "binary":
        return Tensor((weights > 0).astype(np.int64), binary()), s
    if setting.bias != Bias.fine and setting.weights == "ternary":
        return Tensor(weights // s, ternary()), s
    if setting.weights == "full":
        return Tensor(weights, symmetric(setting.p, s)), 1
    bits = max(setting.weight_codes).bit_length() + 1
    return Tensor(weights, Format(bits, scale=Fraction(1, s), narrow_range=True)), 1
