"""Verbs that run a network: the demo, inspect, run, compare, machines, warmup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fixqnn.cli.output import AS_JSON, FOLDER, SHAPE, bar, command_line, show, threads_option
from fixqnn.errors import BadInput

POLICY = (
    click.option("--weights", type=int, help="Bits of weights.  [default: 8]"),
    click.option("--activations", type=int, help="Bits of values.  [default: 8]"),
    click.option(
        "--ranges",
        type=click.Choice(["min_max", "percentile", "mse"]),
        help="From samples to ranges.  [default: min_max]",
    ),
    click.option(
        "--scales", type=click.Choice(["power_of_two", "free"]), help="Steps of formats.  [default: power_of_two]"
    ),
    click.option("--per-channel", is_flag=True, default=None, help="One step per output channel of weights."),
)


def policy_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that become fields of a Policy."""
    for option in reversed(POLICY):
        verb = option(verb)
    return verb


@click.command()
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


@click.command()
@click.argument("model")
@click.option("--accumulators", is_flag=True, help="Show how wide every register of a sum must be.")
@click.option(
    "--data", multiple=True, type=Path, help="With --accumulators: inputs (.npy, batch first); one per input."
)
@click.option("--machine", help="With --accumulators: such as hw_models:systolic(partial=16).  [default: ideal]")
@click.option(
    "--calibration", multiple=True, type=Path, help="Samples that set the ranges; by default the data itself."
)
@policy_options
@SHAPE
@AS_JSON
def inspect(model: str, accumulators: bool, data: tuple[Path, ...], machine: str | None, calibration: tuple[Path, ...],
            shapes: tuple[str, ...], as_json: bool, **policy: Any) -> None:  # fmt: skip
    """Show what a model consists of: values, shapes, formats, parameters, multiplications.

    MODEL is a .pt2 file (torch.export.save), a saved program (.npz), or a function that returns a torch module:
    my_file.py:build or package.module:build.

    With --accumulators, how many bits every register of a sum needs: by types, proven for every input, and on data. Formats
    are chosen as `fixqnn run` chooses them; a saved program has its own, and needs no data.
    """
    from fixqnn.models import load_model, parse_shapes
    from fixqnn.report import views

    given = {name: value for name, value in policy.items() if value is not None}
    if accumulators:
        return _needs(as_json, model, machine, data, calibration, None, given, shapes=parse_shapes(shapes))
    if data or machine or calibration or given:
        raise BadInput("--data, --machine, --calibration and what chooses formats belong to --accumulators; add it")
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


def _needs(as_json: bool, *job: Any, **more: Any) -> None:
    """Show what registers need; at the end one sentence."""
    from fixqnn.job import Job, register_needs
    from fixqnn.report import views

    with bar("calibrating") as calibrating, bar("summing") as running:
        found = register_needs(Job(*job, **more), calibrating, running)
    data = "no data" if found.samples is None else f"{found.samples} samples"
    show({"registers": views.needs(found.table(), f"Registers of {found.machine}, in bits; {data}")}, as_json,
         {**found.facts(), "channels": found.channels()})  # fmt: skip
    if not as_json:
        click.echo(found.verdict)


@click.command()
@click.argument("model")
@click.option(
    "--data", "data", multiple=True, required=True, type=Path, help="Inputs (.npy, batch first); one per input."
)
@click.option("--machine", help="Such as hw_models:systolic(partial=16).  [default: ideal]")
@click.option(
    "--calibration", multiple=True, type=Path, help="Samples that set the ranges; by default the data itself."
)
@click.option("--labels", type=Path, help="True labels (.npy): adds accuracy.")
@policy_options
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
    callback=threads_option,
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


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--explain", is_flag=True, help="Look for the rule, width, order or constant that gives B's codes.")
@AS_JSON
def compare(a: Path, b: Path, explain: bool, as_json: bool) -> None:
    """Find the first code in which two runs differ. Exit status 1 if there is one.

    A is a folder written by `fixqnn run --save` or Trace.save; B is another, or any folder with files <value>.npy of
    integer codes in the same layout, from a simulator or from hardware. With --explain, the step behind the first
    difference is computed again with another rounding, order, register, shift and so on, until every code is B's.
    """
    from fixqnn.report import views
    from fixqnn.report.differences import compare_folders

    found, facts, why = compare_folders(a, b), {}, None
    if explain and found.first is not None:
        from fixqnn.analysis.bisection import bisect

        with bar("looking for an explanation") as progress:
            why = bisect(a, b, progress=progress)
        facts["explanation"] = why and why.facts()
    show({"values": views.differences(found.rows, f"{a} against {b}")}, as_json, {**found.facts(), **facts})
    if not as_json:
        click.echo(found.in_words() if why is None else str(why))
    raise click.exceptions.Exit(0 if found.first is None else 1)


@click.command()
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


@click.command()
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
