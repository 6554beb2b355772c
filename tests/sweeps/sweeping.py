"""A small sweep for tests to stop and to share out; as a program (``sweeping.py store seconds``) it prints a line per row."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fixqnn as fq

TIMING = ("seconds", "created")


def network(width: int = 12) -> fq.Graph:
    """Two layers with a relu between them."""
    random = np.random.default_rng(3)
    nodes = (
        fq.Node("fc1", fq.OPS["linear"], ("x", "w1", "b1")),
        fq.Node("relu", fq.OPS["clamp"], ("fc1",), attributes={"low": 0.0}),
        fq.Node("fc2", fq.OPS["linear"], ("relu", "w2", "b2")),
    )
    constants = {
        "w1": random.normal(0, 0.5, (width, 8)), "b1": random.normal(0, 0.2, width),
        "w2": random.normal(0, 0.5, (4, width)), "b2": random.normal(0, 0.2, 4),
    }  # fmt: skip
    return fq.Graph((fq.Value("x", (None, 8)),), ("fc2",), nodes, constants)


def data(samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, and labels that the float network mostly gets right."""
    random = np.random.default_rng(4)
    x = random.normal(size=(samples, 8))
    labels = network().evaluate(x)["fc2"].argmax(1)
    wrong = random.random(samples) < 0.2
    return x, np.where(wrong, random.integers(0, 4, samples), labels)


POINTS = fq.grid(weights=(2, 4, 6), activations=(3, 6), accumulator_bits=(7, 10, 16))
MACHINES = ("systolic(partial=9)", "ideal")


def small_sweep(store: Path | str | None = None, **more: Any) -> fq.Rows:
    """36 rows, some of them impossible."""
    x, labels = data()
    return fq.sweep(network(), x, (x, labels), POINTS, MACHINES, store, **more)


def computed(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows without what a clock says."""
    return [{name: value for name, value in row.items() if name not in TIMING} for row in rows]


def slowly(seconds: float) -> Callable[[int, int], None]:
    """Make a progress that says how far it is, and waits."""

    def progress(done: int, everything: int) -> None:
        print(done, everything, flush=True)
        time.sleep(seconds)

    return progress


if __name__ == "__main__":
    small_sweep(sys.argv[1], progress=slowly(float(sys.argv[2])))
