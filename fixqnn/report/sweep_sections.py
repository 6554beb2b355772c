"""Sections of a sweep's page; one that has nothing to show is an empty text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from shlex import quote

from fixqnn.errors import BadInput
from fixqnn.report import charts, html, strokes, sweep_series, sweep_tables
from fixqnn.report import sweep_facts as facts
from fixqnn.report.tables import show_count, show_percent, show_rate
from fixqnn.sweeps.points import split
from fixqnn.sweeps.rows import Rows

MOST_ROWS = 400  # of the table; a page of all rows of a long search would be too large for a phone
MOST_CHARTS = 6  # of settings, one each
MOST_LAYERS = 40
MOST_COLUMNS = 14  # of the widths along a front
COSTS = ("bit_operations", "weight_bits", "value_bits", "accumulator_bits")
BUDGETS = {
    "bit_operations": "so many bit operations: multiplications times the bits of both factors",
    "weight_bits": "so much memory for weights and biases",
    "value_bits": "so much memory for the values of a sample",
    "accumulator_bits": "no register wider than this",
}
CLOSE = {"accuracy": 0.05, "sqnr": 12.0}  # how far below the best a close-up goes


def choices(rows: Rows) -> str:
    """List what to pick."""
    if not _drawable(rows, facts.measure(rows)):
        return ""
    told = (
        "For each machine the best row, and the cheapest one by bit operations that gives away no more than so much. "
        "These rows were picked by looking at this very test set, so expect a little less on fresh data."
    )
    return html.section("What to pick", told, html.table(sweep_tables.choices(rows)))


def fronts(rows: Rows) -> str:
    """Draw what accuracy costs, for every cost that varies."""
    y = facts.measure(rows)
    names = _machines(rows, y)
    drawn = []
    for x in COSTS:
        lines = sweep_series.fronts(rows, x, y) if _drawable(rows, x, y) else ()
        if all(len({spot.x for spot in line.spots}) < 2 for line in lines):  # of no machine it tells anything
            continue
        lines, axes = _as_listed(lines, names), (facts.axis_of(x), facts.axis_of(y))
        drawn.append(
            html.figure(
                charts.cloud(lines, *axes, _reference(rows, y)),
                f"Read along a line: the best {_word(y)} to be had with {BUDGETS[x]}.",
            )
        )
        if x == COSTS[0] and (floor := _close_up(lines, y)) is not None:
            drawn.append(
                html.figure(
                    charts.cloud(lines, *axes, _reference(rows, y), floor),
                    f"The same, close up: only rows near the best {_word(y)}.",
                )
            )
    if not drawn:
        return ""
    told = (
        f"Every computed row is a dot; higher is better, further left is cheaper. The line of a machine joins the rows "
        f"that no other of its rows beats in both.{_infinite(rows, y)}"
    )
    return html.section(f"What {_word(y)} costs", told, _legend(names, _reference(rows, y)), _grid(drawn))


def widths(rows: Rows) -> str:
    """Draw accuracy against every setting that varies."""
    y = facts.measure(rows)
    if not _drawable(rows, y):
        return ""
    drawn, names = [], _machines(rows, y)
    for name in facts.varying(facts.drawable(rows, y))[:MOST_CHARTS]:
        values, lines = sweep_series.by_width(rows, name, y)
        lines = _as_listed(lines, names)
        axis = facts.axis_of(name)
        drawing = charts.widths(values, lines, axis, facts.axis_of(y), _reference(rows, y))
        ordered = all(facts.is_number(value) for value in values)
        caption = (
            "Where the line turns flat, a larger value buys nothing." if ordered else "The line only guides the eye."
        )
        drawn.append(html.figure(drawing, caption))
    if not drawn:
        return ""
    whisker = " Upright strokes: 95 % intervals (Wilson); where they overlap, a difference may be luck."
    told = "Marks: the best row of each machine at each value, whatever its other settings. Faint dots: all other rows."
    return html.section(
        f"{_word(y)[:1].upper()}{_word(y)[1:]} against each setting",
        told + (whisker if y == "accuracy" else ""),
        _legend(names, _reference(rows, y)),
        _grid(drawn),
    )


def heat_maps(rows: Rows) -> str:
    """Draw two settings together, one map per machine."""
    y = facts.measure(rows)
    names = facts.varying(rows)
    pair = ["weights", "activations"] if {"weights", "activations"} <= set(names) else names[:2]
    if len(pair) < 2 or not _drawable(rows, y):
        return ""
    panels = sweep_series.cells(rows, pair[0], pair[1], y)
    values = [v for panel in panels for v in panel.values.values()]
    ends, axis = (min(values), max(values)), facts.axis_of(y)
    labels = [facts.axis_of(name).label for name in pair]
    drawn = [
        _panel(panel.name, charts.heat_map(panel, labels[0], pair[1].replace("_", " "), axis.show, ends))
        for panel in panels
        if panel.values
    ]
    others = [name for name in names if name not in pair]
    rest = f" Each cell shows the best over {', '.join(others)}." if others else ""
    cross = " A cross marks pairs of which no row could be computed." if any(panel.reasons for panel in panels) else ""
    told = (
        f"Bright is good. Along a row or column, look for where the colour stops changing: bits beyond it are spent in vain."
        f"{rest}{cross}"
    )
    unit = ", %" if y == "accuracy" else ""
    scale = charts.ramp(ends, axis.show, axis.label + unit)
    return html.section(
        f"{pair[0]} and {pair[1]} together".replace("_", " ").capitalize(), told, _grid(drawn), html.figure(scale)
    )


def sensitivity(rows: Rows) -> str:
    """Draw how much each layer matters: predicted, and measured where rows allow it."""
    drawn = []
    predicted = rows.meta.get("sensitivity")
    if isinstance(predicted, Mapping) and predicted:
        shares = dict(list(sweep_series.shares(predicted).items())[:MOST_LAYERS])
        caption = "Predicted before anything ran: each layer's share of the squared rounding error at the output."
        drawing = charts.shares({name: (share, show_percent(share)) for name, share in shares.items()})
        drawn.append(html.figure(drawing, caption))
    losses = sweep_series.layer_losses(rows)
    if losses:
        unit = ("percentage points", 100) if facts.measure(rows) == "accuracy" else ("decibels", 1)
        ordered = dict(sorted(losses.items(), key=lambda pair: -pair[1][0])[:MOST_LAYERS])
        drawing = charts.shares(
            {n: (loss, f"{_signed(unit[1] * loss)} ({pairs}×)") for n, (loss, pairs) in ordered.items()}
        )
        caption = (
            f"Measured: {unit[0]} lost between the widest and the narrowest value of one setting, all others being equal; "
            "in brackets, how many such pairs of rows the mean is of. Below zero the narrow value did better, as where wide "
            "products overflow a register."
        )
        drawn.append(html.figure(drawing, caption))
    if not drawn:
        return ""
    told = "The longest bars are the layers where bits matter most; save bits at the bottom first."
    return html.section("Which layers need the bits", told, _grid(drawn))


def front_widths(rows: Rows) -> str:
    """Show the settings of single layers along the front, where rows have such."""
    y = facts.measure(rows)
    names = [name for name in facts.setting_names(rows) if split(name)[1] is not None]
    if len(names) < 2 or not _drawable(rows, "bit_operations", y):
        return ""
    front = sorted(
        facts.drawable(rows, "bit_operations", y).pareto((y, "bit_operations")), key=lambda r: r["bit_operations"]
    )
    every = max(1, -(-len(front) // MOST_COLUMNS))
    front = front[::-1][::every][::-1]  # the best stays
    heads = [f"{100 * row[y]:.1f}" if y == "accuracy" else f"{row[y]:.1f}" for row in front]
    columns = tuple(head + "\u200b" * heads[:i].count(head) for i, head in enumerate(heads))  # unlike, but read alike
    values = {
        (column, name): (row["settings"] or {}).get(name)
        for column, row in zip(columns, front, strict=True)
        for name in names
    }
    values = {place: float(value) for place, value in values.items() if facts.is_number(value)}
    if not values:
        return ""
    kinds = {split(name)[0] for name in names}
    rows_of = {name: name if len(kinds) > 1 else str(split(name)[1]) for name in names[:MOST_LAYERS]}
    cells = {(column, rows_of[name]): value for (column, name), value in values.items() if name in rows_of}
    panel = sweep_series.Cells("front", columns, tuple(rows_of.values()), cells, {})
    what = "" if len(kinds) > 1 else kinds.pop().replace("_", " ")
    label = f"{facts.axis_of(y).label}{', %' if y == 'accuracy' else ''}"
    drawing = charts.heat_map(panel, label, what, lambda v: f"{v:.3g}", (min(cells.values()), max(cells.values())))
    told = (
        "One column per row of the front by bit operations, from cheap to good; its score stands beneath. Layers that stay "
        "dark to the right edge can do with few bits."
    )
    return html.section("Widths of single layers along the front", told, html.figure(drawing))


def events(rows: Rows) -> str:
    """Draw the overflows by layer and width."""
    computed = facts.whole(rows).where(lambda row: row["layer_events"] is not None)
    if not computed:
        return ""
    x = facts.register_setting(computed)
    panels = sweep_series.register_events(computed, x)
    loud = [sweep_series.most_active(panel, MOST_LAYERS) for panel in panels if panel.rows]
    quiet = [panel.name for panel in panels if not panel.rows]
    calm = f"<p>No register inside a layer overflowed on: {escape(', '.join(quiet))}.</p>" if quiet else ""
    if not loud:
        return html.section("Registers that overflowed", "None, in any row.", calm if len(quiet) > 1 else "")
    values = [v for panel in loud for v in panel.values.values() if v]
    ends, axis = (min(values), max(values)), facts.axis_of(x)
    drawn = [_panel(panel.name, charts.heat_map(panel, axis.label, "", show_rate, ends, True)) for panel in loud]
    scale = charts.ramp(ends, show_rate, "overflows per sample, logarithmic", True)
    told = (
        "How often registers inside each layer were asked to hold a number that does not fit: per sample, averaged over "
        "the rows. Layers stand in the order of computation. Clipping by a layer's output format does not count."
    )
    return html.section(
        f"Overflows by layer and {axis.label.partition(',')[0]}", told, _grid(drawn), html.figure(scale), calm
    )


def table(rows: Rows, source: str) -> str:
    """List the rows, the best first; of thousands, the best."""
    y = facts.measure(rows)
    ranked = sorted(rows, key=lambda row: facts.rank(row, y))
    front = _front(rows, y)
    shown = ranked[:MOST_ROWS]
    told = (
        "Every row, the best first; a click on a heading sorts."
        if len(shown) == len(ranked)
        else (
            f"The best {show_count(len(shown))} of {show_count(len(ranked))} rows; more would be too much for a phone."
        )
    )
    bodies = [html.table(sweep_tables.all_rows(shown, front), sortable=True)]
    if len(shown) < len(ranked):
        store = source or "rows.sqlite"
        bodies.insert(0, f"<p>All of them, as CSV:</p>{html.code(f'fixqnn report {quote(store)} --csv rows.csv')}")
    return html.section("All rows" if len(shown) == len(ranked) else "Best rows", told, *bodies)


def reasons(rows: Rows) -> str:
    """List why some points have no figures."""
    found = sweep_tables.reasons(rows)
    if not found.rows:
        return ""
    cut = sweep_tables.Table("", found.columns, found.rows[:MOST_LAYERS])
    more = f" The {MOST_LAYERS} most frequent reasons of {len(found.rows)}." if len(found.rows) > MOST_LAYERS else ""
    told = f"These points have no figures. Impossible ones are an answer too: the machine cannot do that.{more}"
    return html.section("Points that were not computed", told, html.table(cut))


# ---------------------------------------------------------------------- pieces
def _word(y: str) -> str:
    return "accuracy" if y == "accuracy" else "SQNR"


def _reference(rows: Rows, y: str) -> tuple[float, str] | None:
    value = facts.float_accuracy(rows)
    return (value, f"float network, {show_percent(value)}") if y == "accuracy" and value is not None else None


def _infinite(rows: Rows, y: str) -> str:
    exact = sum(row["status"] == "ok" and row[y] is not None and facts.number(row, y) is None for row in rows)
    return f" Not drawn: {exact} with a {_word(y)} that is no finite number." if exact else ""


def _close_up(lines: Sequence[sweep_series.Series], y: str) -> float | None:
    """Choose where a close-up begins, if one shows more."""
    heights = [spot.y for line in lines for spot in line.spots]
    floor = max(heights) - CLOSE[y]
    near = sum(height >= floor for height in heights)
    return floor if near >= 4 and min(heights) < floor - 2 * CLOSE[y] else None


def _drawable(rows: Rows, *names: str) -> bool:
    try:
        return bool(facts.drawable(rows, *names))
    except BadInput:
        return False


def _machines(rows: Rows, y: str) -> list[str]:
    """Machines as the legend lists them."""
    return list(facts.machine_labels(facts.drawable(rows, y))) if _drawable(rows, y) else []


def _as_listed(lines: Sequence[sweep_series.Series], names: Sequence[str]) -> list[sweep_series.Series]:
    """One series per machine of the legend, so that a machine has one colour in every picture."""
    known = {line.name: line for line in lines}
    return [known.get(name, sweep_series.Series(name, (), ())) for name in names]


def _signed(value: float) -> str:
    """Write a difference with its sign.

    >>> _signed(-5.96), _signed(0.25), _signed(-0.01)
    ('−6.0', '+0.2', '+0.0')
    """
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def _panel(name: str, drawing: str) -> str:
    """Head a drawing with the name of its machine."""
    heading = "" if name == "machine" else f"<h3>{escape(name)}</h3>"
    return f"<div>{heading}{html.figure(drawing)}</div>"


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(figures)}</div>'


def _legend(names: Sequence[str], reference: tuple[float, str] | None) -> str:
    known = [] if list(names) == ["machine"] else list(names)
    return strokes.legend(known, reference[1] if reference else "") if known or reference else ""


def _front(rows: Rows, y: str) -> set[int]:
    """Identities of the rows on the front of any machine."""
    if not _drawable(rows, "bit_operations", y):
        return set()
    return {id(spot.row) for line in sweep_series.fronts(rows, "bit_operations", y) for spot in line.best}
