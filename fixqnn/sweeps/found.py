"""What a search found: all rows, the front among them, and the line that computes any of them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fixqnn.calibration.policy import DEFAULT, Policy
from fixqnn.format import Format
from fixqnn.sweeps.points import split
from fixqnn.sweeps.rows import Row, Rows

GRAPH = "graph, samples, test_set"  # what a line for Python calls them


class Found(Rows):
    """Rows of a search, in the order in which the points were proposed.

    Parameters
    ----------
    rows : iterable of mapping
        One per point; of status ``"stopped"`` where a part of the samples was enough to give it up.
    meta : mapping
        As for `Rows`.
    front : Rows
        Rows that keep all constraints and that no other one beats, measured on the whole test set.
    objectives : tuple of str
        Columns that were to become large or small.
    constraints : tuple of str
        Limits, in words.
    line : callable, optional
        ``line(row) -> str``: the command that computes a row again.

    Attributes
    ----------
    front, objectives, constraints
        As given.
    """

    def __init__(
        self,
        rows: Iterable[Row] = (),
        meta: Mapping[str, Any] | None = None,
        front: Rows | None = None,
        objectives: tuple[str, ...] = (),
        constraints: tuple[str, ...] = (),
        line: Callable[[Row], str] | None = None,
    ) -> None:
        super().__init__(rows, meta)
        self.front = Rows() if front is None else front
        self.objectives, self.constraints, self._line = objectives, constraints, line

    @property
    def stopped(self) -> Rows:
        """Rows given up after a part of the samples; ``reason`` says why, ``samples_used`` after how many."""
        return self.where(lambda row: row["status"] == "stopped")

    def command(self, row: Row) -> str:
        """Write the line that computes a row again, with the same fingerprint: for a shell, or for Python.

        In Python the names ``graph``, ``samples`` and ``test_set`` stand for what the search was given, and ``machine`` for a
        machine that is no text; a comment says which.
        """
        return python_line(row) if self._line is None else self._line(row)

    def told_by(self, line: Callable[[Row], str]) -> Found:
        """The same, with another way to write the line of a row, such as for a shell."""
        return Found(self, self.meta, self.front, self.objectives, self.constraints, line)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; front of {len(self.front)}>"


def python_line(row: Row, policy: Policy = DEFAULT) -> str:
    """Write a row as a call of `fixqnn.sweep`.

    Examples
    --------
    >>> python_line({"settings": {"weights": 4, "weights[fc]": 8}, "machine_text": "systolic(partial=16)", "seed": 0})
    "fq.sweep(graph, samples, test_set, fq.grid(weights=4, overrides={'fc': {'weights': 8}}), 'systolic(partial=16)')"
    """
    whole, layers = [], {}
    for name, value in (row["settings"] or {}).items():
        setting, pattern = split(name)
        if pattern is None:
            whole.append(f"{setting}={_literal(value)}")
        else:
            layers.setdefault(pattern, []).append(f"{setting!r}: {_literal(value)}")
    if layers:
        inner = ", ".join(f"{pattern!r}: {{{', '.join(settings)}}}" for pattern, settings in layers.items())
        whole.append(f"overrides={{{inner}}}")
    machine = repr(row["machine_text"]) if row.get("machine_text") else "machine"
    extra = f", seed={row['seed']}" if row.get("seed") else ""
    extra += f", policy=fq.{policy!r}" if policy != DEFAULT else ""
    which = "" if row.get("machine_text") else f"  # machine: {row.get('machine')}"
    return f"fq.sweep({GRAPH}, fq.grid({', '.join(whole)}), {machine}{extra}){which}"


def _literal(value: Any) -> str:
    if isinstance(value, tuple):  # an axis of one value that is itself a tuple
        return f"[({', '.join(map(_literal, value))},)]"
    return f"fq.{value!r}" if isinstance(value, Format) else repr(value)
