"""What a sweep found: an immutable sequence of rows, and the ways out of it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from fixqnn.errors import BadFile, BadInput
from fixqnn.sweeps.points import Point

if TYPE_CHECKING:
    import pandas

# Every column, with its type in the store; "JSON" is text there, and a mapping here. `codes` is the SHA-256 of all output codes.
COLUMNS: Mapping[str, str] = MappingProxyType({
    "key": "TEXT", "settings": "JSON", "machine": "TEXT", "machine_text": "TEXT", "status": "TEXT", "reason": "TEXT",
    "accuracy": "REAL", "accuracy_low": "REAL", "accuracy_high": "REAL", "right": "INTEGER", "total": "INTEGER",
    "float_accuracy": "REAL", "p": "REAL", "changed": "INTEGER", "sqnr": "REAL", "events": "INTEGER", "clips": "INTEGER",
    "layer_events": "JSON", "weight_bits": "INTEGER", "value_bits": "INTEGER", "macs": "INTEGER",
    "bit_operations": "INTEGER", "accumulator_bits": "INTEGER", "seconds": "REAL", "fingerprint": "TEXT", "codes": "TEXT",
    "seed": "INTEGER", "versions": "JSON", "created": "TEXT", "samples_used": "INTEGER",
})  # fmt: skip
NUMBERS = tuple(name for name, kind in COLUMNS.items() if kind in ("REAL", "INTEGER"))
LARGER_IS_BETTER = ("accuracy", "accuracy_low", "accuracy_high", "right", "float_accuracy", "p", "sqnr")
TABLE = (
    "machine",
    "accuracy",
    "changed",
    "sqnr",
    "events",
    "weight_bits",
    "bit_operations",
    "accumulator_bits",
    "status",
)

Row = Mapping[str, Any]


class Rows(Sequence[Row]):
    """Rows of a sweep or a search, in order; a row maps the names of `COLUMNS` to values.

    Parameters
    ----------
    rows : iterable of mapping
        A column that a row lacks is None there.
    meta : mapping, optional
        What they all belong to: fingerprints of the graph and the data, version, command line, float accuracy, …

    Attributes
    ----------
    meta : mapping
        As given.

    Examples
    --------
    >>> rows = Rows([{"settings": {"weights": 4}, "status": "ok", "accuracy": 0.9, "bit_operations": 100},
    ...              {"settings": {"weights": 8}, "status": "ok", "accuracy": 0.95, "bit_operations": 200},
    ...              {"settings": {"weights": 9}, "status": "ok", "accuracy": 0.95, "bit_operations": 225}])
    >>> [row["settings"]["weights"] for row in rows.pareto(["accuracy", "bit_operations"])]
    [8, 4]
    >>> rows.best()
    <1 row: 1 ok>
    """

    def __init__(self, rows: Iterable[Row] = (), meta: Mapping[str, Any] | None = None) -> None:
        self._rows = tuple(row if _is_whole(row) else _whole(row) for row in rows)
        self.meta: Mapping[str, Any] = MappingProxyType(dict(meta or {}))

    @classmethod
    def load(cls, path: str | Path) -> Rows:
        """Read all rows of a store, in the order in which they were written; nothing in it is changed.

        Raises
        ------
        BadFile
            Where there is no store, or it is damaged.
        """
        from fixqnn.sweeps.store import read

        return cls(*read(Path(path)))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        """Give a row, or some of them as `Rows`."""
        if isinstance(index, str):
            raise BadInput(f"rows have numbers: [row[{index!r}] for row in rows], or rows.to_pandas()[{index!r}]")
        return Rows(self._rows[index], self.meta) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        counts = {s: sum(row["status"] == s for row in self) for s in dict.fromkeys(row["status"] for row in self)}
        split = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"<{len(self)} row{'s' * (len(self) != 1)}{': ' * bool(split)}{split}>"

    def where(self, keep: Callable[[Row], bool]) -> Rows:
        """Keep the rows for which `keep(row)` is true.

        >>> Rows([{"events": 0}, {"events": 5}]).where(lambda row: row["events"] == 0)
        <1 row: 1 None>
        """
        return Rows((row for row in self if keep(row)), self.meta)

    @property
    def ok(self) -> Rows:
        """The rows that were computed."""
        return self.where(lambda row: row["status"] == "ok")

    def best(self, column: str = "accuracy", count: int = 1) -> Rows:
        """Give the best computed rows by one column, the best first.

        Larger accuracy and SQNR are better; of everything else, less. Of equal rows those with fewer bit operations come
        first, then those with narrower accumulators.
        """
        _known([column])
        rows = [row for row in self.ok if _number(row, column) is not None]
        ties = (column, "bit_operations", "accumulator_bits")
        rows.sort(key=lambda row: [_cost(row, name) for name in ties])
        return Rows(rows[:count], self.meta)

    def pareto(self, objectives: Sequence[str] = ("accuracy", "bit_operations")) -> Rows:
        """Give the computed rows that no other one beats: better in one objective, and no worse in any.

        Of rows that are equal in all objectives, the first stays.

        Parameters
        ----------
        objectives : sequence of str
            Columns of numbers; larger accuracy and SQNR are better, of everything else less.

        Returns
        -------
        Rows
            The best in the first objective first.
        """
        objectives = (objectives,) if isinstance(objectives, str) else tuple(objectives)
        _known(objectives)
        if not objectives:
            raise BadInput("pareto needs at least one objective, such as 'accuracy'")
        costs = [(tuple(_cost(row, name) for name in objectives), row) for row in self.ok]
        costs = [(cost, row) for cost, row in costs if all(_number(row, name) is not None for name in objectives)]
        costs.sort(key=lambda pair: pair[0])
        front: list[tuple[tuple[float, ...], Row]] = []
        for cost, row in costs:  # whoever beats it, sorts before it
            if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other, _ in front):
                front.append((cost, row))
        return Rows((row for _, row in front), self.meta)

    # ------------------------------------------------------------------ ways out
    def table(self) -> list[dict[str, Any]]:
        """Make flat rows: each setting in a column of its own, before the others; nested columns as JSON texts.

        A setting that is called as a column stands as ``"<name> setting"``.
        """
        names = dict.fromkeys(name for row in self for name in row["settings"] or {})
        titles = {name: f"{name} setting" if name in COLUMNS else name for name in names}
        flat = []
        for row in self:
            settings = row["settings"] or {}
            one = {title: _cell(settings.get(name)) for name, title in titles.items()}
            for name, kind in COLUMNS.items():
                if name != "settings":
                    one[name] = as_json(name, row[name]) if kind == "JSON" else row[name]
            flat.append(one)
        return flat

    def to_csv(self, path: str | Path | None = None) -> str:
        """Write the columns of `table` as CSV, to a file if a path is given; returns the text."""
        rows = self.table()
        text = StringIO()
        writer = csv.DictWriter(
            text, list(rows[0]) if rows else [n for n in COLUMNS if n != "settings"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        _write(path, text.getvalue())
        return text.getvalue()

    def to_pandas(self) -> pandas.DataFrame:
        """Make a DataFrame with the columns of `table` (extra ``tables``)."""
        pandas = _pandas()
        rows = self.table()
        columns = list(rows[0]) if rows else [name for name in COLUMNS if name != "settings"]
        frame = pandas.DataFrame(rows, columns=columns)
        for name in NUMBERS:  # a column of nothing but None is one of numbers all the same
            if COLUMNS[name] == "REAL":
                frame[name] = frame[name].astype("float64")
            else:
                frame[name] = frame[name].astype("Int64")
        return frame

    def to_parquet(self, path: str | Path) -> None:
        """Write the columns of `table` as Parquet (extra ``tables``); a setting of mixed types is written as text."""
        frame = self.to_pandas()
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise BadInput(
                "Parquet files are written by pyarrow, which is not installed: pip install 'fixqnn[tables]'"
            ) from None
        for name in frame.columns:
            kinds = {type(value) for value in frame[name].dropna()} if frame[name].dtype == object else set()
            if len(kinds) > 1:
                frame[name] = [None if value is None else str(value) for value in frame[name]]
        try:
            frame.to_parquet(path, index=False)
        except OSError as problem:
            raise BadFile(f"cannot write {path}: {problem}") from None

    def to_latex(self, path: str | Path | None = None, columns: Sequence[str] | None = None) -> str:
        """Write a LaTeX table (extra ``tables``); it needs the package booktabs.

        Parameters
        ----------
        path : path, optional
            Where to write it.
        columns : sequence of str, optional
            Which columns of `table`; by default the settings and the usual figures, without those that are empty.

        Returns
        -------
        str
            The text.
        """
        frame = self.to_pandas()
        if columns is None:
            settings = [name for name in frame.columns if name not in COLUMNS]
            columns = [*settings, *(name for name in TABLE if frame[name].notna().any())]
            columns = [name for name in columns if name != "status" or (frame["status"] != "ok").any()]
        unknown = [name for name in columns if name not in frame.columns]
        if unknown:
            raise BadInput(f"there are no columns {unknown}; there are {', '.join(frame.columns)}")
        frame = frame[list(columns)].rename(columns=lambda name: name.replace("_", " "))
        try:
            text = frame.to_latex(index=False, escape=True, na_rep="", float_format=lambda number: f"{number:.4g}")
        except ImportError:
            raise BadInput(
                "LaTeX tables are made by jinja2, which is not installed: pip install 'fixqnn[tables]'"
            ) from None
        _write(path, text)
        return text


def point_of(row: Row) -> Point:
    """Give the point that a row speaks of, to compute it again.

    >>> point_of({"settings": {"weights": 4}})
    Point({'weights': 4})
    """
    return Point(row["settings"] or {})


def as_json(name: str, value: Any) -> str | None:
    """Write a nested column as text; settings keep their formats.

    >>> as_json("layer_events", {"fc": {"sum[0]": 3}})
    '{"fc": {"sum[0]": 3}}'
    """
    if value is None:
        return None
    return Point(value).to_json() if name == "settings" else json.dumps(value, ensure_ascii=False)


def _is_whole(row: Row) -> bool:
    """Whether a row comes from other `Rows`: thousands are sorted and picked many times for one report."""
    return isinstance(row, MappingProxyType) and row.keys() == COLUMNS.keys()


def _whole(row: Row) -> Row:
    return MappingProxyType({name: row.get(name) for name in COLUMNS})


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _known(columns: Iterable[str]) -> None:
    for name in columns:
        if name not in NUMBERS:
            close = get_close_matches(str(name), NUMBERS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(NUMBERS)}"
            raise BadInput(f"rows have no column of numbers {name!r}{hint}")


def _number(row: Row, name: str) -> float | None:
    value = row[name]
    return None if value is None or math.isnan(value) else value


def _cost(row: Row, name: str) -> float:
    """The column such that less is better; last where there is nothing."""
    value = _number(row, name)
    if value is None:
        return math.inf
    return -value if name in LARGER_IS_BETTER else value


def _write(path: str | Path | None, text: str) -> None:
    if path is None:
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise BadFile(f"cannot write {path}: {problem.strerror}") from None


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise BadInput("tables are made by pandas, which is not installed: pip install 'fixqnn[tables]'") from None
    return pandas
