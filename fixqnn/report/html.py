"""One HTML page that needs nothing else: no network, no scripts; it fits a phone and follows light or dark."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

from fixqnn.report.tables import Column, Table

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #59636e; --page: #ffffff; --line: #d6dbe1; --soft: #eef1f5;
  --s0: #0969da; --s1: #bc4c00; --s2: #1a7f37; --s3: #8250df; --s4: #bf3989; --s5: #6b5d00; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9da7b3; --page: #0d1117; --line: #30363d;
  --soft: #1c2330; --s0: #58a6ff; --s1: #ff9a4d; --s2: #56d364; --s3: #bc8cff; --s4: #f778ba; --s5: #d9c74a;
  --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 44rem; }
.dim, dl.meanings, footer { color: var(--dim); font-size: .875rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
th { background: var(--soft); font-weight: 600; vertical-align: bottom; }
h1, h2, h3, p { overflow-wrap: anywhere; }
td { white-space: nowrap; }
td.long, td:first-child { white-space: normal; }
td.long { min-width: 18rem; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--page); max-width: 9.5rem; }
th:first-child { background: var(--soft); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
dl.meanings { margin: .2rem 0; display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem;
  max-width: 52rem; }
dl.meanings dt { font-weight: 600; }
dl.meanings dd { margin: 0; }
figure { margin: .6rem 0; }
figure > svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; }
svg .note { fill: var(--dim); font-size: 10px; }
svg .held { fill: var(--line); } svg .seen { fill: var(--s0); } svg .beyond { fill: var(--bad); }
svg .inner { fill: var(--bad); } svg .output { fill: var(--s0); }
svg .zero { stroke: var(--ink); stroke-width: 1; } svg .grid { stroke: var(--line); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.2; opacity: .55; }
.line.series0 { stroke: var(--s0); } .line.series1 { stroke: var(--s1); } .line.series2 { stroke: var(--s2); }
.line.series3 { stroke: var(--s3); } .line.series4 { stroke: var(--s4); } .line.series5 { stroke: var(--s5); }
.mark.series0 { fill: var(--s0); } .mark.series1 { fill: var(--s1); } .mark.series2 { fill: var(--s2); }
.mark.series3 { fill: var(--s3); } .mark.series4 { fill: var(--s4); } .mark.series5 { fill: var(--s5); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .875rem; }
.legend span { display: inline-flex; align-items: center; gap: .35rem; min-width: 0; overflow-wrap: anywhere; }
.legend .key { flex: none; width: 12px; height: 12px; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .6rem; }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 .8rem; overflow-wrap: anywhere; }
footer dd { margin: 0; }
@media (max-width: 36rem) { dl.meanings { grid-template-columns: 1fr; } dl.meanings dd { margin-bottom: .3rem; } }
"""


def page(
    title: str, lead: str, sections: Sequence[str], stamps: Mapping[str, str], style: str = "", script: str = ""
) -> str:
    """Put sections into a page.

    Parameters
    ----------
    title, lead : str
        Heading, and the one paragraph that a hurried reader reads.
    sections : sequence of str
        HTML, from `section`.
    stamps : mapping of str to str
        Versions and settings, for the foot of the page.
    style : str
        Rules of this page beside those of all pages.
    script : str
        The only code that a browser may run here: the page itself says so, by its hash, so that no name or text in it can
        ever be run. Without a script nothing may.
    """
    allowed = f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    foot = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in stamps.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n"
        + "\n".join(sections)
        + f"\n<footer><p>How this page was made</p><dl>{foot}</dl></footer>\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body></html>\n"
    )


def section(heading: str, text: str, *bodies: str) -> str:
    """Head a part of the page: a heading, a sentence that says what to see, tables and figures."""
    return f"<section><h2>{escape(heading)}</h2>\n<p>{escape(text)}</p>\n" + "\n".join(bodies) + "</section>"


def figure(drawing: str, caption: str = "") -> str:
    """Frame a drawing, with what its colours mean."""
    below = f'<figcaption class="dim">{escape(caption)}</figcaption>' if caption else ""
    return f"<figure>{drawing}{below}</figure>"


def code(text: str) -> str:
    """Set commands as they are typed."""
    return f"<pre><code>{escape(text)}</code></pre>"


def table(facts: Table, sortable: bool = False) -> str:
    """Write a table, with the meaning of every column beneath it; one to be sorted carries the numbers behind its cells."""
    if not facts.rows:
        return '<p class="dim">None.</p>'
    head = "".join(f"<th{_kind(c.numeric)}>{escape(c.heading)}</th>" for c in facts.columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_kind(c.numeric, cell)}{_value(c, row) if sortable else ''}>{_cell(cell, first=i == 0)}</td>"
            for i, (c, cell) in enumerate(zip(facts.columns, cells, strict=True))
        )
        + "</tr>"
        for row, cells in zip(facts.rows, facts.cells(), strict=True)
    )
    meanings = "".join(f"<dt>{escape(heading)}</dt><dd>{escape(text)}</dd>" for heading, text in facts.meanings())
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<dl class="meanings">{meanings}</dl>'
    )


def _value(column: Column, row: Mapping[str, Any]) -> str:
    """The number that a cell is sorted by."""
    value = row.get(column.key if isinstance(column.key, str) else column.key[0])
    return f' data-value="{value!r}"' if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _kind(numeric: bool, cell: str = "") -> str:
    """Style of a cell: numbers flush right, long texts with room to wrap in, the rest as it comes."""
    return ' class="number"' if numeric else ' class="long"' if len(cell) > 48 else ""


def _cell(text: str, first: bool) -> str:
    """Text of a cell; a name in the first column, which stays in view, may break after a dot or a parenthesis."""
    safe = escape(text)
    return safe.replace(".", ".<wbr>").replace("(", "(<wbr>") if first and len(text) > 12 else safe
