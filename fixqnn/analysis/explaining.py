"""One value that differs, and the search for the edit of a step that gives the codes found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from fixqnn.analysis.data_edits import data_edits, result_edits
from fixqnn.analysis.edits import Edit, Edited, field_edits
from fixqnn.analysis.findings import Hypothesis
from fixqnn.analysis.rebinding import Quiet, compute
from fixqnn.errors import FixqnnError
from fixqnn.ops.op import Step
from fixqnn.trace import Trace

Found = Mapping[str, np.ndarray]
Candidate = tuple[tuple[Step | None, Edit], ...]
PROBES = 3  # samples on which an edit is tried first
SEEDS = 4  # partial explanations that are combined with others
CLOSE = 3.0  # distance up to which those are tried
FEW = 7  # known differences of which all combinations are tried


@dataclass
class Case:
    """The value that differs first, and the steps that may be to blame: its own, and those whose results nobody saw."""

    trace: Trace
    codes: Found
    value: str
    seed: int
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        program = self.trace.program
        self.streams = {step.name: i for i, step in enumerate(program.steps)}
        makers = {step.output: step for step in program.steps}
        todo, seen = [self.value], set()
        while todo:
            name = todo.pop()
            if name in seen or (name in self.codes and name != self.value):
                continue
            seen.add(name)
            if name in makers:
                todo += [n for n in makers[name].inputs if n not in makers[name].constants]
        self.steps = [step for step in program.steps if step.output in seen]
        assumed = [v.name for v in program.inputs if v.name in seen and v.name != self.value]
        between = [step.output for step in self.steps if step.output != self.value]
        if between:
            self.notes.append(
                f"the other side does not hold {', '.join(between)}, so their steps are looked at as well"
            )
        if assumed:
            self.notes.append(
                f"the other side does not hold the input {', '.join(assumed)}; it is taken to be the same"
            )
        self.theirs = self.codes[self.value]
        self.mine = self.trace[self.value].codes

    def probes(self) -> np.ndarray:
        """A few samples that tell edits apart: the ones with most and with fewest differing codes, one without."""
        counts = (self.mine != self.theirs).reshape(len(self.theirs), -1).sum(axis=1)
        order = np.argsort(-counts, kind="stable")
        some = int(np.count_nonzero(counts))
        return np.unique(order[[0, max(some - 1, 0), min(some, len(order) - 1)]])[:PROBES]

    def compute(self, edited: Mapping[str, Edited], samples: np.ndarray) -> np.ndarray:
        """Codes of the value with edited steps, of some samples."""
        made: dict[str, np.ndarray] = {}
        for step in self.steps:
            if step.name not in edited and not any(n in made for n in step.inputs):
                continue
            operands = [
                step.constants[n] if n in step.constants else made[n] if n in made else self.trace[n].codes[samples]
                for n in step.inputs
            ]
            pass_ = Quiet(self.seed, self.streams[step.name])
            one = edited.get(step.name)
            made[step.output] = compute(step, pass_, *operands) if one is None else one.compute(pass_, operands)
        return made[self.value] if self.value in made else self.mine[samples]

    def flattened(self, step: Step) -> tuple[int, ...] | None:
        """Shape of what became a step's input by a reshape to one axis."""
        maker = next((s for s in self.trace.program.steps if s.output == step.inputs[0]), None)
        return maker.shapes[maker.inputs[0]][1:] if maker is not None and maker.op.name == "reshape" else None

    def edits(self, towards: Mapping[str, list[Edit]]) -> Iterator[tuple[Step | None, Edit]]:
        """Every edit of every step, the step of the value itself first."""
        if not self.steps:
            yield from ((None, edit) for edit in result_edits())
        for step in reversed(self.steps):
            terms = _terms(step)
            seen = set()
            for edit in (
                *towards.get(step.name, ()),
                *field_edits(step, terms),
                *data_edits(step, self.flattened(step)),
            ):
                if edit.words not in seen and not (edit.result and not edit.operands and step.output != self.value):
                    seen.add(edit.words)
                    yield step, edit


def _terms(step: Step) -> int:
    """How many numbers one sum of a step adds, at most."""
    weight = next(iter(step.constants.values()), None)
    if weight is not None and weight.ndim > 1:
        return weight[0].size
    return int(np.prod([n for n in step.shapes[step.inputs[0]][1:] if n]))


@dataclass
class Search:
    """Edits in order of size, each first on a few samples, then on all."""

    case: Case
    towards: Mapping[str, list[Edit]]
    pairs: bool
    progress: Callable[[int, int], None] | None
    tried: int = 0

    def run(self) -> tuple[Hypothesis | None, tuple[Hypothesis, ...], Hypothesis | None]:
        """The explanation, others as small, and the best partial one."""
        facts = {
            id(edit) for edits in self.towards.values() for edit in edits
        }  # of two programs: before what is guessed
        single = sorted(
            self.case.edits(self.towards), key=lambda one: (one[1].size, id(one[1]) not in facts, one[1].distance)
        )
        probes = self.case.probes()
        base = int(np.count_nonzero(self.case.mine[probes] == self.case.theirs[probes]))
        best: list[tuple[int, Candidate]] = []
        for stage in ("single", "known", "pairs"):
            if stage == "single":
                made = [(one,) for one in single]
            else:
                made = self._known() if stage == "known" else self._pairs(single, best)
            explained, scores = self._explain(made, probes, self.tried + len(made))
            if explained:
                return explained[0], tuple(explained[1:]), None
            best += [(score, one) for score, one in scores if score > base]
            best.sort(key=lambda pair: -pair[0])  # stable: the smaller edit first among equals
        partial = max((self._judged(one) for _, one in best[:SEEDS]), key=lambda h: h.codes, default=None)
        equal = int(np.count_nonzero(self.case.mine == self.case.theirs))
        return None, (), partial if partial is not None and partial.codes > equal else None

    def _known(self) -> list[Candidate]:
        """Between two programs: what differs in their steps, two at a time, three, and so on to all of it."""
        known = [(step, edit) for step in self.case.steps for edit in self.towards.get(step.name, ())]
        sizes = range(2, len(known) + 1) if len(known) <= FEW else (len(known),)
        return [some for size in sizes for some in combinations(known, size)]

    def _pairs(self, single: list[tuple[Step | None, Edit]], best: list[tuple[int, Candidate]]) -> list[Candidate]:
        """The best partial edits, each with every other that is not far."""
        if not self.pairs:
            return []
        seeds = [one[0] for _, one in best if len(one) == 1][:SEEDS]
        near = [one for one in single if one[1].size == 1 and one[1].distance <= CLOSE]
        both = [(x, y) for x in seeds for y in near if x[0] is y[0] and x[1] is not y[1]]
        return sorted(both, key=lambda pair: (sum(e.size for _, e in pair), sum(e.distance for _, e in pair)))

    def _explain(
        self, candidates: list[Candidate], probes: np.ndarray, all_: int
    ) -> tuple[list[Hypothesis], list[tuple[int, Candidate]]]:
        """Those of the smallest size that explain every code; and how many codes of the probes each candidate gives."""
        theirs = self.case.theirs[probes]
        explained: list[Hypothesis] = []
        scores = []
        for candidate in candidates:
            size = sum(edit.size for _, edit in candidate)
            if explained and size > explained[0].size:
                break
            self.tried += 1
            score = self._score(candidate, probes, theirs)
            if score is not None:
                scores.append((score, candidate))
            if score == theirs.size:
                judged = self._judged(candidate)
                explained += [judged] if judged.explains else []
            if self.progress is not None:
                self.progress(self.tried, all_)
        return explained, scores

    def _score(self, candidate: Candidate, samples: np.ndarray, theirs: np.ndarray) -> int | None:
        """Codes that come out as found; None where there can be no such step."""
        try:
            y = self._computed(candidate, samples)
        except (FixqnnError, OverflowError):
            return None
        return int(np.count_nonzero(y == theirs)) if y.shape == theirs.shape else None

    def _computed(self, candidate: Candidate, samples: np.ndarray) -> np.ndarray:
        step = candidate[0][0]
        edits = tuple(edit for _, edit in candidate)
        if step is None:
            y = self.case.mine[samples]
            for edit in edits:
                y = edit.result(_Input(self.case.trace[self.case.value].format), y)
            return y
        by_step: dict[str, list[Edit]] = {}
        for where, edit in candidate:
            by_step.setdefault(where.name, []).append(edit)
        steps = {s.name: s for s in self.case.steps}
        return self.case.compute({n: Edited.of(steps[n], tuple(e)) for n, e in by_step.items()}, samples)

    def _judged(self, candidate: Candidate) -> Hypothesis:
        """The candidate on all samples."""
        everything = np.arange(len(self.case.theirs))
        codes = self._score(candidate, everything, self.case.theirs) or 0
        step = candidate[0][0]
        words = " and ".join(edit.words for _, edit in candidate)
        size, distance = (sum(getattr(edit, part) for _, edit in candidate) for part in ("size", "distance"))
        return Hypothesis(step.name if step else self.case.value, words, size, distance, codes, self.case.theirs.size)


@dataclass(frozen=True)
class _Input:
    """An input as if it were the result of a step."""

    out_format: Any
