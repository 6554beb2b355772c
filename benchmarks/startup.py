"""Measure how long a fresh process waits: for the import, and for the first result, with kernels on disk and without.

Run from the repository root::

    python benchmarks/startup.py                       # a small convolutional network on three machines

A first result is: import fixqnn, load a saved program, run one batch. Every figure is the best of several processes, in wall
time without the start of Python itself; a cold process finds an empty cache folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measure import RESULTS, Column, Row, child, environment, last_line, report  # noqa: E402

NAME = "startup"
FLOORS = {"import_s": 0.15, "cached_s": 1.0, "cold_s": 6.0}
AIMS = {"import_s": 0.08, "cached_s": 0.6, "cold_s": 3.0}
MACHINES = ("ideal()", "systolic(partial=14)", "per_operation()")
COLUMNS = (
    Column("case", "machine"),
    Column("import_s", "import, s", ".3f"),
    Column("cached_s", "first result, kernels on disk, s", ".2f"),
    Column("cached_cpu_s", "processor time of it, s", ".2f"),
    Column("cold_s", "first result, no kernels, s", ".2f"),
    Column("torch", "torch imported"),
)
CHILD = """
import json, sys, time
start = time.perf_counter()
import fixqnn as fq
imported = time.perf_counter() - start
import numpy as np
fq.run(fq.Program.load(sys.argv[1]), np.load(sys.argv[2])).output.codes
print(json.dumps({
    "import_s": imported, "first_s": time.perf_counter() - start, "cpu_s": time.process_time(),
    "torch": "yes" if "torch" in sys.modules else "no",
}))
"""


def save_programs(folder: Path) -> Path:
    """Write a small network's program for every machine, and a batch; the path of the batch."""
    import torch
    from torch import nn

    import fixqnn as fq
    from fixqnn.machines import resolve

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip
    images = np.random.default_rng(0).random((8, 1, 16, 16))
    graph = fq.quantize(fq.from_torch(net, torch.zeros(2, 1, 16, 16)), images, fq.Policy())
    for machine in MACHINES:
        fq.lower(graph, resolve(machine)).save(folder / f"{machine}.npz")
    np.save(folder / "images.npy", images)
    return folder / "images.npy"


def measure(program: Path, images: Path, processes: int, folder: Path) -> Row:
    """Best figures of one machine; kernels lie in a folder of this benchmark's own."""

    def first(cache: Path) -> Row:
        variables = {"NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
        return last_line(child(["-c", CHILD, str(program), str(images)], variables))

    cold = [first(folder / f"cold{i}") for i in range(max(1, processes // 3))]
    cached = [first(folder / "cold0") for _ in range(processes)]
    failed = [row for row in [*cold, *cached] if "error" in row]
    if failed:
        return {"error": failed[0]["error"]}
    return {
        "import_s": min(row["import_s"] for row in cached), "cached_s": min(row["first_s"] for row in cached),
        "cached_cpu_s": min(row["cpu_s"] for row in cached), "cold_s": min(row["first_s"] for row in cold),
        "torch": cached[0]["torch"],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every machine and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--processes", type=int, default=6, help="fresh processes with kernels on disk; a third as many cold"
    )
    parser.add_argument("--quick", action="store_true", help="one machine, one process of each kind")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{NAME}.json")
    given = parser.parse_args(arguments)
    rows: list[Row] = []
    with TemporaryDirectory() as name:
        images = save_programs(Path(name))
        for machine in MACHINES[:1] if given.quick else MACHINES:
            cache = Path(name) / f"kernels of {machine}"
            rows.append({
                "case": machine,
                **measure(Path(name) / f"{machine}.npz", images, 1 if given.quick else given.processes, cache),
            })  # fmt: skip
    rows += [{"case": "aim", **AIMS}, {"case": "at most", **FLOORS}]
    report(NAME, COLUMNS, rows, given.output, environment(), given.markdown)


if __name__ == "__main__":
    main()
