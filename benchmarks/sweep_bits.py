"""Measure sweeps over bit-widths: points per minute, time outside the kernels, what shared steps save, and two processes.

Run from the repository root, where two processors are free::

    python benchmarks/sweep_bits.py                    # the digits network and ResNet-8, 100 points, 1 000 pictures
    python benchmarks/sweep_bits.py --networks digits

Every sweep has 100 points on 1 000 pictures. "weights × activations" shares little between points; "last layer × accumulator"
changes only the last layer's weights and the width of the accumulator. Times are wall time, since processes are measured, too;
the share outside the kernels is of processor time: everything but the operations' compiled loops (and the packing of weights that
they ask for), so choosing formats, lowering, proofs, hashes, metrics and the store. Whole processes include Python, imports,
calibration, the float network and the start of workers.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import fixqnn as fq  # noqa: E402
from benchmarks.measure import RESULTS, Column, Row, child, environment, last_line, report  # noqa: E402
from fixqnn.sweeps import prefix  # noqa: E402
from fixqnn.sweeps.evaluate import MEMORY, Bench  # noqa: E402

NAME = "sweep_bits"
MACHINE = "systolic(partial=16)"
GRID, LAST = "weights × activations", "last layer × accumulator"
GOALS = {"digits": "≤ 60 s", "resnet8": "≤ 600 s"}
COLUMNS = (
    Column("network", "network"), Column("sweep", "sweep"), Column("points", "points", "d"),
    Column("samples", "pictures", "d"), Column("processes", "processes", "d"), Column("seconds", "seconds", "3"),
    Column("per_minute", "points per minute", "3"), Column("outside", "outside kernels, %", ".1f"),
    Column("reuse", "gain from shared steps", "3"), Column("scaling", "against one process", "3"), Column("goal", "goal"),
)  # fmt: skip
CHILD = """
import json, pickle, sys, time
import numpy as np
import fixqnn as fq

if __name__ == "__main__":
    graph, x, labels, samples, axes, machine = pickle.load(open(sys.argv[1], "rb"))
    rows = fq.sweep(graph, samples, (x, labels), fq.grid(**axes), machine, sys.argv[2], jobs=int(sys.argv[3]))
    print(json.dumps({"points": len(rows.ok)}))
"""


@dataclass(frozen=True)
class Work:
    """A network with its data, and the name of its last layer."""

    name: str
    graph: fq.Graph
    samples: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    last: str

    def axes(self, sweep: str, size: int) -> dict[str, Any]:
        """Axes of a sweep with size² points."""
        if sweep == GRID:
            return {"weights": range(2, 2 + size), "activations": range(2, 2 + size)}
        return {"overrides": {self.last: {"weights": range(2, 2 + size)}}, "accumulator_bits": range(20, 20 + size)}


def digits(samples: int) -> Work:
    """The demo's network, trained for a moment, on all digits there are, as often as it takes."""
    import torch

    from fixqnn.demo import load_digits, train

    parts = load_digits(images=None if samples >= 1000 else samples)
    graph = fq.from_torch(train(parts, epochs=1), torch.zeros(2, 1, 8, 8))
    x = np.concatenate([parts.test_images, parts.train_images])
    labels = np.concatenate([parts.test_labels, parts.train_labels])
    return Work("digits", graph, parts.train_images[:512], _tiled(x, samples), _tiled(labels, samples), "classifier")


def resnet8(samples: int) -> Work:
    """ResNet-8 with made-up weights on noise; labels are what the float network says, as far as it matters here."""
    from benchmarks.networks import NETWORKS

    module = NETWORKS["resnet8"]()
    graph = fq.from_torch(module.build(), module.example())
    x = module.example(batch=samples, seed=1)[0].numpy()
    labels = np.random.default_rng(0).integers(0, 10, samples)
    return Work("resnet8", graph, x[:64], x, labels, "fc")


def _tiled(array: np.ndarray, samples: int) -> np.ndarray:
    return np.concatenate([array] * -(-samples // len(array)))[:samples]


WORKS = {"digits": digits, "resnet8": resnet8}


def run(work: Work, sweep: str, size: int, jobs: int = 1, memory: int = MEMORY) -> float:
    """Seconds of one sweep, calibration and float network included."""
    points = fq.grid(**work.axes(sweep, size))
    started = time.perf_counter()
    rows = fq.sweep(work.graph, work.samples, (work.x, work.labels), points, MACHINE, jobs=jobs, memory=memory)
    seconds = time.perf_counter() - started
    if len(rows.ok) != size * size:
        raise RuntimeError(f"{work.name}: {rows}")
    return seconds


@contextmanager
def kernels_timed() -> Iterator[list[float]]:
    """Count processor time inside the operations."""
    spent, compute = [0.0], prefix.compute_step

    def timed(*arguments: Any) -> Any:
        started = time.process_time()
        try:
            return compute(*arguments)
        finally:
            spent[0] += time.process_time() - started

    prefix.compute_step = timed
    try:
        yield spent
    finally:
        prefix.compute_step = compute


def outside(work: Work, sweep: str, size: int) -> float:
    """Percent of processor time outside the kernels, beyond what is done once for all points."""
    bench = Bench(work.graph, work.samples, (work.x, work.labels))
    points = fq.grid(**work.axes(sweep, size))
    _ = bench.reference
    with kernels_timed() as spent:
        started = time.process_time()
        for point in points:
            bench.row(point, MACHINE)
        total = time.process_time() - started
    return 100 * (1 - spent[0] / total)


def measure(work: Work, size: int, rounds: int) -> list[Row]:
    """One row per sweep, then two processes, then a whole process of its own."""
    rows = []
    base = {"network": work.name, "points": size * size, "samples": len(work.x)}
    for sweep in (GRID, LAST):
        run(work, sweep, 2)  # kernels are compiled or loaded
        found: dict[str, list[float]] = {"kept": [], "alone": []}
        for _ in range(rounds):
            found["kept"].append(run(work, sweep, size))
            found["alone"].append(run(work, sweep, size, memory=0))
        kept, alone = (statistics.median(found[name]) for name in ("kept", "alone"))
        share = outside(work, sweep, size) if sweep == GRID else None
        goal = "≤ 15 % outside" if sweep == GRID else ""
        rows.append({**base, "sweep": sweep, "processes": 1, "seconds": kept, "per_minute": size * size / kept * 60,
                     "outside": share, "reuse": alone / kept, "goal": goal})  # fmt: skip
    get_reusable_executor().shutdown()  # workers of a smaller network would seem to leak memory, and be stopped
    run(work, GRID, 2, jobs=2)  # starts the workers
    pairs = [(run(work, GRID, size), run(work, GRID, size, jobs=2)) for _ in range(rounds)]
    one, two = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    rows.append({**base, "sweep": GRID, "processes": 2, "seconds": two, "per_minute": size * size / two * 60,
                 "scaling": one / two, "goal": "≥ 1.8 times"})  # fmt: skip
    return [*rows, whole(work, size, 1 if work.name == "digits" else 2, base)]


def whole(work: Work, size: int, jobs: int, base: Row) -> Row:
    """A fresh process that reads network and data, sweeps, and writes a store."""
    row = {**base, "sweep": f"{GRID}, whole process", "processes": jobs, "goal": GOALS[work.name]}
    with TemporaryDirectory() as folder:
        everything = (work.graph, work.x, work.labels, work.samples, work.axes(GRID, size), MACHINE)
        (Path(folder) / "work.pickle").write_bytes(pickle.dumps(everything))
        script = Path(folder) / "sweep.py"
        script.write_text(CHILD)
        started = time.perf_counter()
        found = last_line(child([str(script), f"{folder}/work.pickle", f"{folder}/rows.sqlite", str(jobs)]))
        seconds = time.perf_counter() - started
    if "error" in found:
        return {**row, "error": found["error"]}
    return {**row, "seconds": seconds, "per_minute": size * size / seconds * 60}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--rounds", type=int, default=2, help="sweeps of each kind; medians are shown")
    parser.add_argument("--quick", action="store_true", help="four points of the digits network, to see that it runs")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{NAME}.json")
    options = parser.parse_args(arguments)
    size, samples = (2, 40) if options.quick else (10, 1000)
    networks, rounds = (["digits"], 1) if options.quick else (options.networks, options.rounds)
    rows: list[Row] = []
    for network in networks:
        print(f"measuring {network} …", file=sys.stderr)
        rows += measure(WORKS[network](samples), size, rounds)
    report(NAME, COLUMNS, rows, options.output, environment(1), options.markdown)


if __name__ == "__main__":
    main()
