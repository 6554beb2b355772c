"""The verb that looks for the settings worth having, within limits, without computing every combination."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fixqnn.cli.output import bar, command_line, show
from fixqnn.cli.sweeping import axes, loaded, options, overrides, resumable, shared


@click.command()
@shared
@click.option(
    "--per-layer", multiple=True, metavar="NAMES",
    help="Settings that each layer gets for itself, such as weights,activations; repeatable.",
)  # fmt: skip
@click.option(
    "--objective", "objectives", multiple=True, metavar="COLUMN",
    help="What is to be good: accuracy, sqnr, bit_operations, weight_bits, events, …; repeatable.  "
    "[default: accuracy (sqnr without labels), bit_operations, accumulator_bits]",
)  # fmt: skip
@click.option(
    "--constraint", "limits", multiple=True, metavar="TEXT",
    help="Limit that the front keeps, such as 'accuracy >= float - 0.01' or 'events == 0'; repeatable.",
)  # fmt: skip
@click.option("--trials", default=100, show_default=True, help="Points to try, at most.")
@click.option(
    "--sampler", type=click.Choice(["nsga2", "tpe"]), default="nsga2", show_default=True, help="What proposes."
)
@click.option(
    "--storage", metavar="URL|FILE",
    help="Where Optuna keeps the trials, such as postgresql://…; by default a journal beside the store.",
)  # fmt: skip
@click.option(
    "--early-stop", default=0.01, show_default=True, metavar="CHANCE",
    help="Chance that any point of the front is given up after a part of the samples; 0: all are measured whole.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the sampler, and of stochastic rounding.")
def search(model: str, data: tuple[Path, ...], labels: Path | None, calibration: tuple[Path, ...], weights: str | None,
           activations: str | None, machines: tuple[str, ...], more: tuple[str, ...], layers: tuple[str, ...],
           store: Path | None, jobs: int, memory: int, shapes: tuple[str, ...], as_json: bool, per_layer: tuple[str, ...],
           objectives: tuple[str, ...], limits: tuple[str, ...], trials: int, sampler: str, storage: str | None,
           early_stop: float, seed: int) -> None:  # fmt: skip
    """Search for the settings that no others beat: more accurate, cheaper, or narrower.

    MODEL and all settings are as for `fixqnn sweep`; each line of the result is followed by the command that computes it again.
    """
    from fixqnn.sweeps.search import search as look
    from fixqnn.sweeps.space import space

    names = [name.strip() for text in per_layer for name in text.split(",")]
    where = space(per_layer=names, overrides=overrides(layers), **axes(weights, activations, more))
    materials = loaded(model, shapes, data, labels, calibration)
    wanted = objectives or ("sqnr" if labels is None else "accuracy", "bit_operations", "accumulator_bits")
    with resumable(store), bar("searching", "points") as progress:
        found = look(
            *materials, where, wanted, list(machines) or "ideal", trials, store, jobs, seed, sampler, storage, limits,
            progress, early_stop=early_stop, memory=memory << 20, command=command_line(),
        )  # fmt: skip
    files = [("--data", path) for path in data] + [("--calibration", path) for path in calibration]
    files += [("--labels", labels)] if labels is not None else []
    given = [word for name, value in (*files, *(("--shape", s) for s in shapes)) for word in (name, str(value))]
    tell(found.told_by(again(model, given, seed)), store, as_json)


def again(model: str, given: Sequence[str], seed: int) -> Callable[[Mapping[str, Any]], str]:
    """Give the function that writes the command for a row.

    >>> line = again("net.py:build", ["--data", "my x.npy"], 3)
    >>> line({"settings": {"weights": 4, "weights[fc]": 8}, "machine_text": "ideal"})
    "fixqnn sweep net.py:build --data 'my x.npy' --weights 4 --override fc:weights=8 --machine ideal --seed 3"
    """
    from fixqnn.sweeps.rows import point_of

    def line(row: Mapping[str, Any]) -> str:
        what = options(point_of(row), row["machine_text"])
        return shlex.join(["fixqnn", "sweep", model, *given]) + f" {what}" + (f" --seed {seed}" if seed else "")

    return line


def tell(found: Any, store: Path | None, as_json: bool) -> None:
    """Print the front, with the commands that compute its rows again; as JSON, all rows too."""
    if as_json:
        front = [{**row, "command": found.command(row)} for row in found.front]
        return show({}, True, {"front": front, "rows": [dict(row) for row in found], "meta": dict(found.meta)})
    from fixqnn.report import sweep_tables

    if len(found.front):
        show({"front": sweep_tables.all_rows(found.front, set())}, False)
        click.echo("The same again, row by row:")
        for row in found.front:
            click.echo(f"  {found.command(row)}")
    wanted = ("failed",) if len(found.front) else ("failed", "impossible")
    lost = found.where(lambda row: row["status"] in wanted)
    if len(lost):
        show({"reasons": sweep_tables.reasons(lost)}, False)
    counts = ", ".join(
        f"{sum(row['status'] == s for row in found)} {s}" for s in dict.fromkeys(row["status"] for row in found)
    )
    click.echo(f"{len(found)} points: {counts}; {len(found.front)} on the front")
    if not len(found.front) and found.constraints:
        click.echo(f"no point keeps {' and '.join(found.constraints)}: allow more, or widen the space")
    if store is not None:
        click.echo(f"wrote {store}; `fixqnn report {shlex.quote(str(store))}` makes a page of it")
    return None
