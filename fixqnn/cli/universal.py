"""The verb of representability: which functions networks of this arithmetic compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fixqnn.cli.output import AS_JSON, bar, show
from fixqnn.cli.sweeping import axis
from fixqnn.errors import BadInput

FILE = click.Path(dir_okay=False, path_type=Path)


def activation_of(text: str) -> Any:
    """Read an activation: a name, codes with commas between, or a .npy file of codes.

    >>> activation_of("gelu"), activation_of("0,1,1")
    ('gelu', [0, 1, 1])
    """
    if text.endswith(".npy"):
        from fixqnn.models import load_array

        return load_array(Path(text)).tolist()
    return list(axis(text, "the table")) if "," in text else text


@click.command()
@click.argument("activation")
@click.option("--p", "p", required=True, help="Values are k/s with |k| up to 2^p - 1; a range as 1..6 with --map.")
@click.option("--s", "s", required=True, help="Steps per unit; any whole number; a range as 1..32 with --map.")
@click.option("--weights", default="full", show_default=True, help="full, ternary, binary or scaled:A (units of 1/s).")
@click.option(
    "--bias", default="values", show_default=True, help="values, wide (multiples of 1/s) or fine (multiples of 1/s^2)."
)
@click.option(
    "--rounding",
    default="half_up",
    show_default=True,
    help="Ties: half_up, half_down, half_away, half_toward_zero, half_even.",
)
@click.option("--inputs", default=1, show_default=True, help="Of the functions that are to be computed.")
@click.option("--check", is_flag=True, help="Check the certificate by other means, and say what was checked.")
@click.option("--map", "as_map", is_flag=True, help="Decide every p with every s, and show a map.")
@click.option(
    "--build", "wanted", metavar="TABLE.npy|random:SEED", help="Build the network that computes this table of codes."
)
@click.option("--verify", is_flag=True, help="With --build: run the network on every input.")
@click.option(
    "-o",
    "--out",
    type=FILE,
    help="With --map: draw it into this file (.png, .svg, .pdf); with --build: save the program.",
)
@AS_JSON
def universal(activation: str, p: str, s: str, weights: str, bias: str, rounding: str, inputs: int, check: bool,
              as_map: bool, wanted: str | None, verify: bool, out: Path | None, as_json: bool) -> None:  # fmt: skip
    """Decide whether networks of this arithmetic compute every function of their inputs, and prove it.

    ACTIVATION is a name (gelu, relu, sigmoid ...), or its table: the codes for k = -M ... M with commas between (after
    -- if the first is negative), or a .npy file of them.

    For example: fixqnn universal gelu --p 3 --s 4 --weights binary --bias wide --inputs 2 --check; or, for a picture of
    many formats: fixqnn universal sigmoid --p 1..6 --s 1..32 --map -o sigmoid.svg

    With --build it makes the network for one table and prints its size beside the least that can serve all tables:
    fixqnn universal relu --p 3 --s 4 --inputs 2 --build random:0 --verify -o network.npz
    """
    if out is not None and not as_map and wanted is None:
        raise BadInput(f"{out}: only a map is drawn and only a network is saved; add --map or --build")
    if out is not None and not out.parent.is_dir():  # said before the work
        raise BadInput(f"cannot write {out}: there is no folder {out.parent}")
    if verify and wanted is None:
        raise BadInput("--verify runs a network that was built; add --build")
    asked = (weights, bias, rounding, inputs)
    ps, ss = axis(p, "--p"), axis(s, "--s")
    if as_map:
        if check or wanted is not None:
            raise BadInput("--check and --build are for one format; leave out --map")
        return _map(activation_of(activation), ps, ss, asked, out, as_json)
    if len(ps) * len(ss) > 1:
        raise BadInput(f"--p {p} --s {s} are several formats; add --map, or name one")
    if wanted is not None:
        from fixqnn.cli.building import build_network
        from fixqnn.universal import Setting

        if check:
            raise BadInput("--check is for a verdict; a network is checked by --verify")
        setting = Setting(ps[0], ss[0], weights, bias, rounding)
        return build_network(activation_of(activation), setting, inputs, wanted, verify, out, as_json)
    _verdict(activation_of(activation), ps[0], ss[0], asked, check, as_json)


def _verdict(activation: Any, p: Any, s: Any, asked: tuple[Any, ...], check: bool, as_json: bool) -> None:
    from fixqnn.universal import Setting, decide, examine_certificate

    weights, bias, rounding, inputs = asked
    verdict = decide(activation, Setting(p, s).values, weights, bias, rounding, inputs)
    found = examine_certificate(verdict) if check else None
    if as_json:
        facts = verdict.facts()
        if found:
            facts["check"] = {"holds": found.holds, "checked": found.checked, "problems": found.problems}
        return show({}, as_json, facts)
    click.echo(str(verdict))
    if found:
        click.echo(str(found))


def _map(activation: Any, p: Any, s: Any, asked: tuple[Any, ...], out: Path | None, as_json: bool) -> None:
    from fixqnn.universal import map_formats

    with bar("deciding formats") as progress:
        found = map_formats(activation, p, s, *asked, progress=progress)
    if out is not None:
        found.save(out)
    if as_json:
        facts = {"title": found.title, "p": found.p, "s": found.s, "letters": found.letters(), "formats": found.rows()}
        return show({}, as_json, facts | ({"file": str(out)} if out else {}))
    click.echo(str(found))
    if out is not None:
        click.echo(f"wrote {out}")
