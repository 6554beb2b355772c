"""A graph evaluated in torch, so that gradients can be taken: every operation once more, in torch's words.

Numbers are float32: sensitivities are wanted to a percent. A function of one code is differentiated by its rise over one step
of its input's format, which is what its table makes of a rounding error; any function will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.errors import DoesNotFit
from fixqnn.graph import Graph, Node

if TYPE_CHECKING:
    import torch

WEIGHTED = ("linear", "conv", "conv_transpose")  # operations whose second and third inputs are weights and biases


class Tape:
    """All values of one batch in torch, those of inputs and operand constants included, ready for gradients.

    Parameters
    ----------
    graph : Graph
        With formats.
    inputs : mapping of str to ndarray
        One batch.
    constants : mapping of str to ndarray
        What stands for each constant.

    Attributes
    ----------
    values : dict of str to tensor
        By value name, batch first.
    operands : dict of (str, int) to tensor
        Constants that meet values as one of them, spread over the batch, by node and place of the input.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]) -> None:
        import torch

        self.graph, self.constants = graph, constants
        self.values: dict[str, torch.Tensor] = {}
        self.operands: dict[tuple[str, int], torch.Tensor] = {}
        for name, array in inputs.items():
            self.values[name] = torch.from_numpy(np.ascontiguousarray(array, np.float32)).requires_grad_()
        self.samples = len(next(iter(inputs.values())))
        for node in graph.nodes:
            operands = [self._operand(node, place, name) for place, name in enumerate(node.inputs)]
            y = apply(graph, node, operands)
            self.values[node.output] = _within(y, graph, node.output)

    def _operand(self, node: Node, place: int, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        constant = tensor(self.constants[name])
        if node.op.name in WEIGHTED:
            return constant
        rank = len(self.graph.values[node.output].shape)
        spread = constant.reshape((1,) * (rank - constant.ndim) + tuple(constant.shape))
        spread = spread.expand(self.samples, *spread.shape[1:]).clone().requires_grad_()
        self.operands[node.name, place] = spread
        return spread


def tensor(array: np.ndarray) -> Any:
    """An array as a float32 tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _within(y: Any, graph: Graph, name: str) -> Any:
    """Let no gradient pass where the format clips: an error of what is clipped anyway does no harm."""
    form = graph.formats.get(name)
    if form is None or form.per_channel:
        return y
    inside = ((y >= float(form.real_low - form.scale)) & (y <= float(form.real_high + form.scale))).to(y.dtype)
    return y * inside + (y * (1 - inside)).detach()


def apply(graph: Graph, node: Node, operands: list[Any]) -> Any:
    """Compute one node on tensors; DoesNotFit for an operation that is not among those known here."""
    rule = RULES.get(node.op.name)
    if rule is None:
        raise DoesNotFit(
            f"{node.name} ({node.op.name}): nothing is known of this operation's gradient; known are {', '.join(RULES)}"
        )
    if node.op.name == "lookup":
        form = graph.formats.get(node.inputs[0])
        step = 2.0**-8 if form is None else float(max(form.scales))
        return _function(operands[0], node, step)
    return rule(*operands, **node.attributes)


def _sided(padding: Any) -> list[int]:
    """Pairs per axis as torch's pad wants them: the last axis first."""
    return [int(n) for pair in reversed(list(padding)) for n in pair]


def _linear(x: Any, w: Any, b: Any = None) -> Any:
    y = x @ w.T
    return y if b is None else y + b


def _conv(x: Any, w: Any, b: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int = 1) -> Any:
    from torch.nn import functional

    conv = getattr(functional, f"conv{w.ndim - 2}d")
    x = functional.pad(x, _sided(padding)) if any(n for pair in padding for n in pair) else x
    return conv(x, w, b, tuple(stride), 0, tuple(dilation), groups)


def _conv_transpose(
    x: Any, w: Any, b: Any = None, *, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int = 1
) -> Any:
    from torch.nn import functional

    conv = getattr(functional, f"conv_transpose{w.ndim - 2}d")
    return conv(x, w, b, tuple(stride), tuple(padding), tuple(output_padding), groups, tuple(dilation))


def _average_pool(x: Any, *, kernel: Any, stride: Any, padding: Any, include_padding: bool = True) -> Any:
    import torch
    from torch.nn import functional

    pool = getattr(functional, f"avg_pool{len(kernel)}d")

    def averages(values: Any) -> Any:
        return pool(functional.pad(values, _sided(padding)), tuple(kernel), tuple(stride))

    return averages(x) if include_padding else averages(x) / averages(torch.ones_like(x[:1]))


def _max_pool(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    from torch.nn import functional

    pool = getattr(functional, f"max_pool{len(kernel)}d")
    padded = functional.pad(x, _sided(padding), value=-float("inf"))
    return pool(padded, tuple(kernel), tuple(stride), 0, tuple(dilation))


def _resize(x: Any, *, factor: Any) -> Any:
    for axis, times in enumerate(factor, start=2):
        x = x.repeat_interleave(times, dim=axis)
    return x


def _pad(x: Any, *, padding: Any, value: float = 0.0) -> Any:
    from torch.nn import functional

    return functional.pad(x, _sided(padding), value=float(value))


def _concat(*xs: Any, axis: int) -> Any:
    import torch

    return torch.cat(xs, dim=axis)


def _slice(x: Any, *, axis: int, start: int, stop: int, step: int) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def _pixel_shuffle(x: Any, *, factor: int) -> Any:
    from torch.nn import functional

    return functional.pixel_shuffle(x, factor)


def _adaptive(x: Any, *, output: Any) -> Any:
    from torch.nn import functional

    return getattr(functional, f"adaptive_avg_pool{len(output)}d")(x, tuple(output))


def _function(x: Any, node: Node, step: float) -> Any:
    """The function itself, and as its slope the rise over one step of the input."""
    import torch

    def real(points: np.ndarray) -> np.ndarray:
        return node.op.real(points, **node.attributes)

    values = x.detach().numpy().astype(np.float64)
    y = real(values)
    with np.errstate(invalid="ignore"):
        slope = (real(values + step / 2) - real(values - step / 2)) / step
    slope = np.where(np.isfinite(slope), slope, 0.0)
    fixed, factor = (torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (y, slope))
    return fixed + factor * (x - x.detach())


RULES: Mapping[str, Callable[..., Any]] = {
    "linear": _linear,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "matmul": lambda a, b: a @ b,
    "average_pool": _average_pool,
    "adaptive_average_pool": _adaptive,
    "mean": lambda x, axes, keepdims=False: x.mean(dim=tuple(axes), keepdim=keepdims),
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "requantize": lambda x: x * 1,
    "lookup": _function,
    "clamp": lambda x, low=None, high=None: x * 1 if low is None and high is None else x.clamp(low, high),
    "max_pool": _max_pool,
    "reshape": lambda x, shape: x.reshape(x.shape[0], *shape[1:]),
    "transpose": lambda x, axes: x.permute(tuple(axes)),
    "slice": _slice,
    "pad": _pad,
    "concat": _concat,
    "pixel_shuffle": _pixel_shuffle,
    "resize": _resize,
}
