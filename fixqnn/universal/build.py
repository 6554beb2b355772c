"""The network that computes a given table of codes: every construction is sized, the smallest is built.

`fixqnn.universal.constructions` says how each works; ``verify`` runs the result on every input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph
from fixqnn.universal.affine import find_affine
from fixqnn.universal.constructions.bits import bits
from fixqnn.universal.constructions.bounded import bounded
from fixqnn.universal.constructions.cubes import binary_cubes, compact, cubes
from fixqnn.universal.constructions.generic import generic
from fixqnn.universal.constructions.ladder import ladder
from fixqnn.universal.constructions.layers import Layer, Size, grid
from fixqnn.universal.constructions.patterns import patterns
from fixqnn.universal.constructions.readout import readout
from fixqnn.universal.constructions.reduction import reduce_axes
from fixqnn.universal.constructions.sketch import Sketch
from fixqnn.universal.functions import FunctionVerdict, decide_function
from fixqnn.universal.grid import Bias, Setting
from fixqnn.universal.question import resolve
from fixqnn.universal.shrink import shrink as without_excess
from fixqnn.universal.smallest import search
from fixqnn.universal.verdict import Verdict

__all__ = ["CONSTRUCTIONS", "build", "counting_bound", "plans", "size_of"]

CONSTRUCTIONS = (
    "affine", "one layer", "ladder", "patterns", "bits", "readout", "compact", "cubes", "binary cubes", "generic", "bounded",
)  # fmt: skip
# Constructions that grow with the square of the number of points: always tried up to FEW, if nothing else serves up to MOST.
FEW_POINTS, MOST_POINTS = 64, 1024
SHRUNK_POINTS = 4096
CHECKED_POINTS = 1 << 16  # up to here all outputs are computed in plain integers before a network is handed out
LARGEST_P = 10  # a dictionary of first-layer neurons has some (2^(p+1))² entries
ONE_LAYER_POINTS = 3  # up to here a network with one hidden layer is searched for, too


def build(
    target: Any,
    activation: str | Callable[..., Any] | Sequence[int] | Verdict | FunctionVerdict,
    values: Format | None = None,
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    *,
    construction: str = "smallest",
    shrink: bool = True,
    **parameters: Any,
) -> Graph:
    """Build a network that computes a table of codes, bit for bit.

    Parameters
    ----------
    target : ndarray of int
        Output codes, shape (2M+1,) * d: entry [k₁ + M, …, k_d + M] for the input codes k₁ … k_d, each −M … M.
    activation : str, callable, sequence of int, or verdict
        As for `decide`; a verdict of `decide` or `decide_function` brings everything that follows with it.
    values : Format
        ``fq.symmetric(p, s)``.
    weights, bias, rounding : str
        As for `decide`.
    construction : str
        ``"smallest"``, or one of `CONSTRUCTIONS`.
    shrink : bool
        Whether to take away afterwards what does not matter (up to `SHRUNK_POINTS` inputs).
    **parameters
        Of a named activation, by torch's names.

    Returns
    -------
    Graph
        Linear and lookup nodes, every code and format fixed; the output is called ``y``, and ``graph.notes["y"]``
        tells the construction, the widths, the parameters and the tie rule. Sums must be whole and rounded once under
        that rule: lower it onto ``hw_models.ideal(rounding)`` or ``fq.universal.round_once(rounding)``.

    Raises
    ------
    BadInput
        For a target that is no table of codes, and where no network computes it, with the reason.

    Examples
    --------
    >>> import fixqnn as fq
    >>> import numpy as np
    >>> target = np.random.default_rng(0).integers(-7, 8, (15, 15))
    >>> graph = build(target, "relu", fq.symmetric(3, 4))
    >>> fq.universal.verify(graph, target) is None
    True
    """
    setting, table, target = resolve(target, activation, values, weights, bias, rounding, parameters)
    sketches = _sketches(setting, table, target, construction)
    if not sketches and setting.p > LARGEST_P:
        raise BadInput(f"networks with hidden layers are built up to p={LARGEST_P}, not p={setting.p}")
    if not sketches:
        raise BadInput(_refusal(setting, table, target, construction))
    sketch = min(sketches, key=lambda sketch: sketch.size.parameters)
    network = sketch.network()
    if shrink and target.size <= SHRUNK_POINTS:
        network = without_excess(network)
    if target.size <= CHECKED_POINTS and not np.array_equal(
        network.codes(grid(setting, target.ndim)), target.reshape(-1)
    ):
        raise AssertionError(
            f"the construction {sketch.name!r} is wrong for {setting}; this is a mistake in the library"
        )
    return network.graph(sketch.name)


def plans(
    target: Any,
    activation: str | Callable[..., Any] | Sequence[int] | Verdict | FunctionVerdict,
    values: Format | None = None,
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    **parameters: Any,
) -> dict[str, Size]:
    """Size every construction that serves a target, from formulas, without building a network; the smallest first.

    Parameters are those of `build`.

    >>> import fixqnn as fq
    >>> print(plans([3, 2, 1, 0, -1, -2, -3], "relu", fq.symmetric(2, 2))["affine"])
    widths 1: 1 weights and 0 biases that are not zero
    """
    setting, table, target = resolve(target, activation, values, weights, bias, rounding, parameters)
    sizes: dict[str, Size] = {}
    for sketch in sorted(_sketches(setting, table, target, "all"), key=lambda sketch: sketch.size.parameters):
        sizes.setdefault(sketch.name, sketch.size)
    return sizes


def counting_bound(setting: Setting, inputs: int) -> float:
    """The least number of parameters with which one architecture can compute every function.

    P weights of |W| values each make at most |W|^P networks, and there are (2M+1)^N functions of N = (2M+1)^d points: so
    P ≥ N·log(2M+1)/log|W|, which is N for full weights. Biases among the values count as log(2M+1)/log|W| weights each;
    a bias that is wide or fine may hold more, and then the bound is a yardstick and no theorem.

    >>> counting_bound(Setting(3, 4), 2), round(counting_bound(Setting(3, 4, "binary"), 1), 1)
    (225.0, 58.6)
    """
    values = 2 * setting.largest + 1
    return values**inputs * float(np.log2(values) / np.log2(len(setting.weight_codes)))


def size_of(graph: Graph) -> Size:
    """Count what a built graph holds: widths, and weights and biases that are not zero."""
    widths, weights, biases = [], 0, 0
    for node in graph.nodes:
        if node.op.name == "linear":
            _, w, b = node.inputs
            widths.append(graph.values[node.output].shape[1])
            weights += int(np.count_nonzero(graph.constants[w].real()))
            biases += int(np.count_nonzero(graph.constants[b].real()))
    return Size(tuple(widths), weights, biases)


def _sketches(setting: Setting, table: tuple[int, ...], target: np.ndarray, construction: str) -> list[Sketch]:
    if construction not in ("smallest", "all", *CONSTRUCTIONS):
        raise BadInput(f"no construction is called {construction!r}; there are {', '.join(CONSTRUCTIONS)}")
    found: list[Sketch] = []
    for name in CONSTRUCTIONS:
        square = name in ("generic", "bounded") and construction in ("smallest", "all")
        if square and target.size > (FEW_POINTS if found else MOST_POINTS):
            continue
        most = min((s.size.parameters for s in found), default=inf) if construction == "smallest" else inf
        if _least(name, target) >= most:
            continue
        if construction in ("smallest", "all", name):
            made = [s for s in _drawn(name, setting, table, target, most) if s is not None and s.realisable]
            found += made
            if made and name == "affine" and construction == "smallest":
                break
    return found


def _least(name: str, target: np.ndarray) -> int:
    """Parameters that a construction cannot do without, over all the ways it may be drawn."""
    reduced = reduce_axes(target)
    if name == "cubes":  # every cell but the most frequent value's: an output weight and one per input
        cells = reduced.table.size - int(np.unique(reduced.table, return_counts=True)[1].max())
        return (1 + len(reduced.axes)) * cells
    if name == "compact":  # every change: an output weight, and one for the prefix and one for the last input
        return 3 * min((int(np.count_nonzero(np.diff(reduced.table, axis=axis))) for axis in reduced.axes), default=0)
    return 0


def _drawn(
    name: str, setting: Setting, table: tuple[int, ...], target: np.ndarray, most: float
) -> Iterator[Sketch | None]:
    """The networks of a construction; those that need `most` parameters or more may be left out."""
    if name == "affine":
        if found := find_affine(setting, target):
            layer = Layer(np.array([found.weights]), np.array([found.bias]))
            yield Sketch(setting, table, (layer,), "affine")
        elif target.min() == target.max():
            yield _constant(setting, table, target)
        return
    if len(set(table)) == 1 or setting.p > LARGEST_P:
        return
    if name == "one layer":
        if setting.p == 1 and target.size <= ONE_LAYER_POINTS:
            found = search(setting, table, target, seconds=float("inf"), most=8).network
            if found is not None:
                yield Sketch(setting, table, found.layers, name)
        return
    if name == "generic":
        yield from generic(setting, table, grid(setting, target.ndim), target.reshape(-1))
        return
    if name == "bounded":
        if not setting.has_zero and setting.bias == Bias.values:
            yield bounded(setting, table, grid(setting, target.ndim), target.reshape(-1))
        return
    if name == "binary cubes":
        yield binary_cubes(setting, table, target)
        return
    reduced = reduce_axes(target)
    if name == "ladder":
        yield ladder(setting, table, reduced)
    if name == "patterns":
        yield patterns(setting, table, reduced)
    if name == "bits":
        yield bits(setting, table, reduced)
    if name == "cubes":
        yield cubes(setting, table, reduced)
    for axis in reduced.axes:
        if name == "readout":
            yield readout(setting, table, reduced, axis, most)
        if name == "compact":
            yield compact(setting, table, reduced, axis)


def _constant(setting: Setting, table: tuple[int, ...], target: np.ndarray) -> Sketch:
    """A constant where no weight is zero: two equal neurons that cancel, and a bias."""
    unit = setting.weight_unit
    hidden = Layer(np.full((2, target.ndim), unit), np.zeros(2))
    return Sketch(
        setting, table, (hidden, Layer(np.array([[unit, -unit]]), target.reshape(-1)[:1] * setting.s)), "affine"
    )


def _refusal(setting: Setting, table: tuple[int, ...], target: np.ndarray, construction: str) -> str:
    """Why there is no network, or none of these."""
    verdict = decide_function(target, table, setting.values, setting.weights, setting.bias, setting.rounding)
    if verdict.representable is False:
        return f"no network with {setting} computes this target: {verdict.reason}"
    which = (
        "no construction serves" if construction == "smallest" else f"the construction {construction!r} does not serve"
    )
    return f"{which} this target with {setting}; whether some network computes it: {verdict.reason}"
