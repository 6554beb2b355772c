"""The pessimist: every product and every sum is rounded back to one narrow type."""

from __future__ import annotations

import fixqnn as fq

SOURCE = (
    "No one machine: a processor with a single word for everything, which stores after every multiplication and every "
    "addition, as fixed-point software without a wide accumulator does. Its register is an ap_fixed type, and sums of "
    "products in such registers were compared with the ap_fixed and ac_fixed headers (tests/vectors/ap_fixed_mac.npz)."
)


def per_operation(
    bits: int = 16, frac: int = 8, rounding: str = "half_even", overflow: str = "saturate"
) -> fq.Accelerator:
    """Make a machine that rounds after every multiplication and every addition.

    Parameters
    ----------
    bits : int
        Width of its one word.
    frac : int
        How many of these bits are fraction: products and sums are multiples of 2^-frac.
    rounding, overflow : str
        What a store into the word does.

    Returns
    -------
    Accelerator
        Takes power-of-two scales only, one per tensor: its word has a fixed point. Functions are tables with correctly
        rounded entries.

    Examples
    --------
    0.75·0.5 + 0.75·0.5 is ¾; products kept in whole numbers make it 0 + 0.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[3, 3]], fq.fixed(8, 2)), fq.Tensor([[1, 1]], fq.fixed(8, 1))
    >>> graph = fq.Graph((fq.Value("x", (None, 2), x.format),), ("fc",),
    ...     (fq.Node("fc", fq.OPS["linear"], ("x", "w")),), {"w": w}, {"fc": fq.fixed(8, 2)})
    >>> [fq.run(fq.lower(graph, per_operation(frac=f)), x).output.real().item() for f in (8, 0)]
    [0.75, 0.0]
    """
    word = fq.Register(bits, overflow, rounding=rounding, frac=frac)
    scaler = fq.Shift(rounding)
    products = fq.SumOfProducts(scaler, product=word, sum=(fq.Stage(word),))
    averages = fq.SumOfProducts(fq.Divide(rounding, scaler), sum=(fq.Stage(word),))
    return fq.Accelerator(
        f"per_operation({bits}, {frac}, {rounding!r}, {overflow!r})",
        {
            **dict.fromkeys(("linear", "conv", "conv_transpose", "matmul"), products),
            **dict.fromkeys(("average_pool", "adaptive_average_pool", "mean"), averages),
            **dict.fromkeys(("add", "subtract"), fq.Elementwise(scaler, common="finest", register=word)),
            "multiply": fq.Elementwise(scaler, register=word),
            "lookup": fq.Lookup(output_rounding=rounding),
            "requantize": scaler,
        },
        source=SOURCE,
    )
