"""The page of a sweep: which widths to pick, what they cost, and which layers and registers need the bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fixqnn.errors import BadFile, BadInput
from fixqnn.report import html, strokes, sweep_again, sweep_sections
from fixqnn.report import sweep_facts as facts
from fixqnn.report.sweep_style import SCRIPT, STYLE
from fixqnn.report.tables import show_count, show_percent
from fixqnn.sweeps.points import split
from fixqnn.sweeps.rows import Rows

Source = Rows | str | Path | Iterable[Mapping[str, Any]]

MOST_MACHINES = strokes.SERIES  # told apart by colour and mark


def write_report(
    rows: Source, out: str | Path = "report.html", title: str = "", command: str = "", source: str = ""
) -> Path:
    """Write the page of a sweep or a search: one file that needs no network.

    Parameters
    ----------
    rows : path of a store, Rows, or sequence of mappings
        What `sweep` or `search` gave.
    out : path
        The file to write.
    title : str
        Heading of the page; by default from what the rows are.
    command : str
        How the page was made; stands at its foot.
    source : str
        Path of the store that rows came from, for the commands that the page shows.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BadInput
        Where there are no rows, or the page would overwrite the store.
    BadFile
        For a store that cannot be read, or a file that cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> rows = [{"settings": {"weights": 4}, "accuracy": 0.9, "bit_operations": 100}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(write_report(rows, folder + "/report.html").name)
    report.html
    """
    source = str(rows) if isinstance(rows, str | Path) else source
    out = Path(out)
    if source and out.resolve() == Path(source).resolve():
        raise BadInput(f"{out} is the store itself; name another file for its page")
    text = sweep_page(rows, title, command, source)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise BadFile(f"cannot write {out}: {problem.strerror}") from None
    return out


def sweep_page(rows: Source, title: str = "", command: str = "", source: str = "") -> str:
    """Write the page of a sweep as HTML text; see `write_report`.

    Parameters
    ----------
    rows : Rows, path of a store, or sequence of mappings
        What `sweep` or `search` gave.
    title, command : str
        As for `write_report`.
    source : str
        Path of the store, for the commands that the page shows.
    """
    found = facts.as_rows(rows)
    shown, notes = _told_apart(found)
    sections = (
        sweep_sections.choices(shown),
        sweep_again.search_front(found),
        sweep_sections.fronts(shown),
        sweep_sections.widths(shown),
        sweep_sections.heat_maps(shown),
        sweep_sections.sensitivity(found),
        sweep_sections.front_widths(found),
        sweep_sections.events(shown),
        sweep_sections.table(found, source),
        sweep_sections.reasons(found),
        sweep_again.again(found, source),
    )
    return html.page(
        title or _title(found),
        " ".join([_lead(found), *notes]),
        [section for section in sections if section],
        _stamps(found, command),
        STYLE,
        SCRIPT,
    )


def _title(rows: Rows) -> str:
    """Name the page after the settings that vary."""
    what = "Search" if rows.meta.get("search") else "Sweep"
    layered = dict.fromkeys(split(name)[0] for name in facts.setting_names(rows) if split(name)[1] is not None)
    names = [*facts.varying(rows), *(f"{name} by layer" for name in layered)]
    if not names:
        return what
    *most, last = [name.replace("_", " ") for name in ([*names[:3], "more"] if len(names) > 4 else names)]
    return f"{what} over {', '.join(most)}{' and ' if most else ''}{last}"


def _lead(rows: Rows) -> str:
    counts = facts.counts(rows)
    machines = list(facts.machine_labels(rows))
    where = f" on {machines[0]}" if len(machines) == 1 and machines[0] != "machine" else ""
    where = f" on {len(machines)} machines" if len(machines) > 1 else where
    words = {"ok": "computed", "stopped": "given up after a part of the test set"}
    split_up = ", ".join(
        f"{show_count(count)} {words.get(status, status)}" for status, count in counts.items() if count
    )
    text = f"{show_count(len(rows))} {'row' if len(rows) == 1 else 'rows'}{where}: {split_up}."
    seen = {row["samples_used"] or row["total"] or 0 for row in rows if row["status"] == "ok"}
    total = max(seen, default=0)
    each = "It" if counts["ok"] == 1 else "Each"
    up_to = "up to " if len(seen) > 1 else ""
    over = (
        f" {each} saw {up_to}{show_count(total)} test samples, bit for bit as the machine computes them."
        if total
        else ""
    )
    reference = facts.float_accuracy(rows)
    against = (
        f" The float network gets {show_percent(reference)} of them right." if reference is not None and total else ""
    )
    unlabelled = (
        ""
        if facts.measure(rows) == "accuracy" or not counts["ok"]
        else (
            " The test set has no labels, so rows are judged by SQNR: signal over error at the output, against float64."
        )
    )
    return text + over + against + unlabelled


def _told_apart(rows: Rows) -> tuple[Rows, list[str]]:
    """Keep the rows of as many machines as there are colours: those with the best rows."""
    labels = facts.machine_labels(rows)
    if len(labels) <= MOST_MACHINES:
        return rows, []
    y = facts.measure(rows)
    order = sorted(labels, key=lambda name: min(facts.rank(row, y) for row in labels[name]))
    kept = set(order[:MOST_MACHINES])
    pictures = Rows((row for name in labels if name in kept for row in labels[name]), rows.meta)
    return pictures, [f"Pictures show the {MOST_MACHINES} machines with the best rows; the table has all."]


def _stamps(rows: Rows, command: str) -> dict[str, str]:
    """Collect what the rows belong to: versions, seeds, times, and the plain facts of the store."""
    found: dict[str, str] = {}
    versions: dict[str, list[str]] = {}
    for row in rows:
        for package, version in (row["versions"] or {}).items():
            if str(version) not in versions.setdefault(package, []):
                versions[package].append(str(version))
    found |= {package: ", ".join(its) for package, its in versions.items()}
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    if seeds:
        found["seed"] = ", ".join(map(str, seeds[:8]))
    times = sorted(row["created"] for row in rows if row["created"])
    if times:
        found["computed"] = times[0] if times[0] == times[-1] else f"{times[0]} … {times[-1]}"
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    if seconds:
        found["time of all rows"] = f"{sum(seconds):.1f} s"
    for name, value in rows.meta.items():
        if isinstance(value, str | int | float) and str(name) not in found:
            found[str(name).replace("_", " ")] = str(value)
    if command:
        found["page"] = command
    return found
