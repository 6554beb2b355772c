"""How much noise the rounding of one value makes, as far as its formats tell: none where nothing is rounded."""

from __future__ import annotations

import math
from fractions import Fraction

from fixqnn.format import Format
from fixqnn.graph import Graph, Node
from fixqnn.ops.sums import Operand

SUMS = ("linear", "conv", "conv_transpose", "matmul", "multiply")
AVERAGES = ("average_pool", "adaptive_average_pool", "mean")
MOVES = ("clamp", "max_pool", "reshape", "transpose", "slice", "pad", "concat", "pixel_shuffle", "resize")
ON_GRID = ("identity", "abs", "relu", "relu6", "hardtanh")  # functions that leave codes of a common step on it


def grid_factor(places: int) -> float:
    """Mean square of what rounding to nearest takes off multiples of 1/places, in units of 1/12.

    With many places errors are uniform and this is 1; ties, of which an even number of places has, weigh more.

    >>> [grid_factor(k) for k in (1, 2, 3)]
    [0.0, 1.5, 0.8888888888888888]
    """
    if places == 1:
        return 0.0
    return 1 + 2 / places**2 if places % 2 == 0 else 1 - 1 / places**2


def noise_factor(graph: Graph, node: Node) -> float:
    """Mean square of what the output of a node loses by rounding to nearest, in units of Δ²/12, the uniform error's.

    Uniform errors have Δ²/12 (W. R. Bennett, "Spectra of quantized signals", Bell System Technical Journal 27, 1948); numbers
    that lie on a coarse grid already lose less or more, and nothing is lost where the output's codes hold what comes.
    """
    out, forms = graph.formats[node.output], [graph.formats[n] for n in node.inputs]
    name: str = node.op.name
    if name in MOVES:
        if name == "concat":
            sizes = [math.prod(graph.values[n].shape[1:]) for n in node.inputs]
            parts = [_places(f.scale, out) if f != out else 1 for f in forms]
            return sum(s * grid_factor(p) for s, p in zip(sizes, parts, strict=True)) / sum(sizes)
        return 0.0 if forms[0] == out else grid_factor(_places(forms[0].scale, out))
    if name in SUMS:
        other = [Operand.of(s, z).step for s, z in zip(forms[1].scales, forms[1].zero_points, strict=True)]
        return sum(grid_factor(_places(_step(forms[0]) * step, out)) for step in other) / len(other)
    if name in AVERAGES:
        return grid_factor(_places(forms[0].scale / _terms(graph, node), out))
    if name in ("add", "subtract"):
        return grid_factor(_places(_common(_step(forms[0]), _step(forms[1])), out))
    if name == "requantize" or (name == "lookup" and node.attributes["function"] in ON_GRID):
        return grid_factor(_places(_step(forms[0]), out))
    return 1.0


def _step(form: Format) -> Fraction:
    return Operand.of(form.scale, form.zero_point).step


def _places(step: Fraction, out: Format) -> int:
    """In how many parts multiples of `step` divide a step of the output."""
    return (step / out.scale).denominator


def _common(a: Fraction, b: Fraction) -> Fraction:
    down = math.lcm(a.denominator, b.denominator)
    return Fraction(math.gcd(int(a * down), int(b * down)), down)


def _terms(graph: Graph, node: Node) -> int:
    x = graph.values[node.inputs[0]].shape
    attributes = node.attributes
    match node.op.name:
        case "average_pool":
            return math.prod(attributes["kernel"])
        case "mean":
            return math.prod(x[a] for a in attributes["axes"])
    return max(1, math.prod(x[2:]) // math.prod(attributes["output"]))
