"""The same real numbers in another format: a scaler between two codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.arith.fast import WIDEST
from fixqnn.errors import DoesNotFit, FormatError, TooWide
from fixqnn.events import Run
from fixqnn.kernels.rescale import Rescale
from fixqnn.kernels.rows import from_rows, rows_of
from fixqnn.ops.layout import Shape, check_one_scale, check_rounds, lanes, position_of, positions_of
from fixqnn.ops.op import Op, Step
from fixqnn.ops.sums import Operand
from fixqnn.scaler import is_scaler


def shape(x: Shape) -> Shape:
    """Keep the shape."""
    return x


def real(x: np.ndarray) -> np.ndarray:
    """Keep the numbers."""
    return x


def prepare(step: Step) -> dict[str, Any]:
    """Make the scaler's constants from the steps of both formats."""
    if not is_scaler(step.datapath):
        raise DoesNotFit(f"{step.name} (requantize) needs a bare scaler, such as Exact(), not {step.datapath!r}")
    check_one_scale(step)
    check_rounds(step)
    try:
        made = {"rescale": step.datapath.prepare((_operand(step).step,), step.out_format.scale)}
        _rescale(step, made)  # refuses output formats that the scaler does not reach
    except (DoesNotFit, FormatError) as problem:
        raise DoesNotFit(f"{step.name} (requantize): {problem}") from None
    return made


def exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Rescale one code after another."""
    operand, acc = _operand(step), np.empty(x.shape, object)
    for place in np.ndindex(*x.shape):
        acc[place] = operand.scale * int(x[place]) - operand.offset
    return _rescale(step, step.prepared).exact_array(lanes(acc), run, position_of(x.shape)).reshape(x.shape)


def fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Rescale all codes."""
    try:
        if "rescale" not in step.cache:
            step.cache["rescale"] = _rescale(step, step.prepared)
        acc = operands(_operand(step), step.cache["rescale"].bound, x)
        y = step.cache["rescale"].fast(rows_of(acc), run, position_of(x.shape), positions_of(x.shape), narrow=True)
    except TooWide as problem:
        raise TooWide(f"{step.name} (requantize): {problem}") from None
    return from_rows(y, x.shape)


def operands(operand: Operand, bound: int, codes: np.ndarray) -> np.ndarray:
    """Turn codes into operands of at most `bound`, int32 or int64; TooWide where neither holds them."""
    widest = (bound + 2 * abs(operand.offset)).bit_length()
    if widest > WIDEST:
        raise TooWide(f"operands of up to ±{bound} pass 62 bits; use a narrower format, or engine='exact'")
    x = codes.astype(np.int32 if widest < 31 else np.int64)
    if operand.scale != 1:
        x *= operand.scale
    if operand.offset:
        x -= operand.offset
    return x


def _operand(step: Step) -> Operand:
    return Operand.of(step.in_format(0).scale, step.in_format(0).zero_point)


def _rescale(step: Step, made: dict[str, Any]) -> Rescale:
    bound = max(map(abs, _operand(step).range(step.in_format(0))))
    return Rescale(step.datapath, (made["rescale"],), step.out_format, bound)


REQUANTIZE = Op("requantize", shape, real, prepare, exact, fast)
