"""A weight-stationary systolic array: partial sums down the rows, totals in an accumulator memory."""

from __future__ import annotations

import fixqnn as fq

SOURCE = (
    "H. T. Kung, Why systolic architectures?, Computer 15(1), 1982, for the array; tiles as in N. P. Jouppi et al., "
    "In-datacenter performance analysis of a tensor processing unit, ISCA 2017. Partial sums, output codes and cycles of "
    "one tile were compared with a Verilog array under Icarus Verilog (tests/vectors/systolic_rtl.npz). The accumulator "
    "memory, the multiplier and the unit for elementwise operations have no foreign answer."
)


def systolic(
    rows: int = 16,
    columns: int = 16,
    partial: int = 16,
    accumulator: int = 32,
    overflow: str = "saturate",
    accumulator_overflow: str = "saturate",
    rounding: str = "half_even",
    scaler: str = "multiplier",
    within: str | None = None,
) -> fq.Accelerator:
    """Make a weight-stationary array of `rows` x `columns` cells.

    A column adds `rows` products one after another in a register of `partial` bits; these totals of tiles add up in an
    accumulator of `accumulator` bits, which an output stage rescales to the output's format. With ``overflow="saturate"``
    the order of the products matters, and what was clipped is not won back.

    Parameters
    ----------
    rows : int
        Products that one partial sum gathers.
    columns : int
        Outputs side by side; it counts in the cycles and changes no code.
    partial, accumulator : int
        Widths of the two registers; 16 and 32 are the case of 16-bit partial sums and 32-bit totals.
    overflow, accumulator_overflow : str
        What they do with a sum that does not fit.
    rounding : str
        Of the output stage.
    scaler : str
        ``"multiplier"``: a 32-bit multiplier and a shift, which takes any scales, and powers of two exactly;
        ``"shift"``: a shift alone, which takes power-of-two scales only.
    within : str, optional
        ``"channel"``: a tile never crosses from one kernel position to the next, as where tiles run over input channels.

    Returns
    -------
    Accelerator
        Functions are tables with correctly rounded entries.

    Examples
    --------
    Three products of -128 saturate a 16-bit partial sum: 16384, 32767 (not 32768), 32767 - 16256.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[-128, -128, -128]], fq.fixed(8, 0)), fq.Tensor([[-128, -128, 127]], fq.fixed(8, 0))
    >>> graph = fq.Graph((fq.Value("x", (None, 3), x.format),), ("fc",),
    ...     (fq.Node("fc", fq.OPS["linear"], ("x", "w")),), {"w": w}, {"fc": fq.fixed(32, 0)})
    >>> [fq.run(fq.lower(graph, systolic(partial=bits)), x).output.codes.item() for bits in (16, 17)]
    [16511, 16512]
    """
    if scaler not in ("multiplier", "shift"):
        raise fq.FormatError(f"systolic: scaler must be 'multiplier' or 'shift', not {scaler!r}")
    total = fq.Register(accumulator, accumulator_overflow)
    vector = fq.Register(48)  # elementwise operations run beside the array, in a unit of their own
    stages = (fq.Stage(fq.Register(partial, overflow), size=rows, within=within), fq.Stage(total))
    if scaler == "shift":
        output = fq.Shift(rounding)
        averages = fq.SumOfProducts(fq.Divide(rounding, output), sum=(fq.Stage(total),))
        sums = fq.Elementwise(output, common="finest", register=vector)
    else:
        output = fq.Multiplier(32, rounding)
        averages = fq.SumOfProducts(output, sum=(fq.Stage(total),))
        # operands are lifted by 20 bits and brought to a common step, so that aligning them costs no output bit
        sums = fq.Elementwise(output, common="twice_max", align=output, headroom=20, register=vector)
    tile = "" if within is None else f", within={within!r}"
    return fq.Accelerator(
        f"systolic({rows}x{columns}, partial={partial}, accumulator={accumulator}{tile})",
        {
            **dict.fromkeys(("linear", "conv", "conv_transpose", "matmul"), fq.SumOfProducts(output, sum=stages)),
            **dict.fromkeys(("average_pool", "adaptive_average_pool", "mean"), averages),
            **dict.fromkeys(("add", "subtract"), sums),
            "multiply": fq.Elementwise(output, register=vector),
            "lookup": fq.Lookup(output_rounding=rounding),
            "requantize": output,
        },
        source=SOURCE,
    )


def cycles(vectors: int, terms: int, outputs: int, rows: int = 16, columns: int = 16) -> int:
    """Count the cycles of a product of matrices, one tile after another, none overlapping.

    A tile takes 2·rows + vectors + columns - 2: `rows` to load the weights, the rest to stream the vectors through.
    A tile at the edge takes only as many rows and columns as it has.

    >>> cycles(vectors=20, terms=9, outputs=11, rows=9, columns=11)
    47
    """
    total = 0
    for height in _tiles(terms, rows):
        for width in _tiles(outputs, columns):
            total += 2 * height + vectors + width - 2
    return total


def _tiles(length: int, size: int) -> list[int]:
    return [min(size, length - start) for start in range(0, length, size)]
