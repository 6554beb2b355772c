"""Compile kernels before they are needed, so that the first run of every later process only loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from fixqnn import datapath as d
from fixqnn import scaler as s
from fixqnn.accelerator import Accelerator
from fixqnn.arith.fast import KERNELS
from fixqnn.errors import BadInput, FixqnnError, RegisterOverflow
from fixqnn.format import Format, fixed, symmetric
from fixqnn.graph import Graph, Node, Value
from fixqnn.kernels.plan import PATHS
from fixqnn.ops import OPS
from fixqnn.program import Program, lower
from fixqnn.simulate import run
from fixqnn.tensor import Tensor

SAMPLES = 2
Case = tuple[Graph, Any, str | None]


@dataclass(frozen=True)
class Warmed:
    """What a warm-up did.

    Attributes
    ----------
    compiled, loaded : int
        Kernels, by signature, that were compiled now, and that were found on disk.
    seconds : float
        How long it took.
    folders : tuple of str
        Where compiled kernels are kept; empty where no folder can be written: then every process compiles for itself.
    """

    compiled: int
    loaded: int
    seconds: float
    folders: tuple[str, ...]


def warmup(program: Program | None = None, progress: Callable[[int, int], None] | None = None) -> Warmed:
    """Compile what a program needs, or all common kernels, and keep it on disk.

    Runs small random batches through every step, so nothing that a later run gives can depend on it. Which kernels a step
    takes may depend on the data; a rare one may still be compiled later.

    Parameters
    ----------
    program : Program, optional
        Whose kernels to compile; by default every kernel path, scaler and operation, in the usual widths.
    progress : callable, optional
        ``progress(done, all)`` in steps of the work.

    Raises
    ------
    TooWide
        For a program that the fast engine cannot be trusted with.
    """
    if not isinstance(program, Program | None):
        raise BadInput(f"warmup takes a Program, not {type(program).__name__}; lower(graph, accelerator) makes one")
    start, before = perf_counter(), _counts()
    cases = list(_cases()) if program is None else [program]
    for done, case in enumerate(cases):
        if isinstance(case, Program):
            _exercise(case)
        else:
            with suppress(FixqnnError):  # not every path is proved for every datapath, nor does each take every format
                _exercise(_lowered(case))
        if progress is not None:
            progress(done + 1, len(cases))
    compiled, loaded = (now - then for now, then in zip(_counts(), before, strict=True))
    caches = {k._cache.cache_path for k in KERNELS}
    return Warmed(compiled, loaded, perf_counter() - start, tuple(sorted(c for c in caches if c)))


def _counts() -> tuple[int, int]:
    return (
        sum(sum(kernel.stats.cache_misses.values()) for kernel in KERNELS),
        sum(sum(kernel.stats.cache_hits.values()) for kernel in KERNELS),
    )


def _exercise(program: Program) -> None:
    """Run codes that overflow registers and codes that do not: witnesses and fallbacks have kernels of their own."""
    random = np.random.default_rng(0)
    for part in (1, 16):
        codes = {}
        for v in program.inputs:
            low, high, shape = v.format.low // part, v.format.high // part, (SAMPLES, *v.shape[1:])
            codes[v.name] = random.integers(low, high, shape, endpoint=True).astype(v.format.narrow_dtype)
        for inputs in (codes, {name: c * 0.7 for name, c in codes.items()}):
            with suppress(RegisterOverflow):  # raised after the kernel that counts
                run(program, inputs)


def _lowered(case: Case) -> Program:
    graph, datapath, path = case
    return lower(graph, Accelerator("warmup", {graph.nodes[0].op.name: datapath} if datapath else {}), path)


FORMATS = (fixed(8, 4), fixed(8, 4, signed=False), fixed(16, 8))
OTHER = symmetric(8, 7)  # a step that no shift leads to
SCALERS = (
    s.Exact(), s.Shift(), s.Multiplier(32), s.Multiplier(16), s.TwoStepMultiplier(), s.Float(), s.Float("float64"),
    s.Divide(), s.Shift("stochastic"),
)  # fmt: skip
REGISTERS = (
    d.SumOfProducts(s.Shift()),
    d.SumOfProducts(s.Shift(), sum=(d.Stage(d.Register(16)),)),
    d.SumOfProducts(s.Shift(), sum=(d.Stage(d.Register(14)),)),
    d.SumOfProducts(s.Shift(), sum=(d.Stage(d.Register(24)),)),
    d.SumOfProducts(s.Shift(), sum=(d.Stage(d.Register(14), size=8), d.Stage(d.Register(32)))),
    d.SumOfProducts(s.Shift(), d.Register(14, drop=4), (d.Stage(d.Register(14)),)),
    d.SumOfProducts(s.Shift(), d.Register(24, drop=4, rounding="half_up"), (d.Stage(d.Register(24)),)),
    d.SumOfProducts(s.Shift(), sum=(d.Stage(d.Register(16), size=8), d.Stage(d.Register(32)))),
    d.SumOfProducts(s.Shift(), d.Register(16, drop=4), (d.Stage(d.Register(16)),)),
    d.SumOfProducts(s.Shift(), d.Register(16, drop=4, rounding="half_even"), (d.Stage(d.Register(24, "wrap")),)),
    d.SumOfProducts(s.Shift(), d.Register(16, drop=4, rounding="stochastic"), (d.Stage(d.Register(24)),)),
)


def _cases() -> Iterator[Case]:
    for form, bits in ((f, b) for f in FORMATS for b in (4, f.bits)):
        weights = Format(bits, scale=fixed(8, 6).scale)
        for graph in (_linear(form, weights), _conv(form, weights, 1), _conv(form, weights, IMAGE[1])):
            for datapath in REGISTERS:
                yield from ((graph, datapath, path) for path in (None, *PATHS))
    for form in FORMATS:
        weights = replace(fixed(8, 6), bits=form.bits)
        for scaler in SCALERS:
            whole = replace(REGISTERS[0], scaler=scaler)
            for out in (form, OTHER):
                yield from ((_linear(form, weights, out), whole, path) for path in (None, *PATHS))
            yield _one("requantize", form, OTHER), scaler, None
        for datapath in (REGISTERS[0], REGISTERS[1], replace(REGISTERS[0], scaler=s.Divide())):
            yield from ((_one(name, form, form, **attributes), datapath, None) for name, attributes in AVERAGES)
            yield _pair("matmul", form, (4, 4)), datapath, None
        for name, datapath in ((n, p) for n in ("add", "subtract") for p in PAIRS):
            yield from ((_pair(name, form, second=second), datapath, None) for second in (form, OTHER))
        yield _pair("multiply", form), d.Elementwise(s.Shift("half_even")), None
        yield _one("lookup", form, form, function="sigmoid"), d.Lookup(), None
        yield _one("clamp", form, form, low=0.0), None, None
        yield _one("max_pool", form, form, **WINDOW, dilation=(1, 1)), None, None


PAIRS = (
    d.Elementwise(s.Exact(), common="finest"), d.Elementwise(s.Multiplier(), common="output"),
    d.Elementwise(s.Float(), common="real"), d.Elementwise(s.Shift(), common="finest", register=d.Register(16)),
)  # fmt: skip
WINDOW = {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
AVERAGES = (
    ("average_pool", WINDOW), ("adaptive_average_pool", {"output": (1, 1)}), ("mean", {"axes": (2, 3), "keepdims": False}),
)  # fmt: skip
IMAGE = (None, 4, 4, 4)  # windows of 4 and 16: averages that a shift can take


def _one(name: str, form: Format, out: Format, **attributes: Any) -> Graph:
    return Graph(
        (Value("x", IMAGE, form),), ("y",), (Node("y", OPS[name], ("x",), attributes=attributes),), {}, {"y": out}
    )


def _pair(name: str, form: Format, shape: tuple[int, ...] = IMAGE[1:], second: Format | None = None) -> Graph:
    values = Value("a", (None, *shape), form), Value("b", (None, *shape), second or form)
    return Graph(values, ("y",), (Node("y", OPS[name], ("a", "b")),), {}, {"y": form})


def _linear(form: Format, weights: Format, out: Format | None = None) -> Graph:
    return _weighted("linear", (None, 20), (24, 20), form, weights, out)


def _conv(form: Format, weights: Format, groups: int) -> Graph:
    window = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": groups}
    return _weighted("conv", IMAGE, (2 * IMAGE[1], IMAGE[1] // groups, 3, 3), form, weights, form, **window)


def _weighted(
    name: str, shape: tuple[int | None, ...], size: tuple[int, ...], form: Format, weights: Format, out: Format | None,
    **attributes: Any,
) -> Graph:  # fmt: skip
    random = np.random.default_rng(0)
    w = Tensor(random.integers(weights.low, weights.high, size, endpoint=True), weights)
    b = Tensor(random.integers(-5, 5, size[0]), fixed(32, 4))
    node = Node("y", OPS[name], ("x", "w", "b"), attributes=attributes)
    return Graph((Value("x", shape, form),), ("y",), (node,), {"w": w, "b": b}, {"y": out or form})
