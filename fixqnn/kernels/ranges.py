"""Which codes a value can take in a program: never more than its format has, and often fewer.

A code enters a program only through its format, so the format's range holds for every value. Steps that move, compare or look
up codes say more: after a relu no operand is negative, which spares the next sum about a bit.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import numpy as np

from fixqnn.datapath import Lookup

Range = tuple[int, int]

# every code of the output is a code of some input, or of the padding
CARRIES = ("reshape", "transpose", "slice", "pad", "concat", "pixel_shuffle", "resize", "max_pool")


def range_of(step: Any, name: str) -> Range:
    """Smallest and largest code that a step's value can take: what lowering found, else the format's.

    Parameters
    ----------
    step : Step
        The step.
    name : str
        One of its inputs, or its output.
    """
    form = step.formats[name]
    return step.ranges.get(name, (form.low, form.high))


def ranged(step: Any, known: MutableMapping[str, Range], built_in: bool = True) -> Any:
    """Give a prepared step its ranges, from those of earlier steps in `known`; that of its output joins them.

    Only of built-in operations is known what they do; what another hands out has its format's range, whatever its name.
    """
    ranges = {name: _input(step, name, known) for name in step.inputs}
    form = step.out_format
    whole = form.low, form.high
    known[step.output] = _output(step, [ranges[name] for name in step.inputs]) if built_in else whole
    return replace(step, ranges={**ranges, step.output: known[step.output]})


def _input(step: Any, name: str, known: Mapping[str, Range]) -> Range:
    codes = step.constants.get(name)
    if codes is not None and np.size(codes):
        return int(np.min(codes)), int(np.max(codes))
    form = step.formats[name]
    return known.get(name, (form.low, form.high))


def _output(step: Any, inputs: list[Range]) -> Range:
    form = step.out_format
    if step.op.name in CARRIES:
        padding = [step.prepared["padding_code"]] if "padding_code" in step.prepared else []
        return min([*padding, *(low for low, _ in inputs)]), max([*padding, *(high for _, high in inputs)])
    if step.op.name == "clamp":
        lowest, highest = step.prepared["lowest"], step.prepared["highest"]
        return tuple(min(max(code, lowest), highest) for code in inputs[0])  # type: ignore[return-value]
    if step.op.name == "lookup" and isinstance(step.datapath, Lookup) and step.datapath.scaler is None:
        entries = step.prepared["entries"]
        if step.datapath.size is None:  # one entry per code, the smallest code first
            low, high = (code - step.in_format(0).low for code in inputs[0])
            entries = entries[low : high + 1]
        return int(np.min(entries)), int(np.max(entries))
    return form.low, form.high
