"""One step of a program bound again: with another datapath, another output format, or exact parts.

It is bound by the same functions as lowering uses, so that a step with one field changed computes what a machine with that
field would.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fixqnn.datapath import Elementwise, Lookup, Register, Stage, SumOfProducts
from fixqnn.errors import DoesNotFit
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.kernels.ranges import ranged
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.program import MOVES, plan
from fixqnn.scaler import Exact, is_scaler

WHOLE = (Stage(Register(62, Overflow.forbid)),)
FINER, HEADROOM = 12, 12  # bits more below and above: what an output would be if it had no format


class Quiet(Run):
    """A pass of which only the codes matter: events are not kept, and their witnesses not looked for."""

    def has_witness(self, name: str) -> bool:
        """No witness is wanted."""
        return True

    def note(self, name: str, record: Any, below: np.ndarray, above: np.ndarray, first: Any = None) -> None:
        """Forget it."""


def bind_again(
    step: Step, datapath: Any = None, out: Format | None = None, planned: bool = True, **changes: Any
) -> Step:
    """Bind a step to another datapath, or give it another output format; everything else stays.

    Unless it is `planned`, the fast engine finds its kernels when it first runs.

    Of its inputs no more is taken for granted than their formats.

    Raises
    ------
    DoesNotFit
        Where the datapath cannot carry the step's formats.
    """
    formats = {**step.formats, **changes.pop("formats", {}), **({} if out is None else {step.output: out})}
    bare = replace(step, datapath=step.datapath if datapath is None else datapath, formats=formats, path="", **changes)
    made = replace(bare, prepared=bare.op.prepare(bare))
    made = ranged(made, {}, OPS.get(step.op.name) is step.op)
    return plan(made) if planned else made


def compute(step: Step, run: Run, *operands: np.ndarray) -> np.ndarray:
    """Output codes of one step, by the fast engine wherever it can be trusted."""
    if step.path == "exact":
        return step.op.exact(step, run, *(np.asarray(o).astype(object) for o in operands))
    built_in = OPS.get(step.op.name) is step.op
    types = [f.narrow_dtype if built_in else f.code_dtype for f in map(step.in_format, range(len(operands)))]
    operands = tuple(np.asarray(o).astype(t, copy=False) for o, t in zip(operands, types, strict=True))
    return step.op.fast(step, run, *operands)


def moves(step: Step) -> bool:
    """Whether a step only moves or compares codes."""
    return OPS.get(step.op.name) is step.op and step.op.name in MOVES


def causes_of(step: Step) -> tuple[str, ...]:
    """Where a step can lose something: of weights, values, register, scaler and table those that it has."""
    datapath = step.datapath
    found = ["weights"] if step.constants else []
    if moves(step):
        return ("values",) if step.op.name in ("clamp", "pad") else ()  # their bounds and padding become codes
    if isinstance(datapath, Lookup):
        return (*found, "table", "values")
    if OPS.get(step.op.name) is not step.op or not isinstance(datapath, SumOfProducts | Elementwise):
        return (*found, "scaler", "values") if is_scaler(datapath) else (*found, "values")
    if isinstance(datapath, SumOfProducts) or datapath.register is not None or datapath.scaler is None:
        found.append("register")
    return tuple(found) if datapath.scaler is None else (*found, "scaler", "values")


def output_rule(step: Step, exact: frozenset[str]) -> tuple[Rounding, Overflow, int]:
    """Rounding, overflow and kept bits with which a step's results become codes."""
    scaler = getattr(step.datapath, "scaler", step.datapath)
    overflow = getattr(scaler, "overflow", Overflow.saturate) if is_scaler(scaler) else Overflow.saturate
    kept = getattr(scaler, "kept", 0) if is_scaler(scaler) else 0
    rounding: Any = Rounding.half_even
    table = isinstance(step.datapath, Lookup)
    if ("table" if table else "scaler") not in exact:
        if is_scaler(scaler):
            last = getattr(scaler, "then", scaler)
            rounding = getattr(last, "second", None) or last.rounding or Rounding.half_even
        elif table:
            rounding = step.datapath.output_rounding
    return rounding, overflow, kept


def with_exact(step: Step, exact: frozenset[str]) -> Any:
    """The step's datapath with some of its parts exact: ``"register"``, ``"scaler"``, ``"table"``.

    Whole sums stand for the register, one rounding of the exact ratio for the scaler, a correctly rounded entry per code
    for the table. What the output's format does (its rounding to a code, its overflow) is none of these, and stays.
    """
    datapath = step.datapath
    scaler = getattr(datapath, "scaler", datapath)
    nearest = None
    if "scaler" in exact and is_scaler(scaler):
        if getattr(scaler, "kept", 0):
            raise DoesNotFit(f"{step.name}: no exact scaler keeps bits of an output that wraps")
        nearest = Exact(Rounding.half_even, scaler.overflow)
    if isinstance(datapath, Lookup):
        return Lookup() if "table" in exact else datapath
    if is_scaler(datapath):
        return nearest or datapath
    if isinstance(datapath, SumOfProducts):
        if "register" in exact:
            datapath = replace(datapath, product=None, sum=WHOLE)
        if nearest is not None:
            bias = "first" if datapath.bias == "scaler" else datapath.bias
            datapath = replace(datapath, scaler=nearest, bias=bias)
        return datapath
    if "register" in exact:
        datapath = replace(datapath, register=None)
    if nearest is not None:
        datapath = replace(datapath, scaler=nearest, zero_point="subtracted")
        if datapath.register is None:
            common = None if step.op.name == "multiply" else "finest"
            datapath = replace(datapath, align=None, common=common, headroom=0)
        elif datapath.align is not None:  # the register's content keeps its unit
            datapath = replace(datapath, align=Exact())
    return datapath


def finer(form: Format) -> Format:
    """A format with so many bits more on both ends that rounding to it and overflow of it hardly exist."""
    bits = min(form.bits + FINER + HEADROOM, 60)
    return Format(bits, True, form.scale / (1 << FINER))
