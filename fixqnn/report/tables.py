"""A table whose columns say what they mean; the same rows become terminal text, JSON or HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LONG = 48  # characters of a cell that may be folded
GAP = 3  # between columns


def show_count(value: Any) -> str:
    """Write a whole number with thin gaps between thousands.

    >>> show_count(12345678)
    '12 345 678'
    """
    return f"{value:,}".replace(",", " ")


def show_percent(value: Any) -> str:
    """Write a share of one in percent.

    >>> show_percent(0.98164)
    '98.2 %'
    """
    return f"{100 * value:.1f} %"


def show_decibels(value: Any) -> str:
    """Write decibels; equal signals are infinitely far apart from their difference.

    >>> show_decibels(31.36), show_decibels(math.inf), show_decibels(math.nan)
    ('31.4', 'equal', '–')
    """
    if math.isfinite(value):
        return f"{round(value, 1) + 0.0:.1f}"  # no minus zero
    return "equal" if value == math.inf else "–"


def show_number(value: Any) -> str:
    """Write a number with three or four telling digits.

    >>> show_number(0.012345), show_number(1234.5), show_number(3)
    ('0.0123', '1234', '3')
    """
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e6):
        return f"{int(value)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}" if abs(value) < 1e6 else f"{value:.2g}"


def show_short(value: Any) -> str:
    """Write a large number with three digits and a letter for its thousands.

    >>> show_short(94_371_840), show_short(999_999), show_short(512), show_short(0.5)
    ('94.4 M', '1 M', '512', '0.5')
    """
    value = float(f"{value:.3g}")
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:.3g} {letter}"
    return f"{value:.3g}"


def show_rate(value: Any) -> str:
    """Write how often something happens, with two digits.

    >>> show_rate(0.000334), show_rate(0.547), show_rate(7.69), show_rate(413.2), show_rate(8421.5)
    ('<0.01', '0.55', '7.7', '413', '8.4 k')
    """
    if 0 < value < 0.01:
        return "<0.01"
    if 100 <= value < 999.5:
        return f"{value:.0f}"
    return show_short(float(f"{value:.2g}"))


@dataclass(frozen=True)
class Column:
    """One column: the key of its facts, its heading, and in one line what it means to a stranger.

    `show` turns a fact, or the facts of several keys together, into text; numbers are set flush right. A missing fact
    (None) shows as an empty cell.
    """

    key: str | tuple[str, ...]
    heading: str
    meaning: str
    show: Callable[[Any], str] = str

    @property
    def numeric(self) -> bool:
        """Whether cells are numbers."""
        return self.show is not str

    def cell(self, row: Mapping[str, Any]) -> str:
        """Text of one cell."""
        if isinstance(self.key, str):
            value = row.get(self.key)
            return "" if value is None else self.show(value)
        values = tuple(row.get(key) for key in self.key)
        return "" if None in values else self.show(values)


@dataclass(frozen=True)
class Table:
    """Rows of plain facts, and how to read them."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    def cells(self) -> list[list[str]]:
        """All cells as text, row by row."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def facts(self) -> list[dict[str, Any]]:
        """Rows as JSON can hold them: infinities and NaN become text."""
        return [{key: jsonable(value) for key, value in row.items()} for row in self.rows]

    def meanings(self) -> list[tuple[str, str]]:
        """Heading and meaning of every column."""
        return [(column.heading, column.meaning) for column in self.columns if column.meaning]

    def __str__(self) -> str:
        cells = [[column.heading for column in self.columns], *self.cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        aligns = [str.rjust if column.numeric else str.ljust for column in self.columns]
        lines = ["  ".join(a(c, w) for c, a, w in zip(row, aligns, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.title, *lines])


def jsonable(value: Any) -> Any:
    """Write a fact as JSON can hold it.

    >>> jsonable({"sqnr": math.inf, "range": (0, 1.5)})
    {'sqnr': 'inf', 'range': [0, 1.5]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return jsonable(value.tolist())
    return value


def split_columns(table: Table, room: int) -> list[list[int]]:
    """Divide columns among lines of blocks that fit a width; every block begins with the first column.

    >>> split_columns(Table("", [Column(k, k * 10, "") for k in "abc"], [{}]), 28)
    [[0, 1], [0, 2]]
    """
    cells = [[column.heading for column in table.columns], *table.cells()]
    widths = [min(LONG, max(len(row[i]) for row in cells)) + GAP for i in range(len(table.columns))]
    blocks = [[0]]
    for i in range(1, len(widths)):
        if len(blocks[-1]) > 1 and sum(widths[j] for j in blocks[-1]) + widths[i] > room:
            blocks.append([0])
        blocks[-1].append(i)
    return blocks


def print_table(table: Table, console: Console, meanings: bool = True) -> None:
    """Print a table to a terminal, one line per column beneath it saying what the column means.

    Where it is too wide, columns continue in a second block: folded numbers cannot be read.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    if table.title:
        console.print(Text(table.title, style="bold"), soft_wrap=True)
    if not table.rows:
        console.print("  none\n")
        return
    cells = table.cells()
    for block in split_columns(table, console.width):
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for i in block:
            column, wide = table.columns[i], max(len(row[i]) for row in cells) > LONG
            justify = "right" if column.numeric else "left"
            drawn.add_column(Text(column.heading), justify=justify, overflow="fold", no_wrap=not wide)
        for row in cells:
            drawn.add_row(*(Text(row[i]) for i in block))
        console.print(drawn)
    if meanings:
        width = max((len(heading) for heading, _ in table.meanings()), default=0)
        for heading, meaning in table.meanings():
            console.print(Text(f"  {heading.ljust(width)}  {meaning}", style="dim"), soft_wrap=True)
        console.print()
