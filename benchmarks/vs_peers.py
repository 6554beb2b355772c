"""Measure the same work in other tools, one thread each, and say where they are faster.

Run from the repository root::

    pip install "fixqnn[bench]" && python benchmarks/vs_peers.py

Every peer's codes are compared with ours first; a peer that computes something else is named and not compared. Slow peers
are given the first rows of a work, and times are per multiplication.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("APYTYPES_THREAD_COUNT", "1")  # read when apytypes is imported
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import fixqnn as fq  # noqa: E402
import hw_models as hw  # noqa: E402
from benchmarks.measure import RESULTS, Case, Column, Row, environment, interleaved, report  # noqa: E402
from benchmarks.peers import PEERS, MatrixWork, NetworkWork, Peer  # noqa: E402

NAME = "vs_peers"
STEPWISE = ("lanes16", "lanes32", "wide")  # forced in this order, to time the work itself and no proof that spares it
GOALS = {
    ("network", "onnxruntime"): (0.4, 1.0),
    ("saturate", "apytypes"): (500, 2000),
    ("rounded", "apytypes"): (500, 2000),
}
COLUMNS = (
    Column("work", "work"), Column("peer", "peer"), Column("version", "version"), Column("equal", "same codes"),
    Column("nanoseconds", "ns each", "3"), Column("ours_nanoseconds", "fixqnn, ns each", "3"), Column("path", "by"),
    Column("ratio", "peer / fixqnn", "3"), Column("stepwise_ratio", "peer / step by step", "3"),
    Column("floor", "floor", "g"), Column("aim", "aim", "g"), Column("reached", "reached"), Column("faster", "faster"),
)  # fmt: skip


@dataclass
class Ours:
    """Our side of a work: what is timed, its codes, and the kernel paths."""

    case: Case
    codes: np.ndarray
    path: str


def matrix_works(quick: bool) -> list[MatrixWork]:
    """Make the products: exact, saturating without and with overflow, and with rounded products."""
    rows, terms, outputs = (4, 24, 4) if quick else (784, 1152, 256)
    rng = np.random.default_rng(0)

    def uniform(shape: tuple[int, int]) -> np.ndarray:
        return rng.integers(-128, 128, shape)

    def quiet(shape: tuple[int, int]) -> np.ndarray:  # sums stay far inside 20 bits
        return np.clip(np.rint(rng.normal(0, 30, shape)), -128, 127).astype(np.int64)

    loud = (uniform((rows, terms)), uniform((terms, outputs)))
    calm = (quiet((rows, terms)), quiet((terms, outputs)))
    return [
        MatrixWork("exact 8×8", "exact", *loud),
        MatrixWork("saturate 20, nothing overflows", "saturate", *calm, bits=20),
        MatrixWork("saturate 16, much overflows", "saturate", *loud, bits=16),
        MatrixWork("half-up product, saturate 20", "rounded", *calm, bits=20, drop=3),
    ]


def our_matrix(work: MatrixWork, path: str | None = None) -> Ours:
    """Lower the product onto one register, and run it as a user would."""
    registers = {"exact": fq.Register(62, "forbid")}
    product = fq.Register(16, rounding="half_up", drop=work.drop) if work.kind == "rounded" else None
    register = registers.get(work.kind, fq.Register(work.bits))
    datapath = fq.SumOfProducts(None, product, (fq.Stage(register),))
    code = fq.fixed(8, 0)
    graph = fq.Graph(
        (fq.Value("x", (None, work.terms), code),), ("y",), (fq.Node("y", fq.OPS["linear"], ("x", "w")),),
        {"w": fq.Tensor(work.w.T, code)}, {"y": fq.fixed(work.bits, -work.drop)},
    )  # fmt: skip
    program = fq.lower(graph, fq.Accelerator("one register", {"linear": datapath}), paths=path)
    x = fq.Tensor(work.x, code)
    return Ours(lambda: fq.run(program, x), fq.run(program, x).output.codes, program.steps[0].path)


def forced_stepwise(work: Any) -> Ours | None:
    """The same along the cheapest path that does every addition."""
    for path in STEPWISE:
        try:
            return our_matrix(work, path)
        except fq.FixqnnError:
            continue
    return None


def network_works(quick: bool) -> list[NetworkWork]:
    """Make ResNet-18 up to its last convolution, with unsigned values, as onnxruntime's int8 kernels want them.

    Scales are powers of two: then float32 loses nothing in rescaling, and the codes are a matter of the integers alone.
    """
    from benchmarks.networks import NETWORKS

    module = NETWORKS["resnet8" if quick else "resnet18"]()
    example = module.example(batch=2)
    policy = fq.Policy(weights=8, activations=8, style="affine", signed=False)
    graph = fq.quantize(fq.from_torch(module.build(), example), example[0].numpy(), policy)
    graph = until_pooling(graph)
    works = []
    for batch in (1,) if quick else (1, 8):
        codes = graph.formats[graph.inputs[0].name].encode(module.example(batch=batch)[0].numpy())
        name = f"{'ResNet-8' if quick else 'ResNet-18'} to its last convolution, batch {batch}"
        works.append(NetworkWork(name, graph, codes, multiplications=batch * multiplications(graph)))
    return works


def until_pooling(graph: fq.Graph) -> fq.Graph:
    """Cut a graph where global pooling begins: from there on operators are not comparable, and take no time."""
    kinds = [node.op.name for node in graph.nodes]
    end = next(i for i, kind in enumerate(kinds) if "average" in kind or kind == "mean")
    nodes = graph.nodes[:end]
    names = {name for node in nodes for name in (*node.inputs, node.output)}
    constants = {name: c for name, c in graph.constants.items() if name in names}
    formats = {name: f for name, f in graph.formats.items() if name in names}
    return fq.Graph(graph.inputs, (nodes[-1].output,), nodes, constants, formats)


def multiplications(graph: fq.Graph) -> int:
    """Multiplications of all convolutions, per picture."""
    total = 0
    for node in graph.nodes:
        if node.op.name == "conv":
            total += int(np.prod(graph.values[node.inputs[1]].shape)) * int(
                np.prod(graph.values[node.output].shape[2:])
            )
    return total


def our_network(work: NetworkWork) -> Ours:
    """Run the graph on the machine that states onnxruntime's arithmetic."""
    program = fq.lower(work.graph, hw.onnxruntime())
    x = fq.Tensor(work.codes, program.inputs[0].format)
    paths = dict.fromkeys(step.path for step in program.steps if step.path)
    return Ours(lambda: fq.run(program, x), fq.run(program, x).output.codes, ", ".join(paths))


def measure(work: Any, peers: Sequence[Peer], rounds: int) -> list[Row]:
    """Check equality, then time one work in all tools that can express it, interleaved."""
    row: Row = {"work": work.name}
    try:
        ours = our_network(work) if work.kind == "network" else our_matrix(work)
    except Exception as problem:  # a work that fails is a line of the table, and no reason to lose the others
        return [{**row, "error": f"fixqnn: {type(problem).__name__}: {str(problem).splitlines()[0]}"}]
    cases, sizes, rows = {"fixqnn": ours.case}, {"fixqnn": work.multiplications}, []
    forced = forced_stepwise(work) if work.kind in ("saturate", "rounded") else None
    if forced is not None:
        cases["stepwise"], sizes["stepwise"] = forced.case, work.multiplications
    for peer in peers:
        line = {**row, "peer": peer.name, "version": peer.available()}
        if not line["version"]:
            rows.append({**line, "version": "missing"})
            continue
        part = work if work.kind == "network" else work.part(peer.multiplications)
        try:
            case = peer.prepare(part)
            if case is None:
                continue
            found = peer.codes(case())
        except Exception as problem:  # as above
            rows.append({**line, "error": f"{type(problem).__name__}: {str(problem).splitlines()[0]}"})
            continue
        wanted = ours.codes[tuple(slice(n) for n in found.shape)]
        line["equal"] = "yes" if np.array_equal(found, wanted) else f"no, {np.mean(found != wanted):.1%} differ"
        rows.append(line)
        if line["equal"] == "yes":
            cases[peer.name], sizes[peer.name] = case, part.multiplications
    seconds = interleaved(cases, rounds)
    each = {name: s / sizes[name] * 1e9 for name, s in seconds.items()}
    for line in rows:
        if line["peer"] in each:
            _compare(line, work.kind, each, ours.path)
    return rows


def _compare(line: Row, kind: str, each: dict[str, float], path: str) -> None:
    theirs = each[line["peer"]]
    line.update(nanoseconds=theirs, ours_nanoseconds=each["fixqnn"], path=path, ratio=theirs / each["fixqnn"])
    line["faster"] = "fixqnn" if line["ratio"] > 1 else "peer"
    if "stepwise" in each:
        line["stepwise_ratio"] = theirs / each["stepwise"]
    if (kind, line["peer"]) in GOALS:
        floor, aim = GOALS[kind, line["peer"]]
        got = line.get("stepwise_ratio", line["ratio"])
        line.update(floor=floor, aim=aim, reached="aim" if got >= aim else "floor" if got >= floor else "below")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print the table and write the JSON file."""
    import torch

    parser = argparse.ArgumentParser(description="The same work in other tools, one thread each.")
    parser.add_argument(
        "--peers", nargs="+", default=[p.name for p in PEERS], choices=[p.name for p in PEERS], metavar="PEER"
    )
    parser.add_argument("--works", nargs="+", default=["matrix", "network"], choices=["matrix", "network"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes, to see that it runs; the figures mean nothing"
    )
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "vs_peers.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    peers = [peer for peer in PEERS if peer.name in options.peers]
    works: list[Any] = matrix_works(options.quick) if "matrix" in options.works else []
    works += network_works(options.quick) if "network" in options.works else []
    rows = []
    for work in works:
        print(f"measuring {work.name} …", file=sys.stderr)
        rows += measure(work, peers, 1 if options.quick else options.rounds)
    report(NAME, COLUMNS, rows, options.output, environment(1), options.markdown)


if __name__ == "__main__":
    main()
