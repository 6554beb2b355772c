"""The part of ``fixqnn universal`` that builds a network for a table of codes, runs it on every input, and saves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fixqnn.cli.output import bar, show
from fixqnn.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from fixqnn.universal.grid import Setting

MOST_ENTRIES = 1 << 22


def build_network(
    activation: Any, setting: Setting, inputs: int, wanted: str, check: bool, out: Path | None, as_json: bool
) -> None:
    """Build, print the size beside the counting bound, verify, save; exit with 1 where an output differs."""
    from fixqnn.machines import resolve
    from fixqnn.program import lower
    from fixqnn.universal import build, counting_bound, plans, verify

    target = _target(wanted, setting, inputs)
    arguments = (activation, setting)
    graph = build(target, *arguments)
    program = lower(graph, resolve(f"ideal({str(setting.rounding)!r})"))
    note, bound = graph.notes["y"], counting_bound(setting, target.ndim)
    facts: dict[str, Any] = {
        "target": wanted, "inputs": target.ndim, "entries": target.size, "construction": note["construction"],
        "widths": list(note["widths"]), "weights": note["weights"], "biases": note["biases"],
        "parameters": note["parameters"], "counting_bound": bound, "per_entry": note["parameters"] / target.size,
        "machine": program.accelerator, "fingerprint": program.fingerprint,
    }  # fmt: skip
    if as_json:
        facts["plans"] = {name: size.parameters for name, size in plans(target, *arguments).items()}
    wrong = None
    if check:
        with bar("running every input") as progress:
            wrong = verify(program, target, progress=progress)
        facts["verified"] = wrong is None
        if wrong is not None:
            facts["mismatch"] = str(wrong)
    if out is not None and wrong is None:
        program.save(out)
        facts["file"] = str(out)
    if as_json:
        show({}, as_json, facts)
    else:
        click.echo(_words(facts))
    if wrong is not None:
        raise SystemExit(1)


def _words(facts: dict[str, Any]) -> str:
    widths = ", ".join(map(str, facts["widths"]))
    lines = [
        f"built ({facts['construction']}): widths {widths}; {facts['weights']} weights and {facts['biases']} biases that "
        "are not zero",
        f"  {facts['parameters']} parameters, {facts['per_entry']:.2f} per entry of the table ({facts['entries']}); "
        f"an architecture for all tables needs at least {facts['counting_bound']:.0f}",
    ]
    if "verified" in facts:
        lines.append(
            f"  all {facts['entries']} inputs run on {facts['machine']}: every code as wanted"
            if facts["verified"]
            else f"  run on {facts['machine']}: {facts['mismatch']}"
        )
    if "file" in facts:
        lines.append(f"wrote {facts['file']}")
    return "\n".join(lines)


def _target(text: str, setting: Setting, inputs: int) -> np.ndarray:
    """A table from a .npy file, or a random one."""
    import numpy as np

    from fixqnn.models import load_array

    side = 2 * setting.largest + 1
    if text == "random" or text.startswith("random:"):
        seed = text.removeprefix("random").removeprefix(":")
        if not seed.isdecimal():
            raise BadInput(f"--build {text}: the seed after 'random:' is a whole number, as in random:0")
        if inputs < 1 or side**inputs > MOST_ENTRIES:
            raise BadInput(
                f"--build {text}: a table for {inputs} inputs has {side}^{inputs} entries; at most {MOST_ENTRIES}"
            )
        return np.random.default_rng(int(seed)).integers(-setting.largest, setting.largest + 1, (side,) * inputs)
    target = load_array(Path(text))
    if target.ndim == 1 < inputs and target.size == side**inputs:
        return target.reshape((side,) * inputs)
    if target.ndim != inputs:
        hint = f"; say --inputs {target.ndim}" if target.ndim else f": it needs shape {(side,) * inputs}"
        raise BadInput(f"{text} is a table of {target.ndim} inputs{hint}")
    return target
