"""What `tests/test_emulation.py` runs in fresh processes: a little of everything, and one hash of its codes and events.

python -m tests.emulated folder_of_programs
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import fixqnn as fq
from fixqnn.datapath import Register, Stage, SumOfProducts
from fixqnn.errors import FixqnnError
from fixqnn.events import Run
from fixqnn.kernels.plan import PATHS
from fixqnn.kernels.portable import KERNELS

DRAWS = 24
REGISTERS = (
    Register(32, "wrap"), Register(12), Register(14), Register(16), Register(20), Register(18, "saturate_symmetric"),
    Register(13, "wrap"), Register(16, rounding="half_even", drop=2), Register(20, rounding="floor", drop=3),
)  # fmt: skip
PRODUCTS = (None, None, None, Register(20, rounding="half_up", drop=2), Register(20, rounding="half_away", drop=1))


def layer(draw: int) -> tuple[fq.Graph, fq.Accelerator, np.ndarray]:
    """One layer on a random datapath, and its input: kinds and registers in turn, sizes and codes at random."""
    rng = np.random.default_rng(draw)
    kind = ("linear", "conv", "depthwise")[draw % 3]
    inner, product = REGISTERS[draw % len(REGISTERS)], PRODUCTS[draw % len(PRODUCTS)]
    stages = (Stage(inner, size=int(rng.choice([4, 9]))), Stage(Register(24))) if draw % 4 == 3 else (Stage(inner),)
    x_bits, w_bits = int(rng.choice([4, 8, 12])) if inner.bits > 14 else 4, int(rng.choice([4, 8]))
    channels, outputs = int(rng.choice([3, 19])), int(rng.choice([5, 33]))
    if kind == "linear":
        op, x_shape, w_shape, attributes = "linear", (7, channels * 9), (outputs, channels * 9), {}
    else:
        groups = channels if kind == "depthwise" else 1
        op, x_shape = "conv", (2, channels, 5, 4)
        w_shape = (channels if groups > 1 else outputs, channels // groups, 3, 3)
        padding = ((1, 1), (1, 1))
        attributes = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": groups}
    largest = (1 << (x_bits - 1)) - 1
    spread = largest * float(rng.choice([0.5, 0.05]))
    x = np.clip(np.rint(rng.normal(0, spread, x_shape)), -largest - 1, largest).astype(np.int64)
    w = rng.integers(-(1 << (w_bits - 1)), 1 << (w_bits - 1), w_shape)
    point = -sum(r.drop or 0 for r in (inner, product) if r)
    formats = {"y": fq.fixed(stages[-1].register.bits, point)}
    nodes = (fq.Node("y", fq.OPS[op], ("x", "w"), attributes=attributes),)
    inputs = (fq.Value("x", (None, *x_shape[1:]), fq.fixed(x_bits, 0)),)
    graph = fq.Graph(inputs, ("y",), nodes, {"w": fq.Tensor(w, fq.fixed(w_bits, 0))}, formats)
    return graph, fq.Accelerator("one datapath", {op: SumOfProducts(None, product, stages)}), x


def main(folder: Path) -> None:
    """Run programs, then layers along every path that is proved, and print a hash of codes and events."""
    found, taken = hashlib.sha256(), dict.fromkeys(PATHS, 0)
    for path in sorted(folder.glob("*.npz")):
        trace = fq.run(fq.Program.load(path), np.load(folder / f"{path.stem}.npy"))
        found.update(repr((path.stem, trace.output.codes.tolist(), trace.events)).encode())
    for draw in range(DRAWS):
        graph, machine, x = layer(draw)
        want = said(graph, machine, x, "wide")
        found.update(str(want).encode())
        for path in PATHS:
            got = said(graph, machine, x, path)
            taken[path] += got is not None
            if got not in (None, want):
                sys.exit(f"draw {draw}: {path} differs from wide")
    print(json.dumps({"hash": found.hexdigest(), "kernels": KERNELS, "taken": taken}))


def said(graph: fq.Graph, machine: fq.Accelerator, x: np.ndarray, path: str) -> str | None:
    """Codes and events along a path; None where it is not proved."""
    try:
        step, run = fq.lower(graph, machine, paths=path).steps[0], Run()
    except FixqnnError:
        return None
    codes = step.op.fast(step, run, x.astype(step.in_format(0).code_dtype), step.constants["w"])
    return repr((codes.tolist(), run.events))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
