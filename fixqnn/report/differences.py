"""Two runs, or a run and codes dumped elsewhere, side by side: where they part first, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.trace import SUMMARY, Difference, Trace, first_difference, load_codes


@dataclass(frozen=True)
class Found:
    """What a comparison found: the first difference if there is one, and one row per value."""

    first: Difference | None
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All of it, for programs."""
        first = None
        if self.first is not None:
            first = {
                "step": self.first.step,
                "value": self.first.value,
                "index": list(self.first.index),
                "codes": list(self.first.codes or ()),
                "differing": self.first.count,
                "operands": [list(pair) for pair in self.first.operands],
            }
        return {"equal": self.first is None, "first difference": first, "notes": list(self.notes)}

    def in_words(self) -> str:
        """The verdict, in a few lines."""
        if self.first is None:
            codes = sum(row["codes"] for row in self.rows)
            verdict = f"equal: all {codes} codes of {len(self.rows)} values"
        else:
            verdict = f"first difference: {self.first}"
        return "\n".join([verdict, *(f"note: {note}" for note in self.notes)])


def compare_folders(a: Path, b: Path) -> Found:
    """Compare a saved run with another one, or with a folder of ``<value>.npy`` codes.

    Parameters
    ----------
    a : Path
        A folder that `Trace.save` wrote.
    b : Path
        Another one, or any folder with files named after values.

    Raises
    ------
    BadFile
        For a folder that holds no run.
    BadInput
        For shapes that differ, dumps that are no integers, or nothing in common.
    """
    one = Trace.load(a)
    other = Trace.load(b) if (b / SUMMARY).is_file() else load_codes(b)
    codes = {name: t.codes for name, t in other.values.items()} if isinstance(other, Trace) else other
    notes = []
    unknown = sorted(set(codes) - set(one.program.formats))
    if unknown and not isinstance(other, Trace):
        notes.append(f"{b} also holds {', '.join(unknown)}, which are no values of the program")
    missing = [name for name in one.values if name not in codes]
    if missing and len(missing) < len(one.values):
        notes.append(f"not in {b}, hence not compared: {', '.join(missing)}")
    if isinstance(other, Trace) and other.program.fingerprint != one.program.fingerprint:
        notes.append(f"the programs differ: {one.program.accelerator} against {other.program.accelerator}")
    first = first_difference(one, other)
    rows = tuple(_row(name, one[name].codes, codes[name]) for name in one.values if name in codes)
    return Found(first, rows, tuple(notes))


def _row(name: str, mine: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    if mine.shape != theirs.shape:
        raise BadInput(
            f"value {name!r} has shape {mine.shape} in one and {theirs.shape} in the other; layouts must agree"
        )
    wide = np.subtract(mine, theirs, dtype=object) if mine.size else np.zeros(0, object)
    differing = int(np.count_nonzero(wide))
    return {
        "value": name,
        "codes": mine.size,
        "differing": differing,
        "share": differing / mine.size if mine.size else 0.0,
        "worst": int(max(wide.max(), -wide.min())) if differing else 0,
    }
