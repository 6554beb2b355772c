"""How op files that sum nothing see their codes: as (samples, channels, positions), in formats that agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fixqnn.errors import BadInput, DoesNotFit
from fixqnn.ops.op import Step

Shape = tuple[int | None, ...]


def lanes(array: np.ndarray) -> np.ndarray:
    """View an array as (samples, channels, positions): registers are counted per channel, axis 1.

    >>> lanes(np.zeros((2, 3, 4, 5))).shape, lanes(np.zeros((2, 3))).shape, lanes(np.zeros(2)).shape
    ((2, 3, 20), (2, 3, 1), (2, 1, 1))
    """
    samples, channels, *positions = (*array.shape, 1, 1)
    return array.reshape(samples, channels, math.prod(positions))


def position_of(shape: Sequence[int | None]) -> Callable[[int], tuple[int, ...]]:
    """Make the function from a position among `lanes` to an index within the sample, without the channel.

    >>> position_of((None, 3, 4, 5))(7), position_of((None, 3))(0)
    ((1, 2), ())
    """
    spatial = tuple(shape[2:])
    return lambda p: tuple(int(i) for i in np.unravel_index(p, spatial))


def lanes_of(shape: Sequence[int | None]) -> int:
    """How many channels a value has, for registers are counted per channel."""
    return shape[1] if len(shape) > 1 else 1


def positions_of(shape: Sequence[int | None]) -> int:
    """How many positions a sample has: rows of one sample.

    >>> positions_of((None, 3, 4, 5)), positions_of((None, 3)), positions_of((None,))
    (20, 1, 1)
    """
    return math.prod(shape[2:])


def broadcast(*shapes: Shape) -> Shape:
    """Shape of operands that meet as in numpy; the batch axis (None) may meet only a 1, or nothing.

    >>> broadcast((None, 3, 8), (3, 1))
    (None, 3, 8)
    """
    rank = max(len(s) for s in shapes)
    result: list[int | None] = []
    for axis in range(rank):
        sizes = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0} - {1}
        if len(sizes) > 1 or (None in sizes and axis > 0):
            shown = " and ".join(map(str, shapes))
            raise BadInput(f"shapes {shown} do not meet: axis {axis} would have the lengths {sizes} (None: batch)")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def check_one_scale(step: Step) -> None:
    """Refuse values whose channels differ in scale."""
    for name in (*step.inputs, step.output):
        if step.formats[name].per_channel:
            raise DoesNotFit(
                f"{step.name} ({step.op.name}): {name!r} has one scale per channel, {step.formats[name]}; "
                "give it one scale per tensor"
            )


def check_one_format(step: Step) -> None:
    """Refuse formats that are not all the same, where codes only move or are compared."""
    check_one_scale(step)
    for name in step.inputs:
        if step.formats[name] != step.out_format:
            raise DoesNotFit(
                f"{step.name} ({step.op.name}) only moves or compares codes, but {name!r} is {step.formats[name]} and "
                f"{step.output!r} is {step.out_format}; put a requantize between them, or give both the same format"
            )


def check_rounds(step: Step) -> None:
    """Refuse, as the way to an output, a scaler that keeps the unrounded value of an operand."""
    scaler = step.datapath
    scaler = getattr(scaler, "scaler", scaler)
    scaler = getattr(scaler, "then", scaler)
    if getattr(scaler, "rounding", "") is None:
        raise DoesNotFit(
            f"{step.name} ({step.op.name}): {scaler!r} keeps the unrounded value, which is for operands; "
            "an output needs a rounding"
        )
