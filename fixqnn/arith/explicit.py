"""A function given by its values at equally spaced points: what an explicit table means in real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.arith.functions import FUNCTIONS, RealFunction
from fixqnn.errors import BadInput, FormatError
from fixqnn.rationals import rational

__all__ = ["NAMED", "TABLE", "Listed"]


@dataclass(frozen=True, repr=False)
class Listed(RealFunction):
    """The value listed for the nearest point ``first + i·step``, the upper one on a tie; constant beyond both ends.

    On a grid whose points are those of the list every code finds its own value, exactly.

    >>> TABLE.exact(Fraction(1, 4), entries=[5, -3, 7], first=Fraction(-1, 4), step=Fraction(1, 4))
    Fraction(7, 1)
    >>> TABLE.real([-9.0, 0.0, 0.1, 9.0], entries=[5, -3, 7], first=-0.25, step=0.25).tolist()
    [5.0, -3.0, -3.0, 7.0]
    """

    def __repr__(self) -> str:
        return f"NAMED[{self.name!r}]"

    def complete(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Take `entries`, `first` and `step` as fractions; BadInput says which is missing or odd."""
        if set(parameters) != {"entries", "first", "step"}:
            given = ", ".join(sorted(parameters)) or "none"
            raise BadInput(f"{self.name} takes the parameters entries, first and step, and needs them all, not {given}")
        entries = parameters["entries"]
        if not isinstance(entries, list | tuple | np.ndarray) or not len(entries):
            raise BadInput(f"{self.name}: entries must be a list of at least one number, not {entries!r}")
        try:
            listed = tuple(rational(entry, f"entries[{i}]") for i, entry in enumerate(entries))
            first, step = (rational(parameters[name], name) for name in ("first", "step"))
        except FormatError as problem:
            raise BadInput(f"{self.name}: {problem}") from None
        if step <= 0:
            raise BadInput(f"{self.name}: step must be positive, not {step}")
        return {"entries": listed, "first": first, "step": step}

    def real(self, values: Any, **parameters: Any) -> np.ndarray:
        """Read the list in float64, element by element."""
        complete = self.complete(parameters)
        listed = np.array([float(value) for value in complete["entries"]])
        x = (np.asarray(values, dtype=np.float64) - float(complete["first"])) / float(complete["step"])
        return listed[np.clip(np.floor(x + 0.5), 0, len(listed) - 1).astype(np.int64)]


def _listed(x: Fraction, entries: tuple[Fraction, ...], first: Fraction, step: Fraction) -> Fraction:
    nearest = ((x - first) / step + Fraction(1, 2)) // 1
    return entries[max(0, min(nearest, len(entries) - 1))]


TABLE = Listed("table", _listed)

# What the ``function`` attribute of a lookup may say: the functions of mathematics, and a list of values.
NAMED: Mapping[str, RealFunction] = MappingProxyType({**FUNCTIONS, TABLE.name: TABLE})
