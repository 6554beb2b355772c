"""Charts of a sweep as inline SVG: clouds of points with their fronts, heat maps, bars of shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from fixqnn.report import strokes
from fixqnn.report.strokes import CHARACTER, LABEL, ROW, SERIES, WIDTH
from fixqnn.report.sweep_facts import Axis, describe, places, tick_text
from fixqnn.report.sweep_series import Cells, Series, Spot

HEIGHT = 250
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 40  # room around the field of a cloud of points
LOGARITHMIC = 20  # an axis whose ends are further apart than this factor
NAMED = 400  # points that get a tooltip; of more, only those of the front
# Dark for little, bright for much, and told apart by people of every colour vision: five colours of the map "cividis" (J. R.
# Nuñez, C. R. Anderton and R. S. Renslow, PLoS ONE 13(7), 2018).
RAMP = ((0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56))
HEAT = ((255, 243, 212), (250, 196, 125), (233, 133, 64), (190, 72, 28), (112, 30, 18))


class Scale:
    """From numbers to places along an axis, with round numbers to label it by.

    Parameters
    ----------
    values : sequence of float
        What must find room.
    start, end : float
        Places of the axis' ends.
    logarithmic : bool
        Whether equal factors are equally far apart.
    limit : (float, float), optional
        Numbers that the axis never goes beyond, such as 0 and 1 for a share.
    """

    def __init__(
        self,
        values: Sequence[float],
        start: float,
        end: float,
        logarithmic: bool = False,
        limit: tuple[float, float] | None = None,
    ) -> None:
        self.start, self.end, self.logarithmic = start, end, logarithmic
        low, high = min(values), max(values)
        if logarithmic:
            low, high = low / 1.1, high * 1.1
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            fine = [m * 10.0**k for k in decades for m in (1, 2, 5) if low <= m * 10.0**k <= high]
            whole = [10.0**k for k in decades if low <= 10.0**k <= high]
            self.ticks = fine if len(fine) <= 6 else whole[:: -(-len(whole) // 6)]
        else:
            if high == low:
                low, high = low - abs(low) * 0.05 - 0.5 * (not low), high + abs(high) * 0.05 + 0.5 * (not high)
            room = (high - low) * 0.04
            low, high = low - room, high + room
            if limit:
                low, high = max(low, limit[0]), min(high, limit[1] + room)
            step = strokes.tick(high - low)
            self.ticks = [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
            if limit:
                self.ticks = [tick for tick in self.ticks if tick <= limit[1] + step * 1e-9]
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        """Place a number."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def cloud(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    reference: tuple[float, str] | None = None,
    close_up: float | None = None,
) -> str:
    """Draw all rows as faint dots and each machine's front as a line of steps: what can be had for a budget.

    Parameters
    ----------
    series : sequence of Series
        One per machine.
    x, y : Axis
        What is drawn.
    reference : (float, str), optional
        A height to mark, and what it is.
    close_up : float, optional
        Leave out what lies below this height.
    """
    floor = -math.inf if close_up is None else close_up
    cut = [Series(s.name, *(tuple(p for p in points if p.y >= floor) for points in (s.spots, s.best))) for s in series]
    spots = [spot for one in cut for spot in one.spots]
    xs = [spot.x for spot in spots]
    across = Scale(xs, LEFT, WIDTH - RIGHT, min(xs) > 0 and max(xs) > LOGARITHMIC * min(xs))
    upwards = _height([spot.y for spot in spots], y, reference)
    parts = [*_field(across, upwards, x, y, [(tick, tick_text(x, tick)) for tick in across.ticks])]
    parts += _reference(upwards, reference)
    named = len(spots) <= NAMED
    for number, one in enumerate(cut):
        best = {id(spot.row) for spot in one.best}
        rest = [spot for spot in one.spots if id(spot.row) not in best]
        parts.append(_dots(number, [(across(s.x), upwards(s.y), s) for s in rest], y, named))
    for number, one in enumerate(cut):
        steps = _steps([(across(s.x), upwards(s.y)) for s in one.best], WIDTH - RIGHT)
        parts.append(f'<polyline class="line front series{number % SERIES}" points="{steps}"/>' if steps else "")
        parts += [
            strokes.mark(
                number, across(s.x), upwards(s.y), f"{_worth(s, y)}, {x.show(s.x)} {x.label}: {describe(s.row)}"
            )
            for s in one.best
        ]
    title = f"{y.label} against {x.label}; lines join the rows that no other row of their machine beats"
    return strokes.frame(HEIGHT, parts, title)


def widths(
    values: Sequence[Any], series: Sequence[Series], x: Axis, y: Axis, reference: tuple[float, str] | None = None
) -> str:
    """Draw the best row at each value of a setting, with its interval as a whisker, over all other rows.

    Parameters
    ----------
    values : sequence
        Values of the setting, in order.
    series : sequence of Series
        One per machine; spots lie at these values.
    x, y : Axis
        What is drawn.
    reference : (float, str), optional
        A height to mark, and what it is.
    """
    place = places(values)
    low, high = min(place.values()), max(place.values())
    margin = max((high - low) * 0.08, 0.5 if high == low else 0.0)
    across = Scale([low - margin, high + margin], LEFT, WIDTH - RIGHT)
    heights = [v for one in series for s in one.spots for v in (s.y, s.low, s.high) if v is not None]
    upwards = _height(heights, y, reference)
    every = -(-len(values) // 12)
    ticks = [(place[value], _brief(str(value), 9)) for value in values[::every]]
    parts = [*_field(across, upwards, x, y, ticks), *_reference(upwards, reference)]
    spread = min(7.0, 40.0 / max(1, len(series)))
    named = sum(len(one.spots) for one in series) <= NAMED

    def at(number: int, spot: Spot) -> tuple[float, float]:
        return across(place[spot.x]) + (number - (len(series) - 1) / 2) * spread, upwards(spot.y)

    for number, one in enumerate(series):
        best = {id(spot.row) for spot in one.best}
        rest = [(*at(number, spot), spot) for spot in one.spots if id(spot.row) not in best]
        parts.append(_dots(number, rest, y, named))
    for number, one in enumerate(series):
        colour = f"series{number % SERIES}"
        points = " ".join("{:.1f},{:.1f}".format(*at(number, spot)) for spot in one.best)
        parts.append(f'<polyline class="line front {colour}" points="{points}"/>' if points else "")
        for spot in one.best:
            left, top = at(number, spot)
            if spot.low is not None and spot.high is not None:
                ends = f'y1="{upwards(spot.low):.1f}" y2="{upwards(spot.high):.1f}"'
                parts.append(f'<line class="whisker {colour}" x1="{left:.1f}" x2="{left:.1f}" {ends}/>')
            parts.append(strokes.mark(number, left, top, f"{_worth(spot, y)}: {describe(spot.row)}"))
    return strokes.frame(HEIGHT, parts, f"{y.label} of the best row at each value of {x.label}")


def heat_map(
    panel: Cells,
    x: str,
    y: str,
    show: Callable[[Any], str],
    ends: tuple[float, float],
    logarithmic: bool = False,
) -> str:
    """Draw a value over two settings: a cell per pair, its number where there is room, a cross where nothing was computed.

    Parameters
    ----------
    panel : Cells
        What is drawn.
    x, y : str
        Labels of the axes.
    show : callable
        Writes a value.
    ends : (float, float)
        Values of the darkest and the brightest colour.
    logarithmic : bool
        For counts: colours by powers, and none for zero.
    """
    names = [str(r) for r in panel.rows]
    shown = strokes.short_names(names, int((LABEL + 26 - 10) / CHARACTER))
    left = min(LABEL + 26, max(28, 10 + CHARACTER * max(len(name) for name in shown))) + 20
    wide = min(56.0, (WIDTH - left - 2) / len(panel.columns))
    high = max(min(26.0, max(16.0, wide)), 72 / len(panel.rows))  # room for the label of the rows
    longest = max((len(show(value).removesuffix(" %")) for value in panel.values.values()), default=0)
    numbers = wide >= 3 + 5.3 * longest  # all or none
    parts = []
    for i, r in enumerate(panel.rows):
        top = high * i + 2
        parts.append(strokes.row_label(names[i], top + high / 2 + 4, left, shown[i]))
        for j, c in enumerate(panel.columns):
            parts.append(
                _cell(panel, (c, r), (left + wide * j, top, wide, high), (x, y), show, ends, logarithmic, numbers)
            )
    bottom = high * len(panel.rows) + 2
    every = -(-len(panel.columns) * 18 // int(WIDTH - left)) if wide < 18 else 1
    for j, c in enumerate(panel.columns[::every]):
        text = _brief(str(c), max(2, int(wide * every / CHARACTER)))
        parts.append(strokes.words(left + wide * (j * every + 0.5), bottom + 13, text, "note", "middle"))
    x = _brief(x, 56)
    half = CHARACTER * len(x) / 2  # the label of a narrow map is pushed back inside
    centre = min(max(left + wide * len(panel.columns) / 2, half), WIDTH - half)
    parts.append(strokes.words(centre, bottom + 28, x, "axis", "middle"))
    parts.append(_sideways(9, bottom / 2, _brief(y, int(bottom / CHARACTER))))
    return strokes.frame(bottom + 34, parts, f"{panel.name}: values by {x} and {y}")


def ramp(ends: tuple[float, float], show: Callable[[Any], str], label: str, logarithmic: bool = False) -> str:
    """Draw the scale of colours of a heat map."""
    steps, start, wide = 40, 60, 240
    colours = HEAT if logarithmic else RAMP
    parts = [
        f'<rect x="{start + wide * i / steps:.1f}" y="18" width="{wide / steps + 0.4:.1f}" height="10" '
        f'fill="{_colour(colours, i / (steps - 1))}"/>'
        for i in range(steps)
    ]
    parts.append(strokes.words(start - 5, 27, show(ends[0]), "note", "end"))
    parts.append(strokes.words(start + wide + 5, 27, show(ends[1]), "note"))
    parts.append(strokes.words(WIDTH / 2, 12, label, "axis", "middle"))
    return strokes.frame(32, parts, f"colours, from {show(ends[0])} to {show(ends[1])}")


def shares(rows: Mapping[str, tuple[float, str]]) -> str:
    """Draw numbers, each with its text, as bars from zero, downwards in the order given; negative ones to the left."""
    wide = LABEL + 40
    values = [0.0, *(value for value, _ in rows.values())]
    low, high = min(values), max(values)
    beside = 8 + CHARACTER * max(len(text) for _, text in rows.values())
    room = (WIDTH - wide - beside) / ((high - low) or 1.0)
    zero = wide - room * low
    parts = []
    shown = strokes.short_names(list(rows), int((wide - 8) / CHARACTER))
    for i, (name, (value, text)) in enumerate(rows.items()):
        top, ends = 2 + ROW * i, sorted((zero, zero + room * value))
        parts.append(strokes.row_label(name, top + 15, wide, shown[i]))
        parts.append(strokes.bar(*ends, top + 4, 14, "seen", f"{name}: {text}"))
        parts.append(strokes.words(max(ends) + 4, top + 15, text, "note"))
    return strokes.frame(4 + ROW * len(rows), parts, "How much each layer matters")


# ----------------------------------------------------------------------- pieces
def _height(values: Sequence[float], y: Axis, reference: tuple[float, str] | None) -> Scale:
    shown = [*values, *([reference[0]] if reference else [])]
    return Scale(shown, HEIGHT - BOTTOM, TOP, limit=(0.0, 1.0) if y.name == "accuracy" else None)


def _field(across: Scale, upwards: Scale, x: Axis, y: Axis, ticks: Sequence[tuple[float, str]]) -> list[str]:
    """Draw grid lines, their numbers, and what the axes are."""
    parts = []
    for tick in upwards.ticks:
        top = upwards(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>')
        parts.append(strokes.words(LEFT - 5, top + 3.5, tick_text(y, tick), "note", "end"))
    for tick, text in ticks:
        parts.append(strokes.upright("grid", across(tick), TOP, HEIGHT - BOTTOM))
        parts.append(strokes.words(across(tick), HEIGHT - BOTTOM + 14, text, "note", "middle"))
    parts.append(strokes.words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, _brief(x.label, 48), "axis", "middle"))
    parts.append(_sideways(9, (TOP + HEIGHT - BOTTOM) / 2, y.label))
    return parts


def _reference(upwards: Scale, reference: tuple[float, str] | None) -> list[str]:
    if reference is None:
        return []
    top = upwards(reference[0])
    line = f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'
    return [line]


def _dots(number: int, spots: Sequence[tuple[float, float, Spot]], y: Axis, named: bool) -> str:
    """Draw faint dots; of thousands, one path without tooltips, equal places once."""
    colour = f"series{number % SERIES}"
    if named:
        return "".join(
            f'<circle class="dot mark {colour}" cx="{left:.1f}" cy="{top:.1f}" r="2.4">'
            f"<title>{escape(f'{_worth(spot, y)}: {describe(spot.row)}')}</title></circle>"
            for left, top, spot in spots
        )
    there = dict.fromkeys((round(left), round(top)) for left, top, _ in spots)
    return f'<path class="dots {colour}" d="{"".join(f"M{left} {top}h0" for left, top in there)}"/>' if there else ""


def _steps(points: Sequence[tuple[float, float]], end: float) -> str:
    """Join points by steps: a larger budget buys nothing new until the next point."""
    path: list[tuple[float, float]] = []
    for left, top in points:
        if path:
            path.append((left, path[-1][1]))
        path.append((left, top))
    if path:
        path.append((end, path[-1][1]))
    return " ".join(f"{left:.1f},{top:.1f}" for left, top in path)


def _cell(
    panel: Cells,
    place: tuple[Any, Any],
    box: tuple[float, float, float, float],
    labels: tuple[str, str],
    show: Callable[[Any], str],
    ends: tuple[float, float],
    logarithmic: bool,
    numbers: bool,
) -> str:
    """Draw a cell: its colour, its number if there is room for all, and what it is as a tooltip."""
    left, top, wide, high = box
    where = f"{labels[0]} {place[0]}, {labels[1]} {place[1]}"
    shape = f'x="{left + 0.5:.1f}" y="{top + 0.5:.1f}" width="{wide - 1:.1f}" height="{high - 1:.1f}" rx="2"'
    middle = f'x="{left + wide / 2:.1f}" y="{top + high / 2 + 3.5:.1f}" text-anchor="middle"'
    if place not in panel.values or (logarithmic and not panel.values[place]):
        told = f"{where}: {'none' if place in panel.values else panel.reasons.get(place) or 'not computed'}"
        sign = "0" if place in panel.values else "×" if place in panel.reasons else ""
        return f'<g><title>{escape(told)}</title><rect class="empty" {shape}/><text class="note" {middle}>{sign}</text></g>'
    value = panel.values[place]
    share = _share(value, ends, logarithmic)
    colour = _colour(HEAT if logarithmic else RAMP, share)
    dark = sum(w * int(colour[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) < 128
    ink = "on-dark" if dark else "on-light"
    text = f'<text class="{ink}" {middle}>{escape(show(value).removesuffix(" %"))}</text>' if numbers else ""
    return f'<g><title>{escape(f"{where}: {show(value)}")}</title><rect {shape} fill="{colour}"/>{text}</g>'


def _share(value: float, ends: tuple[float, float], logarithmic: bool) -> float:
    low, high = ends
    if logarithmic:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return 1.0 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def _colour(colours: Sequence[tuple[int, int, int]], share: float) -> str:
    """Mix a colour between its neighbours in a row of colours."""
    at = share * (len(colours) - 1)
    i = min(int(at), len(colours) - 2)
    mixed = (round(a + (at - i) * (b - a)) for a, b in zip(colours[i], colours[i + 1], strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _sideways(x: float, y: float, text: str) -> str:
    return f'<text class="axis" transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">{escape(text)}</text>'


def _worth(spot: Spot, y: Axis) -> str:
    interval = "" if spot.low is None or spot.high is None else f" ({y.show(spot.low)} … {y.show(spot.high)})"
    return f"{y.show(spot.y)}{interval}"


def _brief(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"
