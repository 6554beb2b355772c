"""ONNX Runtime's integer operators on a CPU: exact sums, then float32."""

from __future__ import annotations

import fixqnn as fq

SOURCE = (
    "ONNX operators QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger and com.microsoft.QLinearAdd, QLinearMul, as ONNX "
    "Runtime computes them (onnxruntime/core/providers/cpu, mlas; MIT). Each was compared with onnxruntime 1.31.1, graph "
    "optimisation off (tests/vectors/onnxruntime_int.npz). Operators without such a comparison have no datapath here."
)


def onnxruntime(output: str = "quantized") -> fq.Accelerator:
    """Make the arithmetic of ONNX Runtime's quantised operators.

    With ``output="integer"``, conv, linear and matmul are ConvInteger and MatMulInteger: their output is the 32-bit sum
    itself, on the step of the products.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[106] * 4], fq.fixed(8, 0)), fq.Tensor([[1] * 4], fq.fixed(8, 0))
    >>> graph = fq.Graph((fq.Value("x", (None, 4), x.format),), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w", "b")),),
    ...     {"w": w, "b": fq.Tensor([54], fq.fixed(32, 0))}, {"fc": fq.fixed(8, -2)})
    >>> fq.run(fq.lower(graph, onnxruntime()), x).output.codes  # 478 / 4 = 119.5, to even
    array([[120]], dtype=int32)
    """
    if output not in ("quantized", "integer"):
        raise fq.FormatError(f"onnxruntime: output must be 'quantized' or 'integer', not {output!r}")
    sums = ("linear", "conv", "matmul")
    exact = (fq.Stage(fq.Register(32, "wrap")),)
    if output == "integer":
        return fq.Accelerator(
            "onnxruntime(integer)", dict.fromkeys(sums, fq.SumOfProducts(None, sum=exact)), source=SOURCE
        )
    to_real = fq.Float(rounding=None)
    # all three zero points become one float32 constant
    added = fq.Elementwise(fq.Float(zero_point="before"), common="output", align=to_real, zero_point="folded")
    multiplied = fq.Elementwise(fq.Float(by="divide", zero_point="before"), common="real", align=to_real)
    return fq.Accelerator(
        "onnxruntime",
        {**dict.fromkeys(sums, fq.SumOfProducts(fq.Float(), sum=exact)), "add": added, "multiply": multiplied},
        source=SOURCE,
    )
