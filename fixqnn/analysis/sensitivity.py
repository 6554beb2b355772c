"""How strongly roundings move the outputs, to first order: gradients, squared or times errors, averaged over samples.

With J the gradient of one output, an unknown error of variance σ² in every element of a value adds σ²·‖J‖² to the output's
variance; errors that are known add up with their signs before they are squared. Sums over many outputs need no pass per
output: for a vector v of random signs, (v·J)² is Σ_o J_o² on average (M. F. Hutchinson, "A stochastic estimator of the trace
of the influence matrix …", Communications in Statistics 18, 1989).

For known errors gradients are taken half way between the float weights and their codes: the midpoint rule makes what is
missed a third power of the weights' errors, where gradients at either end would miss a square.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.analysis.gradients import RULES, WEIGHTED, Tape, apply, tensor
from fixqnn.analysis.rounding_noise import noise_factor
from fixqnn.calibration.samples import chunks
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph, Node
from fixqnn.kernels.library import one_thread

if TYPE_CHECKING:
    import torch

PROBES = 16  # up to so many outputs are differentiated one by one; of more, so many sums with random signs
SCRATCH = 1 << 22  # numbers that gradients of single samples may take at once
Key = tuple[str, str]  # (layer, kind)


@dataclass
class Sensitivity:
    """Averages over samples and outputs.

    Attributes
    ----------
    values : dict of str to float
        Per value: Σ over elements that are rounded of the squared gradient.
    weights : dict of str to dict of str to ndarray
        Per node, per weight or bias: the squared gradient of every entry.
    known : dict of (layer, kind) to float
        Mean square of the output error that known errors make, each kind by itself.
    known_total : float
        The same of all known errors together.
    signal : float
        Mean square of the float network's outputs.
    samples, outputs : int
        What was averaged over.
    """

    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    known: dict[Key, float] = field(default_factory=dict)
    known_total: float = 0.0
    signal: float = 0.0
    samples: int = 0
    outputs: int = 0

    def averaged(self) -> Sensitivity:
        """Divide the sums by what they run over."""
        count = self.samples * self.outputs
        return Sensitivity(
            {name: v / count for name, v in self.values.items()},
            {node: {name: a / count for name, a in arrays.items()} for node, arrays in self.weights.items()},
            {key: v / count for key, v in self.known.items()},
            self.known_total / count,
            self.signal / count,
            self.samples,
            self.outputs,
        )


def known_errors(graph: Graph, samples: Any, limit: int | None, seed: int) -> Sensitivity:
    """Follow the errors that codes are known to have: `known` and `known_total`.

    Parameters
    ----------
    graph : Graph
        With formats.
    samples : array, torch tensor, tuple or dict of these, or an iterable of batches
        Typical inputs.
    limit : int, optional
        Use at most so many samples, evenly spaced.
    seed : int
        Of the random signs.
    """
    reals = {name: graph.real_constant(name) for name in graph.constants}
    errors = {name: decoded(graph.formats[name], real) - real for name, real in reals.items() if name in graph.formats}
    middle = {name: real + errors.get(name, 0.0) / 2 for name, real in reals.items()}
    found, random = Sensitivity(), np.random.default_rng(seed)
    with one_thread():
        for batch in _some(graph, samples, limit):
            tape = Tape(graph, batch, middle)
            entering = _entering(tape, batch, errors)
            for gradients, share in _gradients(found, tape, batch, random):
                _follow(found, entering, gradients, share)
    return _done(found)


def squared_gradients(graph: Graph, samples: Any, limit: int | None, seed: int) -> Sensitivity:
    """Square the gradients of all weights, biases and values: `weights` and `values`; parameters as for `known_errors`."""
    reals = {name: graph.real_constant(name) for name in graph.constants}
    found, random = Sensitivity(), np.random.default_rng(seed)
    with one_thread():
        for batch in _some(graph, samples, limit):
            tape = Tape(graph, batch, reals)
            live = {name: _rounded(graph, name, v.detach()) for name, v in tape.values.items()}
            for gradients, share in _gradients(found, tape, batch, random):
                _add_values(found, live, gradients, share)
                _add_weights(found, tape, gradients, share)
    return _done(found)


def _add_values(
    found: Sensitivity, live: Mapping[str, torch.Tensor], gradients: Mapping[Any, Any], share: float
) -> None:
    for name, mask in live.items():
        if gradients[name] is not None:
            square = share * float((gradients[name].square() * mask).sum())
            found.values[name] = found.values.get(name, 0.0) + square


def _done(found: Sensitivity) -> Sensitivity:
    if not found.samples:
        raise BadInput("there are no samples to take gradients at")
    return found.averaged()


def decoded(form: Format, real: np.ndarray) -> np.ndarray:
    """What the codes of real numbers stand for."""
    return form.decode(form.encode(real))


def _some(graph: Graph, samples: Any, limit: int | None) -> Iterator[Mapping[str, np.ndarray]]:
    """Batches of the samples, or of `limit` of them where it is known how many there are."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise BadInput(f"limit must be a number of samples, at least 1, or None for all, not {limit!r}")
    done = 0
    for batch, size, total in chunks(graph, samples):
        picked = np.arange(size)
        if limit is not None and total is not None and total > limit:
            places = np.linspace(0, total - 1, limit).round().astype(int) - done
            picked = places[(places >= 0) & (places < size)]
        elif limit is not None and total is None:
            picked = picked[: max(0, limit - done)]
        done += size
        if picked.size:
            yield {name: array[picked] for name, array in batch.items()}


def _gradients(
    found: Sensitivity, tape: Tape, batch: Mapping[str, np.ndarray], random: np.random.Generator
) -> Iterator[tuple[dict[Any, torch.Tensor | None], float]]:
    """Gradients with respect to all values and operands, one probe after another; counts samples, outputs and signal."""
    import torch

    graph = tape.graph
    y = torch.cat([tape.values[name].reshape(tape.samples, -1) for name in graph.outputs], dim=1)
    found.samples, found.outputs = found.samples + tape.samples, y.shape[1]
    found.signal += sum(float(np.square(v).sum()) for v in graph.evaluate(dict(batch)).values())
    leaves = {**tape.values, **tape.operands}
    for probe, share in _probes(*y.shape, random):
        made = torch.autograd.grad((y * probe).sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        yield dict(zip(leaves, made, strict=True)), share


def _probes(samples: int, outputs: int, random: np.random.Generator) -> Iterator[tuple[torch.Tensor, float]]:
    """Vectors over the outputs, with what each counts: unit vectors, or random signs where those would be many."""
    import torch

    if outputs <= PROBES:
        for o in range(outputs):
            probe = torch.zeros(samples, outputs)
            probe[:, o] = 1
            yield probe, 1.0
        return
    for _ in range(PROBES):
        signs = random.integers(0, 2, (samples, outputs)) * 2 - 1
        yield torch.from_numpy(signs.astype(np.float32)), 1 / PROBES


def _rounded(graph: Graph, name: str, values: torch.Tensor) -> torch.Tensor:
    """1 where a value is rounded: zeros have a code, and what is clipped takes the last one."""
    form = graph.formats[name]
    live = values != 0
    if not form.per_channel:
        live &= (values > float(form.real_low)) & (values < float(form.real_high))
    return live.to(values.dtype)


# -- weights ------------------------------------------------------------------------------------------------------------


def _add_weights(found: Sensitivity, tape: Tape, gradients: Mapping[Any, Any], share: float) -> None:
    for node in tape.graph.nodes:
        g = gradients.get(node.output)
        if node.op.name not in WEIGHTED or g is None:
            continue
        x = tape.values[node.inputs[0]].detach()
        sums = found.weights.setdefault(node.name, {})
        squares = {node.inputs[1]: _weight_squares(tape, node, x, g)}
        if len(node.inputs) > 2:
            moved = g.movedim(-1, 1) if node.op.name == "linear" else g
            squares[node.inputs[2]] = moved.reshape(len(g), moved.shape[1], -1).sum(dim=2).square().sum(dim=0)
        for name, square in squares.items():
            sums[name] = sums.get(name, 0.0) + share * square.double().numpy()


def _weight_squares(tape: Tape, node: Node, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Σ over samples of the squared gradient of every weight."""
    import torch

    if node.op.name == "linear" and x.ndim == 2:
        return g.square().T @ x.square()
    w = tensor(tape.constants[node.inputs[1]])
    rule = RULES[node.op.name]

    def moved(weight: torch.Tensor, one: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return (rule(one[None], weight, **node.attributes) * gradient[None]).sum()

    each = torch.func.vmap(torch.func.grad(moved), (None, 0, 0))
    size = max(1, SCRATCH // w.numel())
    return sum(each(w, x[i : i + size], g[i : i + size]).square().sum(dim=0) for i in range(0, len(x), size))


# -- errors that are known -------------------------------------------------------------------------------------------------


def _entering(
    tape: Tape, batch: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]
) -> dict[tuple[Any, Key], torch.Tensor]:
    """Errors by where they enter, (value or operand, (layer, kind)): of inputs, constants, weights, values and what clips."""
    graph = tape.graph
    errors: dict[tuple[Any, Key], torch.Tensor] = {}

    def note(place: Any, layer: str, kind: str, error: torch.Tensor) -> None:
        if bool((error != 0).any()):
            errors[place, (layer, kind)] = error

    for name, array in batch.items():
        note(name, name, "input", tensor(decoded(graph.formats[name], array) - array))
    for node in graph.nodes:
        if node.op.name in WEIGHTED:
            x = tape.values[node.inputs[0]].detach()
            note(node.output, node.name, "weights", apply(graph, node, [x, tensor(constants[node.inputs[1]])]))
            if len(node.inputs) > 2:
                note(node.output, node.name, "bias", _spread(graph, node, tensor(constants[node.inputs[2]]), len(x)))
        for place, name in enumerate(node.inputs):
            if (node.name, place) in tape.operands:
                operand = tape.operands[node.name, place]
                note((node.name, place), node.name, "constant", tensor(constants[name]).expand(operand.shape))
        form, value = graph.formats[node.output], tape.values[node.output].detach()
        if not form.per_channel:
            clipped = value.clamp(float(form.real_low), float(form.real_high))
            note(node.output, node.name, "clipping", clipped - value)
            note(node.output, node.name, "values", _lost(form, clipped, noise_factor(graph, node)))
    return errors


def _lost(form: Format, values: torch.Tensor, factor: float) -> torch.Tensor:
    """What rounding to nearest takes off; scaled where numbers lie on a coarse grid already, and lose more or less."""
    if not factor:
        return values * 0
    steps = values.double() / float(form.scale)
    return ((steps.round() - steps) * (float(form.scale) * math.sqrt(factor))).float()


def _spread(graph: Graph, node: Node, bias: torch.Tensor, samples: int) -> torch.Tensor:
    shape = graph.values[node.output].shape
    axis = len(shape) - 1 if node.op.name == "linear" else 1
    return bias.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(samples, *shape[1:])


def _follow(
    found: Sensitivity, errors: Mapping[tuple[Any, Key], torch.Tensor], gradients: Mapping[Any, Any], share: float
) -> None:
    total = np.zeros(0)
    for (place, key), error in errors.items():
        if gradients[place] is None:
            continue
        moved = (gradients[place] * error).reshape(len(error), -1).sum(dim=1).double().numpy()
        found.known[key] = found.known.get(key, 0.0) + share * float(np.square(moved).sum())
        total = total + moved if total.size else moved
    found.known_total += share * float(np.square(total).sum())
