"""What `bisect` finds: the first difference, and the smallest edit that explains it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fixqnn.trace import Difference

SHOWN = 5


@dataclass(frozen=True)
class Hypothesis:
    """One edit of one step, and how much of what was found it accounts for.

    Attributes
    ----------
    step : str
        The step that it edits.
    words : str
        What is otherwise, and in place of what.
    size : int
        How many fields it changes.
    distance : float
        How far: bits, or 1 for another rule.
    codes : int
        Codes that come out as found.
    of : int
        All codes of the value; the hypothesis explains them if `codes` equals it.
    """

    step: str
    words: str
    size: int
    distance: float
    codes: int
    of: int

    @property
    def explains(self) -> bool:
        """Whether every code comes out as found."""
        return self.codes == self.of

    def facts(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {"step": self.step, "words": self.words, "size": self.size, "distance": self.distance,
                "codes": self.codes, "of": self.of, "explains": self.explains}  # fmt: skip


@dataclass(frozen=True)
class Bisection:
    """Where two computations part first, and why. See `bisect`.

    Attributes
    ----------
    difference : Difference
        First value, element and operands that differ.
    codes : int
        How many codes that value has.
    explanation : Hypothesis or None
        The smallest edit with which every code comes out as found.
    others : tuple of Hypothesis
        Edits of the same size that explain as much: from these data they cannot be told from it.
    partial : Hypothesis or None
        Where nothing explains: the edit with which most codes come out as found. It is not an explanation.
    known : tuple of str
        Between two programs: how the step itself differs, field by field.
    tried : int
        How many edits were computed.
    notes : tuple of str
        What was assumed, such as inputs that the other side does not hold.
    """

    difference: Difference
    codes: int
    explanation: Hypothesis | None
    others: tuple[Hypothesis, ...] = ()
    partial: Hypothesis | None = None
    known: tuple[str, ...] = ()
    tried: int = 0
    notes: tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether an edit explains every code."""
        return self.explanation is not None

    def facts(self) -> dict[str, Any]:
        """All of it, for programs."""
        d = self.difference
        return {
            "step": d.step, "value": d.value, "index": list(d.index), "codes": list(d.codes or ()), "differing": d.count,
            "of": self.codes, "operands": [list(pair) for pair in d.operands],
            "explanation": self.explanation and self.explanation.facts(), "others": [h.facts() for h in self.others],
            "partial": self.partial and self.partial.facts(), "known": list(self.known), "tried": self.tried,
            "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        d = self.difference
        pair = "" if d.codes is None else f": {d.codes[0]} against {d.codes[1]}"
        lines = [f"{d.value} differs first, at {list(d.index)}{pair} ({d.count} of {self.codes} codes)."]
        if d.operands:
            terms = ", ".join(f"{a}·{b}" for a, b in d.operands[:8]) + (
                f", … {len(d.operands)} terms" if len(d.operands) > 8 else ""
            )
            lines.append(f"Terms of that sum: {terms}; exact sum {sum(a * b for a, b in d.operands)}.")
        lines += [f"The programs differ in {d.step}: {what}." for what in self.known]
        lines += self._verdict()
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])

    def _verdict(self) -> list[str]:
        if self.explanation is not None:
            lines = [f"Explained by: {self._words(self.explanation)} (all {self.codes} codes)."]
            if self.others:
                shown = "; ".join(self._words(h) for h in self.others[:SHOWN])
                more = f"; and {len(self.others) - SHOWN} more" if len(self.others) > SHOWN else ""
                count = (
                    "1 other of that size explains"
                    if len(self.others) == 1
                    else f"{len(self.others)} others of that size explain"
                )
                lines.append(f"{count} these codes too: {shown}{more}.")
            return lines
        lines = [f"Not explained: {self.tried} edits were tried, none gives all codes."]
        if self.partial is not None:
            p = self.partial
            lines.append(f"Closest, but no explanation: {self._words(p)} ({p.codes} of {p.of} codes).")
        return lines

    def _words(self, one: Hypothesis) -> str:
        return one.words if one.step == self.difference.step else f"{one.step}: {one.words}"
