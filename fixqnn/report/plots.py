"""Figures of a sweep for papers and notebooks, by matplotlib (extra ``plot``); the page draws its own.

Every figure is an object of its own: nothing is opened, shown, or kept in matplotlib's global state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixqnn.errors import BadInput
from fixqnn.report import sweep_facts as facts
from fixqnn.report import sweep_series as series
from fixqnn.report.strokes import short_names
from fixqnn.report.tables import show_rate
from fixqnn.sweeps.rows import LARGER_IS_BETTER, Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Source = Rows | str | Path | Iterable[Mapping[str, Any]]

# M. Okabe and K. Ito, "Color universal design" (2008): told apart by people of every colour vision. Their yellow is too
# pale for a white page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "D", "^", "v", "P", "X")
LOGARITHMIC = 20  # an axis whose ends are further apart than this factor
MOST_LAYERS = 40
WORDS = 14  # cells in a line whose numbers can still be read


def plot_pareto(rows: Source, x: str = "bit_operations", y: str = "accuracy") -> Figure:
    """Draw every computed row by cost and worth, and each machine's front: the rows that none beats in both.

    Parameters
    ----------
    rows : Rows, path of a store, or sequence of mappings
        What `sweep` or `search` gave.
    x, y : str
        Columns of numbers, such as ``"weight_bits"``, ``"accumulator_bits"``, ``"sqnr"``.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("front.pdf")``.

    Raises
    ------
    BadInput
        Where no row has numbers in both columns; without labels there is no accuracy: say ``y="sqnr"``.

    Examples
    --------
    >>> rows = [{"accuracy": 0.9, "bit_operations": 100}, {"accuracy": 0.95, "bit_operations": 200}]
    >>> plot_pareto(rows).axes[0].get_xlabel()
    'bit operations per sample'
    """
    found = facts.as_rows(rows)
    figure, axes = _figure()
    for number, line in enumerate(series.fronts(found, x, y)):
        colour, mark = _look(number)
        axes.plot(
            [s.x for s in line.spots], [s.y for s in line.spots], mark, color=colour, alpha=0.45, markersize=4, mew=0
        )
        axes.plot(
            [s.x for s in line.best], [s.y for s in line.best], f"{mark}-", color=colour, label=line.name,
            drawstyle="default" if x in LARGER_IS_BETTER else "steps-post", markersize=5, linewidth=1.2,
        )  # fmt: skip
    xs = [row[x] for row in facts.drawable(found, x, y)]
    if min(xs) > 0 and max(xs) > LOGARITHMIC * min(xs):
        axes.set_xscale("log")
    _name(axes, "x", x)
    _name(axes, "y", y)
    _reference(axes, found, y)
    _legend(axes)
    return figure


def plot_accuracy_against_width(rows: Source, setting: str = "weights", y: str | None = None) -> Figure:
    """Draw, per machine, the best row at each value of a setting, with its 95 % interval (Wilson), over all other rows.

    Parameters
    ----------
    rows : Rows, path of a store, or sequence of mappings
        What `sweep` or `search` gave.
    setting : str
        ``"weights"``, ``"activations"``, ``"accumulator_bits"``, or any other setting of the points.
    y : str, optional
        A column of numbers; by default accuracy or, where no row has one, SQNR, which has no interval.

    Returns
    -------
    matplotlib.figure.Figure
        One axes.

    Raises
    ------
    BadInput
        Where no computed row has this setting and a number to show.

    Examples
    --------
    >>> rows = [{"accuracy": 0.9, "accuracy_low": 0.88, "accuracy_high": 0.92, "settings": {"weights": 4}}]
    >>> plot_accuracy_against_width(rows).axes[0].get_xlabel()
    'bits of weights'
    """
    found = facts.as_rows(rows)
    y = facts.measure(found) if y is None else y
    values, lines = series.by_width(found, setting, y)
    place = facts.places(values)
    figure, axes = _figure()
    for number, line in enumerate(lines):
        colour, mark = _look(number)
        shift = (number - (len(lines) - 1) / 2) * 0.06  # intervals stand beside each other
        axes.plot(
            [place[s.x] + shift for s in line.spots], [s.y for s in line.spots], ".", color=colour, alpha=0.45,
            markersize=4, mew=0,
        )  # fmt: skip
        best = line.best
        axes.errorbar(
            [place[s.x] + shift for s in best], [s.y for s in best], _errors(best), color=colour, fmt=f"{mark}-",
            label=line.name, markersize=5, linewidth=1.2, elinewidth=1, capsize=2.5,
        )  # fmt: skip
    _ticks(axes, "x", [place[v] for v in values], values)
    axes.set_xlabel(facts.axis_of(setting).label)
    _name(axes, "y", y)
    _reference(axes, found, y)
    _legend(axes)
    return figure


def plot_heat_map(rows: Source, x: str = "weights", y: str = "activations", value: str = "accuracy") -> Figure:
    """Draw a value over two settings, one map per machine; of rows that differ in other settings the best counts.

    Parameters
    ----------
    rows : Rows, path of a store, or sequence of mappings
        What `sweep` or `search` gave.
    x, y : str
        Settings of the points.
    value : str
        A column of numbers.

    Returns
    -------
    matplotlib.figure.Figure
        One axes per machine, and one for the scale of colours. A cross marks pairs of which no row was computed.

    Raises
    ------
    BadInput
        Where no row has both settings and the value.

    Examples
    --------
    >>> rows = [{"settings": {"weights": w, "activations": 4}, "accuracy": w / 8} for w in (4, 6)]
    >>> [text.get_text() for text in plot_heat_map(rows).axes[0].texts]
    ['50.0 %', '75.0 %']
    """
    found = facts.as_rows(rows)
    panels = series.cells(found, x, y, value)
    show = facts.axis_of(value).show
    return _maps(panels, facts.axis_of(x).label, facts.axis_of(y).label, facts.axis_of(value).label, show, "cividis")


def plot_sensitivity(source: Source | Mapping[str, float]) -> Figure:
    """Draw how much each layer matters, the most first.

    Parameters
    ----------
    source : mapping of str to float, Rows, path of a store, or sequence of mappings
        Shares by layer; or rows, whose store holds the predicted shares of the error at the output, or which differ in the
        setting of single layers.

    Returns
    -------
    matplotlib.figure.Figure
        Bars; at most forty, of the layers that matter most.

    Raises
    ------
    BadInput
        Where nothing tells one layer from another.

    Examples
    --------
    >>> [label.get_text() for label in plot_sensitivity({"stem": 0.2, "fc": 0.8}).axes[0].get_yticklabels()]
    ['fc', 'stem']
    """
    found = dict(list(series.shares(source).items())[:MOST_LAYERS])
    figure, axes = _figure(height=1.1 + 0.24 * len(found))
    axes.barh(range(len(found)), list(found.values()), color=COLOURS[0], height=0.7)
    axes.invert_yaxis()
    _ticks(axes, "y", range(len(found)), found)
    for i, share in enumerate(found.values()):
        axes.annotate(f"{100 * share:.1f} %", (share, i), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    axes.set_xlabel("share of the error at the output")
    axes.set_ylabel("layer")
    return figure


def plot_register_events(rows: Source, x: str | None = None) -> Figure:
    """Draw the overflows inside every layer against a width, one map per machine: mean per sample, colours logarithmic.

    Parameters
    ----------
    rows : Rows, path of a store, or sequence of mappings
        What `sweep` or `search` gave.
    x : str, optional
        A setting; by default the first register of the machine that the points set, else a width, else
        ``"accumulator_bits"``, the widest register of any sum.

    Returns
    -------
    matplotlib.figure.Figure
        One axes per machine whose registers overflowed, and one for the scale of colours.

    Raises
    ------
    BadInput
        Where no register of any row overflowed.

    Examples
    --------
    >>> rows = [{"settings": {"partial": p}, "layer_events": {"fc": {"sum[0]": n}}, "samples_used": 10}
    ...         for p, n in ((12, 500), (16, 20))]
    >>> [text.get_text() for text in plot_register_events(rows).axes[0].texts]
    ['50', '2']
    """
    found = facts.as_rows(rows)
    x = facts.register_setting(found) if x is None else x
    panels = [series.most_active(panel, MOST_LAYERS) for panel in series.register_events(found, x) if panel.rows]
    if not panels:
        raise BadInput("no register inside a layer overflowed in any computed row: there is nothing to draw")
    label = "overflows per sample"
    return _maps(panels, facts.axis_of(x).label, "layer", label, show_rate, "YlOrRd", counts=True)


# ---------------------------------------------------------------------- drawing
def _figure(width: float = 6.0, height: float = 4.0, panels: int = 1) -> tuple[Figure, Any]:
    """Open a figure that belongs to nobody else, with one axes or a list of them."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("figures are drawn by matplotlib, which is not installed: pip install 'fixqnn[plot]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    many = list(figure.subplots(panels, 1, squeeze=False)[:, 0])
    for axes in many:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, many[0] if panels == 1 else many


def _maps(
    panels: Sequence[series.Cells], x: str, y: str, value: str, show: Any, colours: str, counts: bool = False
) -> Figure:
    """Draw one heat map beneath the other, all on one scale of colours."""
    from matplotlib.colors import LogNorm, Normalize

    drawn = [v for panel in panels for v in panel.values.values() if v or not counts]
    low, high = min(drawn), max(drawn)
    scale = LogNorm(low, max(high, low * 10)) if counts else Normalize(low, high if high > low else low + 1e-9)
    lines = sum(len(panel.rows) for panel in panels)
    figure, axes = _figure(2.4 + 0.55 * len(panels[0].columns), 0.9 * len(panels) + 0.34 * lines + 0.4, len(panels))
    every = axes if isinstance(axes, list) else [axes]
    for panel, one in zip(panels, every, strict=True):
        image = one.imshow(
            [[_cell(panel, c, r, counts) for c in panel.columns] for r in panel.rows],
            cmap=colours,
            norm=scale,
            aspect="auto",
        )
        for i, r in enumerate(panel.rows):
            for j, c in enumerate(panel.columns):
                text = show(panel.values[c, r]) if (c, r) in panel.values else "×" if (c, r) in panel.reasons else ""
                if text and len(panel.columns) <= WORDS:
                    shade = _cell(panel, c, r, counts)
                    ink = "black" if math.isnan(shade) else _ink(image.cmap(scale(shade)))
                    one.text(j, i, text, ha="center", va="center", fontsize=7, color=ink)
        _ticks(one, "x", range(len(panel.columns)), panel.columns)
        _ticks(one, "y", range(len(panel.rows)), panel.rows)
        one.set_ylabel(y)
        one.set_title("" if panel.name == "machine" else _plain(panel.name, 60), fontsize=9, loc="left")
    every[-1].set_xlabel(x)
    text = (lambda v, _: f"{v:g}") if counts else (lambda v, _: show(v).replace(".0", ""))
    figure.colorbar(image, ax=every, format=text).set_label(value)
    return figure


def _cell(panel: series.Cells, column: Any, row: Any, counts: bool) -> float:
    value = panel.values.get((column, row), math.nan)
    return math.nan if counts and not value else value


def _ink(colour: Sequence[float]) -> str:
    """Choose black or white, whichever is read better on a colour."""
    return "black" if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.5 else "white"


def _look(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]


def _errors(spots: Sequence[series.Spot]) -> list[list[float]] | None:
    """Lengths of the intervals downwards and upwards; none where a row has no interval."""
    if any(s.low is None or s.high is None for s in spots):
        return None
    return [[max(0.0, s.y - s.low) for s in spots], [max(0.0, s.high - s.y) for s in spots]]


def _name(axes: Axes, which: str, column: str) -> None:
    axis = facts.axis_of(column)
    one = axes.xaxis if which == "x" else axes.yaxis
    one.set_label_text(axis.label)
    one.set_major_formatter(lambda value, _: facts.tick_text(axis, value))


def _ticks(axes: Axes, which: str, places: Iterable[float], labels: Iterable[Any]) -> None:
    one = axes.xaxis if which == "x" else axes.yaxis
    one.set_ticks(list(places), [_plain(label) for label in short_names([str(label) for label in labels], 28)])


def _reference(axes: Axes, rows: Rows, y: str) -> None:
    """Mark what the float network reaches."""
    value = facts.float_accuracy(rows)
    if y == "accuracy" and value is not None:
        axes.axhline(value, color="#59636e", linewidth=1, linestyle="--", label=f"float {100 * value:.1f} %", zorder=0)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    pairs = [(h, _plain(label, 48)) for h, label in zip(handles, labels, strict=True) if label != "machine"]
    if pairs:
        axes.legend(*zip(*pairs, strict=True), fontsize=8, frameon=False)


def _plain(name: str, most: int = 28) -> str:
    """Shorten a long name to its end, which tells layers apart; a dollar is a dollar, not the start of a formula."""
    return (name if len(name) <= most else "…" + name[-(most - 1) :]).replace("$", r"\$")
