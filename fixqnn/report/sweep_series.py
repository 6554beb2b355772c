"""What the pictures of a sweep show: fronts, best rows by width, cells, shares; numbers only, drawn elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fixqnn.errors import BadInput
from fixqnn.report.sweep_facts import (
    as_rows,
    column_axis,
    drawable,
    in_order,
    machine_labels,
    measure,
    number,
    setting,
    setting_names,
    whole,
)
from fixqnn.sweeps.points import split
from fixqnn.sweeps.rows import Row, Rows


@dataclass(frozen=True)
class Spot:
    """One row in a picture: its place, the ends of its interval if it has one, and the row."""

    x: Any
    y: float
    row: Row
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """The rows of one machine: all that can be drawn, and those that the picture is about (a front, the best by width)."""

    name: str
    spots: tuple[Spot, ...]
    best: tuple[Spot, ...]


@dataclass(frozen=True)
class Cells:
    """A grid of values for one machine; a cell without value holds None, or the reason why it is impossible."""

    name: str
    columns: tuple[Any, ...]
    rows: tuple[Any, ...]
    values: Mapping[tuple[Any, Any], float]
    reasons: Mapping[tuple[Any, Any], str]


def fronts(rows: Rows, x: str, y: str) -> tuple[Series, ...]:
    """Find, per machine, the rows that no other one beats in both columns; smaller is better unless it is accuracy or SQNR."""
    found = []
    for name, its in machine_labels(drawable(rows, x, y)).items():
        best = sorted(its.pareto((y, x)), key=lambda row: row[x])
        found.append(Series(name, *(_spots(some, lambda row: row[x], y) for some in (its, best))))
    return tuple(found)


def by_width(rows: Rows, name: str, y: str) -> tuple[tuple[Any, ...], tuple[Series, ...]]:
    """Find, per machine, the best row at each value of a setting, whatever its other settings.

    Returns
    -------
    (values, series)
        Values of the setting in order, and a series per machine; a spot's x is the value.
    """
    kept = drawable(rows, y).where(lambda row: setting(row, name) is not None)
    if not kept:
        raise BadInput(
            f"no computed row has the setting {name!r}; there are {', '.join(setting_names(rows)) or 'none'}"
        )
    found = []
    for machine, its in machine_labels(kept).items():
        groups: dict[Any, list[Row]] = {}
        for row in its:
            groups.setdefault(setting(row, name), []).append(row)
        best = [Rows(groups[value]).best(y)[0] for value in in_order(groups)]
        found.append(Series(machine, *(_spots(some, lambda row: setting(row, name), y) for some in (its, best))))
    return in_order(setting(row, name) for row in kept), tuple(found)


def cells(rows: Rows, x: str, y: str, value: str) -> tuple[Cells, ...]:
    """Find, per machine, the best value at each pair of settings, whatever the other settings.

    A pair of which nothing was computed keeps the first reason.
    """
    column_axis(value)
    kept = rows.where(lambda row: setting(row, x) is not None and setting(row, y) is not None)
    if not kept:
        raise BadInput(f"no row has both {x!r} and {y!r}; there are {', '.join(setting_names(rows)) or 'no settings'}")
    good = machine_labels(drawable(kept, value))
    columns, lines = (in_order(setting(row, name) for row in kept) for name in (x, y))
    found = []
    for machine, its in machine_labels(kept).items():
        values = {
            place: Rows(group).best(value)[0][value]
            for place, group in _grouped(good.get(machine, Rows()), x, y).items()
        }
        reasons = {
            place: next((row["reason"] for row in group if row["reason"]), "")
            for place, group in _grouped(its, x, y).items()
            if place not in values
        }
        found.append(Cells(machine, columns, lines, values, reasons))
    return tuple(found)


def shares(source: Any) -> dict[str, float]:
    """Find how much each layer matters, the largest first.

    A mapping of layer to share is taken as it is. Rows tell by what their store predicted (``meta["sensitivity"]``), or
    else by `layer_losses`, as shares of the sum.
    """
    if isinstance(source, Mapping):
        found = dict(source)
    else:
        rows = as_rows(source)
        found = dict(rows.meta.get("sensitivity") or {})
        if not found:
            losses = {name: max(loss, 0.0) for name, (loss, _) in layer_losses(rows).items()}
            total = sum(losses.values())
            found = {name: loss / total for name, loss in losses.items()} if total else {}
    good = {str(k): float(v) for k, v in found.items() if isinstance(v, int | float) and math.isfinite(v)}
    if not good:
        raise BadInput(
            "nothing tells how much each layer matters: the store holds no prediction, and no points differ in the setting of "
            "one layer only; give a mapping of layer to share"
        )
    return dict(sorted(good.items(), key=lambda pair: -pair[1]))


def layer_losses(rows: Rows) -> dict[str, tuple[float, int]]:
    """Find what the narrowest value of a per-layer setting costs against its widest, all other settings being equal.

    Returns
    -------
    dict of str to (float, int)
        By the name of the setting, as ``weights[layer1.*]``: the mean over all such pairs of rows, in the unit of `measure`,
        and how many pairs there are.
    """
    y, computed = measure(rows), whole(rows)
    computed = computed.where(lambda row: number(row, y) is not None)
    found = {}
    for name in setting_names(computed):
        if split(name)[1] is None:
            continue
        pairs: dict[Any, dict[float, float]] = {}
        for row in computed:
            settings = dict(row["settings"] or {})
            value = settings.pop(name, None)
            if isinstance(value, int | float) and not isinstance(value, bool):
                rest = (row["machine_text"] or row["machine"], repr(sorted(settings.items())))
                pairs.setdefault(rest, {})[value] = row[y]
        gaps = [its[max(its)] - its[min(its)] for its in pairs.values() if len(its) > 1]
        if gaps:
            found[name] = (sum(gaps) / len(gaps), len(gaps))
    return found


def register_events(rows: Rows, x: str) -> tuple[Cells, ...]:
    """Count, per machine, layer and value of a setting, the overflows inside the layer: mean per row and sample.

    Clipped outputs do not count. Layers stand in the order of computation; machines without events have no cells.
    """
    kept = rows.where(lambda row: row["status"] == "ok" and row["layer_events"] is not None)
    kept = kept.where(lambda row: setting(row, x) is not None)
    columns = in_order(setting(row, x) for row in kept)
    found = []
    for machine, its in machine_labels(kept).items():
        sums: dict[tuple[Any, Any], float] = {}
        rows_at: dict[Any, int] = {}
        for row in its:
            value = setting(row, x)
            rows_at[value] = rows_at.get(value, 0) + 1
            for layer, registers in row["layer_events"].items():
                count = sum(n for register, n in registers.items() if register != "output")
                if count:
                    each = count / max(1, row["samples_used"] or row["total"] or 1)
                    sums[value, layer] = sums.get((value, layer), 0.0) + each
        acting = {layer for _, layer in sums}
        layers = tuple(layer for layer in merged(row["layer_events"] for row in its) if layer in acting)
        values = {(v, layer): sums.get((v, layer), 0.0) / rows_at[v] for v in rows_at for layer in layers}
        found.append(Cells(machine, columns, layers, values, {}))
    return tuple(found)


def merged(lists: Iterable[Iterable[str]]) -> list[str]:
    """Put lists that leave out some names of one order into one list; a name comes after the one before it.

    >>> merged([["stem", "conv", "fc"], ["stem", "block", "conv"]])
    ['stem', 'block', 'conv', 'fc']
    """
    order: list[str] = []
    for names in sorted(dict.fromkeys(map(tuple, lists)), key=len, reverse=True):
        place = 0
        for name in names:
            if name in order:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order


def most_active(panel: Cells, most: int) -> Cells:
    """Keep the rows of a grid that hold the largest sums, in their order."""
    sums = {r: sum(panel.values.get((c, r), 0.0) for c in panel.columns) for r in panel.rows}
    kept = set(sorted(sums, key=lambda r: -sums[r])[:most])
    return replace(panel, rows=tuple(r for r in panel.rows if r in kept))


def _spots(rows: Iterable[Row], place: Callable[[Row], Any], y: str) -> tuple[Spot, ...]:
    """Place rows; an accuracy comes with its interval."""
    if y != "accuracy":
        return tuple(Spot(place(row), row[y], row) for row in rows)
    ends = ("accuracy_low", "accuracy_high")
    return tuple(Spot(place(row), row[y], row, *(number(row, end) for end in ends)) for row in rows)


def _grouped(rows: Rows, x: str, y: str) -> dict[tuple[Any, Any], list[Row]]:
    groups: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        groups.setdefault((setting(row, x), setting(row, y)), []).append(row)
    return groups
