"""torch's quantised linear and convolution: the engines agree on the sum and differ in the bias."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

import fixqnn as fq

SOURCE = (
    "torch.ops.quantized.linear and conv (pytorch/aten/src/ATen/native/quantized/cpu, FBGEMM, oneDNN, QNNPACK; BSD-3-Clause). "
    "quantized::linear was compared with torch 2.13.0 on a CPU for the three engines (tests/vectors/torch_quantized.npz); "
    'quantized::conv shares its output stage and was not. "fbgemm_pairs", a processor without VNNI, whose pairs of products '
    "saturate 16 bits, has no foreign answer. Other operators have no datapath here."
)
ENGINES = ("fbgemm", "x86", "onednn", "qnnpack", "fbgemm_pairs")


def torch_quantized(engine: str = "fbgemm") -> fq.Accelerator:
    """Make the arithmetic of one of torch's quantised engines.

    The bias is a real number. fbgemm, x86 and onednn add it, divided by the products' step, to the sum in float32; qnnpack
    rounds it to an integer first. ``"fbgemm_pairs"`` is fbgemm on a processor without VNNI.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[2]], fq.fixed(8, 0, signed=False)), fq.Tensor([[1]], fq.fixed(8, 0))
    >>> graph = fq.Graph((fq.Value("x", (None, 1), x.format),), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w", "b")),),
    ...     {"w": w, "b": [0.75]}, {"fc": fq.fixed(8, -1, signed=False)})
    >>> for engine in ("fbgemm", "qnnpack"):  # 2.75 / 2 and 3 / 2
    ...     print(engine, fq.run(fq.lower(graph, torch_quantized(engine)), x).output.codes)
    fbgemm [[1]]
    qnnpack [[2]]
    """
    if engine not in ENGINES:
        raise fq.FormatError(f"torch_quantized: engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    sums = (fq.Stage(fq.Register(32, "wrap")),)
    bias, rewrite = "scaler", _exact_biases
    zero_point = "subtracted"
    if engine == "qnnpack":
        bias, rewrite = "first", _rounded_biases
    if engine == "fbgemm_pairs":
        sums = (fq.Stage(fq.Register(16, "saturate"), size=2), *sums)
        zero_point = "folded"  # raw codes meet in the pairs
    mac = fq.SumOfProducts(fq.Float(), sum=sums, bias=bias, zero_point=zero_point)
    return fq.Accelerator(
        f"torch_quantized({engine})", dict.fromkeys(("linear", "conv"), mac), rewrites=(rewrite,), source=SOURCE
    )


def _exact_biases(graph: fq.Graph) -> fq.Graph:
    """Give every real bias a format that holds its float32 values exactly: it is never rounded."""
    constants = {}
    for node in graph.nodes:
        for name in _real_bias(graph, node):
            values = [Fraction(float(v)) for v in graph.constants[name].astype(np.float32)]
            frac = max(v.denominator.bit_length() - 1 for v in values)
            codes = [int(v * 2**frac) for v in values]
            bits = max(abs(c) for c in codes).bit_length() + 1
            constants[name] = fq.Tensor(np.array(codes, object), fq.fixed(bits, frac))
    return graph.with_constants(constants)


def _rounded_biases(graph: fq.Graph) -> fq.Graph:
    """Round every real bias to the products' step, the quotient formed in float32."""
    constants = {}
    for node in graph.nodes:
        for name in _real_bias(graph, node):
            x, w = (graph.formats[value] for value in node.inputs[:2])
            steps = [x.scale * s for s in w.scales]
            scales = np.array([np.float32(np.float32(float(x.scale)) * np.float32(float(s))) for s in w.scales])
            codes = np.rint(graph.constants[name].astype(np.float32) / scales).astype(np.int64)
            form = fq.affine(32, steps, axis=0) if w.per_channel else fq.affine(32, steps[0])
            constants[name] = fq.Tensor(codes, form)
    return graph.with_constants(constants)


def _real_bias(graph: fq.Graph, node: fq.Node) -> tuple[str, ...]:
    if node.op.name not in ("linear", "conv") or len(node.inputs) < 3:
        return ()
    name = node.inputs[2]
    fixed = isinstance(graph.constants.get(name), fq.Tensor) or name in graph.formats
    return () if fixed or name not in graph.constants else (name,)
