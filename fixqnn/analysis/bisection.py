"""Where two computations part first, and the smallest edit of one step that explains it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fixqnn.analysis.edits import Edit, edits_towards
from fixqnn.analysis.explaining import Case, Search
from fixqnn.analysis.findings import Bisection
from fixqnn.encoding import as_codes
from fixqnn.errors import BadInput, TooWide
from fixqnn.ops.op import Step
from fixqnn.program import Program
from fixqnn.simulate import run
from fixqnn.tensor import Tensor
from fixqnn.trace import SUMMARY, Trace, first_difference, load_codes

Found = Mapping[str, np.ndarray]


def bisect(
    a: Program | Trace | str | os.PathLike[str],
    b: Program | Trace | Mapping[str, Any] | str | os.PathLike[str],
    data: Any = None,
    *,
    pairs: bool = True,
    seed: int = 0,
    threads: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bisection | None:
    """Find the first value that differs, and the smallest edit of the step behind it that gives the other side's codes.

    An edit changes a field of the step's datapath (a rounding, an order of additions, a register's width or overflow, the
    size of a tile), a constant (a shift that is one off, a missing bias, transposed weights), or how inputs are read. The
    step is computed again with it, from a's own input codes; the edit explains what was found if every code of the value,
    over all samples, comes out as b has it. Of those that do, the one that changes fewest fields least is reported, with
    how many others of the same size do as well. Between two programs, how their steps are known to differ comes first.

    Where b does not hold the values right before, the steps that made those are edited too.

    Parameters
    ----------
    a : Program, Trace, or folder of a saved run
        What is believed; its steps are edited.
    b : Program, Trace, mapping of str to ndarray, or folder
        What was found: another program, or codes by value name, such as a folder of ``<value>.npy`` from hardware.
    data : optional
        Inputs, as `run` takes them; needed where neither side holds the input codes.
    pairs : bool
        Whether to try two edits at once where no single one explains.
    seed, threads
        As for `run`.
    progress : callable, optional
        ``progress(done, all)`` in edits.

    Returns
    -------
    Bisection or None
        None where all values that both sides hold are equal. It prints in words.

    Raises
    ------
    BadInput
        For floats in place of codes, shapes that differ, nothing in common, or inputs that neither side has.
    BadFile
        For a folder that holds no codes.

    Examples
    --------
    >>> import fixqnn as fq
    >>> graph = fq.Graph((fq.Value("x", (None, 2), fq.fixed(8, 0)),), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w")),),
    ...     {"w": fq.Tensor([[3, 5]], fq.fixed(8, 0))}, {"fc": fq.fixed(8, -2)})
    >>> machines = [fq.Accelerator("m", {"linear": fq.SumOfProducts(fq.Shift(r))}) for r in ("half_even", "half_up")]
    >>> print(bisect(*(fq.lower(graph, m) for m in machines), np.random.default_rng(0).integers(-9, 9, (20, 2))))
    fc differs first, at [10, 0]: 2 against 3 (1 of 20 codes).
    Terms of that sum: -5·3, 5·5; exact sum 10.
    The programs differ in fc: scaler rounding half_up instead of half_even.
    Explained by: scaler rounding half_up instead of half_even (all 20 codes).
    1 other of that size explains these codes too: scaler rounding half_away instead of half_even.
    """
    trace, codes, other, notes = _sides(a, b, data, seed, threads)
    _check_shapes(trace, codes)
    difference = first_difference(trace, codes)
    if difference is None:
        return None
    case = Case(trace, codes, difference.value, seed)
    known, towards = _between(case, other)
    search = Search(case, towards, pairs, progress)
    explanation, others, partial = search.run()
    return Bisection(
        difference,
        codes[difference.value].size,
        explanation,
        others,
        partial,
        known,
        search.tried,
        (*notes, *case.notes),
    )


# -- both sides ----------------------------------------------------------------------------------------------------------


def _sides(a: Any, b: Any, data: Any, seed: int, threads: Any) -> tuple[Trace, Found, Program | None, list[str]]:
    """Trace of the first side with every value, the second's codes, its program if it has one, and what is to be said of it."""
    a, b = (_opened(side, "first" if side is a else "second") for side in (a, b))
    if not isinstance(a, Program | Trace):
        raise BadInput(
            f"bisect edits the steps of its first argument, which must be a Program, a Trace or a saved run, not "
            f"{type(a).__name__}; the codes to explain come second"
        )
    program = a if isinstance(a, Program) else a.program
    names = [v.name for v in program.inputs]
    notes: list[str] = []
    inputs = data
    if data is None:
        held = a.values if isinstance(a, Trace) else b.values if isinstance(b, Trace) else {}
        if isinstance(b, Mapping) and not held:
            held = {n: Tensor(as_codes(b[n], n), program.formats[n]) for n in names if n in b}
        if any(n not in held for n in names):
            raise BadInput(f"neither side holds the inputs {', '.join(names)}; give data=, as fixqnn.run takes it")
        inputs = {n: held[n] for n in names}
    trace = _traced(a, inputs, data is None, seed, threads)
    if isinstance(b, Program):
        made = _traced(b, _for(b, trace, data), False, seed, threads)
        return trace, {n: t.codes for n, t in made.values.items()}, b, notes
    codes = {n: t.codes for n, t in b.values.items()} if isinstance(b, Trace) else b
    codes = {n: as_codes(c, f"value {n!r} of the second side") for n, c in codes.items()}
    unknown = sorted(set(codes) - set(trace.values))
    if len(unknown) == len(codes):
        raise BadInput(
            f"nothing to compare: the program has {', '.join(trace.values)}, the other side {', '.join(unknown) or 'nothing'}"
        )
    if unknown:
        notes.append(f"the other side also holds {', '.join(unknown)}, which are no values of the program")
    return trace, codes, b.program if isinstance(b, Trace) else None, notes


def _opened(side: Any, which: str) -> Any:
    if isinstance(side, str | os.PathLike):
        folder = Path(side)
        return Trace.load(folder) if (folder / SUMMARY).is_file() else load_codes(folder)
    if not isinstance(side, Program | Trace | Mapping):
        raise BadInput(
            f"bisect takes a Program, a Trace, codes by name or a folder, but the {which} is {type(side).__name__}"
        )
    return side


def _traced(a: Program | Trace, inputs: Any, own: bool, seed: int, threads: Any) -> Trace:
    """All values of a program; those that a trace holds are taken from it, if it ran on these inputs."""
    program = a if isinstance(a, Program) else a.program
    whole = {v.name for v in program.inputs} | {step.output for step in program.steps}
    if isinstance(a, Trace) and own and whole <= set(a.values):
        return a
    try:
        made = run(program, inputs, watch="all", seed=seed, threads=threads)
    except TooWide:
        made = run(program, inputs, watch="all", seed=seed, engine="exact")
    return replace(made, values={**made.values, **a.values}) if isinstance(a, Trace) and own else made


def _for(program: Program, trace: Trace, data: Any) -> Any:
    """Inputs of a's run for another program."""
    if data is not None:
        return data
    names = [v.name for v in program.inputs]
    missing = [n for n in names if n not in trace.values]
    if missing:
        raise BadInput(f"the second program takes {', '.join(names)}; the first has no {', '.join(missing)}")
    return {n: trace[n] if trace[n].format == program.formats[n] else trace[n].real() for n in names}


def _check_shapes(trace: Trace, codes: Found) -> None:
    for name, theirs in codes.items():
        if name not in trace.values or theirs.shape == trace[name].codes.shape:
            continue
        mine = trace[name].codes.shape
        hint = "layouts must agree"
        if len(mine) > 2 and theirs.shape == (mine[0], *mine[2:], mine[1]):
            hint = "this looks like channels last: np.moveaxis(codes, -1, 1) brings it into the program's layout"
        elif len(mine) == len(theirs.shape) and mine[1:] == theirs.shape[1:]:
            hint = "give both the same samples"
        raise BadInput(f"value {name!r} has shape {mine} in the first and {theirs.shape} in the second; {hint}")


def _between(case: Case, other: Program | None) -> tuple[tuple[str, ...], dict[str, list[Edit]]]:
    """How two programs' steps differ, in words, and the edits that make the one the other."""
    words, edits = [], {}
    mine = {v.name: v.format for v in case.trace.program.inputs}
    for value in other.inputs if other is not None else ():
        if value.name == case.value and mine.get(value.name, value.format) != value.format:
            words.append(f"format {value.format} instead of {mine[value.name]}")
    for step in case.steps:
        theirs = next((s for s in other.steps if s.name == step.name), None) if other is not None else None
        if theirs is None:
            continue
        if theirs.op.name != step.op.name:
            words.append(f"{step.name} is {step.op.name} against {theirs.op.name}")
            continue
        edits[step.name] = [*edits_towards(step.datapath, theirs.datapath), *_data_towards(step, theirs)]
        found = [edit.words for edit in edits[step.name]]
        words += [w if step.output == case.value else f"{w} (in {step.name})" for w in found]
    return tuple(words), edits


def _data_towards(step: Step, theirs: Step) -> list[Edit]:
    """The edits that give a step another one's formats, constants and attributes."""
    found = []
    for name, form in step.formats.items():
        other = theirs.formats.get(name, form)
        if other != form:
            found.append(
                Edit(f"format of {name!r} {other} instead of {form}", formats=lambda _, n=name, f=other: {n: f})
            )
    for name, codes in step.constants.items():
        other = theirs.constants.get(name, codes)
        if not np.array_equal(codes, other) and other.shape == codes.shape:
            found.append(Edit(f"codes of {name!r} as the second has them", constants=lambda _, n=name, c=other: {n: c}))
    for name, value in step.attributes.items():
        other = theirs.attributes.get(name, value)
        if other != value:
            found.append(Edit(f"{name} {other} instead of {value}", attributes=lambda _, n=name, v=other: {n: v}))
    return found
