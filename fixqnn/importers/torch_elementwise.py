"""What becomes of torch's elementwise operators: sums, products, bounds, functions of one number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fixqnn.importers.torch_call import Activation, Call, Constant, Unsupported, number
from fixqnn.importers.torch_layers import per_sample


def operand(call: Call, argument: str, factor: float = 1.0) -> Activation | Constant:
    """Return an operand of an elementwise operator, times a factor; numbers become constants."""
    x = call[argument]
    if isinstance(x, Activation):
        return x if factor == 1 else call.emit("multiply", x, call.constant(factor, "alpha"), part=f"{argument}_alpha")
    if isinstance(x, Constant):
        return x if factor == 1 else call.constant(x.array * factor, argument)
    return call.constant(number(x, argument) * factor, argument)


def meet(call: Call, op: str, a: Activation | Constant, b: Activation | Constant) -> Activation:
    """Emit an elementwise node, once sure that no broadcast mixes samples."""
    ranks = [x.rank for x in (a, b) if isinstance(x, Activation)]
    if not ranks:
        raise Unsupported("it takes constants that were expanded to the batch size", "the same without the batch axis")
    if len(set(ranks)) > 1:
        raise Unsupported(
            f"operands {a.shape} and {b.shape} differ in rank, so samples would mix", "unsqueeze the smaller"
        )
    return call.emit(op, per_sample(a, ranks[0]), per_sample(b, ranks[0]))


def is_number(value: Any, wanted: float) -> bool:
    """Tell whether an argument is this very Python number."""
    return isinstance(value, (int, float)) and value == wanted


def add(call: Call, op: str = "add") -> Activation:
    """Return self ± alpha · other."""
    if isinstance(call["self"], Activation) and is_number(call["other"], 0):
        return call["self"]
    return meet(call, op, operand(call, "self"), operand(call, "other", number(call.get("alpha", 1), "alpha")))


def reverse_subtract(call: Call) -> Activation:
    """Return other − alpha · self."""
    scaled = operand(call, "self", number(call.get("alpha", 1), "alpha"))
    return meet(call, "subtract", operand(call, "other"), scaled)


def multiply(call: Call) -> Activation:
    """Return self · other."""
    if isinstance(call["self"], Activation) and is_number(call["other"], 1):
        return call["self"]
    return meet(call, "multiply", operand(call, "self"), operand(call, "other"))


def divide(call: Call) -> Activation:
    """Return self · (1 / other)."""
    if call.get("rounding_mode") is not None:
        raise Unsupported("it rounds its quotient", "div without rounding_mode")
    other = call["other"]
    if isinstance(other, Activation):
        inverse: Activation | Constant = call.emit("lookup", other, part="reciprocal", function="reciprocal")
    else:
        divisor = other.array if isinstance(other, Constant) else np.float64(number(other, "divisor"))
        with np.errstate(divide="ignore"):
            inverse = call.constant(1.0 / divisor, "reciprocal")
    return meet(call, "multiply", operand(call, "self"), inverse)


def negate(call: Call) -> Activation:
    """Return −1 · self."""
    return meet(call, "multiply", operand(call, "self"), call.constant(-1.0, "factor"))


def power(call: Call) -> Activation:
    """Return self to a fixed power that has a name of its own."""
    x, exponent = call.activation("self"), number(call["exponent"], "exponent")
    names = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
    if is_number(exponent, 1):
        return x
    if is_number(exponent, 3):
        return call.emit("multiply", call.emit("lookup", x, part="square", function="square"), x)
    if exponent not in names:
        raise Unsupported(f"its exponent is {exponent}", "an exponent of 2, 3, 0.5, −0.5 or −1")
    return call.emit("lookup", x, function=names[exponent])


def lookup(call: Call, function: str, **parameters: str) -> Activation:
    """A function of one number; `parameters` maps its parameters to the operator's arguments."""
    values = {name: call[argument] for name, argument in parameters.items()}
    values = {name: v if isinstance(v, str) else number(v, name) for name, v in values.items()}
    return call.emit("lookup", call.activation("self"), function=function, **values)


def elu(call: Call) -> Activation:
    """Elu, without the two scales that the operator also has."""
    if call.get("scale", 1) != 1 or call.get("input_scale", 1) != 1:
        raise Unsupported("it scales its input or output", "torch.nn.SELU, or ELU between two mul")
    return lookup(call, "elu", alpha="alpha")


def prelu(call: Call) -> Activation:
    """Leaky relu whose slope was learned."""
    slope = call.parameter("weight")
    if slope is None or slope.array.size != 1:
        raise Unsupported("it has one slope per channel", "PReLU(num_parameters=1), or leaky_relu")
    return call.emit("lookup", call.activation("self"), function="leaky_relu", negative_slope=slope.array.item())


def clamp(call: Call, low: float | str | None = None, high: float | str | None = None) -> Activation:
    """Bounds: fixed ones, or those found in the arguments of these names."""
    bounds = [call[bound] if isinstance(bound, str) else bound for bound in (low, high)]
    given = [None if bound is None or is_number(bound, math.copysign(math.inf, sign)) else number(bound, "bound")
             for bound, sign in zip(bounds, (-1, 1), strict=True)]  # fmt: skip
    return call.emit("clamp", call.activation("self"), low=given[0], high=given[1])


def threshold(call: Call) -> Activation:
    """Replace what is not above a threshold; a clamp where it is replaced by the threshold."""
    if call["threshold"] != call["value"]:
        raise Unsupported("it jumps at its threshold", "a value equal to the threshold, or relu")
    return clamp(call, low="threshold")
