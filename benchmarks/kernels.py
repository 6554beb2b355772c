"""Measure every kernel path against torch float32 on the same shape, one thread each.

Run from the repository root::

    python benchmarks/kernels.py

A case is one layer on one datapath, called as a run calls it: codes in, codes out. "sum" hands out the register as it is;
"+ rescale" goes on to 8-bit codes through a 32-bit multiplier. Ratios above 1 mean faster than torch float32, whose figure
is the better of two layouts. Data are random; where it matters whether registers act, both kinds are measured.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import fixqnn as fq  # noqa: E402
from benchmarks.measure import RESULTS, Case, Column, Row, child, environment, interleaved, report  # noqa: E402
from fixqnn.events import Run  # noqa: E402
from fixqnn.kernels.portable import PORTABLE  # noqa: E402

NAME = "kernels"
SIGMAS = 6.5  # a running sum of quiet data stays this many standard deviations inside its register
PARTS = ("sum", "+ rescale")


@dataclass(frozen=True)
class Shape:
    """One layer: a matrix product of (rows, terms) and (terms, outputs), or a convolution of square pictures."""

    name: str
    kind: str
    channels: int
    outputs: int
    rows: int = 0
    size: int = 0
    kernel: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def terms(self) -> int:
        """Products per output."""
        return self.channels // self.groups * self.kernel**2

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (self.rows, self.channels) if self.kind == "matrix" else (1, self.channels, self.size, self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        if self.kind == "matrix":
            return (self.outputs, self.channels)
        return (self.outputs, self.channels // self.groups, self.kernel, self.kernel)


def matrix(rows: int, terms: int, outputs: int) -> Shape:
    """Make a matrix product."""
    return Shape(f"{rows}×{terms}×{outputs}", "matrix", terms, outputs, rows)


def conv(channels: int, outputs: int, size: int, kernel: int = 3, stride: int = 1) -> Shape:
    """Make a convolution of one picture."""
    name = f"conv {kernel}×{kernel}/{stride} {channels}→{outputs} at {size}"
    return Shape(name, "conv", channels, outputs, 0, size, kernel, stride)


def depthwise(channels: int, size: int, stride: int = 1) -> Shape:
    """Make a 3×3 convolution of every channel by itself."""
    name = f"depthwise 3×3/{stride} {channels} at {size}"
    return Shape(name, "depthwise", channels, channels, 0, size, 3, stride, channels)


MATRICES = (matrix(784, 1152, 256), matrix(1024, 1024, 1024), matrix(3136, 576, 64), matrix(196, 2304, 256))
CONVS = (  # the different layers of ResNet-18
    conv(3, 64, 224, 7, 2), conv(64, 64, 56), conv(64, 128, 56, 3, 2), conv(64, 128, 56, 1, 2), conv(128, 128, 28),
    conv(256, 256, 14), conv(512, 512, 7),
)  # fmt: skip
DEPTHWISE = (depthwise(96, 112, 2), depthwise(144, 56), depthwise(384, 14))
SHAPES = (*MATRICES, *CONVS, *DEPTHWISE)
QUICK = (matrix(24, 70, 20), conv(4, 8, 9), depthwise(8, 7))


@dataclass(frozen=True)
class Work:
    """What is computed, by which path, and how fast it is meant to be.

    `paths`: those to force, the first that is proved; none: what lowering finds. `quiet`: data so small that no register
    acts, though their formats would let it; else codes are uniform over their formats.
    """

    name: str
    datapath: fq.SumOfProducts
    floor: float | None = None
    aim: float | None = None
    paths: tuple[str, ...] = ()
    x_bits: int = 8
    w_bits: int = 8
    quiet: bool = False
    portable: bool = False


def saturating(bits: int, overflow: str = "saturate", product: fq.Register | None = None) -> fq.SumOfProducts:
    """Make a datapath of one register, and perhaps one for products."""
    return fq.SumOfProducts(None, product, (fq.Stage(fq.Register(bits, overflow)),))


WHOLE = saturating(62, "forbid")
HALF_UP = fq.Register(16, rounding="half_up", drop=3)
HALF_EVEN = fq.Register(20, rounding="half_even", drop=3)
TILES = fq.SumOfProducts(None, sum=(fq.Stage(fq.Register(16), size=16), fq.Stage(fq.Register(32))))
CERTIFIED = "certified, nothing overflows"

LANES = ("lanes16", "lanes32")
WORKS = (
    Work("exact 8×8", saturating(32, "wrap"), 4, 10),
    Work("exact 8×16", WHOLE, 3, 4, x_bits=16),
    Work("exact 16×16", WHOLE, 1.5, 2, x_bits=16, w_bits=16),
    Work("6×6, saturate 14, nothing overflows", saturating(14), 1.0, 1.2, LANES, x_bits=6, w_bits=6, quiet=True),
    Work("saturate 16, nothing overflows", saturating(16), 1.0, 1.2, LANES, quiet=True),
    Work("saturate 16, much overflows", saturating(16), None, None, LANES),
    Work("saturate 20, nothing overflows", saturating(20), 0.8, 1.0, LANES, quiet=True),
    Work("saturate 18, much overflows", saturating(18), None, None, LANES),
    Work("half-up product, saturate 20", saturating(20, product=HALF_UP), 0.6, 0.8, LANES, quiet=True),
    Work("half-even product, clamp 20", saturating(20, "saturate_symmetric", HALF_EVEN), 0.1, 0.25, LANES, quiet=True),
    Work(CERTIFIED, saturating(22), 3, 6, ("certified",)),
    Work("16 in tiles of 16, then 32", TILES, quiet=True),
    Work("any, by wide", saturating(20), None, None, ("wide",), quiet=True),
    Work("portable: saturate 16", saturating(16), 0.35, 0.5, LANES, quiet=True, portable=True),
    Work("portable: saturate 20", saturating(20), 0.12, 0.2, LANES, quiet=True, portable=True),
)
BY_NAME = {work.name: work for work in WORKS}

COLUMNS = (
    Column("work", "work"), Column("part", "part"), Column("path", "path"),
    *(Column(shape.name, shape.name, "2") for shape in MATRICES),
    Column("conv", "ResNet-18 layers", "2"), Column("depthwise", "depthwise", "2"),
    Column("floor", "floor", "g"), Column("aim", "aim", "g"), Column("reached", "reached"),
)  # fmt: skip


def codes(rng: np.random.Generator, bits: int, shape: Sequence[int], spread: float | None) -> np.ndarray:
    """Random codes over all `bits`, or normally distributed with a standard deviation, cut to the bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if spread is None:
        return rng.integers(low, high + 1, shape)
    return np.clip(np.rint(rng.normal(0, spread, shape)), low, high).astype(np.int64)


def fitted(work: Work, shape: Shape) -> tuple[Work, float | None]:
    """Give the work's register the width that this shape needs, and its data the spread."""
    inner = work.datapath.sum[0]
    if work.name == CERTIFIED:  # what sums of uniform codes reach, and as much as one more block of terms could add
        need = SIGMAS * math.sqrt(shape.terms) * 74**2 + 64 * 128 * 64
        register = replace(inner.register, bits=math.ceil(math.log2(need)) + 1)
        return replace(work, datapath=replace(work.datapath, sum=(fq.Stage(register),))), None
    if not work.quiet:
        return work, None
    drop = work.datapath.product.drop if work.datapath.product else 0
    terms = min(shape.terms, inner.size or shape.terms)
    deviation = (inner.register.high << drop) / (SIGMAS * math.sqrt(terms))  # of one product
    return work, max(0.6, min(30.0, math.sqrt(deviation)))


def program_of(work: Work, shape: Shape, w: np.ndarray, part: str) -> fq.Program:
    """Lower one layer onto a machine that has nothing but this datapath."""
    product = work.datapath.product
    point = -(product.drop if product else 0)
    x_format, w_format = fq.fixed(work.x_bits, 0), fq.fixed(work.w_bits, 0)
    datapath = work.datapath
    if part == "sum":
        out = fq.fixed(min(datapath.sum[-1].register.bits, 48), point)
    else:
        datapath = replace(datapath, scaler=fq.Multiplier(32, "half_even"))
        out = fq.affine(8, 1.1 * math.sqrt(shape.terms) * 2.0 ** (work.x_bits + work.w_bits - 10))
    attributes: dict[str, Any] = {}
    if shape.kind != "matrix":
        half = shape.kernel // 2
        attributes = {
            "stride": (shape.stride,) * 2,
            "padding": ((half, half),) * 2,
            "dilation": (1, 1),
            "groups": shape.groups,
        }
    op = "linear" if shape.kind == "matrix" else "conv"
    graph = fq.Graph(
        (fq.Value("x", (None, *shape.x_shape[1:]), x_format),), ("y",),
        (fq.Node("y", fq.OPS[op], ("x", "w"), attributes=attributes),), {"w": fq.Tensor(w, w_format)}, {"y": out},
    )  # fmt: skip
    machine = fq.Accelerator("one datapath", {op: datapath})
    for path in work.paths[:-1]:
        try:
            return fq.lower(graph, machine, paths=path)
        except fq.BadInput:  # not proved here
            continue
    return fq.lower(graph, machine, paths=work.paths[-1] if work.paths else None)


def channels_last(x: np.ndarray) -> np.ndarray:
    """Lay codes out as an earlier layer would: channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def our_case(work: Work, shape: Shape, part: str) -> tuple[Case, Row]:
    """Make one case, and what its row says besides the time."""
    work, spread = fitted(work, shape)
    rng = np.random.default_rng(0)
    x = channels_last(codes(rng, work.x_bits, shape.x_shape, spread))
    w = codes(rng, work.w_bits, shape.w_shape, spread)
    program = program_of(work, shape, w, part)
    step = program.steps[0]
    x = x.astype(program.inputs[0].format.narrow_dtype, order="K")
    operands = [x, *(step.constants[name] for name in step.inputs[1:])]
    first = Run()
    step.op.fast(step, first, *operands)
    events = sum(e.count for name, e in first.events.items() if name.startswith(("sum", "product")))
    return lambda: step.op.fast(step, Run(), *operands), {"path": step.path, "events": events}


def torch_cases(shape: Shape) -> dict[str, Case]:
    """Make the float32 baseline in two layouts."""
    import torch

    x, w = torch.randn(shape.x_shape), torch.randn(shape.w_shape)
    cases: dict[str, Case] = {}
    if shape.kind == "matrix":
        columns = w.T.contiguous()
        forms = {"rows": lambda: torch.nn.functional.linear(x, w), "columns": lambda: x @ columns}
    else:
        forms = {}
        for layout in (torch.contiguous_format, torch.channels_last):
            a, b = x.contiguous(memory_format=layout), w.contiguous(memory_format=layout)
            forms[str(layout)] = lambda a=a, b=b: torch.nn.functional.conv2d(
                a, b, None, shape.stride, shape.kernel // 2, groups=shape.groups
            )
    for name, form in forms.items():

        def case(form: Case = form) -> Any:
            with torch.inference_mode():
                return form()

        cases[f"torch {name}"] = case
    return cases


def measure(works: Sequence[Work], shape: Shape, rounds: int, parts: Sequence[str] = PARTS) -> list[Row]:
    """Time all works on one shape, interleaved with torch."""
    cases, rows = torch_cases(shape), []
    for work in works:
        for part in parts:
            row: Row = {"work": work.name, "part": part, "shape": shape.name, "kind": shape.kind}
            rows.append(row)
            try:
                cases[f"{work.name} {part}"], about = our_case(work, shape, part)
                row.update(about)
            except fq.FixqnnError as problem:
                row["error"] = str(problem).split("\n")[0]
            except Exception as problem:  # a kernel that fails is a line of the table, and no reason to lose the others
                row["error"] = f"{type(problem).__name__}: {problem}"
    seconds = interleaved(cases, rounds)
    best = min(s for name, s in seconds.items() if name.startswith("torch"))
    for row in rows:
        mine = seconds.get(f"{row['work']} {row['part']}")
        if mine is not None:
            row.update(seconds=mine, torch_seconds=best, ratio=best / mine)
    return rows


def summary(rows: Sequence[Row]) -> list[Row]:
    """One row per work and part: the ratio of every matrix product, medians of the other shapes, and the goal."""
    lines = []
    for name, part in dict.fromkeys((row["work"], row["part"]) for row in rows):
        mine = [row for row in rows if (row["work"], row["part"]) == (name, part)]
        measured = [row for row in mine if "ratio" in row]
        line: Row = {"work": name, "part": part, "path": ", ".join(dict.fromkeys(row["path"] for row in measured))}
        line.update({row["shape"]: row["ratio"] for row in measured if row["kind"] == "matrix"})
        for kind in ("conv", "depthwise"):
            ratios = [row["ratio"] for row in measured if row["kind"] == kind]
            line[kind] = median(ratios) if ratios else None
        work = BY_NAME[name]
        ratios = [row["ratio"] for row in measured if row["kind"] == "matrix"]
        if part == "sum" and work.floor is not None and work.aim is not None:
            line.update(floor=work.floor, aim=work.aim)
            if ratios:
                got = median(ratios)
                line["reached"] = "aim" if got >= work.aim else "floor" if got >= work.floor else "below"
        errors = [f"{row['error']} (first at {row['shape']})" for row in mine if "error" in row]
        if errors:
            line["error"] = errors[0]
        lines.append(line)
    return lines


def measure_portable(works: Sequence[Work], rounds: int, quick: bool) -> list[Row]:
    """Time works on matrix products in a child process that takes the plain-Numba kernels."""
    import json

    with TemporaryDirectory() as folder:
        output = Path(folder) / "portable.json"
        arguments = [__file__, "--works", *(w.name for w in works), "--rounds", str(rounds), "--output", str(output)]
        finished = child(
            [*arguments, "--portable-child", *(["--quick"] if quick else [])], {"FIXQNN_KERNELS": "portable"}
        )
        if output.exists():
            return list(json.loads(output.read_text())["measurements"])
    said = (finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"])[-1]
    return [{"work": w.name, "part": "sum", "shape": "", "kind": "matrix", "error": said} for w in works]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print the table and write the JSON file."""
    import json

    import torch

    parser = argparse.ArgumentParser(description="Time of every kernel path, as a ratio to torch float32, one thread.")
    parser.add_argument("--works", nargs="+", default=list(BY_NAME), choices=list(BY_NAME), metavar="WORK")
    parser.add_argument(
        "--shapes", choices=("matrix", "conv", "depthwise"), nargs="+", default=["matrix", "conv", "depthwise"]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes, to see that it runs; the figures mean nothing"
    )
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "kernels.json")
    parser.add_argument("--portable-child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    works = [BY_NAME[name] for name in options.works]
    shapes = [shape for shape in (QUICK if options.quick else SHAPES) if shape.kind in options.shapes]
    rounds = 1 if options.quick else options.rounds
    if options.portable_child:
        if not PORTABLE:  # the usual kernels must not be measured a second time, under a wrong name
            parser.error("this process does not run the portable kernels")
        shapes = [shape for shape in shapes if shape.kind == "matrix"]
        rows = [row for shape in shapes for row in measure(works, shape, rounds, PARTS[:1])]
        options.output.write_text(json.dumps({"measurements": rows}) + "\n")
        return
    rows = []
    for shape in shapes:
        print(f"measuring {shape.name} …", file=sys.stderr)
        chosen = [w for w in works if not w.portable and not (shape.kind == "depthwise" and w.name == CERTIFIED)]
        rows += measure(chosen, shape, rounds)
    portable = [w for w in works if w.portable]
    if portable:
        rows += measure_portable(portable, rounds, options.quick)
    report(NAME, columns_of(shapes), summary(rows), options.output, environment(1), options.markdown)
    document = json.loads(options.output.read_text())
    options.output.write_text(json.dumps({**document, "measurements": rows}, indent=1) + "\n")


def columns_of(shapes: Sequence[Shape]) -> list[Column]:
    """The table's columns for these shapes."""
    middle = [Column(shape.name, shape.name, "2") for shape in shapes if shape.kind == "matrix"]
    return [*COLUMNS[:3], *middle, *COLUMNS[3 + len(MATRICES) :]]


if __name__ == "__main__":
    main()
