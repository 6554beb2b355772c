"""Three charts as inline SVG text. Layers run downwards: a deep network grows longer, and a phone still reads it.

Colours come from the page's style sheet by class (`series0` …), which is how a chart follows a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fixqnn.report import strokes
from fixqnn.report.strokes import LABEL, ROW, SERIES, WIDTH
from fixqnn.report.tables import show_count, show_number


def ranges(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw, per layer, the real numbers that the float network made inside those that the format can hold.

    Each row has its own scale: the wider of both ranges fills it.

    Parameters
    ----------
    rows : sequence of mapping
        With ``layer``, ``low``, ``high``, ``representable_low``, ``representable_high``.
    """
    rows = [row for row in rows if row["low"] is not None and math.isfinite(row["low"])]
    room = WIDTH - LABEL - 4
    parts, top = [], 4.0
    for row in rows:
        lows, highs = (row["low"], row["representable_low"]), (row["high"], row["representable_high"])
        left, span = min(lows), max(max(highs) - min(lows), 1e-300)

        def at(value: float, left: float = left, span: float = span) -> float:
            return LABEL + room * (value - left) / span

        text = f"seen {show_number(row['low'])} … {show_number(row['high'])}"
        held = f"held {show_number(row['representable_low'])} … {show_number(row['representable_high'])}"
        parts.append(strokes.row_label(row["layer"], top + 13))
        parts.append(strokes.bar(at(row["representable_low"]), at(row["representable_high"]), top + 3, 14, "held"))
        parts.append(
            strokes.bar(at(row["low"]), at(row["high"]), top + 6, 8, "seen", f"{row['layer']}: {text}; {held}")
        )
        for low, high in ((row["low"], row["representable_low"]), (row["representable_high"], row["high"])):
            if high > low:
                parts.append(strokes.bar(at(low), at(high), top + 6, 8, "beyond"))
        if row["representable_low"] < 0 < row["representable_high"]:
            parts.append(strokes.upright("zero", at(0), top + 1, top + 19))
        parts.append(strokes.words(LABEL, top + 28, f"{text};  {held}", "note"))
        top += ROW + 12
    return strokes.frame(
        top + 2, parts, "Range of real numbers seen in each layer, inside the range that its format holds"
    )


def lines(labels: Sequence[str], series: Mapping[str, Sequence[float | None]], unit: str) -> str:
    """Draw one line of dots per series: labels downwards, values to the right; an infinite value sits at the edge.

    Parameters
    ----------
    labels : sequence of str
        One per row.
    series : mapping of str to sequence
        Values per row, by name; None leaves a gap.
    unit : str
        Stands at the axis.
    """
    finite = [v for values in series.values() for v in values if v is not None and math.isfinite(v)]
    low, high = (min(0.0, *finite), max(10.0, *finite)) if finite else (0.0, 10.0)
    step = strokes.tick(high - low)
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    room, head = WIDTH - LABEL - 14, 20.0
    bottom = head + ROW * len(labels)
    parts = []
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        x = LABEL + room * (value - low) / (high - low)
        last = number == round((high - low) / step)
        parts.append(strokes.upright("grid", x, head, bottom))
        parts.append(
            strokes.words(
                x, 12, f"{show_number(value)}{f' {unit}' if last else ''}", "note", "end" if last else "middle"
            )
        )
    parts += [strokes.row_label(label, head + ROW * i + 15) for i, label in enumerate(labels)]
    for number, (name, values) in enumerate(series.items()):
        spread = (number - (len(series) - 1) / 2) * 2.2  # equal series stay visible beside each other
        points = [
            (LABEL + room * (min(v, high) - low) / (high - low), head + ROW * i + 11 + spread, v, labels[i])
            for i, v in enumerate(values)
            if v is not None and not math.isnan(v)
        ]
        colour = f"series{number % SERIES}"
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        parts += [strokes.mark(number, x, y, f"{name}, {label}: {show_number(v)} {unit}") for x, y, v, label in points]
    return strokes.frame(bottom + 4, parts, f"{', '.join(series)}: {unit} per layer") + strokes.legend(list(series))


def bars(rows: Sequence[tuple[str, int, str]]) -> str:
    """Draw counts as bars of logarithmic length.

    Parameters
    ----------
    rows : sequence of (str, int, str)
        Label, count, and the class of the bar (``"inner"`` or ``"output"``).
    """
    wide = LABEL + 46  # layer and register
    room = WIDTH - wide - 64
    longest = math.log10(max([count for _, count, _ in rows] + [1]) + 1)
    parts = []
    for i, (label, count, kind) in enumerate(rows):
        top = 2 + ROW * i
        end = wide + room * math.log10(count + 1) / longest
        parts.append(strokes.row_label(label, top + 15, wide))
        parts.append(strokes.bar(wide, end, top + 4, 14, kind, f"{label}: {show_count(count)}"))
        parts.append(strokes.words(end + 4, top + 15, show_count(count), "note"))
    return strokes.frame(4 + ROW * len(rows), parts, "Number of events per register, logarithmic")
