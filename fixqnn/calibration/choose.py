"""Give a format to everything in a graph that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.calibration.observe import Calibration, Observation, calibrate
from fixqnn.calibration.policy import DEFAULT, FOR_CONSTANTS, Policy
from fixqnn.calibration.scales import value_format, weight_format
from fixqnn.calibration.sharing import Group, groups
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph, Node
from fixqnn.rationals import rational

# Where each layer's weight stands, and along which of its axes the output channels run.
WEIGHT_AXES = {"linear": 0, "conv": 0, "conv_transpose": 1}


def quantize(
    graph: Graph,
    samples: Any,
    policy: Policy = DEFAULT,
    progress: Callable[[int, int | None], None] | None = None,
) -> Graph:
    """Fill in the formats of all inputs, node outputs, weights, biases and other constants that have none.

    The same as ``choose(graph, calibrate(graph, samples, policy), policy)``; to try several policies, calibrate once.

    Parameters
    ----------
    graph : Graph
        The network; formats that it has stay, and pass on to what only moves their codes.
    samples : array, torch tensor, tuple or dict of these, or an iterable of batches
        Typical inputs; see `calibrate`.
    policy : Policy
        Widths, scales and ranges.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of samples.

    Returns
    -------
    Graph
        With a format everywhere. Its notes, which ``print(graph)`` shows, hold the ranges seen and the reasons.

    Raises
    ------
    BadInput
        For unusable samples, names in the policy that fit nothing, or wishes that contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> from fixqnn.graph import Graph, Node, Value
    >>> from fixqnn.ops import OPS
    >>> nodes = (Node("fc", OPS["linear"], ("x", "w", "b")), Node("relu", OPS["clamp"], ("fc",), attributes={"low": 0.0}))
    >>> constants = {"w": np.array([[0.5, -1.0]]), "b": np.array([0.25])}
    >>> graph = Graph((Value("x", (None, 2)),), ("relu",), nodes, constants)
    >>> print(quantize(graph, np.array([[1.0, 0.5], [-1.0, 0.25], [3.0, 0.0]])))
    value  kind      shape   format                     note
    x      input     (N, 2)  fixed(8, 5)                -1 to 3
    w      constant  (1, 2)  fixed(8, 7)                -1 to 0.5
    b      constant  (1,)    fixed(32, 12)              0.25 to 0.25
    fc     linear    (N, 1)  fixed(8, 7, signed=False)  -0.5 to 1.75; has the format of 'relu': saturation does the clamping
    relu   clamp     (N, 1)  fixed(8, 7, signed=False)  0 to 1.75
    """
    if not isinstance(graph, Graph):
        raise BadInput(f"quantize takes a Graph, not {type(graph).__name__}; from_torch(module, example) makes one")
    if not isinstance(policy, Policy):
        raise BadInput(f"policy must be a Policy, as in Policy(weights=8, activations=8), not {policy!r}")
    return choose(graph, calibrate(graph, samples, policy, progress), policy)


def choose(graph: Graph, calibration: Calibration, policy: Policy = DEFAULT) -> Graph:
    """Fill in formats from ranges already seen; see `quantize`.

    A bias of two layers whose products have different scales cannot have one format: the second layer then reads a
    copy, a new constant.

    Parameters
    ----------
    graph : Graph
        The network.
    calibration : Calibration
        What `calibrate` saw in it.
    policy : Policy
        Widths, scales and ranges.
    """
    if not isinstance(policy, Policy):
        raise BadInput(f"policy must be a Policy, not a {type(policy).__name__}")
    policy.check(graph)
    unfolded = [node.name for node in graph.nodes if node.op.name == "batch_norm"]
    if unfolded:
        raise BadInput(
            f"folding batch norms {unfolded} would change weights; fold_batch_norm(graph) comes before quantize"
        )
    return _Choice(graph.with_formats(_wished(graph, policy)), calibration, policy).graph()


def _wished(graph: Graph, policy: Policy) -> dict[str, Format]:
    """Formats that the policy itself names, for inputs and node outputs that have none yet."""
    asked = {v.name: policy.explicit((v.name,), ("input",)) for v in graph.inputs}
    for node in graph.nodes:
        asked[node.output] = policy.explicit((node.name, node.output), (node.op.name, node.attributes.get("function")))
    return {name: s["format"] for name, s in asked.items() if "format" in s and name not in graph.formats}


@dataclass(frozen=True)
class _Use:
    """A node that reads a constant as its weight or bias."""

    node: Node
    place: int


class _Choice:
    """Formats chosen so far, with notes: values first, then weights, then what depends on both."""

    def __init__(self, graph: Graph, calibration: Calibration, policy: Policy) -> None:
        self.source, self.calibration, self.policy = graph, calibration, policy
        self.formats: dict[str, Format] = dict(graph.formats)
        self.notes: dict[str, Mapping[str, Any]] = dict(graph.notes)
        self.copies: dict[tuple[str, Format], str] = {}  # (bias, its other format) -> copy
        self.renamed: dict[tuple[str, int], str] = {}  # (node, place of the input) -> copy it reads
        for name in graph.constants:
            if not np.isfinite(graph.real_constant(name)).all():
                raise BadInput(f"constant {name!r} holds NaN or infinity, which no format can; repair the model")

    def graph(self) -> Graph:
        for group in groups(self.source, self.policy):
            self._choose_values(group)
        for name in self.calibration.values:
            if name in self.source.formats:
                self._note_value(name)
        self._note_padding()
        weights, biases = self._uses()
        for name, uses in weights.items():
            self._choose_weight(name, uses)
        for name in self.source.constants:
            if name not in self.formats and not (name in biases and self._only_bias(name)):
                self._choose_operand(name)
        for name, uses in biases.items():
            for use in uses:
                self._choose_bias(name, use)
        nodes = tuple(
            replace(n, inputs=tuple(self.renamed.get((n.name, i), name) for i, name in enumerate(n.inputs)))
            for n in self.source.nodes
        )
        copies = {copy: self.source.constants[name] for (name, _), copy in self.copies.items()}
        constants = {**self.source.constants, **copies}
        return replace(self.source, nodes=nodes, constants=constants, formats=self.formats, notes=self.notes)

    # ------------------------------------------------------------------ values
    def _choose_values(self, group: Group) -> None:
        form = group.format
        if form is None:
            seen = self._seen(group.members[0])
            for name in group.members[1:]:
                seen = seen.merged(self._seen(name))
            form = value_format(seen, group.settings, group.members[0])
            if seen.dead:
                group.why.setdefault(group.members[0], "always 0 in the samples, taken to reach from -1 to 1")
        for name in (*group.members, *group.fused):
            self.formats[name] = form
            self._note_value(name, group.why.get(name, ""), fused=name in group.fused)

    def _seen(self, name: str) -> Observation:
        if name in self.source.constants:
            return _observed(self.source.real_constant(name))
        return self.calibration[name]

    def _note_value(self, name: str, why: str = "", fused: bool = False) -> None:
        seen, form = self._seen(name), self.formats[name]
        note: dict[str, Any] = {"low": seen.low, "high": seen.high}
        if not fused and not form.per_channel and form.bits > 1:  # of a fused value, what is clipped is clamped
            step = float(form.scale) / 2
            note["clipped"] = seen.share_outside(float(form.real_low) - step, float(form.real_high) + step)
        if why:
            note["why"] = why
        self.notes[name] = note

    def _note_padding(self) -> None:
        """Say where a padding value is no code: no machine can pad with it then."""
        for node in self.source.nodes:
            form, value = self.formats.get(node.inputs[0]), node.attributes.get("value", 0)
            if node.op.name == "pad" and value and form is not None and not form.per_channel:
                code = rational(value, "value") / form.scale + form.zero_point
                if code.denominator != 1 or not form.low <= code <= form.high:
                    note = self.notes.get(node.output, {})
                    why = "; ".join(filter(None, [note.get("why"), f"pads with {value}, which is no code of {form}"]))
                    self.notes[node.output] = {**note, "why": why}

    # ------------------------------------------------------------------ constants
    def _uses(self) -> tuple[dict[str, list[_Use]], dict[str, list[_Use]]]:
        """Who reads which constant without a format as a weight, and who as a bias."""
        weights: dict[str, list[_Use]] = {}
        biases: dict[str, list[_Use]] = {}
        for node in self.source.nodes:
            for place, name in enumerate(node.inputs):
                if name not in self.source.constants or name in self.formats:
                    continue
                if node.op.name == "matmul" or (node.op.name in WEIGHT_AXES and place == 1):
                    weights.setdefault(name, []).append(_Use(node, place))
                elif node.op.name in WEIGHT_AXES and place == 2:
                    biases.setdefault(name, []).append(_Use(node, place))
        return weights, biases

    def _only_bias(self, name: str) -> bool:
        readers = self.source.readers(name)
        as_bias = [
            n.op.name in WEIGHT_AXES and all(i == 2 for i, x in enumerate(n.inputs) if x == name) for n in readers
        ]
        return all(as_bias)

    def _settings(self, name: str, node: Node | None) -> Policy:
        """What the user wants of a constant: by the node that reads it, and by its own name."""
        names, kinds = [name], []
        if node is not None:
            names += [node.name, node.output]
            kinds = [node.op.name, node.attributes.get("function")]
        return self.policy.having(self.policy.explicit(names, kinds))

    def _choose_weight(self, name: str, uses: list[_Use]) -> None:
        wanted = {}
        for use in uses:
            settings = self._settings(name, use.node)
            axis = WEIGHT_AXES.get(use.node.op.name) if settings.per_channel else None
            relevant = tuple(getattr(settings, key) for key in (*FOR_CONSTANTS, "scales") if key != "bias")
            wanted[relevant, axis] = settings, axis, use.node.name
        if len(wanted) > 1:
            nodes = " and ".join(repr(node) for _, _, node in wanted.values())
            raise BadInput(
                f"weight {name!r} is read by {nodes}, whose settings differ; give them the same, or name {name!r}"
            )
        settings, axis, _ = next(iter(wanted.values()))
        array = self.source.real_constant(name)
        form = weight_format(array, settings, axis, name) if array.size else Format(8)
        self.formats[name] = form
        self.notes[name] = _constant_note(array, form)

    def _choose_operand(self, name: str) -> None:
        """Choose the format of a constant that meets values as one of them."""
        reader = next(iter(self.source.readers(name)), None)
        settings = self._settings(name, reader).having({"style": "symmetric", "ranges": "min_max"})
        array = self.source.real_constant(name)
        self.formats[name] = form = value_format(_observed(array), settings, name)
        self.notes[name] = _constant_note(array, form)

    def _choose_bias(self, name: str, use: _Use) -> None:
        node = use.node
        bits = self._settings(name, node).bias
        x, w = (self.formats[n] for n in node.inputs[:2])
        array = self.source.real_constant(name)
        form = bias_format(x, w, bits, array.size)
        why = ""
        if self.formats.get(name, form) != form:
            why = f"copy of {name!r}, at the scale of the products of {node.name!r}"
            name = self._copy(name, node, use.place, form)
        saturated = form.encode_and_count(array, name=name)[1] if array.size else 0
        if saturated:
            why = "; ".join(
                filter(None, [why, f"{saturated} of {array.size} saturate: a bias has the scale of the products"])
            )
        self.formats[name] = form
        self.notes[name] = {**_range(array), "clipped": saturated / max(array.size, 1), **({"why": why} if why else {})}

    def _copy(self, name: str, node: Node, place: int, form: Format) -> str:
        """Find or make a copy of a bias in another format, for one node to read."""
        if (name, form) not in self.copies:
            copy, count = f"{node.name}.bias", 0
            while copy in self.source.values or copy in self.copies.values():
                count += 1
                copy = f"{node.name}.bias_{count}"
            self.copies[name, form] = copy
        self.renamed[node.name, place] = self.copies[name, form]
        return self.copies[name, form]


def bias_format(x: Format, w: Format, bits: int, channels: int) -> Format:
    """Give the format of a bias: its scale is exactly that of the products it is added to, channel by channel.

    A zero point of ½ (``binary()``) makes an odd number of half steps of every code, so that a product's step is half.

    >>> from fixqnn.format import affine, fixed
    >>> bias_format(fixed(8, 4), affine(8, [0.5, 0.25], axis=0), 32, 2)
    affine(32, (0.03125, 0.015625), axis=0)
    """

    def steps(form: Format) -> Iterator[Fraction]:
        return (s / Fraction(z).denominator for s, z in zip(form.scales, form.zero_points, strict=True))

    one, many = next(steps(x)), list(steps(w))
    if not w.per_channel:
        return Format(bits, scale=one * many[0])
    return Format(bits, scale=[one * many[i % len(many)] for i in range(channels)], axis=0)


def _observed(array: np.ndarray) -> Observation:
    return Observation.of(array if array.size else np.zeros(1))


def _range(array: np.ndarray) -> dict[str, float]:
    return {"low": float(array.min()), "high": float(array.max())} if array.size else {}


def _constant_note(array: np.ndarray, form: Format) -> dict[str, Any]:
    """Range of a constant, and the share of it beyond its codes by half a step or more."""
    if form.bits == 1 or not array.size:
        return _range(array)
    shape = [-1 if axis == form.axis else 1 for axis in range(array.ndim)]
    scales = np.array([float(s) for s in form.scales]).reshape(shape if form.per_channel else ())
    quotient = array / scales
    outside = (quotient > form.high + 0.5) | (quotient < form.low - 0.5)
    return {**_range(array), "clipped": float(np.count_nonzero(outside)) / array.size}
