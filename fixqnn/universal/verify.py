"""Run a network on every input of its grid, and compare code by code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.datapath import Lookup, Register, Stage, SumOfProducts
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.program import Program, lower
from fixqnn.scaler import Exact
from fixqnn.simulate import run
from fixqnn.universal.constructions.layers import grid
from fixqnn.universal.functions import as_target
from fixqnn.universal.grid import Setting

__all__ = ["Mismatch", "round_once", "verify"]

CHUNK = 1 << 16  # inputs that are made and run together

Target = np.ndarray | Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Mismatch:
    """The first input, in C order, where a network does not compute its target.

    Attributes
    ----------
    input : tuple of int
        The codes of the input.
    expected, found : int
        Output codes: the target's and the network's.
    number : int
        Which input of the grid it is, from 0.
    """

    input: tuple[int, ...]
    expected: int
    found: int
    number: int

    def __str__(self) -> str:
        return f"input {self.input} (number {self.number}): expected {self.expected}, found {self.found}"


def round_once(rounding: str = "half_up") -> Accelerator:
    """Make the machine of the representability question: whole sums, rounded once under a tie rule, then saturated.

    The same arithmetic as ``hw_models.ideal(rounding)`` for the two operations that built networks consist of.

    >>> round_once("half_even").name
    "round_once('half_even')"
    """
    rounding = Setting(1, 1, rounding=rounding).rounding
    whole = SumOfProducts(Exact(rounding), sum=(Stage(Register(62, "forbid")),))
    return Accelerator(
        f"round_once({str(rounding)!r})",
        {"linear": whole, "lookup": Lookup(output_rounding=rounding)},
        source="The arithmetic of Park, Park, Hwang (arXiv 2409.00297): exact sums, one rounding, saturation.",
    )


def verify(
    network: Graph | Program,
    target: Target,
    *,
    machine: Accelerator | None = None,
    engine: str = "fast",
    progress: Callable[[int, int], None] | None = None,
    threads: int | str | None = None,
) -> Mismatch | None:
    """Compare a network with its target on every input of the grid.

    Inputs are made, run and compared in parts, so memory stays the same however large the grid is.

    Parameters
    ----------
    network : Graph or Program
        With one input (batch, d) and one output (batch, 1), the input's format made by ``symmetric(p, s)``. A graph is
        lowered first.
    target : ndarray of int, or callable
        Output codes, shape (2M+1,) * d: entry [k₁ + M, …, k_d + M] for the input codes k₁ … k_d. Or a function that
        takes input codes (points, d) and gives output codes (points,): nothing of the grid's size is then held.
    machine : Accelerator, optional
        For a graph: where it is lowered to; by default `round_once` with the tie rule that the graph was built for
        (half_up where it does not say).
    engine : {"fast", "exact"}
        Compiled loops, or the definition on Python integers.
    progress : callable, optional
        ``progress(done, all)`` in inputs, after every part.
    threads : int or "all", optional
        As for ``fixqnn.run``.

    Returns
    -------
    Mismatch or None
        The first difference; None where there is none, which proves that the network computes its target.

    Raises
    ------
    BadInput
        For a network of another shape, or a target of another shape or with values that are no codes.

    Examples
    --------
    >>> import fixqnn as fq
    >>> target = [3, 2, 1, 0, -1, -2, -3]
    >>> graph = fq.universal.build(target, "relu", fq.symmetric(2, 4))
    >>> verify(graph, target) is None
    True
    >>> print(verify(graph, [3, 2, 1, 0, -1, 2, -3]))
    input (2,) (number 5): expected 2, found -2
    """
    program = _program(network, machine)
    setting, inputs = _shape_of(program)
    points = (2 * setting.largest + 1) ** inputs
    expect = _expected(target, setting, inputs)
    for start in range(0, points, CHUNK):
        stop = min(start + CHUNK, points)
        codes = grid(setting, inputs, start, stop)
        found = run(program, codes, engine=engine, threads=threads).output.codes.reshape(-1)
        wanted = expect(codes, start, stop)
        wrong = np.flatnonzero(found != wanted)
        if wrong.size:
            i = int(wrong[0])
            return Mismatch(tuple(codes[i].tolist()), int(wanted[i]), int(found[i]), start + i)
        if progress is not None:
            progress(stop, points)
    return None


def _program(network: Graph | Program, machine: Accelerator | None) -> Program:
    if isinstance(network, Program):
        if machine is not None:
            raise BadInput("a program is lowered already; give verify the graph, or leave the machine out")
        return network
    if not isinstance(network, Graph):
        raise BadInput(f"verify takes a Graph or a Program, not {type(network).__name__}")
    if machine is None:
        said = [note["rounding"] for note in network.notes.values() if "rounding" in note]
        machine = round_once(said[0] if said else "half_up")
    return lower(network, machine)


def _shape_of(program: Program) -> tuple[Setting, int]:
    """Format and number of inputs; BadInput where the program is no function of a grid."""
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        raise BadInput(
            f"verify takes a network with one input and one output; this one has the inputs "
            f"{', '.join(v.name for v in program.inputs)} and the outputs {', '.join(program.outputs)}"
        )
    value = program.inputs[0]
    shape = next(step.shapes[step.output] for step in program.steps if step.output == program.outputs[0])
    if len(value.shape) != 2 or tuple(shape) != (None, 1):
        raise BadInput(f"verify takes inputs (batch, d) and outputs (batch, 1), not {value.shape} and {tuple(shape)}")
    return Setting.of(value.format), value.shape[1]


def _expected(target: Target, setting: Setting, inputs: int) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """The target for a part of the grid; an array is checked at once, a function part by part."""
    if callable(target):

        def called(codes: np.ndarray, start: int, stop: int) -> np.ndarray:
            wanted = np.asarray(target(codes))
            if wanted.shape != (len(codes),) or wanted.dtype.kind not in "iu":
                raise BadInput(
                    f"the target must give one integer per input: {len(codes)} of them, "
                    f"not {wanted.dtype} of shape {wanted.shape}"
                )
            return wanted

        return called
    table = _table(target, setting, inputs).reshape(-1)
    return lambda codes, start, stop: table[start:stop]


def _table(target: Any, setting: Setting, inputs: int) -> np.ndarray:
    """The target as it came if it is an array of codes, since it may be large; checked and reshaped if not."""
    side, m = 2 * setting.largest + 1, setting.largest
    fits = isinstance(target, np.ndarray) and target.dtype.kind in "iu" and target.shape == (side,) * inputs
    if not fits or target.min() < -m or target.max() > m:
        target = as_target(target, setting)
    if target.ndim != inputs:
        raise BadInput(f"the network has {inputs} inputs, the target {target.ndim} axes of {side} codes")
    return target
