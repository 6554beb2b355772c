"""A program whose parts can be made exact one by one: values travel as codes, or as real numbers.

Codes are computed as the machine computes them, bit for bit. Where something is exact, real numbers (float64) travel: the
layer in real numbers, plus what the machine's registers, scaler and table would have done wrong at the nearest codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.analysis.rebinding import (
    FINER,
    Quiet,
    bind_again,
    causes_of,
    compute,
    finer,
    moves,
    output_rule,
    with_exact,
)
from fixqnn.datapath import Lookup
from fixqnn.errors import DoesNotFit, FormatError, TooWide
from fixqnn.events import Run
from fixqnn.format import Format
from fixqnn.graph import Graph
from fixqnn.kernels import pool
from fixqnn.kernels.reals import encode_and_count
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops.op import Step
from fixqnn.program import Program

Exactness = frozenset[str]
Rule = tuple[Rounding, Overflow, int]
NOTHING: Exactness = frozenset()
ARITHMETIC = frozenset(("register", "scaler", "table"))


def is_real(array: np.ndarray) -> bool:
    """Whether an array holds real numbers, and not codes."""
    return array.dtype.kind == "f"


def lean(y: np.ndarray, rounding: Rounding, step: float) -> np.ndarray | float:
    """What a directed rounding adds on average to numbers between two codes.

    For a fraction that is uniform, the mean square error of such a rounding is that of half a step's bias and that of
    rounding to nearest, 1/3 = 1/4 + 1/12 of a squared step: the first is the work of who rounds, the second of the format.
    """
    toward_zero = -np.sign(y)
    ways = {
        Rounding.floor: -1,
        Rounding.ceil: 1,
        Rounding.toward_zero: toward_zero,
        Rounding.away_from_zero: -toward_zero,
    }
    if rounding not in ways:
        return 0.0
    quotient = y / step
    between = np.abs(quotient - np.rint(quotient)) > 2.0**-FINER
    return np.where(between, 0.5 * step * ways[rounding], 0.0)


@dataclass
class Part:
    """One step with its exact variants.

    Attributes
    ----------
    step : Step
        As the machine has it.
    weights : mapping of str to ndarray
        Its constants in real numbers, as they were before they became codes.
    stream : int
        Number of the step, for stochastic rounding.
    notes : set of str
        Variants that no machine has, and what was taken in their place.
    """

    step: Step
    weights: Mapping[str, np.ndarray]
    stream: int = 0
    notes: set[str] = field(default_factory=set)
    known: dict[Any, Step | None] = field(default_factory=dict)

    @cached_property
    def causes(self) -> tuple[str, ...]:
        """What can be made exact here, with an effect."""
        found = causes_of(self.step)
        if "weights" in found and all(np.array_equal(self.weights[n], self.coded_weights[n]) for n in self.weights):
            found = tuple(cause for cause in found if cause != "weights")
        return found

    @cached_property
    def coded_weights(self) -> dict[str, np.ndarray]:
        """What the codes of its constants stand for."""
        return {name: self.step.formats[name].decode(codes) for name, codes in self.step.constants.items()}

    def compute(self, operands: Mapping[str, np.ndarray], exact: Exactness, run: Callable[[int], Run]) -> np.ndarray:
        """Output of the step: codes, or real numbers.

        Parameters
        ----------
        operands : mapping of str to ndarray
            Its inputs that are no constants: codes or reals.
        exact : frozenset of str
            What is exact: of ``"weights", "values", "register", "scaler", "table"``.
        run : callable
            Makes the Run of a pass, by number of the step.
        """
        exact = exact & set(self.causes)
        inexact = not self.inexact <= exact
        if inexact:
            operands = {name: self._as_codes(name, a) for name, a in operands.items()}
        coded = not any(is_real(a) for a in operands.values())
        if coded and exact.isdisjoint(("weights", "values", self.keeper)):
            return self._codes(operands, exact, run)
        y = self._real(operands, self.weights if "weights" in exact else self.coded_weights)
        rule = output_rule(self.step, exact)
        if inexact:
            codes = {name: self._nearest(name, a) for name, a in operands.items()}
            here = self._real(codes, self.coded_weights)
            deviation = self._unrounded(codes, here, exact & ARITHMETIC, run)
            if deviation is None:  # whole codes: what the machine's rounding does is among it
                deviation, rule = self._rounded(codes, here, exact & ARITHMETIC, run), (Rounding.half_even, *rule[1:])
            y = y + deviation
        if self.keeper and self.keeper not in exact:
            return self._encode(y, rule, run)
        return y + lean(y, rule[0], float(self.step.out_format.scale)) if self.keeper == "values" else y

    @cached_property
    def keeper(self) -> str:
        """What makes codes of the results; nothing where they only travel."""
        if moves(self.step):
            return ""
        return "values" if "values" in self.causes else "register"  # scaler=None: the register's content is the code

    @cached_property
    def inexact(self) -> Exactness:
        """What makes results that are not the real ones, before they become codes."""
        found = ARITHMETIC & set(self.causes)
        return found or frozenset(self.causes) - {"weights"}

    # -- in real numbers -------------------------------------------------------------------------------------------------

    def _real(self, operands: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> np.ndarray:
        step = self.step
        reals = {name: a if is_real(a) else step.formats[name].decode(a) for name, a in operands.items()}
        return step.op.real(*(reals[n] if n in reals else weights[n] for n in step.inputs), **step.attributes)

    def _nearest(self, name: str, array: np.ndarray) -> np.ndarray:
        return encode_and_count(self.step.formats[name], array)[0] if is_real(array) else array

    def _as_codes(self, name: str, array: np.ndarray) -> np.ndarray:
        """Codes in place of reals that are all codes."""
        codes = self._nearest(name, array)
        return codes if codes is array or np.array_equal(self.step.formats[name].decode(codes), array) else array

    def _encode(self, y: np.ndarray, rule: Rule, run: Callable[[int], Run]) -> np.ndarray:
        form, (rounding, overflow, kept) = self.step.out_format, rule
        if overflow is Overflow.forbid:
            overflow = Overflow.saturate
        if (rounding, overflow) == (Rounding.half_even, Overflow.saturate):
            return encode_and_count(form, y)[0]
        seed = run(self.stream).seed + self.stream
        return form.encode(y, rounding, overflow, kept, seed).astype(form.narrow_dtype, copy=False)

    # -- on codes --------------------------------------------------------------------------------------------------------

    def _codes(self, operands: Mapping[str, np.ndarray], exact: Exactness, run: Callable[[int], Run]) -> np.ndarray:
        """Codes of the step with exact parts, from codes."""
        # of an operation of a user's own nothing but its real meaning is exact
        known = self.inexact <= ARITHMETIC or not exact
        found = self._run(operands, exact, None, run) if known else None
        if found is None:
            found = self._encode(self._real(operands, self.coded_weights), output_rule(self.step, exact), run)
        return found

    def _unrounded(
        self, codes: Mapping[str, np.ndarray], here: np.ndarray, exact: Exactness, run: Callable[[int], Run]
    ) -> np.ndarray | None:
        """What inexact arithmetic adds to the real result at given codes, before that is rounded; None: not to be had."""
        table, fine = isinstance(self.step.datapath, Lookup), finer(self.step.out_format)
        if self.keeper != "values" or not self.inexact <= ARITHMETIC:
            return None
        if table and self.step.datapath.entry is None:
            written = self.step.datapath.fill is not None or self.step.datapath.size is not None
            return None if written else np.zeros(())  # entries are right, and rounding them is the output's
        found = self._run(codes, exact, fine, run)
        whole = fine.encode(here) if table else self._run(codes, ARITHMETIC, fine, run)
        if found is None or whole is None:
            return None
        return (found.astype(np.int64) - whole.astype(np.int64)) * float(fine.scale)

    def _rounded(
        self, codes: Mapping[str, np.ndarray], here: np.ndarray, exact: Exactness, run: Callable[[int], Run]
    ) -> np.ndarray:
        """What inexact arithmetic adds in whole codes."""
        form, found = self.step.out_format, self._codes(codes, exact, run)
        if self.keeper != "values":
            return form.decode(found) - here
        return form.decode(found) - form.decode(self._codes(codes, ARITHMETIC, run))

    def _run(
        self, codes: Mapping[str, np.ndarray], exact: Exactness, out: Format | None, run: Callable[[int], Run]
    ) -> np.ndarray | None:
        """Codes of a variant; None where no machine has it."""
        step = self._variant(exact & set(self.causes), out)
        if step is None:
            return None
        if step is self.step and not self._within(codes):
            step = self._variant(None, out)
        operands = [codes[n] if n in codes else step.constants[n] for n in step.inputs]
        try:
            return compute(step, run(self.stream), *operands)
        except TooWide as problem:  # some kernels are bound only when they run
            if not exact and out is None:
                return step.op.exact(step, run(self.stream), *(o.astype(object) for o in operands))
            self._missing(exact, out, problem)
            return None

    def _within(self, codes: Mapping[str, np.ndarray]) -> bool:
        """Whether codes stay in the ranges that kernels were chosen for: those of a switched step may not."""
        seen = ((self.step.ranges.get(name), a) for name, a in codes.items())
        return all(r is None or not a.size or (r[0] <= a.min() and a.max() <= r[1]) for r, a in seen)

    def _variant(self, exact: Exactness | None, out: Format | None) -> Step | None:
        """The step with exact parts; None for `exact`: as it is, for all codes of its inputs."""
        if exact is not None and not exact and out is None:
            return self.step
        key = exact, out
        if key not in self.known:
            try:
                self.known[key] = bind_again(self.step, with_exact(self.step, exact or NOTHING), out)
            except (DoesNotFit, FormatError, TooWide) as problem:
                self._missing(exact or NOTHING, out, problem)
            else:
                if exact is not None and self.known[key].path == "exact" != self.step.path:
                    self._missing(exact, out, self.known[key].reason)
        return self.known[key]

    def _missing(self, exact: Exactness, out: Format | None, problem: Any) -> None:
        self.known[exact & set(self.causes), out] = None
        reason = str(problem).splitlines()[0]
        if out is not None:
            self.notes.add(f"{self.step.name}: unrounded results are taken from whole codes: {reason}")
        else:
            which = " and ".join(sorted(exact)) or "nothing"
            self.notes.add(f"{self.step.name}: with {which} exact, all its arithmetic is taken as exact: {reason}")


def _alike(old: np.ndarray, new: np.ndarray, form: Format) -> bool:
    """Whether two arrays, of codes or reals, stand for the same numbers."""
    if is_real(old) != is_real(new):
        old, new = (a if is_real(a) else form.decode(a) for a in (old, new))
    return np.array_equal(old, new)


@dataclass
class Hybrid:
    """A program and its graph, to be run with chosen parts exact."""

    graph: Graph
    program: Program
    seed: int = 0
    threads: int = 1
    first_sample: int = 0

    def __post_init__(self) -> None:
        self.threads = pool.threads(self.threads)
        self.parts = [
            Part(step, {name: self._real_constant(step, name) for name in step.constants}, number)
            for number, step in enumerate(self.program.steps)
        ]

    def _real_constant(self, step: Step, name: str) -> np.ndarray:
        if name in self.graph.constants:
            return self.graph.real_constant(name)
        return step.formats[name].decode(step.constants[name])

    def run(
        self,
        exact: Mapping[int, Exactness],
        base: Mapping[str, np.ndarray],
        otherwise: Exactness | None,
        inputs: Mapping[str, np.ndarray],
    ) -> dict[str, np.ndarray]:
        """Compute values again whose makers are switched, or that depend on one that changed.

        Parameters
        ----------
        exact : mapping of int to frozenset of str
            What is exact in a step, by its number.
        base : mapping of str to ndarray
            Every value, with all steps as `otherwise` says.
        otherwise : frozenset of str
            What is exact in the steps that `exact` does not name.
        inputs : mapping of str to ndarray
            Inputs that differ from the base.

        Returns
        -------
        dict of str to ndarray
            Values that differ from the base.
        """
        changed = dict(inputs)
        for number, part in enumerate(self.parts):
            step = part.step
            reads = [n for n in step.inputs if n not in step.constants]
            if number not in exact and not any(n in changed for n in reads):
                continue
            operands = {n: changed.get(n, base.get(n)) for n in reads}
            y = part.compute(operands, exact.get(number, otherwise), self._run)
            old = base.get(step.output)
            if old is None or not _alike(old, y, step.out_format):
                changed[step.output] = y
        return changed

    def _run(self, stream: int) -> Run:
        return Quiet(self.seed, stream, self.first_sample, threads=self.threads)

    def everything(self, inputs: Mapping[str, np.ndarray], exact: Exactness) -> dict[str, np.ndarray]:
        """Compute every value with the same parts exact in all steps."""
        return self.run(dict.fromkeys(range(len(self.parts)), exact), {}, exact, inputs)

    @property
    def notes(self) -> tuple[str, ...]:
        """Variants that no machine has, and what was taken in their place."""
        return tuple(sorted(note for part in self.parts for note in part.notes))
