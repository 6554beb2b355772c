"""The command line: one thin function per verb. All work is done by the functions of the library.

Exit status 0: done, or equal; 1: compared and found different; 2: refused, with one message on standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from fixqnn import __version__
from fixqnn.errors import FixqnnError

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


def _threads(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    from fixqnn.kernels.pool import threads

    return threads(value)  # a wrong number is refused before any work


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fixqnn")
def cli() -> None:
    """Compute, bit for bit, what an integer accelerator computes for a network trained in torch."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every refusal is one message and exit status 2, never a traceback."""
    try:
        status = cli.main(args=arguments, prog_name="fixqnn", standalone_mode=False)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.ClickException as problem:
        problem.show()
        status = 2
    except (FixqnnError, OSError) as problem:
        click.echo(f"fixqnn: {problem}", err=True)
        status = 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("fixqnn: interrupted", err=True)
        status = 130
    except Exception as problem:
        if os.environ.get("FIXQNN_DEBUG"):
            raise
        kind = type(problem).__name__
        click.echo(f"fixqnn: unexpected {kind}: {problem}; please report it: FIXQNN_DEBUG=1 shows where", err=True)
        status = 2
    sys.exit(status if isinstance(status, int) else 0)


@cli.command()
@click.option("--out", default="fixqnn-demo", show_default=True, type=FOLDER, help="Folder to write to.")
@click.option("--seed", default=0, show_default=True, help="Seed of training and of the split into train and test.")
@click.option(
    "--epochs", default=6, show_default=True, type=click.IntRange(1), help="Passes over the training pictures."
)
@click.option(
    "--images", type=click.IntRange(20), help="Use only so many pictures to train and to test; for a quick look."
)
@AS_JSON
def demo(out: Path, seed: int, epochs: int, images: int | None, as_json: bool) -> None:
    """Train a small network on handwritten digits and run it on several machines."""
    from fixqnn.demo import CLOSE_UP, compute, load_digits, quantized, train, write
    from fixqnn.report import views
    from fixqnn.report.facts import layer_rows, register_rows

    digits = load_digits(seed, images)
    with bar("training a residual network on handwritten digits") as progress:
        net = train(digits, epochs, seed, progress)
    with bar("choosing 8-bit formats") as progress:
        graph = quantized(net, digits, progress)
    with bar("computing every test picture on every machine") as progress:
        outcome = compute(net, graph, digits, progress=progress)
    close = outcome.comparisons[CLOSE_UP]
    tables = {
        "machines": views.machines(
            [outcome.float_row, *outcome.rows], f"{len(digits.test_labels)} test digits, 8-bit weights and values"
        ),
        "layers": views.layers(layer_rows(close), f"Layer by layer on {CLOSE_UP}"),
        "registers": views.registers(register_rows(close.trace), f"Registers that overflowed on {CLOSE_UP}"),
    }
    settings = {"seed": seed, "epochs": epochs, "images": len(digits.test_labels)}
    files = write(outcome, digits, tables["machines"], out, command_line(), settings)
    show(tables, as_json, {"files": files})
    if not as_json:
        click.echo(f"Wrote {out}/: report.html and summary.json; in runs/, per machine, its program and every code of")
        click.echo("the first pictures. Next:")
        click.echo(f"  open {files['page']} in a browser")
        click.echo(f"  fixqnn compare {files['ideal']} {files[CLOSE_UP]}    # where two machines part first")
        click.echo("  fixqnn machines                # all machines, and how each is known")
        click.echo("  fixqnn run --help              # your own model and data")


@cli.command()
@click.argument("model")
@SHAPE
@AS_JSON
def inspect(model: str, shapes: tuple[str, ...], as_json: bool) -> None:
    """Show what a model consists of: values, shapes, formats, parameters, multiplications.

    MODEL is a .pt2 file (torch.export.save), a saved program (.npz), or a function that returns a torch module:
    my_file.py:build or package.module:build.
    """
    from fixqnn.models import load_model, parse_shapes
    from fixqnn.report import views

    found = load_model(model, parse_shapes(shapes))
    if found.program is not None:
        table = views.steps(found.program)
        facts: dict[str, Any] = {
            "machine": found.program.accelerator,
            "fingerprint": found.program.fingerprint,
            "notes": list(found.program.notes),
        }
    else:
        table, facts = views.nodes(found.graph, f"{model}"), views.totals(found.graph)
    show({"values": table}, as_json, facts)
    if not as_json:
        for key, value in facts.items():
            for line in value if isinstance(value, list) else [value]:
                click.echo(f"{key}: {line}")


@cli.command()
@click.argument("model")
@click.option(
    "--data", "data", multiple=True, required=True, type=Path, help="Inputs (.npy, batch first); one per input."
)
@click.option("--machine", help="Such as hw_models:systolic(partial=16).  [default: ideal]")
@click.option(
    "--calibration", multiple=True, type=Path, help="Samples that set the ranges; by default the data itself."
)
@click.option("--labels", type=Path, help="True labels (.npy): adds accuracy.")
@click.option("--weights", type=int, help="Bits of weights.  [default: 8]")
@click.option("--activations", type=int, help="Bits of values.  [default: 8]")
@click.option(
    "--ranges", type=click.Choice(["min_max", "percentile", "mse"]), help="From samples to ranges.  [default: min_max]"
)
@click.option(
    "--scales", type=click.Choice(["power_of_two", "free"]), help="Steps of formats.  [default: power_of_two]"
)
@click.option("--per-channel", is_flag=True, default=None, help="One step per output channel of weights.")
@click.option(
    "--engine",
    type=click.Choice(["fast", "exact"]),
    default="fast",
    show_default=True,
    help="Compiled loops or the definition.",
)
@click.option("--seed", default=0, show_default=True, help="Of stochastic rounding.")
@click.option(
    "--threads",
    callback=_threads,
    metavar="N|all",
    help="Threads of the fast engine; the codes are the same.  [default: FIXQNN_THREADS, or 1]",
)
@click.option("--save", type=FOLDER, help="Folder for program, all codes, and an HTML report.")
@SHAPE
@AS_JSON
def run(model: str, data: tuple[Path, ...], machine: str | None, calibration: tuple[Path, ...], labels: Path | None,
        engine: str, seed: int, threads: int, save: Path | None, shapes: tuple[str, ...], as_json: bool,
        **policy: Any) -> None:  # fmt: skip
    """Quantize a model, lower it onto a machine, run data through it, and compare with float.

    MODEL is what `fixqnn inspect` takes; a saved program runs as it is.
    """
    from fixqnn.job import Job, perform, write
    from fixqnn.models import parse_shapes
    from fixqnn.report import views
    from fixqnn.report.facts import layer_rows, register_rows

    given = {name: value for name, value in policy.items() if value is not None}
    job = Job(model, machine, data, calibration, labels, given, engine, seed, parse_shapes(shapes), threads)
    with bar("calibrating") as calibrating, bar("running") as running:
        done = perform(job, calibrating, running)
    tables = {
        "run": views.machines([done.row], f"{done.trace.samples} samples on {done.trace.program.accelerator}"),
        "layers": views.layers(layer_rows(done.comparison), "Layer by layer"),
        "registers": views.registers(register_rows(done.trace), "Registers that overflowed"),
    }
    facts = {"clipped inputs": dict(done.trace.clipped), "notes": list(done.notes)}
    if save is not None:
        facts["files"] = write(done, tables["run"], save, command_line())
    show(tables, as_json, facts)
    if not as_json:
        click.echo(done.in_words())
        for path in facts.get("files", {}).values():
            click.echo(f"wrote {path}")


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@AS_JSON
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Find the first code in which two runs differ. Exit status 1 if there is one.

    A is a folder written by `fixqnn run --save` or Trace.save; B is another, or any folder with files <value>.npy of
    integer codes in the same layout, from a simulator or from hardware.
    """
    from fixqnn.report import views
    from fixqnn.report.differences import compare_folders

    found = compare_folders(a, b)
    show({"values": views.differences(found.rows, f"{a} against {b}")}, as_json, found.facts())
    if not as_json:
        click.echo(found.in_words())
    raise click.exceptions.Exit(0 if found.first is None else 1)


@cli.command()
@click.argument("name", required=False)
@AS_JSON
def machines(name: str | None, as_json: bool) -> None:
    """List the machines there are, or show the record of one: `fixqnn machines "systolic(partial=12)"`."""
    from fixqnn.machines import catalogue, resolve
    from fixqnn.report import views
    from fixqnn.report.records import catalogue_rows

    if name is None:
        show({"machines": views.catalogue(catalogue_rows(catalogue()), "Machines")}, as_json)
        if not as_json:
            click.echo("`fixqnn machines NAME` shows a record in full; one of your own is named my_file.py:my_array.")
        return
    found = resolve(name)
    show(
        {"datapaths": views.datapaths(found)},
        as_json,
        {"name": found.name, "ports": str(found.ports), "source": found.source},
    )
    if not as_json:
        click.echo(f"ports: {found.ports}\nsource: {found.source}")


@cli.command()
@click.option("--program", type=Path, help="Only what this saved program (.npz) needs.  [default: all common kernels]")
@AS_JSON
def warmup(program: Path | None, as_json: bool) -> None:
    """Compile kernels ahead of the first run, and keep them on disk: for images of containers, and before many processes."""
    from fixqnn.program import Program
    from fixqnn.warm import warmup

    with bar("compiling kernels") as progress:
        done = warmup(None if program is None else Program.load(program), progress)
    if as_json:
        return show({}, as_json, asdict(done))
    click.echo(f"{done.compiled} kernels compiled, {done.loaded} found on disk, in {done.seconds:.1f} s")
    for folder in done.folders:
        click.echo(f"kept in {folder}")
    if not done.folders:
        click.echo("kept nowhere: no folder can be written, so every process compiles anew; set NUMBA_CACHE_DIR to one")


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
def bar(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give a callback ``(done, all)``; once it has gone on for two seconds, a bar on standard error."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn(label), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    drawn = Progress(*columns, console=terminal(err=True), transient=True)
    task = drawn.add_task(label, total=None)
    start = monotonic()

    def progress(done: int, everything: int | None) -> None:
        drawn.update(task, completed=done, total=everything)
        if monotonic() - start > PATIENCE and not drawn.live.is_started and done != everything:
            drawn.start()

    try:
        yield progress
    finally:
        if drawn.live.is_started:
            drawn.stop()


if __name__ == "__main__":
    main()
