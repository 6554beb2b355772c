"""Mixed widths for an error that is wanted: bits go where the outputs feel them most.

Each width adds noise that falls by four with every bit. For a given sum of noises the fewest bits in all are spent when what
each layer adds is in proportion to what a bit of it costs: b_l = b_0 + ½·log2(c_l / n_l), for noise c_l·4^−b and n_l numbers of
that width. This is reverse water-filling, known from rate-distortion theory (T. M. Cover and J. A. Thomas, "Elements of
Information Theory", 2nd ed., section 10.3.3). Whole bits are then dealt out greedily, and taken back where they are not needed.

What a layer's actual weights lose differs from the average of such weights, so the widths found are predicted with the errors
that are known, these take the place of the averages, and bits are dealt anew, a few times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fixqnn.analysis.prediction import LIMIT, Prediction, predict_rms, uniform
from fixqnn.analysis.sensitivity import squared_gradients
from fixqnn.calibration import Policy, calibrate, choose
from fixqnn.calibration.observe import Calibration
from fixqnn.calibration.sharing import MOVES, groups
from fixqnn.errors import BadInput
from fixqnn.graph import Graph

BITS = (3, 16)
ROUNDS = 8  # of dealing bits anew
WEIGHTED = ("linear", "conv", "conv_transpose")
Widths = tuple[int, ...]  # one per source


@dataclass(frozen=True)
class Allocation:
    """Widths of weights and values, layer by layer.

    Attributes
    ----------
    widths : mapping of str to mapping
        Bits by name of node or input: ``{"conv1": {"weights": 5, "activations": 6}}``.
    predicted : Prediction
        Of the network in these widths, with the errors that its numbers are known to have.
    target : float
        The root mean square error that was wanted.
    weight_bits, value_bits : int
        Bits of all weights, and of all values of one sample: what was made small, in sum.
    """

    widths: Mapping[str, Mapping[str, int]]
    predicted: Prediction
    target: float
    weight_bits: int
    value_bits: int

    @property
    def predicted_rms(self) -> float:
        """Root mean square error that is expected."""
        return self.predicted.rms

    @property
    def overrides(self) -> dict[str, dict[str, int]]:
        """The same as settings that `Policy` takes, by patterns that match these names alone."""
        return {_exactly(name): dict(settings) for name, settings in self.widths.items()}

    @property
    def bits(self) -> int:
        """All bits: of the weights, and of the values of one sample."""
        return self.weight_bits + self.value_bits

    def policy(self, base: Policy | None = None) -> Policy:
        """A policy that asks for these widths and is otherwise as `base`, whose own overrides give way."""
        base = Policy() if base is None else base
        return replace(base, overrides={**base.overrides, **self.overrides})

    def __str__(self) -> str:
        rows = [f"{'weights':>8} {'values':>7}  layer"]
        rows += [f"{s.get('weights', ''):>8} {s.get('activations', ''):>7}  {name}" for name, s in self.widths.items()]
        head = f"rms error {self.predicted_rms:.4g} expected, {self.target:.4g} wanted"
        return "\n".join([f"{head}; {self.weight_bits} bits of weights, {self.value_bits} of values", *rows])


@dataclass
class _Source:
    """Something with a width of its own: the weights of a layer, or values that share a format."""

    setting: str  # "weights" or "activations"
    names: tuple[str, ...]  # nodes and inputs that are told
    keys: tuple[tuple[str, str], ...]  # of contributions that are its noise
    numbers: int  # of that width
    noise: dict[int, float] = field(default_factory=dict)  # by width


def allocate_bits(
    graph: Graph,
    samples: Any,
    target: float | None = None,
    *,
    target_sqnr: float | None = None,
    policy: Policy | None = None,
    bits: tuple[int, int] = BITS,
    limit: int | None = LIMIT,
    seed: int = 0,
) -> Allocation:
    """Choose a width for every layer's weights and values, such that outputs are off by `target` and bits are few.

    Parameters
    ----------
    graph : Graph
        The network; formats that it has stay.
    samples : array, torch tensor, tuple or dict of these, or an iterable of batches that can be read again
        Typical inputs; see `calibrate`.
    target : float
        Root mean square error of the outputs that is allowed, in their real units.
    target_sqnr : float
        Instead of it: signal over error in decibels that is wanted.
    policy : Policy, optional
        Scales, ranges and styles, as for `quantize`; widths that it gives are not looked at.
    bits : pair of int
        Fewest and most bits of anything.
    limit, seed
        As for `predict_rms`.

    Returns
    -------
    Allocation
        ``quantize(graph, samples, allocation.policy(policy))`` applies it.

    Raises
    ------
    BadInput
        Where the target is not reached with the most bits allowed, or cannot be one; for unusable samples.
    DoesNotFit
        For an operation whose gradient is not known.

    Examples
    --------
    >>> import fixqnn as fq, numpy as np
    >>> random = np.random.default_rng(0)
    >>> nodes = (fq.Node("a", fq.OPS["linear"], ("x", "wa")), fq.Node("b", fq.OPS["linear"], ("a", "wb")))
    >>> constants = {"wa": random.normal(size=(64, 32)), "wb": random.normal(size=(1, 64))}
    >>> graph = fq.Graph((fq.Value("x", (None, 32)),), ("b",), nodes, constants)
    >>> x = random.normal(size=(50, 32))
    >>> found = allocate_bits(graph, x, target_sqnr=30)
    >>> found.predicted.sqnr >= 30, sorted(found.widths["b"])
    (True, ['activations', 'weights'])
    >>> made = fq.quantize(graph, x, found.policy())
    >>> made.formats["wb"].bits == found.widths["b"]["weights"]
    True
    """
    policy = Policy() if policy is None else policy
    low, high = _checked(graph, policy, bits)
    calibration = calibrate(graph, samples, policy)
    task = _Task(graph, samples, policy, calibration, low, high, limit, seed)
    target = _target(target, target_sqnr, task.signal)
    widths, predicted = task.solve(target)
    spent = [s.numbers * b for s, b in zip(task.sources, widths, strict=True)]
    kinds = [s.setting for s in task.sources]
    weight_bits, value_bits = (
        sum(n for n, kind in zip(spent, kinds, strict=True) if kind == name) for name in ("weights", "activations")
    )
    return Allocation(task.told(widths), predicted, target, weight_bits, value_bits)


def _checked(graph: Graph, policy: Policy, bits: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(graph, Graph):
        raise BadInput(
            f"allocate_bits takes a Graph, not a {type(graph).__name__}; from_torch(module, example) makes one"
        )
    if not isinstance(policy, Policy):
        raise BadInput(f"policy must be a Policy, not {policy!r}")
    whole = isinstance(bits, tuple | list) and len(bits) == 2 and all(type(b) is int for b in bits)
    if not whole or not 2 <= bits[0] <= bits[1]:
        raise BadInput(f"bits must be a pair (fewest, most) with 2 <= fewest <= most, not {bits!r}")
    return bits[0], bits[1]


def _target(rms: Any, decibels: Any, signal: float) -> float:
    if (rms is None) == (decibels is None):
        raise BadInput("give target, a root mean square error, or target_sqnr in decibels: one of the two")
    name, value = ("target", rms) if decibels is None else ("target_sqnr", decibels)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise BadInput(f"{name} must be a finite number, not {value!r}")
    if decibels is None and value <= 0:
        raise BadInput(f"target must be above 0, not {value!r}")
    return float(rms) if decibels is None else signal * 10 ** (-float(decibels) / 20)


class _Task:
    """Sources of noise, and what they make at every width."""

    def __init__(
        self, graph: Graph, samples: Any, policy: Policy, calibration: Calibration, low: int, high: int,
        limit: int | None, seed: int,
    ) -> None:  # fmt: skip
        self.graph, self.samples, self.policy, self.calibration = graph, samples, policy, calibration
        self.low, self.high, self.limit, self.seed = low, high, limit, seed
        self.sources = [*_weight_sources(graph), *_value_sources(graph, policy)]
        if not self.sources:
            raise BadInput("every weight and value of the graph has a format already; there is no width to choose")
        middle = self.made((max(low, min(8, high)),) * len(self.sources))
        found = squared_gradients(middle, samples, limit, seed)
        self.signal = math.sqrt(found.signal)
        for b in range(low, high + 1):
            contributions = uniform(self.made((b,) * len(self.sources)), found)
            for source in self.sources:
                source.noise[b] = sum(contributions.get(key, 0.0) for key in source.keys)

    def told(self, widths: Widths) -> dict[str, dict[str, int]]:
        """Bits by name; a node may be told of its weights and of its output."""
        told: dict[str, dict[str, int]] = {}
        for source, b in zip(self.sources, widths, strict=True):
            for name in source.names:
                told.setdefault(name, {})[source.setting] = b
        return told

    def made(self, widths: Widths) -> Graph:
        """The network in these widths."""
        settings = {_exactly(name): told for name, told in self.told(widths).items()}
        policy = replace(self.policy, overrides={**self.policy.overrides, **settings})
        return choose(self.graph, self.calibration, policy)

    def predicted(self, widths: Widths) -> Prediction:
        """What to expect of these widths; what each source is known to add takes the place of its average."""
        prediction = predict_rms(self.made(widths), self.samples, "known", self.limit, self.seed)
        for source, b in zip(self.sources, widths, strict=True):
            source.noise[b] = sum(prediction.contributions.get(key, 0.0) for key in source.keys)
        return prediction

    def bits(self, widths: Widths) -> int:
        return sum(s.numbers * b for s, b in zip(self.sources, widths, strict=True))

    def total(self, widths: Widths) -> float:
        return sum(s.noise[b] for s, b in zip(self.sources, widths, strict=True))

    def solve(self, target: float) -> tuple[Widths, Prediction]:
        """Deal bits, look what they make, deal again; the cheapest that keeps the target wins."""
        best: tuple[int, Widths, Prediction] | None = None
        seen: dict[Widths, Prediction] = {}
        budget = target**2
        for _ in range(ROUNDS):
            widths = self.dealt(budget)
            if widths not in seen:
                seen[widths] = self.predicted(widths)
            found = seen[widths]
            if found.rms <= target and (best is None or self.bits(widths) < best[0]):
                best = self.bits(widths), widths, found
            # sources are not the whole error, and do not add up as squares when they are known
            beside = found.rms**2 / max(self.total(widths), 1e-300)
            budget = (
                min(target**2 / beside, budget * 4) if found.rms <= target else min(target**2 / beside, budget) * 0.9
            )
            if best is not None and found.rms <= target and found.rms > 0.97 * target:
                break
        if best is None:
            best = self._generous(target)
        return best[1], best[2]

    def _generous(self, target: float) -> tuple[int, Widths, Prediction]:
        """Where dealing does not get there: one bit more for everything, until it does."""
        widths = self.dealt(target**2)
        while True:
            widths = tuple(min(b + 1, self.high) for b in widths)
            found = self.predicted(widths)
            if found.rms <= target:
                return self.bits(widths), widths, found
            if min(widths) == self.high:
                raise BadInput(
                    f"with {self.high} bits everywhere the error is {found.rms:.4g}, above the target {target:.4g}; allow more "
                    "bits, or look at the prediction's kinds: what clips, or has a format already, does not go away with bits"
                )

    # ------------------------------------------------------------------ dealing
    def dealt(self, budget: float) -> Widths:
        """Fewest bits whose noises sum to no more than the budget: filled to a level, rounded up greedily, then trimmed."""
        widths = [*self._filled(budget)]
        while self.total(tuple(widths)) > budget:
            gains = [
                ((s.noise[b] - s.noise[c]) / (s.numbers * (c - b)), i, c)
                for i, (s, b) in enumerate(zip(self.sources, widths, strict=True))
                for c in range(b + 1, self.high + 1)
            ]
            if not gains or max(gains)[0] <= 0:
                break
            _, i, widths[i] = max(gains)
        for i in sorted(range(len(widths)), key=lambda i: -self.sources[i].numbers):
            for b in range(self.low, widths[i]):
                if self.total((*widths[:i], b, *widths[i + 1 :])) <= budget:
                    widths[i] = b
                    break
        return tuple(widths)

    def _filled(self, budget: float) -> Iterator[int]:
        """Whole bits below b_0 + ½·log2(c/n), with b_0 such that noises of c·4^−b would sum to the budget."""
        middle = (self.low + self.high) // 2
        constants = [s.noise[middle] * 4.0**middle for s in self.sources]
        bits = sum(s.numbers for s in self.sources)
        # at b = b_0 + ½·log2(c/n) every source adds n·4^−b_0
        level = 0.5 * math.log2(bits / max(budget, 1e-300))
        for source, c in zip(self.sources, constants, strict=True):
            wanted = level + 0.5 * math.log2(c / source.numbers) if c > 0 else self.low
            yield max(self.low, min(self.high, math.floor(wanted)))


def _weight_sources(graph: Graph) -> Iterator[_Source]:
    """Weights without a format, by the constant: layers that share one share its width."""
    readers: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.op.name in WEIGHTED and node.inputs[1] in graph.constants and node.inputs[1] not in graph.formats:
            readers.setdefault(node.inputs[1], []).append(node.name)
    for name, nodes in readers.items():
        size = max(1, math.prod(graph.values[name].shape))
        yield _Source("weights", tuple(nodes), tuple((node, "weights") for node in nodes), size)


def _value_sources(graph: Graph, policy: Policy) -> Iterator[_Source]:
    """Values without a format, by the format they would share; a value counts once, wherever its codes travel."""
    makers = {node.output: node for node in graph.nodes}
    for group in groups(graph, policy):
        if group.format is not None:
            continue
        values = [name for name in (*group.members, *group.fused) if name not in graph.constants]
        names = tuple(makers[v].name if v in makers else v for v in values)
        stored = [v for v in values if v not in makers or makers[v].op.name not in (*MOVES, "clamp")] or values
        keys = tuple((makers[v].name, "values") if v in makers else (v, "input") for v in values)
        yield _Source("activations", names, keys, max(1, sum(math.prod(graph.values[v].shape[1:]) for v in stored)))


def _exactly(name: str) -> str:
    """A pattern that matches this name and no other."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
