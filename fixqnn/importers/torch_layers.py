"""What becomes of torch's layers: sums of products, batch norms, pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fixqnn.importers.torch_call import Activation, Call, Constant, Unsupported
from fixqnn.rewrite.fold_batch_norm import BATCH_NORM

Ints = tuple[int, ...]


def per_axis(value: Any, axes: int) -> Ints:
    """Return one integer per spatial axis; torch writes a single one for all."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    if not all(isinstance(n, int) for n in numbers):
        raise Unsupported(f"it is given {list(numbers)}, which depends on the batch size", "fixed integers")
    return numbers * axes if len(numbers) == 1 else numbers


def linear(call: Call) -> Activation:
    """Return x wᵀ + b, on the last axis."""
    return call.emit("linear", call.activation("input"), call.parameter("weight"), call.parameter("bias"))


def product(call: Call, a: Any, b: Any, bias: Constant | None = None) -> Activation:
    """Return a @ b: a linear layer where b is a constant matrix, else a product of arrays sample by sample."""
    if isinstance(a, Activation) and isinstance(b, Constant) and len(b.shape) == 2 and a.rank >= 2:
        return call.emit("linear", a, call.transposed(b), bias)
    ranks = [x.rank if isinstance(x, Activation) else len(x.shape) for x in (a, b)]
    moving = [r for x, r in zip((a, b), ranks, strict=True) if isinstance(x, Activation)]
    if bias is not None or min(moving) < 3 or min(ranks) < 2 or len(set(moving)) > 1 or max(ranks) > max(moving):
        raise Unsupported("it multiplies across samples", "x @ constant matrix, or (N, …, n, k) @ (N, …, k, m)")
    return call.emit("matmul", per_sample(a, max(ranks)), per_sample(b, max(ranks)))


def matmul(call: Call) -> Activation:
    """Matrix product of two arrays (mm, bmm, matmul)."""
    b = "mat2" if "mat2" in call.arguments else "other"
    return product(call, call["self"], call[b])


def addmm(call: Call) -> Activation:
    """Return bias + a @ b: what a linear layer decomposes to."""
    bias, weight = call.parameter("self"), call.parameter("mat2")
    if bias is None or weight is None or len(bias.shape) != 1 or call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        raise Unsupported("only bias + x @ weight with beta = alpha = 1 is known", "torch.nn.Linear")
    return product(call, call["mat1"], weight, bias)


def per_sample(x: Activation | Constant, rank: int) -> Activation | Constant:
    """Refuse a constant that differs from sample to sample; `rank` counts the axes it is broadcast to."""
    if isinstance(x, Constant) and (len(x.shape) > rank or (len(x.shape) == rank and x.shape[0] != 1)):
        raise Unsupported(
            f"constant {x.name!r} of shape {x.shape} reaches into the batch axis", "a constant without the batch axis"
        )
    return x


def conv(call: Call) -> Activation:
    """Convolution over one to three axes; padding as numbers, "valid" or "same"."""
    weight = call.parameter("weight")
    if weight is None or call.activation("input").rank != len(weight.shape):
        raise Unsupported("its input has no batch axis", "an input (N, C, *spatial)")
    axes = len(weight.shape) - 2
    stride, dilation = per_axis(call["stride"], axes), per_axis(call["dilation"], axes)
    if call.get("transposed", False):
        return transposed(call, weight, axes, stride, dilation)
    padding = call["padding"]
    if padding == "same":  # an odd total puts the extra one after, as torch does
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pairs = tuple((total // 2, total - total // 2) for total in totals)
    else:
        pairs = tuple((p, p) for p in ((0,) * axes if padding == "valid" else per_axis(padding, axes)))
    attributes = {"stride": stride, "padding": pairs, "dilation": dilation, "groups": call["groups"]}
    return call.emit("conv", call.activation("input"), weight, call.parameter("bias"), **attributes)


def transposed(call: Call, weight: Constant, axes: int, stride: Ints, dilation: Ints) -> Activation:
    """Transposed convolution."""
    attributes = {
        "stride": stride,
        "padding": per_axis(call["padding"], axes),
        "output_padding": per_axis(call["output_padding"], axes),
        "dilation": dilation,
        "groups": call["groups"],
    }
    return call.emit("conv_transpose", call.activation("input"), weight, call.parameter("bias"), **attributes)


def conv_transpose(call: Call) -> Activation:
    """Transposed convolution under its own name."""
    call.arguments["transposed"] = True
    return conv(call)


def batch_norm(call: Call) -> Any:
    """Batch norm with fixed statistics; the rewrite fold_batch_norm turns it into weights."""
    mean, variance = call.parameter("running_mean"), call.parameter("running_var")
    if call.get("training", False) or mean is None or variance is None:
        raise Unsupported(
            "it takes its statistics from the batch", "module.eval() before export, and track_running_stats=True"
        )
    channels = mean.shape
    weight = call.parameter("weight") or call.constant(np.ones(channels), "weight")
    bias = call.parameter("bias") or call.constant(np.zeros(channels), "bias")
    x = call.activation("input")
    return several(call, call.emit(BATCH_NORM, x, weight, bias, mean, variance, epsilon=call["eps"]))


def several(call: Call, result: Activation) -> Any:
    """Give the result as the operator does: alone, or first of a tuple whose rest nobody may use."""
    return result if len(call.shapes) == 1 else (result, *(None,) * (len(call.shapes) - 1))


def window(call: Call, axes: int) -> tuple[Activation, Ints, Ints, Ints, Ints]:
    """Return what pools have in common: x, kernel, stride, padding, dilation."""
    x = call.activation("self")
    if x.rank != axes + 2:
        raise Unsupported("its input has no batch axis", "an input (N, C, *spatial)")
    kernel = per_axis(call["kernel_size"], axes)
    stride = per_axis(call["stride"] or kernel, axes)
    return x, kernel, stride, per_axis(call["padding"], axes), per_axis(call.get("dilation", 1), axes)


def reach(call: Call, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> list[int]:
    """Return how far the last window reaches past the declared padding, per axis: above 0 only with ceil_mode."""
    sizes = zip(call.activation("self").shape[2:], call.shape[2:], kernel, stride, padding, dilation, strict=True)
    return [max(0, (out - 1) * s + d * (k - 1) + 1 - (size + 2 * p)) for size, out, k, s, p, d in sizes]


def max_pool(call: Call, axes: int) -> Any:
    """Largest value of each window; ceil_mode becomes padding after, which never wins."""
    x, *numbers = window(call, axes)
    kernel, stride, padding, dilation = numbers
    pairs = tuple((p, p + extra) for p, extra in zip(padding, reach(call, *numbers), strict=True))
    attributes = {"kernel": kernel, "stride": stride, "padding": pairs, "dilation": dilation}
    return several(call, call.emit("max_pool", x, **attributes))


def average_pool(call: Call, axes: int) -> Activation:
    """Mean of each window."""
    x, *numbers = window(call, axes)
    kernel, stride, padding, _ = numbers
    extra = reach(call, *numbers)
    include = bool(call["count_include_pad"]) and any(padding)
    if call.get("divisor_override") is not None:
        raise Unsupported("it has a divisor of its own", "avg_pool, then mul by a constant")
    if include and any(extra):
        raise Unsupported("it has ceil_mode and counts its padding", "count_include_pad=False, or ceil_mode=False")
    pairs = tuple((p, p + e) for p, e in zip(padding, extra, strict=True))
    return call.emit("average_pool", x, kernel=kernel, stride=stride, padding=pairs, include_padding=include)


def adaptive_average_pool(call: Call) -> Activation:
    """Mean over windows laid out so that the result has a given size."""
    return call.emit("adaptive_average_pool", call.activation("self"), output=call.shape[2:])


def adaptive_max_pool(call: Call) -> Any:
    """Maximum over equal windows; refused where they would differ in size."""
    x, out = call.activation("self"), call.shape[2:]
    if any(size % o for size, o in zip(x.shape[2:], out, strict=True)):
        raise Unsupported(f"{x.shape[2:]} does not divide evenly into {out}", "max_pool with a kernel and a stride")
    kernel = tuple(size // o for size, o in zip(x.shape[2:], out, strict=True))
    attributes = {"stride": kernel, "padding": ((0, 0),) * len(out), "dilation": (1,) * len(out)}
    return several(call, call.emit("max_pool", x, kernel=kernel, **attributes))


def axes_of(x: Activation, dim: Any) -> Ints:
    """Return axes as positive numbers, the batch refused."""
    listed = range(x.rank) if dim is None or dim == [] else dim if isinstance(dim, Sequence) else [dim]
    axes = tuple(sorted(axis % x.rank for axis in listed))
    if 0 in axes:
        raise Unsupported("it works along the batch axis", "axes 1 and up, sample by sample")
    return axes


def mean(call: Call) -> Activation:
    """Mean over axes."""
    x = call.activation("self")
    return call.emit("mean", x, axes=axes_of(x, call.get("dim")), keepdims=bool(call.get("keepdim", False)))


def total(call: Call) -> Activation:
    """Sum over axes: their mean, times how many there are."""
    x = call.activation("self")
    axes = axes_of(x, call.get("dim"))
    count = float(np.prod([x.shape[axis] for axis in axes]))
    average = call.emit("mean", x, part="mean", axes=axes, keepdims=bool(call.get("keepdim", False)))
    return call.emit("multiply", average, call.constant(count, "count"))
