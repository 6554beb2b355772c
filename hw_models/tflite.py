"""LiteRT (TensorFlow Lite) int8: one file format, several families of kernels, each with a rounding of its own."""

from __future__ import annotations

from collections.abc import Callable

import fixqnn as fq
from hw_models import tflite_tables as tables

SOURCE = {
    "reference": (
        "tensorflow/lite/kernels/internal/reference (Apache-2.0), the kernels of the reference op resolver. Every operation "
        "here was compared with ai-edge-litert 2.3.0 on one-operation models (tests/vectors/litert_ops.npz, "
        "litert_requant_sweep.npz)."
    ),
    "micro": (
        "TensorFlow Lite Micro and CMSIS-NN in its portable C form: as the reference kernels, but fully connected layers use "
        "the two-step multiplier too. Convolution, fully connected, add, mul and average pool were compared with CMSIS-NN "
        "99f736a6 (tests/vectors/cmsis_nn.npz); the other operations are those of the reference family."
    ),
    "micro_single": (
        "CMSIS-NN built with CMSIS_NN_USE_SINGLE_ROUNDING: one rounding in place of two. Read from its sources "
        "(arm_nnsupportfunctions.h, arm_nn_requantize); no foreign answer."
    ),
    "optimized": (
        "tensorflow/lite/kernels/internal/optimized with ruy, as in LiteRT's built-in op resolver on x86 without the default "
        "delegate. Compared with ai-edge-litert 2.3.0 (tests/vectors/litert_ops.npz, litert_requant_sweep.npz). Depthwise "
        "convolution, mul and mean take paths whose rule is not known: there is no datapath for them."
    ),
    "xnnpack": (
        "XNNPACK (BSD-3-Clause), the default delegate of LiteRT. Compared with ai-edge-litert 2.3.0 on x86 "
        "(tests/vectors/litert_ops.npz, litert_requant_sweep.npz). Scales outside its range go back to the built-in kernels; "
        "that is not modelled."
    ),
}
Multiplier = fq.TwoStepMultiplier | fq.Multiplier
Rewrite = Callable[["fq.Graph"], "fq.Graph"]  # a name: naming the class would load the compiled kernels already here


def tflite(family: str = "reference", linear_scales: str = "per_channel") -> fq.Accelerator:
    """Make the arithmetic of one family of int8 kernels.

    Parameters
    ----------
    family : str
        ``"reference"``, ``"micro"`` (TFLite Micro, CMSIS-NN), ``"micro_single"`` (CMSIS-NN with single rounding),
        ``"optimized"`` (the built-in kernels) or ``"xnnpack"`` (the default delegate).
    linear_scales : str
        Whether fully connected weights have one scale per output (``"per_channel"``) or one for all (``"per_tensor"``):
        ``"optimized"`` and the two micro families form the multiplier in another precision then. The others do not.

    Returns
    -------
    Accelerator
        An operation whose rule is not known has no datapath. Sigmoid and tanh write the formats that LiteRT fixes:
        ``affine(8, 1/256, -128)`` and ``fixed(8, 7)``. LiteRT has signed codes of 8 bits; the same arithmetic is carried
        out on other widths, but no claim about LiteRT goes with that.

    Raises
    ------
    FormatError
        For an unknown family.

    Examples
    --------
    477 / 4 = 119.25, but two roundings make it 238.5 → 239, 119.5 → 120.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[106] * 5], fq.fixed(8, 0)), fq.Tensor([[1, 1, 1, 1, 0]], fq.fixed(8, 0))
    >>> graph = fq.Graph((fq.Value("x", (None, 5), x.format),), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w", "b")),),
    ...     {"w": w, "b": fq.Tensor([53], fq.fixed(32, 0))}, {"fc": fq.fixed(8, -2)})
    >>> for family in ("reference", "micro", "xnnpack"):
    ...     machine = tflite(family, linear_scales="per_tensor")
    ...     print(machine.name, fq.run(fq.lower(graph, machine), x).output.codes)
    tflite(reference) [[119]]
    tflite(micro) [[120]]
    tflite(xnnpack) [[119]]
    """
    if family not in SOURCE:
        raise fq.FormatError(f"tflite: family must be one of {', '.join(SOURCE)}, not {family!r}")
    if linear_scales not in ("per_channel", "per_tensor"):
        raise fq.FormatError(f"tflite: linear_scales must be 'per_channel' or 'per_tensor', not {linear_scales!r}")
    one_scale = "float32_product" if linear_scales == "per_tensor" else "float64"
    wrap = fq.Register(32, "wrap")
    datapaths, rewrites = _FAMILIES[family](wrap, one_scale)
    if family in ("micro", "micro_single", "optimized"):
        rewrites = (*rewrites, _linear_scales_must_be(linear_scales, family))
    return fq.Accelerator(f"tflite({family})", datapaths, rewrites=rewrites, source=SOURCE[family])


def _mac(scaler: fq.TwoStepMultiplier | fq.Multiplier | fq.Float) -> fq.SumOfProducts:
    """Sums of products in 32 bits that wrap."""
    return fq.SumOfProducts(scaler, sum=(fq.Stage(fq.Register(32, "wrap")),))


GEMMLOWP = fq.TwoStepMultiplier(32, "half_up", "half_away", ratio="float64")
DOUBLE = fq.TwoStepMultiplier(32, "half_up", "half_up", ratio="float64")
SINGLE = fq.Multiplier(32, "half_up", ratio="float64")
FLOAT32 = fq.Float("float32", "half_even", by="multiply", zero_point="after")
# Codes are averaged as they are: the zero point is not subtracted, so a tie goes away from code 0.
AVERAGE = fq.SumOfProducts(fq.Divide("half_away", fq.Shift()), zero_point="ignored")
TABLES = {
    "sigmoid": fq.Lookup(fill=tables.logistic),
    "tanh": fq.Lookup(fill=tables.tanh),
    "hardswish": fq.Lookup(fill=tables.hard_swish),
}
FLOAT_TABLES = {
    "sigmoid": fq.Lookup(fill=tables.logistic_in_float),
    "tanh": fq.Lookup(fill=tables.tanh_in_float),
    "hardswish": fq.Lookup(fill=tables.hard_swish),
}


def _integer(scaler: Multiplier, wrap: fq.Register, short: Multiplier) -> dict:
    """What the reference family and the micro families share; `short` forms its ratio in float32."""
    sums = fq.Elementwise(scaler, common="twice_max", align=scaler, headroom=20, register=wrap)
    return {
        "conv": _mac(scaler),
        **dict.fromkeys(("add", "subtract"), sums),
        "multiply": fq.Elementwise(short, register=wrap),
        **dict.fromkeys(("average_pool", "adaptive_average_pool"), AVERAGE),
        "leaky_relu": short,
        "requantize": scaler,
        **TABLES,
    }


def _reference(wrap: fq.Register, one_scale: str) -> tuple[dict, tuple[Rewrite, ...]]:
    short = fq.TwoStepMultiplier(ratio="float32")
    linear = _mac(fq.Float("float64", "half_away"))
    return {"linear": linear, **_integer(GEMMLOWP, wrap, short), "mean": _mac(GEMMLOWP)}, ()


def _micro(wrap: fq.Register, one_scale: str) -> tuple[dict, tuple[Rewrite, ...]]:
    short = fq.TwoStepMultiplier(ratio="float32")
    linear = _mac(fq.TwoStepMultiplier(ratio=one_scale))
    return {"linear": linear, **_integer(GEMMLOWP, wrap, short), "mean": _mac(GEMMLOWP)}, ()


def _micro_single(wrap: fq.Register, one_scale: str) -> tuple[dict, tuple[Rewrite, ...]]:
    linear = _mac(fq.Multiplier(32, "half_up", ratio=one_scale))
    shared = _integer(SINGLE, wrap, fq.Multiplier(32, "half_up", ratio="float32"))
    return {"linear": linear, **{k: v for k, v in shared.items() if k not in TABLES}}, ()


def _optimized(wrap: fq.Register, one_scale: str) -> tuple[dict, tuple[Rewrite, ...]]:
    linear = _mac(fq.TwoStepMultiplier(32, "half_up", "half_up", ratio=one_scale))
    sums = fq.Elementwise(GEMMLOWP, common="twice_max", align=GEMMLOWP, headroom=20, register=wrap)
    return {
        "linear": linear,
        "conv": _mac(DOUBLE),
        **dict.fromkeys(("add", "subtract"), sums),
        **dict.fromkeys(("average_pool", "adaptive_average_pool"), AVERAGE),
        "leaky_relu": fq.TwoStepMultiplier(ratio="float32"),
        "requantize": DOUBLE,
        **FLOAT_TABLES,
    }, (_no_depthwise,)


def _xnnpack(wrap: fq.Register, one_scale: str) -> tuple[dict, tuple[Rewrite, ...]]:
    aligned = fq.Multiplier(22, None, "float32", constant="half_even")
    unary = fq.Multiplier(16, "half_up", "float32", shift=8, constant="half_even")
    return {
        **dict.fromkeys(("linear", "conv", "mean"), _mac(FLOAT32)),
        **dict.fromkeys(("add", "subtract"), fq.Elementwise(fq.Shift("half_up"), common="output", align=aligned)),
        "multiply": fq.Elementwise(FLOAT32, register=wrap),
        **dict.fromkeys(("average_pool", "adaptive_average_pool"), AVERAGE),
        "leaky_relu": unary,
        "requantize": unary,
        **FLOAT_TABLES,
    }, ()


_FAMILIES = {
    "reference": _reference,
    "micro": _micro,
    "micro_single": _micro_single,
    "optimized": _optimized,
    "xnnpack": _xnnpack,
}


def _no_depthwise(graph: fq.Graph) -> fq.Graph:
    """Refuse depthwise convolutions, some of which the optimised kernels compute by a rule that is not known."""
    wrong = [
        node.name
        for node in graph.nodes
        if node.op.name == "conv" and node.attributes.get("groups", 1) == graph.values[node.inputs[0]].shape[1] != 1
    ]
    if wrong:
        raise fq.DoesNotFit(
            f"tflite(optimized): {', '.join(wrong)} are depthwise convolutions, whose optimised kernels take paths that are "
            "not known bit for bit; use tflite('reference') or tflite('xnnpack')"
        )
    return graph


def _linear_scales_must_be(linear_scales: str, family: str) -> Rewrite:
    def check(graph: fq.Graph) -> fq.Graph:
        wrong = [
            node.name
            for node in graph.nodes
            if node.op.name == "linear"
            and node.inputs[1] in graph.formats
            and graph.formats[node.inputs[1]].per_channel != (linear_scales == "per_channel")
        ]
        if wrong:
            other = "per_tensor" if linear_scales == "per_channel" else "per_channel"
            raise fq.DoesNotFit(
                f"tflite({family}) forms the multiplier of {', '.join(wrong)} by their weights' scales, which are {other} and "
                f"not {linear_scales}; use tflite({family!r}, linear_scales={other!r})"
            )
        return graph

    return check
