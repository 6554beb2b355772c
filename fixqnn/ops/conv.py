"""Convolution and transposed convolution over one to three spatial axes, with groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.kernels.window import Window, window_of
from fixqnn.ops.op import Op, Step
from fixqnn.ops.sums import Layout, cached, prepare_sum, weight_scales

Shape = tuple[int | None, ...]
Pairs = Sequence[tuple[int, int]]


def shape(
    x: Shape, w: Shape, b: Shape | None = None, *,
    stride: Sequence[int], padding: Pairs, dilation: Sequence[int], groups: int = 1,
) -> Shape:  # fmt: skip
    """(N, C, *S), (O, C/groups, *K), (O,) → (N, O, *S′)."""
    rank = len(w) - 2
    right = 1 <= rank <= 3 and len(x) == rank + 2 and len(stride) == len(padding) == len(dilation) == rank
    if not right or x[1] != w[1] * groups or w[0] % groups or (b is not None and b != (w[0],)):
        raise BadInput(
            f"conv takes (N, C, *spatial), (O, C/groups, *kernel) and a bias (O,) with a stride, padding and dilation per "
            f"spatial axis; got x {x}, w {w}, b {b}, stride {stride}, padding {padding}, dilation {dilation}, groups {groups}"
        )
    out = [
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, k, s, (before, after), d in zip(x[2:], w[2:], stride, padding, dilation, strict=True)
    ]
    if min(out) < 1:
        raise BadInput(f"conv: a kernel {w[2:]} with dilation {tuple(dilation)} does not fit the padded input {x[2:]}")
    return (x[0], w[0], *out)


def real(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *,
    stride: Sequence[int], padding: Pairs, dilation: Sequence[int], groups: int = 1,
) -> np.ndarray:  # fmt: skip
    """Compute the layer in real numbers, one matrix product per group."""
    kernel = w.shape[2:]
    out = shape(x.shape, w.shape, stride=stride, padding=padding, dilation=dilation, groups=groups)[2:]
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    y = np.zeros((x.shape[0], groups, w.shape[0] // groups, int(np.prod(out))))
    weights = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1)
    for t, tap in enumerate(np.ndindex(*kernel)):
        window = x[(slice(None), slice(None), *_reach(tap, out, stride, dilation))]
        y += np.matmul(weights[None, :, :, :, t], window.reshape(x.shape[0], groups, w.shape[1], -1))
    y = y.reshape(x.shape[0], w.shape[0], *out)
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


def _reach(tap: Sequence[int], out: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[slice, ...]:
    """The inputs that one tap of the kernel meets, per spatial axis."""
    return tuple(
        slice(k * d, k * d + (n - 1) * s + 1, s) for k, n, s, d in zip(tap, out, stride, dilation, strict=True)
    )


def transposed_shape(
    x: Shape, w: Shape, b: Shape | None = None, *,
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int = 1,
) -> Shape:  # fmt: skip
    """(N, C, *S), (C, O/groups, *K), (O,) → (N, O, *S′), as torch has it."""
    rank = len(w) - 2
    lengths = {len(x) - 2, len(stride), len(padding), len(output_padding), len(dilation)}
    if (
        not 1 <= rank <= 3
        or lengths != {rank}
        or x[1] != w[0]
        or w[0] % groups
        or (b is not None and b != (w[1] * groups,))
    ):
        raise BadInput(
            f"conv_transpose takes (N, C, *spatial), (C, O/groups, *kernel) and a bias (O,); got x {x}, w {w}, b {b}, "
            f"stride {stride}, padding {padding}, output_padding {output_padding}, dilation {dilation}, groups {groups}"
        )
    out = [
        (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for n, k, s, p, extra, d in zip(x[2:], w[2:], stride, padding, output_padding, dilation, strict=True)
    ]
    if any(extra >= max(s, d) for extra, s, d in zip(output_padding, stride, dilation, strict=True)):
        raise BadInput(
            f"conv_transpose: output_padding {tuple(output_padding)} must be smaller than the stride {tuple(stride)} or the "
            f"dilation {tuple(dilation)}"
        )
    if min(out) < 1:
        raise BadInput(f"conv_transpose: padding {tuple(padding)} leaves nothing of the output of input {x[2:]}")
    return (x[0], w[1] * groups, *out)


def transposed_real(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *,
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int = 1,
) -> np.ndarray:  # fmt: skip
    """Compute the layer in real numbers: every input is spread over the outputs that it reaches."""
    out = transposed_shape(
        x.shape,
        w.shape,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )[2:]
    samples, outputs, per_group = x.shape[0], w.shape[1] * groups, x.shape[1] // groups
    spread = [
        max((n - 1) * s + d * (k - 1) + 1, o + p)
        for n, s, d, k, o, p in zip(x.shape[2:], stride, dilation, w.shape[2:], out, padding, strict=True)
    ]
    y = np.zeros((samples, outputs, *spread))
    flat = x.reshape(samples, groups, per_group, -1)
    weights = w.reshape(groups, per_group, w.shape[1], -1)
    for t, tap in enumerate(np.ndindex(*w.shape[2:])):
        part = np.matmul(weights[None, :, :, :, t].swapaxes(2, 3), flat).reshape(samples, outputs, *x.shape[2:])
        y[(slice(None), slice(None), *_reach(tap, x.shape[2:], stride, dilation))] += part
    y = y[(slice(None), slice(None), *(slice(p, p + o) for p, o in zip(padding, out, strict=True)))]
    return y if b is None else y + b.reshape(-1, *(1,) * len(out))


def layout(step: Step) -> Layout:
    """Which codes and weights meet."""
    attributes, groups = step.attributes, step.attributes.get("groups", 1)
    w = step.constants[step.inputs[1]]
    rank, transposed = w.ndim - 2, step.op.name == "conv_transpose"
    x, y = step.shapes[step.inputs[0]], step.shapes[step.output]
    kernel = (1,) * (3 - rank) + w.shape[2:]
    if transposed:
        codes = w.reshape(groups, w.shape[0] // groups, w.shape[1], *kernel).swapaxes(1, 2)
        before = attributes["padding"]
    else:
        codes = w.reshape(groups, w.shape[0] // groups, w.shape[1], *kernel)
        before = [p for p, _ in attributes["padding"]]
    window: Window = window_of(
        x[2:], w.shape[2:], attributes["stride"], attributes["dilation"], before, y[2:],
        codes.shape[2], groups, codes.shape[1], transposed,
    )  # fmt: skip
    form = step.in_format(1)
    scales = weight_scales(form, int(transposed), y[1], f"{step.name}: weight {step.inputs[1]!r}")
    return Layout(window, codes, form, scales, step.inputs[2] if len(step.inputs) > 2 else None)


def prepare(step: Step) -> dict[str, Any]:
    """Scaler and bias constants."""
    return prepare_sum(step, layout(step))


def _run(step: Step, engine: str, run: Run, x: np.ndarray) -> np.ndarray:
    work = cached(step, layout)
    y = getattr(work, engine)(x.reshape(x.shape[0], x.shape[1], *work.contraction.window.size), run)
    return y.reshape(x.shape[0], *step.shapes[step.output][1:])


def plan(step: Step) -> tuple[str, str]:
    """Kernel path and reason."""
    return cached(step, layout).plan


def exact(step: Step, run: Run, x: np.ndarray, *constants: np.ndarray) -> np.ndarray:
    """Add products one after another, on Python integers."""
    return _run(step, "exact", run, x)


def fast(step: Step, run: Run, x: np.ndarray, *constants: np.ndarray) -> np.ndarray:
    """Compute the same codes along the planned kernel path."""
    return _run(step, "fast", run, x).astype(step.out_format.narrow_dtype, copy=False)


CONV = Op("conv", shape, real, prepare, exact, fast, plan)
CONV_TRANSPOSE = Op("conv_transpose", transposed_shape, transposed_real, prepare, exact, fast, plan)
