"""Replay what another tool computed: one operation or a network, on both engines, code by code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fixqnn as fq

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> tuple[Any, dict[str, dict[str, np.ndarray]]]:
    """The cases of a file, as its meta lists them, and the arrays of every case."""
    with np.load(VECTORS / name) as file:
        meta = json.loads(str(file["meta"]))
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key in file.files:
            case, _, array = key.partition("/")
            arrays.setdefault(case, {})[array] = file[key]
    return meta, arrays


def single(
    operation: str,
    inputs: Mapping[str, fq.Tensor],
    constants: Mapping[str, fq.Tensor],
    output: fq.Format,
    clamp: Mapping[str, float] | None = None,
    /,
    **attributes: Any,
) -> fq.Graph:
    """A graph of one operation, and a clamp of its codes after it."""
    values = tuple(fq.Value(name, (None, *x.shape[1:]), x.format) for name, x in inputs.items())
    nodes = [fq.Node("op", fq.OPS[operation], (*inputs, *constants), attributes=attributes)]
    formats = {"op": output}
    if clamp:
        nodes.append(fq.Node("act", fq.OPS["clamp"], ("op",), attributes=clamp))
        formats["act"] = output
    return fq.Graph(values, (nodes[-1].name,), tuple(nodes), constants, formats)


def same_codes(found: np.ndarray, want: np.ndarray, what: str) -> None:
    """Fail with the first difference."""
    assert found.shape == want.shape, f"{what}: shape {found.shape}, not {want.shape}"
    differ = np.argwhere(np.asarray(found, np.int64) != np.asarray(want, np.int64))
    if len(differ):
        at = tuple(int(i) for i in differ[0])
        raise AssertionError(
            f"{what}: {len(differ)} of {want.size} codes differ, first at {at}: {found[at]}, not {want[at]}"
        )


def replay(
    machine: fq.Accelerator,
    graph: fq.Graph,
    inputs: Mapping[str, fq.Tensor],
    want: np.ndarray,
    what: str,
    exact: bool = True,
) -> int:
    """Hold both engines to a foreign answer, and to each other's events; gives the number of codes compared."""
    program = fq.lower(graph, machine)
    fast = fq.run(program, dict(inputs))
    same_codes(fast.output.codes, want, f"{what}, fast engine")
    if exact:
        slow = fq.run(program, dict(inputs), engine="exact")
        same_codes(slow.output.codes, want, f"{what}, exact engine")
        assert slow.events == fast.events, f"{what}: the engines count different events"
    return int(want.size)


def per_channel(bits: int, scales: np.ndarray) -> fq.Format:
    """Signed weights with the scales that a tool used: one for all, or one per output channel."""
    exact = [float(s) for s in scales]
    return fq.affine(bits, exact[0]) if len(exact) == 1 else fq.affine(bits, exact, axis=0)


def bias_format(x: fq.Format, w: fq.Format) -> fq.Format:
    """Codes of 32 bits on the products' step."""
    steps = [x.scale * s for s in w.scales]
    return fq.affine(32, steps, axis=0) if w.per_channel else fq.affine(32, steps[0])


def channels_first(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) → (N, C, H, W)."""
    return np.moveaxis(x, -1, 1)


def same_padding(
    size: tuple[int, ...], out: tuple[int, ...], kernel: Any, stride: Any, dilation: Any = (1, 1)
) -> tuple:
    """What TensorFlow calls SAME, per axis: (before, after)."""
    pairs = []
    for n, o, k, s, d in zip(size, out, kernel, stride, dilation, strict=True):
        total = max((o - 1) * s + (k - 1) * d + 1 - n, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)
