"""What all verbs share: tables and JSON on standard output, bars on standard error, common options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from fixqnn.report.tables import Table

PATIENCE = 2.0  # seconds without a progress bar
PIPE_WIDTH = 200  # columns of a table that no terminal cuts off
FOLDER = click.Path(file_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
SHAPE = click.option(
    "--shape", "shapes", multiple=True, metavar="1,3,32,32", help="Shape of an example input, batch first; repeatable."
)


def threads_option(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """Read a number of threads, or "all", and refuse others before any work."""
    from fixqnn.kernels.pool import threads

    return threads(value)


def show(tables: Mapping[str, Table], as_json: bool, facts: Mapping[str, Any] | None = None) -> None:
    """Print tables to the terminal, or tables and facts together as JSON."""
    from fixqnn.report.tables import jsonable, print_table

    if as_json:
        document = {**{key: table.facts() for key, table in tables.items()}, **(facts or {})}
        click.echo(json.dumps(jsonable(document), indent=1, ensure_ascii=False, default=str))
        return
    console = terminal()
    for table in tables.values():
        print_table(table, console)


def terminal(err: bool = False) -> Console:
    """Open the terminal; into a file or pipe, lines are long enough for whole tables."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def command_line() -> str:
    """Give the command as it was typed, the program's own path left out."""
    import shlex

    return shlex.join(["fixqnn", *sys.argv[1:]])


@contextmanager
def bar(label: str, counted: str = "") -> Iterator[Callable[[int, int | None], None]]:
    """Give a callback ``(done, all)``; once it has gone on for two seconds, a bar on standard error.

    With a word for what is `counted`, it also says how many are done, how many a minute, and how long the rest will take.
    """
    from rich import progress as rich

    columns = (rich.TextColumn(label), rich.BarColumn(), rich.TaskProgressColumn(), rich.TimeElapsedColumn())
    if counted:
        rate = rich.TextColumn("{task.fields[rate]}")
        columns = (*columns[:2], rich.MofNCompleteColumn(), rich.TextColumn(counted), rate, *columns[3:],
                   rich.TextColumn("left"), rich.TimeRemainingColumn())  # fmt: skip
    drawn = rich.Progress(*columns, console=terminal(err=True), transient=True)
    task = drawn.add_task(label, total=None, rate="")
    start, first = monotonic(), -1

    def progress(done: int, everything: int | None) -> None:
        nonlocal first
        if counted and first < 0:  # what was done before says nothing about the rate
            first = done
            drawn.reset(task, completed=done, total=everything)
        minutes = (monotonic() - start) / 60
        drawn.update(task, completed=done, total=everything, rate=f"{(done - first) / max(minutes, 1e-9):.0f}/min")
        if monotonic() - start > PATIENCE and not drawn.live.is_started and done != everything:
            drawn.start()

    try:
        yield progress
    finally:
        if drawn.live.is_started:
            drawn.stop()
