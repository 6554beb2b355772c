"""Sections of a sweep's page that say how to go on: the front of a search, and the commands that compute rows again."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from fixqnn.report import html, sweep_tables
from fixqnn.report import sweep_facts as facts
from fixqnn.sweeps.found import python_line
from fixqnn.sweeps.rows import Rows

MOST = 40  # rows of a front that are listed


def search_front(rows: Rows) -> str:
    """List the front that a search found, which keeps its constraints, with the line that computes each row again."""
    told = rows.meta.get("search")
    keys = list(told.get("front") or []) if isinstance(told, Mapping) else []
    by_key = {row["key"]: row for row in rows}
    front = [by_key[key] for key in keys if key in by_key][:MOST]
    if not isinstance(told, Mapping) or not told.get("objectives"):
        return ""
    aims = ", ".join(str(name).replace("_", " ") for name in told["objectives"])
    limits = " and ".join(str(limit) for limit in told.get("constraints") or [])
    text = (
        f"Rows that no other beats in {aims}{f', among those that keep to {limits}' if limits else ''}; measured on the whole "
        "test set."
    )
    if not front:
        return html.section("What the search found", f"No row keeps to {limits}." if limits else "Nothing yet.")
    lines = "\n".join(python_line(row) for row in front)
    again = f"<details><summary>Each of them again, in Python</summary>{html.code(lines)}</details>"
    return html.section("What the search found", text, html.table(sweep_tables.all_rows(front, set())), again)


def again(rows: Rows, source: str) -> str:
    """Show how to go on, and how to compute the best row again."""
    parts = []
    if commands := facts.commands(rows):
        told = "The same command goes on where it stopped; rows that are there are not computed again:"
        parts.append(f"<p>{told}</p>{html.code(chr(10).join(commands))}")
    if source:
        parts.append(f"<p>This page again:</p>{html.code(f'fixqnn report {quote(source)} -o report.html')}")
    best = next(iter(facts.whole(rows).best(facts.measure(rows))), None)
    if best is not None:
        program = f"  # program {best['fingerprint'][:10]}" if best["fingerprint"] else ""
        told = "The best row again, in Python, with graph, samples, test set and policy as they were:"
        parts.append(f"<p>{told}</p>{html.code(python_line(best) + program)}")
    return html.section("Do it again", "", *parts) if parts else ""
