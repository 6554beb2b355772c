"""Write the tables of README.md anew from the JSON files in results/, so that no figure is ever typed.

Run from the repository root::

    python benchmarks/tables.py            # rewrite
    python benchmarks/tables.py --check    # exit status 1 if README.md is not what the files say
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import error_prediction, kernels, startup, sweep_bits, vs_float, vs_peers  # noqa: E402
from benchmarks.measure import RESULTS, Column, Row, as_markdown, notes  # noqa: E402

README = Path(__file__).with_name("README.md")
TABLES: dict[str, tuple[Column, ...]] = {
    kernels.NAME: kernels.COLUMNS, **vs_float.TABLES, vs_peers.NAME: vs_peers.COLUMNS, startup.NAME: startup.COLUMNS,
    sweep_bits.NAME: sweep_bits.COLUMNS, error_prediction.NAME: error_prediction.COLUMNS,
}  # fmt: skip
MARKED = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def section(name: str, results: Path) -> str:
    """One table with what it was measured on, as Markdown; a line that says so where there is no result."""
    path = results / f"{name}.json"
    if not path.exists():
        return f"No `{path.name}` yet.\n"
    document = json.loads(path.read_text())
    lines = [as_markdown(TABLES[name], document["rows"]), "", where(document["environment"])]
    return "\n".join([*lines, *(f"\n- {note}" for note in notes(document["rows"]))]) + "\n"


def where(about: Row) -> str:
    """What the figures were measured on, in one line."""
    versions = ", ".join(f"{key} {about[key]}" for key in ("python", "numpy", "numba", "torch") if about.get(key))
    changed = " and changes after it" if about.get("changed") else ""
    busy = (
        f"; load average {about['load']:g}, so not alone on the machine"
        if about["load"] > 1.5 * about["processors"]
        else ""
    )
    return f"{about['processor']}, threads: {about['threads']}; {versions}; commit {about['commit']}{changed}{busy}."


def rewritten(text: str, results: Path = RESULTS) -> str:
    """Fill every marked place of a text with its table."""
    return MARKED.sub(lambda m: m.group(1) + section(m.group("name"), results) + m.group(3), text)


def main(arguments: list[str] | None = None) -> int:
    """Rewrite README.md, or check it."""
    parser = argparse.ArgumentParser(description="Tables of README.md from the JSON files in results/.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    before = options.readme.read_text()
    after = rewritten(before, options.results)
    if options.check:
        return int(before != after)
    options.readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
