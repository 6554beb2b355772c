"""What a program costs in hardware, whatever data it runs on: memory, multiplications, the widest register."""

from __future__ import annotations

import math

from fixqnn.costs import multiplications
from fixqnn.datapath import SumOfProducts
from fixqnn.program import Program
from fixqnn.sweeps.variants import registers_of


def sizes(program: Program) -> dict[str, int]:
    """Count a program's bits and multiplications.

    Parameters
    ----------
    program : Program
        From `lower`.

    Returns
    -------
    dict of str to int
        ``weight_bits``: bits of all weights and biases in memory; ``value_bits``: bits of all values of one sample, inputs
        and what steps write; ``macs``: multiplications of one sample; ``bit_operations``: their sum, each counted as
        bits of the weight times bits of the value (C. Baskin et al., "UNIQ", arXiv:1804.10969, without its term for
        additions); ``accumulator_bits``: the widest register inside any sum of products, 0 where there is none.
    """
    found = dict.fromkeys(("weight_bits", "value_bits", "macs", "bit_operations", "accumulator_bits"), 0)
    formats = program.formats
    found["weight_bits"] = sum(codes.size * formats[name].bits for name, codes in program.constants.items())
    found["value_bits"] = sum(math.prod(v.shape[1:]) * v.format.bits for v in program.inputs)
    for step in program.steps:
        found["value_bits"] += math.prod(step.shapes[step.output][1:]) * step.out_format.bits
        if not isinstance(step.datapath, SumOfProducts):
            continue
        macs = multiplications(step.op.name, [step.shapes[name] for name in (*step.inputs, step.output)])
        found["macs"] += macs
        if macs:
            found["bit_operations"] += macs * step.in_format(0).bits * step.in_format(1).bits
        widths = [register.bits for register in registers_of((step.datapath.product, step.datapath.sum))]
        found["accumulator_bits"] = max(found["accumulator_bits"], *widths)
    return found
