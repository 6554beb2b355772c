"""The error to expect before anything is run: to first order, layer by layer."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from fixqnn.analysis.rounding_noise import noise_factor
from fixqnn.analysis.sensitivity import Key, Sensitivity, known_errors, squared_gradients
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph

LIMIT = 64  # samples that gradients are taken at, if not said otherwise


@dataclass(frozen=True)
class Prediction:
    """Mean square error of the outputs, as it is made up.

    Attributes
    ----------
    contributions : dict of (layer, kind) to float
        Variance that each source adds at the outputs, per output and averaged over them, in real units squared. Kinds are
        ``"values"`` (rounding of a layer's result), ``"weights"``, ``"bias"``, ``"input"``, ``"constant"`` and
        ``"clipping"``; an input counts as a layer of its name.
    rms : float
        Expected root mean square error of an output. Known errors add up with their signs before they are squared, so its
        square need not be the sum of all contributions.
    signal : float
        Root mean square of the outputs themselves.
    samples : int
        Over how many samples this is averaged.
    """

    contributions: dict[Key, float]
    rms: float
    signal: float
    samples: int

    @property
    def sqnr(self) -> float:
        """Signal over error in decibels, as `fixqnn.sqnr` measures it."""
        if not self.rms:
            return math.inf
        return 20 * math.log10(self.signal / self.rms) if self.signal else -math.inf

    def layers(self) -> dict[str, float]:
        """Root mean square error that each layer adds, its weights, bias and values together."""
        return {layer: math.sqrt(v) for layer, v in self._sums(0).items()}

    def kinds(self) -> dict[str, float]:
        """Root mean square error that each kind of source adds, over all layers."""
        return {kind: math.sqrt(v) for kind, v in self._sums(1).items()}

    def shares(self) -> dict[str, float]:
        """Share of each layer in the sum of all contributions, from the largest down; together they make 1."""
        return self._shares(0)

    def kind_shares(self) -> dict[str, float]:
        """Share of each kind of source, from the largest down."""
        return self._shares(1)

    def _sums(self, part: int) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        for key, variance in self.contributions.items():
            sums[key[part]] += variance
        return dict(sums)

    def _shares(self, part: int) -> dict[str, float]:
        sums = self._sums(part)
        total = sum(sums.values())
        return {name: v / total if total else 0.0 for name, v in sorted(sums.items(), key=lambda item: -item[1])}

    def table(self) -> list[dict[str, Any]]:
        """One row per source, from the largest down: layer, kind, rms, share."""
        total = sum(self.contributions.values())
        rows = sorted(self.contributions.items(), key=lambda item: -item[1])
        return [
            {"layer": layer, "kind": kind, "rms": math.sqrt(v), "share": v / total if total else 0.0}
            for (layer, kind), v in rows
        ]

    def __str__(self) -> str:
        head = f"expected rms error {self.rms:.4g} of outputs of rms {self.signal:.4g}: {self.sqnr:.1f} dB"
        rows = [
            f"  {r['share']:6.1%}  {r['rms']:.4g}  {r['layer']} {r['kind']}" for r in self.table() if r["share"] >= 5e-4
        ]
        return "\n".join([head, *rows])


def predict_rms(
    graph: Graph, samples: Any, errors: str = "known", limit: int | None = LIMIT, seed: int = 0
) -> Prediction:
    """Predict the error of the integer network's outputs without running it.

    Every rounding counts to first order: its error times the gradient of the outputs. Only where codes are really rounded:
    not where they travel, nor twice where a relu is fused into an output register. Sums are taken as whole and rounded to
    nearest, as on ``ideal``.

    First order holds while errors are small beside what bends the network. Tests hold the prediction within 25 % of exact
    simulation on the digits network and on ResNet-8, from 4 bits on. With two or three bits, or where much is clipped, it is a
    rough guess. The deeper a network, the more bits it takes: where inner values are off by as much as they are large, relus
    and clamps bound what gradients let grow, and the prediction is several times too high (MobileNetV2 with 8 bits).

    Parameters
    ----------
    graph : Graph
        With a format everywhere (from `quantize`), and the float network's own weights.
    samples : array, torch tensor, tuple or dict of these, or an iterable of batches
        Typical inputs, real numbers; see `calibrate`.
    errors : {"known", "uniform"}
        ``"known"``: what these weights, biases, inputs and values lose in these formats, signs included, so that errors may
        cancel. ``"uniform"``: independent errors of variance Δ²/12, whatever the numbers: what to expect on average of
        other weights in formats of these steps. The actual weights may do better or worse, the more so the fewer matter.
    limit : int or None
        Take gradients at no more than so many samples, evenly spaced; None: at all.
    seed : int
        Of the random signs that stand for the outputs where there are more than sixteen.

    Returns
    -------
    Prediction
        The total, and what each layer adds.

    Raises
    ------
    BadInput
        For a value without a format, or unusable samples.
    DoesNotFit
        For an operation whose gradient is not known.

    Examples
    --------
    One product, rounded to steps of 1/16, of inputs and a weight that have codes:

    >>> import fixqnn as fq, numpy as np
    >>> node = fq.Node("y", fq.OPS["linear"], ("x", "w"))
    >>> formats = {"x": fq.fixed(9, 8), "w": fq.fixed(8, 6), "y": fq.fixed(12, 4)}
    >>> graph = fq.Graph((fq.Value("x", (None, 1)),), ("y",), (node,), {"w": [[0.796875]]}, formats)
    >>> x = np.arange(1, 200).reshape(-1, 1) / 256
    >>> predicted = predict_rms(graph, x)
    >>> round(predicted.rms / (2.0**-4 / 12**0.5), 1), predicted.shares()
    (1.0, {'y': 1.0})
    """
    check_formats(graph)
    if errors == "known":
        found = known_errors(graph, samples, limit, seed)
        return Prediction(found.known, math.sqrt(found.known_total), math.sqrt(found.signal), found.samples)
    if errors != "uniform":
        raise BadInput(f"errors must be 'known' or 'uniform', not {errors!r}")
    found = squared_gradients(graph, samples, limit, seed)
    contributions = {key: v for key, v in uniform(graph, found).items() if v}
    return Prediction(contributions, math.sqrt(sum(contributions.values())), math.sqrt(found.signal), found.samples)


def uniform(graph: Graph, found: Sensitivity) -> dict[Key, float]:
    """What uniform errors of the graph's steps contribute, given its squared gradients."""
    contributions: dict[Key, float] = {}
    for value in graph.inputs:
        contributions[value.name, "input"] = (
            found.values.get(value.name, 0.0) * step_squared(graph.formats[value.name]) / 12
        )
    for node in graph.nodes:
        noise = noise_factor(graph, node) * step_squared(graph.formats[node.output]) / 12
        contributions[node.name, "values"] = found.values.get(node.output, 0.0) * noise
        for name, squares in found.weights.get(node.name, {}).items():
            kind = "weights" if name == node.inputs[1] else "bias"
            variance = float((squares * _steps_squared(graph.formats[name], squares.ndim)).sum()) / 12
            contributions[node.name, kind] = contributions.get((node.name, kind), 0.0) + variance
    return contributions


def step_squared(form: Format) -> float:
    """Square of the step of a format; of several, the mean."""
    return float(np.mean([float(s) ** 2 for s in form.scales]))


def _steps_squared(form: Format, rank: int) -> np.ndarray:
    """Squared steps of a format, in a shape that meets an array of that rank."""
    shape = [-1 if form.per_channel and axis == form.axis else 1 for axis in range(rank)]
    return np.square(np.array([float(s) for s in form.scales])).reshape(shape)


def check_formats(graph: Graph) -> None:
    """Refuse what is no graph, or has values without a format."""
    if not isinstance(graph, Graph):
        raise BadInput(
            f"predictions are of a Graph, not a {type(graph).__name__}; from_torch(module, example) makes one"
        )
    used = {name for node in graph.nodes for name in (*node.inputs, node.output)}
    bare = [name for name in graph.values if name in used and name not in graph.formats]
    if bare:
        raise BadInput(f"no format for {', '.join(bare)}; quantize(graph, samples) gives them")
