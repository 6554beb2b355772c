"""The verb that reads what a sweep or a search left: a page to look at, tables to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fixqnn.cli.output import AS_JSON, command_line, show

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("store", type=FILE)
@click.option(
    "-o", "--out", type=FILE, help="The page, one HTML file.  [default: report.html, where no other file is asked for]"
)
@click.option("--title", default="", help="Heading of the page.")
@click.option("--csv", "csv_file", type=FILE, help="Write all rows as CSV.")
@click.option("--parquet", "parquet_file", type=FILE, help="Write all rows as Parquet (extra: tables).")
@click.option("--latex", "latex_file", type=FILE, help="Write all rows as a LaTeX table (extra: tables).")
@AS_JSON
def report(
    store: Path,
    out: Path | None,
    title: str,
    csv_file: Path | None,
    parquet_file: Path | None,
    latex_file: Path | None,
    as_json: bool,
) -> None:
    """Make a page of a sweep's rows: what to pick, what accuracy costs, which layers need the bits.

    STORE is the file that sweep or search wrote; nothing in it is changed, and it may still be written to.
    """
    from fixqnn.errors import BadInput
    from fixqnn.report import sweep_tables
    from fixqnn.report.sweep_facts import as_rows, counts, drawable, measure
    from fixqnn.report.sweep_page import write_report
    from fixqnn.sweeps.rows import Rows

    for path in (out, csv_file, parquet_file, latex_file):
        if path is not None and path.resolve() == store.resolve():
            raise BadInput(f"{path} is the store itself; name another file to write to")
    rows = Rows.load(store)
    files: dict[str, str] = {}
    if out is not None or not (csv_file or parquet_file or latex_file):
        out = out or Path("report.html")
        files["page"] = str(write_report(rows, out, title, command_line(), str(store)))
    for kind, path, write in (
        ("csv", csv_file, rows.to_csv),
        ("parquet", parquet_file, rows.to_parquet),
        ("latex", latex_file, rows.to_latex),
    ):
        if path is not None:
            write(path)
            files[kind] = str(path)
    statuses = counts(rows)
    tables: dict[str, Any] = {}
    try:
        spread = as_rows(rows)
        drawable(spread, measure(spread))
        tables["choices"] = sweep_tables.choices(spread)
    except BadInput:  # nothing was computed
        tables["reasons"] = sweep_tables.reasons(rows)
    show(tables, as_json, {"rows": statuses, "files": files})
    if not as_json:
        click.echo(
            f"{len(rows)} rows: " + ", ".join(f"{count} {status}" for status, count in statuses.items() if count)
        )
        for kind, path in files.items():
            click.echo(f"Wrote {path}" + ("; open it in a browser" if kind == "page" else ""))
