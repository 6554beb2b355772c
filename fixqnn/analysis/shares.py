"""What `blame` finds: errors, each part's share of them, and how they print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fixqnn.errors import BadInput

CAUSES = ("weights", "values", "register", "scaler", "table")


@dataclass(frozen=True)
class Error:
    """How far an output is from the float64 graph.

    Attributes
    ----------
    rms : float
        Root of the mean square of all differences, in the output's own unit.
    decibels : float
        Signal to error, dB; infinite without an error.
    changed : int or None
        Predictions (largest along axis 1) that differ from the float64 graph's; None where outputs are no classes.
    """

    rms: float
    decibels: float
    changed: int | None


@dataclass(frozen=True)
class Share:
    """What one part of a network does to the error at its output.

    Attributes
    ----------
    layer : str
        The step, or the input; ``"all"``: every layer.
    op : str
        What it computes.
    cause : str
        ``"weights"``, ``"values"``, ``"register"``, ``"scaler"``, ``"table"``, or ``"all"`` of the layer's.
    share : float
        Share of the mean square error that is gone when this is exact and all else is as the machine has it; negative
        where it had cancelled another error.
    without : Error
        The error that then remains.
    alone : Error or None
        The error that it makes when all else is exact; None if that was not asked for.
    """

    layer: str
    op: str
    cause: str
    share: float
    without: Error
    alone: Error | None

    def facts(self) -> dict[str, Any]:
        """One row of a table."""
        row = {"layer": self.layer, "op": self.op, "cause": self.cause, "share": self.share}
        for name, error in (("without", self.without), ("alone", self.alone)):
            if error is not None:
                row |= {f"{name}_rms": error.rms, f"{name}_sqnr": error.decibels, f"{name}_changed": error.changed}
        return row


@dataclass(frozen=True)
class Blame:
    """The error at the output, split by layer and cause. See `blame`.

    Attributes
    ----------
    total : Error
        Of the program as it is.
    rows : tuple of Share
        By layer and cause, the largest share first.
    layers : tuple of Share
        All causes of a layer made exact together, the largest share first.
    causes : tuple of Share
        One cause made exact in all layers, the largest share first.
    interaction : float
        1 − Σ of the shares of `rows`: what switching one at a time does not add up to. Errors that partly cancel, or only
        together tip a rounding, make it differ from 0.
    remainder : Error
        With everything exact: the float64 graph again, but for what a machine's rewrites changed.
    samples : int
        How many were computed.
    output : str
        Which output.
    notes : tuple of str
        Where no machine has a step's exact variant, and what was taken in its place.
    """

    total: Error
    rows: tuple[Share, ...]
    layers: tuple[Share, ...]
    causes: tuple[Share, ...]
    interaction: float
    remainder: Error
    samples: int
    output: str
    notes: tuple[str, ...] = ()

    def worst(self, cause: str | None = None) -> Share | None:
        """The row with the largest share, or the largest of one cause; None if there is none."""
        if cause is not None and cause not in CAUSES:
            raise BadInput(f"there is no cause {cause!r}; there are {', '.join(CAUSES)}")
        return next((row for row in self.rows if cause in (None, row.cause)), None)

    def table(self, by: str = "cause") -> list[dict[str, Any]]:
        """Rows as plain dicts: by ``"cause"`` in each layer, by ``"layer"``, or by cause over all layers (``"network"``)."""
        found = {"cause": self.rows, "layer": self.layers, "network": self.causes}
        if by not in found:
            raise BadInput(f"by must be one of {', '.join(map(repr, found))}, not {by!r}")
        return [row.facts() for row in found[by]]

    def __str__(self) -> str:
        lines = [self._head()]
        for title, rows in (("by layer and cause", self.rows), ("by layer", self.layers), ("by cause", self.causes)):
            cells = [_cells(row) for row in rows]
            names = _HEADS if rows and rows[0].alone is not None else _HEADS[: len(_HEADS) - 3]
            widths = [max(len(n), *(len(c[i]) for c in cells)) if cells else len(n) for i, n in enumerate(names)]
            lines += ["", title]
            lines += ["  ".join(t.ljust(w) for t, w in zip(c, widths, strict=True)).rstrip() for c in [names, *cells]]
        lines += ["", self._foot(), *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.table import Table

        yield self._head()
        for title, rows in (("by layer and cause", self.rows), ("by layer", self.layers), ("by cause", self.causes)):
            table = Table(title=title, title_justify="left")
            names = _HEADS if rows and rows[0].alone is not None else _HEADS[: len(_HEADS) - 3]
            for i, name in enumerate(names):
                table.add_column(name, justify="left" if i < 3 else "right")
            for row in rows:
                table.add_row(*_cells(row))
            yield table
        yield self._foot()
        yield from (f"note: {note}" for note in self.notes)

    def _head(self) -> str:
        return f"error at {self.output!r}, {self.samples} samples: {_words(self.total)}"

    def _foot(self) -> str:
        return (
            f"interaction {100 * self.interaction:.1f} %: what the shares, one switched at a time, do not add up to\n"
            f"everything exact: {_words(self.remainder)}"
        )


_HEADS = ("layer", "op", "cause", "share", "rms without", "dB", "changed", "rms alone", "dB", "changed")


def _cells(row: Share) -> tuple[str, ...]:
    found: list[str] = [row.layer, row.op, row.cause, f"{100 * row.share:.1f} %"]
    for error in filter(None, (row.without, row.alone)):
        found += [f"{error.rms:.4g}", f"{error.decibels:.1f}", "" if error.changed is None else str(error.changed)]
    return tuple(found)


def _words(error: Error) -> str:
    changed = "" if error.changed is None else f", {error.changed} predictions changed"
    return f"rms {error.rms:.4g}, {error.decibels:.1f} dB{changed}"
