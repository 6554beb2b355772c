"""The tables of a sweep: what to pick, all rows, and why some points could not be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fixqnn.report import sweep_facts as facts
from fixqnn.report.tables import Column, Table, show_count, show_decibels, show_number, show_short
from fixqnn.report.views import MACHINE
from fixqnn.sweeps.points import split
from fixqnn.sweeps.rows import Row, Rows

LOSSES = {"accuracy": (0.005, 0.01, 0.02), "sqnr": (3.0, 6.0, 12.0)}  # what a user may be willing to give away
MOST_SETTINGS = 8  # per-layer settings that get a column each

_BY_KEY = {column.key: column for column in MACHINE}
FIGURES = (
    _BY_KEY["accuracy"],
    _BY_KEY["accuracy_low", "accuracy_high"],
    _BY_KEY["changed"],
    _BY_KEY["p"],
    Column("sqnr", "SQNR", "signal over error at the output, dB, against float64; 6 dB are one bit", show_decibels),
    _BY_KEY["events"],
    _BY_KEY["clips"],
)
COSTS = (
    Column("bit_operations", "bit operations", "per sample: multiplications times bits of both factors", show_short),
    Column("weight_bits", "weight memory", "bits of all weights and biases", show_short),
    Column(
        "value_bits", "value memory", "bits of all values of one sample, inputs and results of every layer", show_short
    ),
    Column("accumulator_bits", "accumulator", "bits of the widest register in any sum", show_number),
)
FOOT = (
    Column("samples_used", "samples", "of the test set that were computed", show_count),
    Column("seconds", "seconds", "time that the row took", show_number),
    Column("program", "program", "first digits of its fingerprint: equal programs give equal codes"),
    Column("status", "status", "ok; stopped, as no use; impossible, for the reason given; failed: a defect to report"),
    Column("reason", "reason", "why there are no figures, or none of the whole test set"),
)
_MAY_LOSE = (
    "the cheapest row at most so far below {}{}; an amount that no row keeps to is left out; best: no row is better"
)
REASONS = (
    Column("status", "status", "impossible: the machine or the formats cannot do this; failed: a defect to report"),
    Column("count", "rows", "how many rows have this reason", show_count),
    Column("reason", "reason", ""),
    Column("example", "for example", "the first of these points"),
)


def choices(rows: Rows) -> Table:
    """List, per machine, the best row, and the cheapest that loses no more than a given amount.

    A loss of accuracy is counted from the float network where that is known; one of SQNR from the best row.
    """
    y = facts.measure(rows)
    reference = facts.float_accuracy(rows) if y == "accuracy" else None
    found: list[dict[str, Any]] = []
    good = facts.whole(rows).where(lambda row: facts.number(row, y) is not None)
    for machine, its in facts.machine_labels(good).items():
        best = its.best(y)
        base = best[0][y] if reference is None else reference
        picked = [(0.0, best)]
        for loss in LOSSES[y]:
            within = its.where(lambda row, least=base - loss: row[y] >= least - 1e-12)
            picked.append((loss, within.best("bit_operations")))
        kept: dict[int, list[float]] = {}
        for loss, some in picked:
            for row in some:
                kept.setdefault(its.index(row), []).append(loss)
        found += [
            {**its[place], "machine": machine, "point": _point(its[place]), "loss": _loss(losses, y)}
            for place, losses in kept.items()
        ]
    against = "the best row" if reference is None else "the float network"
    first = _first(y)
    columns = (
        Column("machine", "machine", ""),
        *first,
        Column("loss", "may lose", _MAY_LOSE.format(against, ", in percentage points" if y == "accuracy" else "")),
        Column("point", "settings", ""),
        *(c for c in FIGURES if c not in first and c.key not in ("changed", "clips")),
        *(c for c in COSTS if c.key != "value_bits"),
    )
    return Table("", _used(columns, found), found)


def all_rows(rows: Sequence[Row], front: set[int]) -> Table:
    """List rows; settings first, each in a column of its own unless many layers have their own."""
    names = list(dict.fromkeys(name for row in rows for name in row["settings"] or {}))
    layered = [name for name in names if split(name)[1] is not None]
    apart = [name for name in names if name not in layered or len(layered) <= MOST_SETTINGS]
    flat = []
    for row in rows:
        settings = row["settings"] or {}
        one = {
            **row,
            "program": (row["fingerprint"] or "")[:10] or None,
            "machine": row["machine_text"] or row["machine"],
            "front": 1 if id(row) in front else None,
            **{f"setting {name}": _setting(settings.get(name)) for name in apart},
        }
        if len(apart) < len(names):
            one["layers"] = ", ".join(f"{n}={settings[n]}" for n in layered if n in settings)
        flat.append(one)
    first = _first(facts.measure(Rows(rows)))
    settings_columns = [
        Column(f"setting {name}", name.replace("_", " "), "", _number if _numeric(flat, f"setting {name}") else str)
        for name in apart
    ]
    columns = (
        Column("machine", "machine", "whose arithmetic was computed; see fixqnn machines NAME"),
        *first,
        *settings_columns,
        Column(
            "front", "front", "● where no other row of its machine is as good with fewer bit operations", lambda _: "●"
        ),
        *(c for c in FIGURES if c not in first and c.heading == "95 %"),
        *COSTS,
        *(c for c in FIGURES if c not in first and c.heading != "95 %"),
        *FOOT,
        Column("layers", "layers", "settings of single layers"),
    )
    used = _used(columns, flat)
    if all(row["status"] == "ok" for row in flat):
        used = [c for c in used if c.key != "status"]
    if len({row["samples_used"] for row in flat}) == 1:
        used = [c for c in used if c.key != "samples_used"]
    return Table("", used, flat)


def reasons(rows: Rows) -> Table:
    """Count the rows without figures by their reason; a search stops rows for reasons of their own."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["status"] not in ("ok", "stopped"):
            groups.setdefault((row["status"] or "", row["reason"] or ""), []).append(row)
    found = [
        {"status": status, "reason": reason, "count": len(its), "example": facts.describe(its[0])}
        for (status, reason), its in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    ]
    return Table("", REASONS, found)


def _first(y: str) -> tuple[Column, ...]:
    """The column that rows are judged by: a phone shows no more than the first ones."""
    return tuple(column for column in FIGURES if column.key == y)


def _loss(losses: Sequence[float], y: str) -> str:
    """Write what may be lost for a row to be picked; 0 stands for the best row.

    >>> _loss([0.0], "accuracy"), _loss([0.0, 0.005], "accuracy"), _loss([0.005, 0.01, 0.02], "accuracy"), _loss([3.0], "sqnr")
    ('best', 'best, ≤ 0.5 points', '≤ 0.5–2 points', '≤ 3 dB')
    """
    factor = 100 if y == "accuracy" else 1
    numbers = [f"{factor * loss:.3g}" for loss in losses if loss]
    unit = "dB" if y != "accuracy" else "point" if numbers[-1:] == ["1"] else "points"
    amount = [f"≤ {'–'.join(dict.fromkeys((numbers[0], numbers[-1])))} {unit}"] if numbers else []
    return ", ".join([*(["best"] if 0.0 in losses else []), *amount])


def _point(row: Row) -> str:
    """Write settings in a line; of those of single layers, the first few.

    >>> _point({"settings": {"weights": 4, "weights[stem]": 8, "weights[fc]": 6, "rounding": "floor"}})
    'weights=4, rounding=floor; weights: stem 8, fc 6'
    """
    settings = {split(name): value for name, value in (row["settings"] or {}).items()}
    parts = [", ".join(f"{name}={value}" for (name, pattern), value in settings.items() if pattern is None)]
    for one in dict.fromkeys(name for name, pattern in settings if pattern is not None):
        layers = [f"{p} {value}" for (name, p), value in settings.items() if name == one and p is not None]
        more = f", and {len(layers) - MOST_SETTINGS} more" if len(layers) > MOST_SETTINGS else ""
        parts.append(f"{one}: {', '.join(layers[:MOST_SETTINGS])}{more}")
    return "; ".join(part for part in parts if part) or "default settings"


def _setting(value: Any) -> Any:
    return value if value is None or facts.is_number(value) else str(value)


def _number(value: Any) -> str:
    return show_number(value) if facts.is_number(value) else str(value)


def _numeric(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(facts.is_number(row[key]) for row in rows)


def _used(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    return [column for column in columns if any(column.cell(row) for row in rows)]
