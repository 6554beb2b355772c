"""Machines that differ in their arguments only, as ``systolic(partial=12..20)`` makes them, read as one machine and an axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fixqnn.errors import FixqnnError
from fixqnn.machines import Reference, parse_reference
from fixqnn.sweeps.rows import Row, Rows

FEW = 2  # machines of one name that are told apart by colour, as machines


def spread(rows: Rows) -> Rows:
    """Turn arguments of many machines of one name into settings of their points.

    A machine's argument and a setting of the machine are the same thing to a sweep, so every row still says how it is
    computed again. Arguments that all of them share stay with the machine; two machines stay as they are.

    Examples
    --------
    >>> rows = Rows({"machine_text": f"systolic(rows=8, partial={p})", "settings": {"weights": 4}} for p in (12, 14, 16))
    >>> [(row["machine_text"], dict(row["settings"])) for row in spread(rows)][0]
    ('systolic(rows=8)', {'weights': 4, 'partial': 12})
    """
    texts = {row["machine_text"]: None for row in rows if row["machine_text"]}
    families: dict[Any, dict[str, Reference]] = {}
    for text in texts:
        reference = _read(text)
        if reference is not None:
            families.setdefault((text.partition("(")[0], repr(reference.positional)), {})[text] = reference
    moved: dict[str, tuple[str, dict[str, Any]]] = {}
    for (name, _), its in families.items():
        if len(its) <= FEW:
            continue
        first = next(iter(its.values()))
        shared = [one for one in first.named if all(one in reference.named for reference in its.values())]
        axes = [one for one in shared if len({repr(reference.named[one]) for reference in its.values()}) > 1]
        for text, reference in its.items():
            rest = {one: value for one, value in reference.named.items() if one not in axes}
            moved[text] = (
                _written(name, reference.positional, rest),
                {one: value for one, value in reference.named.items() if one in axes},
            )
    return Rows((_moved(row, moved) for row in rows), rows.meta) if moved else rows


def _read(text: str) -> Reference | None:
    """Take a text apart; None for what is no name with arguments."""
    try:
        return parse_reference(text)
    except FixqnnError:
        return None


def _written(name: str, positional: Iterable[Any], named: dict[str, Any]) -> str:
    arguments = [*map(repr, positional), *(f"{one}={value!r}" for one, value in named.items())]
    return f"{name}({', '.join(arguments)})" if arguments else name


def _moved(row: Row, moved: dict[str, tuple[str, dict[str, Any]]]) -> Row:
    if row["machine_text"] not in moved:
        return row
    text, arguments = moved[row["machine_text"]]
    settings = dict(row["settings"] or {})
    if set(arguments) & set(settings):  # the point says otherwise
        return row
    return {**row, "machine_text": text, "settings": {**settings, **arguments}}
