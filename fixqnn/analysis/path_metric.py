"""How far rounded weights take a ReLU network, by its paths: the same for every rescaling of neurons.

A path runs from an input, or from a bias, to an output; Φ holds the product of the weights along each. Where no parameter
changes its sign, ``|R_θ(x) − R_θ'(x)|_1 ≤ max(|x|_∞, 1) · |Φ(θ) − Φ(θ')|_1``, for networks of sums, relu, max-pooling and skip
connections: A. Gonon, N. Brisebarre, E. Riccietti, R. Gribonval, "A path-norm toolkit for modern networks" (arXiv 2310.01225)
and "A rescaling-invariant Lipschitz bound based on path-metrics for modern ReLU network parameterizations"
(arXiv 2405.15006). The sum of all |Φ| takes one pass of the network with magnitudes for parameters and ones for inputs.

Of two such passes comes the distance itself where all magnitudes change in one direction, as by rounding toward zero. In general
it is at most ``P(θ) + P(θ') − 2·P(min(|θ|, |θ'|))``, P being the sum over all paths (derived here: a product of lesser
magnitudes is no greater than the lesser product). Where paths are few, they are listed one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.graph import Graph, Node
from fixqnn.ops import OPS

LISTED = 1 << 16  # paths, at most, that are listed
SUMS = ("linear", "conv", "conv_transpose")
AS_THEY_ARE = (
    "average_pool", "adaptive_average_pool", "mean", "reshape", "transpose", "slice", "pad", "pixel_shuffle", "resize",
    "concat", "requantize",
)  # fmt: skip
Parameters = Mapping[str, np.ndarray]


def path_metric(graph: Graph, paths: int = LISTED) -> float:
    """Bound by paths how far the rounding of weights and biases alone can move a network's outputs.

    The sum of the moves of all outputs is at most ``max(largest |x|, 1)`` times this number, for every input x. Values are
    taken as unrounded: for those, see `error_bound`.

    Parameters
    ----------
    graph : Graph
        With formats for weights and biases, and the float network's own parameters; of linear layers, convolutions, relu,
        pools, additions, and what moves values.
    paths : int
        List the paths one by one, for the exact distance, if there are no more than that.

    Returns
    -------
    float
        The distance of both networks in the space of paths: exact where all magnitudes change in one direction or paths are
        few, else an upper bound.

    Raises
    ------
    DoesNotFit
        For an operation that paths do not describe, by node.
    BadInput
        For a parameter without a format, or whose sign changes.

    Examples
    --------
    Weights (0.3, −0.6), bias 0.1, then 0.7, become (0.25, −0.5), 0 and 0.75: |0.21 − 0.1875| + |0.42 − 0.375| + 0.07.

    >>> import fixqnn as fq
    >>> nodes = (fq.Node("hidden", fq.OPS["linear"], ("x", "w1", "b1")),
    ...     fq.Node("relu", fq.OPS["clamp"], ("hidden",), attributes={"low": 0.0}),
    ...     fq.Node("y", fq.OPS["linear"], ("relu", "w2")))
    >>> constants = {"w1": [[0.3, -0.6]], "b1": [0.1], "w2": [[0.7]]}
    >>> formats = {"w1": fq.fixed(4, 2), "b1": fq.fixed(8, 2), "w2": fq.fixed(4, 2)}
    >>> graph = fq.Graph((fq.Value("x", (None, 2)),), ("y",), nodes, constants, formats)
    >>> round(path_metric(graph), 6), round(path_metric(graph, paths=0), 6)
    (0.1375, 0.2125)
    """
    if not isinstance(graph, Graph):
        raise BadInput(
            f"path_metric takes a Graph, not a {type(graph).__name__}; from_torch(module, example) makes one"
        )
    real, coded = _parameters(graph)
    one, other = ({name: np.abs(a) for name, a in part.items()} for part in (real, coded))
    used = {name: ((one[name] > 0) | (other[name] > 0)).astype(np.float64) for name in one}
    if path_norm(graph, used, counted=True) <= paths:
        return _listed(graph, one, other)
    least = {name: np.minimum(one[name], other[name]) for name in one}
    return path_norm(graph, one) + path_norm(graph, other) - 2 * path_norm(graph, least)


def path_norm(graph: Graph, parameters: Parameters | None = None, counted: bool = False) -> float:
    """Sum of the magnitudes of all paths: the outputs of the network with magnitudes for parameters, at ones.

    Parameters
    ----------
    graph : Graph
        The network.
    parameters : mapping of str to ndarray, optional
        What stands for its constants; by default their magnitudes.
    counted : bool
        Whether every path counts as one; averages then count what they average.

    Examples
    --------
    >>> import fixqnn as fq
    >>> node = fq.Node("y", fq.OPS["linear"], ("x", "w", "b"))
    >>> graph = fq.Graph((fq.Value("x", (None, 2)),), ("y",), (node,), {"w": [[0.5, -2.0]], "b": [-1.0]})
    >>> path_norm(graph)
    3.5
    """
    if parameters is None:
        parameters = {name: np.abs(graph.real_constant(name)) for name in graph.constants}
    known = {v.name: np.ones((1, *v.shape[1:])) for v in graph.inputs}
    for node in graph.nodes:
        operands = [known[name] if name in known else parameters[name] for name in node.inputs]
        y = _rule(node)(node, operands)
        known[node.output] = (y > 0) * np.ceil(y * _terms(node, operands[0])) if counted and _averages(node) else y
    return float(sum(known[name].sum() for name in graph.outputs))


def _averages(node: Node) -> bool:
    return node.op.name in ("average_pool", "adaptive_average_pool", "mean")


def _terms(node: Node, x: np.ndarray) -> int:
    """At least as many as an average has terms."""
    return int(np.prod(x.shape[1:]))


def _parameters(graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Float parameters, and what their codes stand for."""
    real, coded = {}, {}
    for name in graph.constants:
        if not graph.readers(name):
            continue
        form, real[name] = graph.formats.get(name), graph.real_constant(name)
        if form is None:
            raise BadInput(f"constant {name!r} has no format; quantize(graph, samples) gives one")
        coded[name] = form.decode(form.encode(real[name]))
        turned = np.argwhere(real[name] * coded[name] < 0)
        if len(turned):
            at = tuple(int(i) for i in turned[0])
            raise BadInput(
                f"constant {name!r} changes its sign at {list(at)}, from {real[name][at]:.4g} to {coded[name][at]:.4g} "
                f"in {form}; paths are compared for parameters of the same sign"
            )
    return real, coded


# -- one operation on sums over paths ---------------------------------------------------------------------------------


def _rule(node: Node) -> Callable[[Node, list[np.ndarray]], np.ndarray]:
    name, attributes = node.op.name, node.attributes
    if name in SUMS or name in AS_THEY_ARE:
        plain = name != "pad" or not attributes.get("value", 0.0)
        if plain:
            return lambda node, operands: node.op.real(*operands, **node.attributes)
    if name in ("add", "subtract"):
        return lambda node, operands: operands[0] + operands[1]
    if name == "clamp" and attributes.get("low") == 0 and attributes.get("high") is None:
        return lambda node, operands: operands[0]
    if name == "lookup" and attributes["function"] in ("relu", "identity"):
        return lambda node, operands: operands[0]
    if name == "max_pool":
        return _every
    what = attributes.get("function") or name
    raise DoesNotFit(
        f"{node.name} ({what}): paths describe sums of products, relu (clamp from 0 on), pools, additions and moves, not this"
    )


def _every(node: Node, operands: list[np.ndarray]) -> np.ndarray:
    """Paths through a maximum: all that enter its window."""
    x, a = operands[0], node.attributes
    ones = np.ones((x.shape[1], 1, *a["kernel"]))
    return OPS["conv"].real(
        x, ones, stride=a["stride"], padding=a["padding"], dilation=a["dilation"], groups=x.shape[1]
    )


# -- paths one by one --------------------------------------------------------------------------------------------------


def _listed(graph: Graph, one: Parameters, other: Parameters) -> float:
    """Σ over all paths of the difference of both products: every number is a list of pairs of them."""
    known: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        known[value.name] = _lists((1, *value.shape[1:]), np.ones((2, 1)))
    for node in graph.nodes:
        known[node.output] = _through(graph, node, known, one, other)
    lists = [pairs for name in graph.outputs for pairs in known[name].ravel()]
    return float(sum(np.abs(pairs[0] - pairs[1]).sum() for pairs in lists))


def _lists(shape: tuple[int, ...], pairs: np.ndarray) -> np.ndarray:
    made = np.empty(shape, object)
    for place in np.ndindex(*shape):
        made[place] = pairs
    return made


def _through(
    graph: Graph, node: Node, known: Mapping[str, np.ndarray], one: Parameters, other: Parameters
) -> np.ndarray:
    """Lists behind a node: those of what enters, times what the node multiplies them by."""
    rule = _rule(node)
    places = [i for i, name in enumerate(node.inputs) if name in known]
    shape = (1, *graph.values[node.output].shape[1:])
    behind = _lists(shape, np.zeros((2, 0)))

    def alone(place: int | None, at: int | None, parameters: Parameters) -> np.ndarray:
        """The output for a one at a single place of an input, and zeros elsewhere: a column of the node's matrix."""
        operands = []
        for i, name in enumerate(node.inputs):
            full = np.zeros(known[name].shape) if name in known else parameters[name]
            if name not in known and place is not None and not (node.op.name in SUMS and i == 1):
                full = np.zeros(full.shape)
            if i == place and at is not None:
                full.reshape(-1)[at] = 1.0
            operands.append(full)
        return np.broadcast_to(rule(node, operands), shape)

    def note(lists: Any, columns: list[np.ndarray]) -> None:
        for where in zip(*np.nonzero((columns[0] > 0) | (columns[1] > 0)), strict=True):
            factor = np.array([[columns[0][where]], [columns[1][where]]])
            behind[where] = np.concatenate([behind[where], lists * factor], axis=1)

    note(np.ones((2, 1)), [alone(None, None, p) for p in (one, other)])
    for place in places:
        for at, pairs in enumerate(known[node.inputs[place]].ravel()):
            note(pairs, [alone(place, at, p) for p in (one, other)])
    return behind
