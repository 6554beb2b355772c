"""Rows of a sweep as a report reads them: columns, settings and machines by name, and how each is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fixqnn.errors import BadInput
from fixqnn.report.machine_axes import spread
from fixqnn.report.tables import show_count, show_decibels, show_number, show_percent, show_short
from fixqnn.sweeps.points import POLICY, split
from fixqnn.sweeps.rows import COLUMNS, LARGER_IS_BETTER, NUMBERS, Row, Rows


@dataclass(frozen=True)
class Axis:
    """What is read off along an axis: the name of a column or setting, its label, and how its numbers are written."""

    name: str
    label: str
    show: Callable[[Any], str] = show_number


AXES = {
    axis.name: axis
    for axis in (
        Axis("accuracy", "accuracy", show_percent),
        Axis("float_accuracy", "accuracy of the float network", show_percent),
        Axis("sqnr", "SQNR at the output, dB", show_decibels),
        Axis("bit_operations", "bit operations per sample", show_short),
        Axis("macs", "multiply-accumulates per sample", show_short),
        Axis("weight_bits", "weights in memory, bits", show_short),
        Axis("value_bits", "values of one sample, bits", show_short),
        Axis("accumulator_bits", "widest accumulator, bits"),
        Axis("events", "overflows inside layers", show_short),
        Axis("clips", "results clipped", show_short),
        Axis("changed", "predictions changed", show_count),
        Axis("weights", "bits of weights"),
        Axis("activations", "bits of activations"),
        Axis("bias", "bits of biases"),
        Axis("inputs", "bits of inputs"),
        Axis("outputs", "bits of outputs"),
        Axis("partial_bits", "bits of partial sums"),
    )
}


def as_rows(source: Any) -> Rows:
    """Take rows, the path of a store, or a sequence of mappings; a mapping without status counts as computed.

    Many machines that differ in arguments only become one, with settings (see `fixqnn.report.machine_axes`).

    Raises
    ------
    BadInput
        For anything else, or no rows at all.
    """
    if isinstance(source, str | Path):
        rows = Rows.load(source)
    elif isinstance(source, Rows):
        rows = source
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        found = list(source)
        strangers = [row for row in found if not isinstance(row, Mapping)]
        if strangers:
            raise BadInput(
                f"rows must be Rows, the path of a store, or mappings of column to value, not {strangers[0]!r}"
            )
        rows = Rows({"status": "ok", **row} for row in found)
    else:
        raise BadInput(f"rows must be Rows, the path of a store, or a sequence of mappings, not {source!r}")
    if not rows:
        raise BadInput("there are no rows to report; a sweep writes one per point and machine")
    return spread(rows)


def axis_of(name: str) -> Axis:
    """Say how a column or setting is labelled and written."""
    return AXES.get(name, Axis(name, name.replace("_", " ")))


def tick_text(axis: Axis, value: float) -> str:
    """Write a round number beside an axis: percent and decibels without needless zeros.

    >>> tick_text(axis_of("accuracy"), 0.9), tick_text(axis_of("weight_bits"), 250_000)
    ('90 %', '250 k')
    """
    if axis.show is show_percent:
        return f"{100 * value:.4g} %"
    return f"{round(value, 9) + 0.0:.4g}" if axis.show is show_decibels else axis.show(value)


def column_axis(name: str) -> Axis:
    """Find a column of numbers.

    Raises
    ------
    BadInput
        Where rows have none of that name.
    """
    if name not in NUMBERS:
        close = get_close_matches(str(name), NUMBERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NUMBERS)}"
        raise BadInput(f"rows have no column of numbers {name!r}; {hint}")
    return axis_of(name)


def setting_names(rows: Rows) -> list[str]:
    """List the settings that any row has, in order."""
    return list(dict.fromkeys(name for row in rows for name in row["settings"] or {}))


def setting(row: Row, name: str) -> Any:
    """Give a setting of a row's point or, where no setting is called so, the column."""
    settings = row["settings"] or {}
    value = settings[name] if name in settings else row[name] if name in COLUMNS else None
    return tuple(value) if isinstance(value, list) else value  # lists cannot be sorted into groups


def number(row: Row, name: str) -> float | None:
    """Give a column as a finite number; None where there is none."""
    return row[name] if is_number(row[name]) else None


def measure(rows: Rows) -> str:
    """Name the column that says how good a row is: accuracy or, without labels, SQNR."""
    return "accuracy" if any(number(row, "accuracy") is not None for row in rows) else "sqnr"


def whole(rows: Rows) -> Rows:
    """Keep the computed rows that saw the whole test set; a search gives up on some points after a part of it."""
    most = max((row["samples_used"] or 0 for row in rows), default=0)
    return rows.where(lambda row: row["status"] == "ok" and (row["samples_used"] or most) == most)


def machine_labels(rows: Rows) -> dict[str, Rows]:
    """Sort rows by machine: as the user wrote it, else by its name.

    Where points set registers of the machine, every point has a machine of its own; these go by the name before the
    parenthesis.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        text = row["machine_text"] or row["machine"] or "machine"
        if not row["machine_text"] and any(split(name)[0] not in POLICY for name in row["settings"] or {}):
            text = text.partition("(")[0]
        found.setdefault(text, []).append(row)
    return {name: Rows(its, rows.meta) for name, its in found.items()}


def drawable(rows: Rows, *names: str) -> Rows:
    """Keep the computed rows with finite numbers in all these columns.

    Raises
    ------
    BadInput
        Where none is left, with the columns that could be drawn.
    """
    for name in names:
        column_axis(name)
    computed = whole(rows)
    kept = computed.where(lambda row: all(number(row, name) is not None for name in names))
    if kept:
        return kept
    if not computed:
        raise BadInput(f"none of the {len(rows)} rows was computed: there is nothing to draw; see their reasons")
    empty = [name for name in names if all(number(row, name) is None for row in computed)]
    there = [name for name in NUMBERS if any(number(row, name) is not None for row in computed)]
    what = f"column {empty[0]!r} holds no numbers" if empty else f"no row has numbers in {' and '.join(names)}"
    raise BadInput(f"there is nothing to draw: {what}; there are numbers in {', '.join(there) or 'no column'}")


def varying(rows: Rows) -> list[str]:
    """List the settings of whole points that take several values."""
    names = [name for name in setting_names(rows) if split(name)[1] is None]
    return [name for name in names if len({repr((row["settings"] or {}).get(name)) for row in rows}) > 1]


def register_setting(rows: Rows) -> str:
    """Choose what overflows are shown against: a register of the machine, else a width, else the widest accumulator."""
    acting = [row for row in rows if row["events"]] or list(rows)
    names = [name for name in varying(rows) if all(is_number(setting(row, name)) for row in acting)]
    machine = [name for name in names if name not in POLICY]
    widths = [name for name in ("activations", "weights") if name in names]
    return next(iter([*machine, *widths]), "accumulator_bits")


def rank(row: Row, y: str) -> tuple[float, float]:
    """Give what rows are sorted by, the best first: a column, then bit operations; rows without figures come last."""
    value = row[y] if row["status"] == "ok" else None
    if value is None or math.isnan(value):
        return math.inf, math.inf
    return (-value if y in LARGER_IS_BETTER else value), row["bit_operations"] or math.inf


def float_accuracy(rows: Rows) -> float | None:
    """Give the accuracy of the float network, if it is known: on the whole test set, not on the part that some rows saw."""
    known = [row for row in rows if is_number(row["float_accuracy"])]
    if is_number(rows.meta.get("float_accuracy")):
        return rows.meta["float_accuracy"]
    return max(known, key=lambda row: row["samples_used"] or 0)["float_accuracy"] if known else None


def counts(rows: Rows) -> dict[str, int]:
    """Count rows by status.

    >>> counts(Rows([{"status": "ok"}, {"status": "stopped"}]))
    {'ok': 1, 'stopped': 1, 'impossible': 0, 'failed': 0}
    """
    known = dict.fromkeys(("ok", "stopped", "impossible", "failed"), 0)
    for row in rows:
        known[str(row["status"])] = known.get(str(row["status"]), 0) + 1
    return known


def commands(rows: Rows) -> list[str]:
    """Give the command lines that wrote the store, as far as it was written by such."""
    found = rows.meta.get("commands") or rows.meta.get("command") or []
    return [found] if isinstance(found, str) else [str(command) for command in found]


def places(values: Iterable[Any]) -> dict[Any, float]:
    """Place values along an axis: numbers where they are, values of several kinds one beside the other.

    >>> places((4, 8)), places(("ternary", 4))
    ({4: 4, 8: 8}, {'ternary': 0, 4: 1})
    """
    values = tuple(values)
    numbers = all(is_number(value) for value in values)
    return {value: value if numbers else i for i, value in enumerate(values)}


def in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    """Sort values of a setting, each once: binary and ternary weights as one and two bits, numbers, then other texts.

    >>> in_order([8, "ternary", 4, "floor", 8])
    ('ternary', 4, 8, 'floor')
    """
    bits = {"binary": 1, "ternary": 2}

    def place(value: Any) -> tuple[float, str]:
        value = bits.get(value, value) if isinstance(value, str) else value
        return (value if is_number(value) else math.inf, str(value))

    return tuple(sorted(dict.fromkeys(values), key=place))


def describe(row: Row) -> str:
    """Write the settings of a row in a line.

    >>> describe({"settings": {"weights": 4, "rounding": "floor"}, "machine_text": "ideal", "machine": "ideal"})
    'weights=4, rounding=floor on ideal'
    """
    settings = ", ".join(f"{name}={value}" for name, value in (row["settings"] or {}).items()) or "default settings"
    machine = row["machine_text"] or row["machine"]
    return f"{settings} on {machine}" if machine else settings


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
