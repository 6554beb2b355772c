"""The yardstick: whole sums and one rounding."""

from __future__ import annotations

import fixqnn as fq

SOURCE = (
    "No machine: what remains is the error of the formats alone. Sums are whole and the exact rational ratio of scales "
    "is rounded once, so every code is the value that the formats allow, nearest to the real one. Held to rational "
    "arithmetic, not to a foreign tool."
)


def ideal(rounding: str = "half_even") -> fq.Accelerator:
    """Make a machine that sums without loss and rounds once, at each operation's output.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[3, 5]], fq.fixed(8, 0)), fq.Tensor([[1, 2]], fq.fixed(8, 0))
    >>> graph = fq.Graph((fq.Value("x", (None, 2), x.format),), ("fc",),
    ...     (fq.Node("fc", fq.OPS["linear"], ("x", "w")),), {"w": w}, {"fc": fq.affine(8, 3)})
    >>> fq.run(fq.lower(graph, ideal()), x).output  # 13 in steps of 3: 4.33
    Tensor([[4]], affine(8, 3))
    """
    scaler = fq.Exact(rounding)
    whole = fq.SumOfProducts(scaler, sum=(fq.Stage(fq.Register(62, "forbid")),))
    sums = ("linear", "conv", "conv_transpose", "matmul", "average_pool", "adaptive_average_pool", "mean")
    return fq.Accelerator(
        "ideal" if rounding == "half_even" else f"ideal({rounding!r})",
        {
            **dict.fromkeys(sums, whole),
            **dict.fromkeys(("add", "subtract"), fq.Elementwise(scaler, common="finest")),
            "multiply": fq.Elementwise(scaler),
            "lookup": fq.Lookup(output_rounding=rounding),
            "requantize": scaler,
        },
        source=SOURCE,
    )
