"""The ways to sum all rows of a contraction, one per kernel path; those that go step by step in lanes are in `stepwise`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.events import Run
from fixqnn.kernels import exact_tiles, library
from fixqnn.kernels.dot import FloatSum
from fixqnn.kernels.library import LibrarySum
from fixqnn.kernels.pack import HIGH_LIMB, LOW_LIMB, PLAIN, Operands
from fixqnn.kernels.plain_ways import PlainSum
from fixqnn.kernels.portable import PORTABLE
from fixqnn.kernels.stepwise import Stepwise
from fixqnn.kernels.tally import Tally
from fixqnn.kernels.vectors import WIDTH
from fixqnn.kernels.way import Finish, Form, Part, Way, outer_bias, wrapped

if TYPE_CHECKING:
    from fixqnn.kernels.contract import Contraction


def way(contraction: Contraction) -> Callable[[np.ndarray, Run, Tally, Finish], list[Any]]:
    """Find the way that the contraction's plan asks for."""
    plan = contraction.plan
    if plan.path.startswith("sum/float"):
        return Floats(contraction)
    if library.takes(contraction):
        return LibrarySum(contraction)
    if PORTABLE and plan.path.startswith("sum/"):
        return PlainSum(contraction)
    if plan.path == "sum/limbs":
        return Limbs(contraction)
    if plan.path.startswith("sum/"):
        return ExactSum(contraction)
    if plan.path == "wide" or (plan.watched and plan.counting is None):
        return Wide(contraction)
    return Stepwise(contraction)


class Wide(Way):
    """Every register step by step, modes as data."""

    step_cost = 512

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction, in_lanes=False)

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum rows in 64-bit lanes."""
        first_row = run.first_sample * self.window.positions
        acc[:] = self.c.step_by_step(part.packed(self.c.whole), offsets, row0, first_row, run, tally)


class Floats:
    """Exact sums by float products of torch."""

    def __init__(self, contraction: Contraction) -> None:
        c = self.c = contraction
        shift = -c.bound.bias_register.drop
        bias = [b << shift for b in c.bias] if c.bias else None
        self.sums = FloatSum(c.window, c.w.astype(np.int64), bias, max(abs(c.x_low), abs(c.x_high)), c.padding)

    def __call__(self, x: np.ndarray, run: Run, tally: Tally, finish: Finish) -> list[Any]:
        """Sum codes (samples, channels, depth, row, column), and `finish` the accumulators."""
        operand = np.ascontiguousarray(x, self.sums.dtype)
        if self.c.scale != 1:
            operand = operand * operand.dtype.type(self.c.scale)
        if self.c.offset:
            operand = operand - operand.dtype.type(self.c.offset)
        return [finish(np.ascontiguousarray(np.moveaxis(self.sums(operand), 1, 2)).reshape(-1, self.c.outputs), 0)]


class ExactSum(Way):
    """No register acts: any exact sum will do, in 32-bit lanes, which wrap without harm as the finished sum fits them."""

    dtype = np.int32
    operand_size = 2

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction)
        c, w = contraction, contraction.rows_of_weights
        none = np.zeros(c.window.terms, np.int64)
        start = np.array(outer_bias(c), object)
        if c.plan.operands == "int16":
            self.operands = Operands(np.int16, c.scale, c.offset, c.padding)
            self.form = Form(self, w, none, 2, 1 if self.by_channel else 2, 2, np.int16)
            self.drive = exact_tiles.run_dot16_channels if self.by_channel else exact_tiles.run_dot16
        else:
            # u = x − x_low is an unsigned byte; what it leaves out of the sum is the same for every row
            self.operands = Operands(np.uint8, c.scale, c.offset + c.x_low, c.padding - c.x_low)
            self.form = (
                Form(self, w, none, 1, 1, 2, np.int16) if self.by_channel else Form(self, w, none, 1, 4, 4, np.int8)
            )
            self.drive = exact_tiles.run_dot8_channels if self.by_channel else exact_tiles.run_dot8
            start = start + w.sum(axis=1).astype(object) * c.x_low
        self.start = self.form.lanes(wrapped(start))

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum rows exactly."""
        form = self.form
        places = offsets if form.size == 1 else offsets * form.size
        self.drive(part.packed(self.operands), places, form.steps, form.w, form.panels, self.start, acc)


class Limbs(Way):
    """Exact sums that pass 32 bits: blocks of terms that fit them, perhaps of inputs 256·h + l, joined in 64 bits."""

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction)
        c = contraction
        ways = (PLAIN,) if c.plan.limbs == 1 else (LOW_LIMB, HIGH_LIMB)
        self.operands = [
            (Operands(np.int16, c.scale, c.offset, c.padding, how=how), 8 * (how == HIGH_LIMB)) for how in ways
        ]
        group = 1 if self.by_channel else 2
        self.form = Form(self, c.rows_of_weights, np.zeros(c.window.terms, np.int64), 2, group, 2, np.int16)
        self.drive = exact_tiles.run_dot16_channels if self.by_channel else exact_tiles.run_dot16
        self.bias = np.array(outer_bias(c), np.int64)
        self.block = max(1, c.plan.block // group)  # words

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum blocks, and join them."""
        form, places = self.form, offsets * self.form.size
        start, out = np.zeros(form.count, np.int32), np.empty((offsets.size, self.c.outputs), np.int32)
        acc[:] = self.bias
        for k in range(0, len(form.steps), self.block):
            panels = form.panels.copy()
            panels[:, 1] += k * panels[:, 2] * WIDTH // 8
            for operands, shift in self.operands:
                packed = part.packed(operands)
                self.drive(packed, places, form.steps[k : k + self.block], form.w, panels, start, out)
                acc += out.astype(np.int64) << shift
