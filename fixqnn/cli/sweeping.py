"""The verb that computes many points: every combination of widths and machine settings that one line names."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fixqnn.cli.output import AS_JSON, SHAPE, bar, command_line, show
from fixqnn.errors import BadInput

FILE = click.Path(dir_okay=False, path_type=Path)
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


def axis(text: str, what: str) -> tuple[Any, ...]:
    """Read the values of an axis: numbers, ranges with both ends, words, with commas between.

    >>> axis("2..4,8", "weights"), axis("floor,half_even", "rounding"), axis("true", "per_channel")
    ((2, 3, 4, 8), ('floor', 'half_even'), (True,))
    """
    found: list[Any] = []
    for word in text.split(","):
        word = word.strip()
        ends = RANGE.fullmatch(word)
        if ends and int(ends[1]) > int(ends[2]):
            raise BadInput(f"the range {word} of {what} is empty; the smaller number comes first")
        if ends:
            found += range(int(ends[1]), int(ends[2]) + 1)
        elif word:
            found.append(_value(word))
        else:
            raise BadInput(f"{what} takes values such as 4,6,8 or 2..8, not {text!r}")
    return tuple(found)


def _value(word: str) -> Any:
    if word.lower() in ("true", "false", "none"):
        word = word.capitalize()
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def settings(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Read ``name=values`` texts.

    >>> settings(["accumulator_bits=16..18", "overflow=wrap"])
    {'accumulator_bits': (16, 17, 18), 'overflow': ('wrap',)}
    """
    found = {}
    for text in texts:
        name, sign, values = text.partition("=")
        if not sign or not name.strip().isidentifier():
            raise BadInput(f"--set takes name=values, such as accumulator_bits=16..24, not {text!r}")
        found[name.strip()] = axis(values, name.strip())
    return found


def overrides(texts: Sequence[str]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Read ``pattern:setting=values`` texts.

    >>> overrides(["layer1.*:weights=4,8", "layer1.*:activations=6"])
    {'layer1.*': {'weights': (4, 8), 'activations': (6,)}}
    """
    found: dict[str, dict[str, tuple[Any, ...]]] = {}
    for text in texts:
        left, sign, values = text.partition("=")
        pattern, colon, setting = left.rpartition(":")
        if not sign or not colon or not pattern or not setting.strip().isidentifier():
            raise BadInput(f"--override takes pattern:setting=values, such as 'layer1.*:weights=4,8', not {text!r}")
        found.setdefault(pattern, {})[setting.strip()] = axis(values, setting.strip())
    return found


def options(point: Any, machine: str | None = None) -> str:
    """Write a point as options of ``fixqnn sweep``, so that a line can be printed that computes it again.

    Parameters
    ----------
    point : Point
        Its settings become --weights, --activations, --set and --override.
    machine : str, optional
        As a row's ``machine_text`` has it.

    >>> from fixqnn.sweeps.points import Point
    >>> options(Point({"weights": 4, "weights[layer1.*]": 8, "overflow": "wrap"}), "systolic(partial=14)")
    "--weights 4 --override 'layer1.*:weights=8' --set overflow=wrap --machine 'systolic(partial=14)'"
    """
    from fixqnn.sweeps.points import split

    words: list[str] = []
    for name, value in point.settings.items():
        setting, pattern = split(name)
        if not (value is None or isinstance(value, bool | int | float | str)):
            raise BadInput(f"{name}={value!r} cannot be written on a command line; use fq.sweep with {point!r}")
        if pattern is not None:
            words += ["--override", f"{pattern}:{setting}={value}"]
        elif setting in ("weights", "activations"):
            words += [f"--{setting}", str(value)]
        else:
            words += ["--set", f"{setting}={value}"]
    return shlex.join(words + (["--machine", machine] if machine else []))


# What `sweep` and `search` both take, in this order.
SHARED = (
    click.argument("model"),
    click.option(
        "--data", multiple=True, required=True, type=Path, help="Test inputs (.npy, batch first); one per input."
    ),
    click.option("--labels", type=Path, help="True labels (.npy): adds accuracy."),
    click.option(
        "--calibration", multiple=True, type=Path, help="Samples that set the ranges; by default the data itself."
    ),
    click.option("--weights", help="Bits of weights: 4, 2..8 or 4,6,8."),
    click.option("--activations", help="Bits of values: the same."),
    click.option(
        "--machine", "machines", multiple=True,
        help="Such as hw_models:systolic(accumulator_bits=16..24); repeatable; a range stands for every number in it.  "
        "[default: ideal]",
    ),
    click.option(
        "--set", "more", multiple=True, metavar="NAME=VALUES",
        help="Any other setting of formats (ranges=min_max,mse) or of machines (overflow=wrap,saturate); repeatable.",
    ),
    click.option(
        "--override", "layers", multiple=True, metavar="PATTERN:NAME=VALUES",
        help="A setting of the layers whose names match: 'layer1.*:weights=4,8'; repeatable.",
    ),
    click.option("--store", type=FILE, help="SQLite file for the rows; the same command goes on where it was stopped."),
    click.option("--jobs", default=1, show_default=True, help="Processes; -1: one per processor."),
    click.option(
        "--memory", default=192, show_default=True, type=click.IntRange(0), help="MiB of results kept for other points."
    ),
    SHAPE,
    AS_JSON,
)  # fmt: skip


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `sweep` and `search` both take."""
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.command()
@shared
@click.option("--seed", default=0, show_default=True, help="Of stochastic rounding.")
def sweep(model: str, data: tuple[Path, ...], labels: Path | None, calibration: tuple[Path, ...], weights: str | None,
          activations: str | None, machines: tuple[str, ...], more: tuple[str, ...], layers: tuple[str, ...],
          store: Path | None, jobs: int, memory: int, shapes: tuple[str, ...], as_json: bool, seed: int) -> None:  # fmt: skip
    """Compute every combination of settings on exact integers: accuracy, overflows, memory, bit operations.

    MODEL is what `fixqnn inspect` takes, a saved program excepted: its formats are settled.
    """
    from fixqnn.sweeps.points import grid
    from fixqnn.sweeps.sweep import sweep as compute

    points = grid(overrides=overrides(layers), **axes(weights, activations, more))
    materials = loaded(model, shapes, data, labels, calibration)
    with resumable(store), bar("computing", "rows") as progress:
        rows = compute(
            *materials, points, list(machines) or "ideal", store, jobs, seed, progress=progress, memory=memory << 20,
            command=command_line(),
        )  # fmt: skip
    tell(rows, store, as_json)


def axes(weights: str | None, activations: str | None, more: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Read the axes of the whole network.

    >>> axes("2..3", None, ["overflow=wrap"])
    {'weights': (2, 3), 'overflow': ('wrap',)}
    """
    named = {"weights": weights, "activations": activations}
    found = {name: axis(text, name) for name, text in named.items() if text is not None}
    given = settings(more)
    if twice := [name for name in given if name in found]:
        raise BadInput(f"{', '.join(twice)} is set twice: by an option and by --set")
    return {**found, **given}


def loaded(model: str, shapes: tuple[str, ...], data: Sequence[Path], labels: Path | None,
           calibration: Sequence[Path]) -> tuple[Any, Any, Any]:  # fmt: skip
    """Load a graph, the samples that calibrate it, and a test set."""
    from fixqnn.models import load_array

    graph = graph_of(model, shapes)
    arrays = tuple(load_array(path) for path in data)
    x = arrays[0] if len(arrays) == 1 else arrays
    seen = tuple(load_array(path) for path in calibration) or arrays
    return graph, seen[0] if len(seen) == 1 else seen, x if labels is None else (x, load_array(labels))


@contextmanager
def resumable(store: Path | None) -> Iterator[None]:
    """After Ctrl-C, say how to go on, and end with status 130."""
    try:
        yield
    except KeyboardInterrupt as stop:
        click.echo(f"fixqnn: {stop or 'interrupted'}", err=True)
        if store is not None:
            click.echo(f"go on with: {command_line()}", err=True)
        raise click.exceptions.Exit(130) from None


def graph_of(model: str, shapes: tuple[str, ...]) -> Any:
    """Load the graph of a model; a saved program has none (BadInput)."""
    from fixqnn.models import load_model, parse_shapes

    found = load_model(model, parse_shapes(shapes))
    if found.graph is None:
        raise BadInput(f"{model} is a program: its machine and formats are settled; name the model that it came from")
    return found.graph


def tell(rows: Any, store: Path | None, as_json: bool) -> None:
    """Print the best rows, why others have none, and what to do next; as JSON, all rows."""
    if as_json:
        return show({}, True, {"rows": [dict(row) for row in rows], "meta": dict(rows.meta)})
    from fixqnn.report import sweep_tables

    tables = {}
    if len(rows.ok):
        tables["best"] = sweep_tables.choices(rows)
    if len(rows.ok) < len(rows):
        tables["reasons"] = sweep_tables.reasons(rows)
    show(tables, False)
    counts = ", ".join(
        f"{sum(row['status'] == s for row in rows)} {s}" for s in dict.fromkeys(row["status"] for row in rows)
    )
    click.echo(f"{len(rows)} rows: {counts}")
    if store is not None:
        click.echo(f"wrote {store}; `fixqnn report {shlex.quote(str(store))}` makes a page of it")
    return None
