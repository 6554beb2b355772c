"""Pieces of inline SVG that all charts are made of.

Colours come from the page's style sheet by class (`series0` …), which is how a chart follows a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 360  # units of the drawing; a phone shows about one pixel per unit
LABEL = 104  # room for the names of layers
ROW = 22
SERIES = 6  # colours and marks there are; later series begin anew
CHARACTER = 6.1  # width of a character at the size of labels


def frame(height: float, parts: Sequence[str], title: str) -> str:
    """Put pieces into one drawing; its title is read aloud to those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def bar(left: float, right: float, top: float, height: float, kind: str, title: str = "") -> str:
    """Draw a bar, lying; the title is its tooltip."""
    place = f'x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 1.0):.1f}" height="{height}"'
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect class="{kind}" {place} rx="2">{inside}</rect>'


def upright(kind: str, x: float, top: float, bottom: float) -> str:
    """Draw an upright line."""
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def words(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    """Write a text at a place."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def row_label(name: str, y: float, room: float = LABEL, shown: str = "") -> str:
    """Name a row; of a long one, the end, which tells layers apart, unless it is said what to show."""
    most = int((room - 8) / CHARACTER)
    shown = shown or (name if len(name) <= most else "…" + name[-(most - 1) :])
    inside = f"{escape(shown)}<title>{escape(name)}</title>"
    return f'<text class="label" x="{room - 6}" y="{y:.1f}" text-anchor="end">{inside}</text>'


def short_names(names: Sequence[str], most: int) -> list[str]:
    """Shorten names to what tells them apart: without the parts that all share at both ends, else without their middle.

    >>> short_names(["encoder.layers.0.attention.out", "encoder.layers.1.attention.out"], 12)
    ['…0…', '…1…']
    >>> short_names(["stem", "a_very_long_name_of_a_layer"], 12)
    ['stem', 'a_very…layer']
    """
    if all(len(name) <= most for name in names):
        return list(names)
    parts = [name.split(".") for name in names]
    shared = min(map(len, parts)) - 1 if len(set(names)) > 1 else 0
    head = next((i for i in range(shared) if len({part[i] for part in parts}) > 1), shared)
    tail = next((i for i in range(shared - head) if len({part[-1 - i] for part in parts}) > 1), shared - head)
    found = []
    for part in parts:
        end = len(part) - tail if any(len(".".join(one[head:])) >= most for one in parts) else len(part)
        text = "…" * bool(head) + ".".join(part[head:end]) + "…" * (end < len(part))
        half = most // 2
        found.append(text if len(text) <= most else f"{text[:half]}…{text[len(text) - (most - half - 1) :]}")
    return found


def mark(number: int, x: float, y: float, title: str = "") -> str:
    """Draw a dot, square or diamond: series differ by shape too, for those who see no colours."""
    colour, inside = f"series{number % SERIES}", f"<title>{escape(title)}</title>" if title else ""
    match number % 3:
        case 0:
            return f'<circle class="mark {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.4">{inside}</circle>'
        case 1:
            return f'<rect class="mark {colour}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">{inside}</rect>'
    points = f"{x:.1f},{y - 4.2:.1f} {x + 4.2:.1f},{y:.1f} {x:.1f},{y + 4.2:.1f} {x - 4.2:.1f},{y:.1f}"
    return f'<polygon class="mark {colour}" points="{points}">{inside}</polygon>'


def legend(names: Sequence[str], reference: str = "") -> str:
    """List series by mark and colour, beneath a drawing; and what a dashed line across it stands for."""
    items = "".join(
        f'<span><svg class="key" viewBox="0 0 12 12" aria-hidden="true">{mark(i, 6, 6)}</svg>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    if reference:
        dash = '<line class="reference" x1="0" x2="24" y1="6" y2="6"/>'
        key = f'<svg class="key wide" viewBox="0 0 24 12" aria-hidden="true">{dash}</svg>'
        items += f"<span>{key}{escape(reference)}</span>"
    return f'<p class="legend">{items}</p>'


def tick(span: float) -> float:
    """Choose the distance of grid lines: 1, 2 or 5 times a power of ten, at most six of them."""
    power = 10.0 ** math.floor(math.log10(span / 6))
    return next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= 6)
