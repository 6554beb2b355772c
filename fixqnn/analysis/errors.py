"""How far the integer network can be from the float one, for given inputs or a whole box of them: a certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.analysis.enclosure import Enclosure
from fixqnn.analysis.running_bound import carry, constant, entered
from fixqnn.comparison import batches
from fixqnn.encoding import as_reals
from fixqnn.errors import BadInput
from fixqnn.graph import Graph, show_shape
from fixqnn.machines import resolve
from fixqnn.program import Program, lower
from fixqnn.tensor import Tensor

SUMS = ("linear", "conv", "conv_transpose")
Parts = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]  # by input: real low, real high, codes if given


def error_bound(
    graph: Graph,
    x: Any = None,
    *,
    box: Any = None,
    machine: str | Accelerator | Program = "ideal",
    watch: str | tuple[str, ...] = (),
) -> np.ndarray | dict[str, np.ndarray]:
    """Bound how far the integer network's outputs are from the float network's, output by output.

    No run is needed and none can pass the bound: rounding of inputs, weights, biases, values and tables is counted,
    saturation included, for signs of any kind (see `fixqnn.analysis.running_bound`). Being a worst case, it is often some
    hundred times what is seen; `predict_rms` says what to expect.

    Parameters
    ----------
    graph : Graph
        With a format everywhere (from `quantize`), and the float network's own weights. What has fixed codes counts as
        their reals.
    x : array, torch tensor, Tensor, or a tuple or mapping of these, optional
        Inputs, as `run` takes them: floats are reals, integers and Tensors are codes.
    box : pair (low, high), or a mapping of pairs by input name, optional
        Instead of `x`: all inputs between two reals, or two arrays in the shape of one sample or of a batch.
    machine : str, Accelerator or Program
        Whose roundings count; its registers must be wide enough not to act. A program must be of this very graph.
    watch : "all", or names of values
        What to bound besides the outputs.

    Returns
    -------
    ndarray or dict of str to ndarray
        In real units, in the shape of the output, the batch first; with several outputs, or with `watch`, by name.

    Raises
    ------
    DoesNotFit
        For an operation or a datapath without a rule, or a register that may act; the message names the step.
    BadInput
        For neither or both of `x` and `box`, wrong shapes, NaN, or a program of another graph.

    Examples
    --------
    Weights (0.3, −0.6) and 0.7 become (0.25, −0.5) and 0.75, and a bias of 0.1 becomes 0. At (1, 0.5) the first layer is off
    by at most 0.05·1 + 0.1·0.5 + 0.1 = 0.2, the second by 0.75·0.2 + 0.05·0.1:

    >>> import fixqnn as fq
    >>> nodes = (fq.Node("hidden", fq.OPS["linear"], ("x", "w1", "b1")),
    ...     fq.Node("relu", fq.OPS["clamp"], ("hidden",), attributes={"low": 0.0}),
    ...     fq.Node("y", fq.OPS["linear"], ("relu", "w2")))
    >>> constants = {"w1": [[0.3, -0.6]], "b1": [0.1], "w2": [[0.7]]}
    >>> formats = {"x": fq.fixed(8, 4), "hidden": fq.fixed(16, 6), "relu": fq.fixed(16, 6), "y": fq.fixed(16, 8),
    ...     "w1": fq.fixed(4, 2), "b1": fq.fixed(8, 2), "w2": fq.fixed(4, 2)}
    >>> graph = fq.Graph((fq.Value("x", (None, 2)),), ("y",), nodes, constants, formats)
    >>> error_bound(graph, [[1.0, 0.5]]).round(6)
    array([[0.155]])
    >>> error_bound(graph, box=(0, 1)).round(3)
    array([[0.225]])
    """
    graph, program = _lowered(graph, machine)
    names = _watched(program, watch)
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in (*program.outputs, *names)}
    for part in _parts(graph, program, x, box):
        found = _enclose(graph, program, part, set(pieces))
        for name, values in pieces.items():
            values.append(found[name].error)
    bounds = {name: np.concatenate(values) for name, values in pieces.items()}
    return bounds[program.outputs[0]] if len(bounds) == 1 and not names else bounds


def certified_agreement(
    graph: Graph, x: Any = None, *, box: Any = None, machine: str | Accelerator | Program = "ideal"
) -> np.ndarray:
    """Tell for which samples the integer network is proved to choose the float network's class.

    The class is the largest output along axis 1. It is certain where it leads every other by more than the two error
    bounds together; False means unproved, not different.

    Parameters
    ----------
    graph, x, box, machine
        As for `error_bound`; of a box, the class must be the same everywhere in it.

    Returns
    -------
    ndarray of bool
        One per sample, and per position where the output has more than two axes.

    Raises
    ------
    DoesNotFit, BadInput
        As `error_bound`; also for a graph with several outputs, or without an axis of classes.

    Examples
    --------
    >>> import fixqnn as fq
    >>> node = fq.Node("y", fq.OPS["linear"], ("x", "w"))
    >>> formats = {"x": fq.fixed(8, 6), "w": fq.fixed(8, 6), "y": fq.fixed(8, 6)}
    >>> graph = fq.Graph((fq.Value("x", (None, 2)),), ("y",), (node,), {"w": [[0.9, 0.1], [0.1, 0.9]]}, formats)
    >>> certified_agreement(graph, [[0.51, 0.5], [0.9, 0.5]])
    array([False,  True])
    """
    graph, program = _lowered(graph, machine)
    if len(program.outputs) != 1 or len(graph.values[program.outputs[0]].shape) < 2:
        shapes = ", ".join(f"{name} {show_shape(graph.values[name].shape)}" for name in program.outputs)
        raise BadInput(f"classes are along axis 1 of the only output; this graph has {shapes}")
    name, certain = program.outputs[0], []
    for part in _parts(graph, program, x, box):
        y = _enclose(graph, program, part, {name})[name]
        top = np.expand_dims(y.real_low.argmax(axis=1), 1)
        lead = np.take_along_axis(y.real_low, top, 1) - y.real_high
        needed = np.take_along_axis(y.error, top, 1) + y.error
        ahead = (lead > needed) & (lead > 0)
        np.put_along_axis(ahead, top, True, 1)
        certain.append(ahead.all(axis=1))
    return np.concatenate(certain)


def _lowered(graph: Graph, machine: str | Accelerator | Program) -> tuple[Graph, Program]:
    """The graph as the machine rewrites it, and its program."""
    if not isinstance(graph, Graph):
        raise BadInput(f"bounds are of a Graph, not a {type(graph).__name__}; from_torch(module, example) makes one")
    if isinstance(machine, Program):
        return graph, _of(graph, machine)
    accelerator = resolve(machine) if isinstance(machine, str) else machine
    program = lower(graph, accelerator)
    for rewrite in accelerator.rewrites:
        graph = rewrite(graph)
    return graph, program


def _of(graph: Graph, program: Program) -> Program:
    """The program, if it was lowered from this graph: the same inputs, outputs, weights and formats."""
    shapes = {name: value.shape for name, value in graph.values.items()}
    problems = [
        f"input {v.name!r} is {show_shape(v.shape)}" for v in program.inputs if shapes.get(v.name) != tuple(v.shape)
    ]
    problems += [f"output {name!r}" for name in program.outputs if name not in graph.values]
    for step in program.steps:
        for name, codes in step.constants.items():
            if name not in graph.constants:
                problems.append(f"constant {name!r} of step {step.name!r}")
            elif shapes[name] != np.shape(codes) or graph.formats.get(name, step.formats[name]) != step.formats[name]:
                problems.append(f"constant {name!r} of step {step.name!r} has another shape or format")
    if problems:
        raise BadInput(f"the program was not lowered from this graph: {'; '.join(problems[:4])}")
    return program


def _watched(program: Program, watch: str | tuple[str, ...]) -> tuple[str, ...]:
    made = [v.name for v in program.inputs] + [step.output for step in program.steps]
    if watch == "all":
        return tuple(made)
    names = (watch,) if isinstance(watch, str) else tuple(watch)
    unknown = [name for name in names if name not in made]
    if unknown:
        raise BadInput(f"cannot watch {unknown}: the program has the values {', '.join(made)}")
    return names


def _enclose(graph: Graph, program: Program, part: Parts, wanted: set[str]) -> dict[str, Enclosure]:
    """Carry the enclosures of all inputs through the program; those that nobody reads any more go."""
    known = {v.name: entered(v.format, *part[v.name]) for v in program.inputs}
    kept = {name: known[name] for name in wanted if name in known}
    for step, gone in zip(program.steps, program.last_reads, strict=True):
        reals = {name: graph.real_constant(name) for name in step.constants}
        inputs = [
            known[name] if name in known else constant(reals[name], step.formats[name], step.constants[name])
            for place, name in enumerate(step.inputs)
            if name in known or not (step.op.name in SUMS and place)
        ]
        known[step.output] = carry(step, inputs, reals)
        if step.output in wanted:
            kept[step.output] = known[step.output]
        for name in gone:
            known.pop(name, None)
    return kept


# -- inputs --------------------------------------------------------------------------------------------------------------


def _parts(graph: Graph, program: Program, x: Any, box: Any) -> Iterator[Parts]:
    """Cut inputs into batches that fit in memory."""
    if (x is None) == (box is None):
        raise BadInput("give x, a batch of inputs, or box=(low, high): one of the two")
    whole = _points(graph, program, x) if box is None else _boxes(program, box)
    lengths = {len(low) for low, _, _ in whole.values()}
    if len(lengths) > 1:
        raise BadInput(f"inputs {', '.join(whole)} have different batch sizes: {sorted(lengths)}")
    samples = lengths.pop()
    if not samples:
        raise BadInput("there are no samples to bound the error of")
    for where in batches(graph, samples):
        part = {}
        for name, (low, high, codes) in whole.items():
            first = low[where]
            part[name] = (first, first if low is high else high[where], None if codes is None else codes[where])
        yield part


def _points(graph: Graph, program: Program, x: Any) -> Parts:
    names = [v.name for v in program.inputs]
    given = dict(x) if isinstance(x, Mapping) else None
    if given is None:
        values = x if isinstance(x, tuple) else (x,)
        if len(values) != len(names):
            raise BadInput(f"the graph takes {len(names)} inputs ({', '.join(names)}), not {len(values)}")
        given = dict(zip(names, values, strict=True))
    if set(given) != set(names):
        raise BadInput(f"the graph takes the inputs {', '.join(names)}; given were {', '.join(given) or 'none'}")
    found: Parts = {}
    for value in program.inputs:
        what, form, array = f"input {value.name!r}", value.format, given[value.name]
        codes = None
        if isinstance(array, Tensor):
            if array.format != form:
                raise BadInput(f"{what} came as {array.format}; the program takes {form}: cast it, or give reals")
            codes = array.codes
        else:
            array = array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array)
            if array.dtype.kind in "iu":
                form.check_codes(array, what)
                codes = array
        real = form.decode(codes) if codes is not None else np.asarray(as_reals(array, what), np.float64)
        found[value.name] = real, real, codes
    graph.bind({name: real for name, (real, _, _) in found.items()})
    return found


def _boxes(program: Program, box: Any) -> Parts:
    names = [v.name for v in program.inputs]
    given = dict(box) if isinstance(box, Mapping) else {names[0]: box} if len(names) == 1 else {}
    if set(given) != set(names):
        raise BadInput(f"box needs a pair (low, high) for each of the inputs {', '.join(names)}, by name")
    found: Parts = {}
    for value in program.inputs:
        pair = given[value.name]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise BadInput(f"the box of input {value.name!r} must be a pair (low, high), not {pair!r}")
        low, high = (_end(value, end, name) for end, name in zip(pair, ("low", "high"), strict=True))
        low, high = np.broadcast_arrays(low, high)
        if (low > high).any():
            raise BadInput(f"the box of input {value.name!r} has a low above its high")
        found[value.name] = low, high, None
    return found


def _end(value: Any, end: Any, name: str) -> np.ndarray:
    """One end of a box, as a batch."""
    what = f"{name} of the box of input {value.name!r}"
    array = np.asarray(as_reals(end, what), np.float64)
    shape = tuple(value.shape[1:])
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        return array
    if array.shape not in ((), shape):
        raise BadInput(f"{what} has shape {array.shape}; one sample has {shape}")
    return np.broadcast_to(array, (1, *shape))
