"""The ways to sum all rows of a contraction, one per kernel path; those that go step by step in lanes are in `stepwise`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fixqnn.events import Run
from fixqnn.kernels import tiles
from fixqnn.kernels.dot import FloatSum
from fixqnn.kernels.pack import HIGH_LIMB, LOW_LIMB, Operands
from fixqnn.kernels.stepwise import Stepwise
from fixqnn.kernels.tally import Tally
from fixqnn.kernels.way import Form, Part, Way, outer_bias, wrapped

if TYPE_CHECKING:
    from fixqnn.kernels.contract import Contraction


def way(contraction: Contraction) -> Callable[[np.ndarray, Run, Tally], np.ndarray]:
    """Find the way that the contraction's plan asks for."""
    plan = contraction.plan
    if plan.path.startswith("sum/float"):
        return Floats(contraction)
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
        self.sums = FloatSum(c.window, c.w, bias, max(abs(c.x_low), abs(c.x_high)), c.padding)

    def __call__(self, x: np.ndarray, run: Run, tally: Tally) -> np.ndarray:
        """Sum codes (samples, channels, depth, row, column) to rows."""
        operand = np.ascontiguousarray(x, self.sums.dtype)
        if self.c.scale != 1:
            operand = operand * operand.dtype.type(self.c.scale)
        if self.c.offset:
            operand = operand - operand.dtype.type(self.c.offset)
        return np.ascontiguousarray(np.moveaxis(self.sums(operand), 1, 2)).reshape(-1, self.c.outputs)


class ExactSum(Way):
    """No register acts: any exact sum will do, in 32-bit lanes, which wrap without harm as the finished sum fits them."""

    dtype = np.int32

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction)
        c, w = contraction, contraction.rows_of_weights
        none = np.zeros(c.window.terms, np.int64)
        start = np.array(outer_bias(c), object)
        if self.by_channel or c.plan.operands == "int16":
            self.operands = Operands(np.int16, c.scale, c.offset, c.padding)
            group = 1 if self.by_channel else 2
            self.form = Form(self, w, none, 2, group, 2, np.int16)
            self.drive = tiles.run_dot_channels if self.by_channel else tiles.run_dot16
        else:
            # u = x − x_low is an unsigned byte; what it leaves out of the sum is the same for every row
            self.operands = Operands(np.uint8, c.scale, c.offset + c.x_low, c.padding - c.x_low)
            self.form = Form(self, w, none, 1, 4, 4, np.int8)
            self.drive = tiles.run_dot8
            start = start + w.sum(axis=1).astype(object) * c.x_low
        self.start = self.form.lanes(wrapped(start))
        self.ends = np.array([0, len(self.form.steps)])

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum rows exactly."""
        form = self.form
        self.drive(part.packed(self.operands), offsets * form.size, form.steps, self.ends, form.w, form.panels, self.start,
                   form.todo(offsets.size), acc[:, None])  # fmt: skip


class Limbs(Way):
    """Exact sums of wider operands: x = 256·h + l, and w likewise where one limb's sums would pass 32 bits; joined in 64 bits."""

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction)
        c = contraction
        self.operands = tuple(
            Operands(np.int16, c.scale, c.offset, c.padding, how=how) for how in (LOW_LIMB, HIGH_LIMB)
        )
        w = c.rows_of_weights
        low = (w + 128) % 256 - 128
        parts = [(w, 0)] if c.plan.limbs[1] == 1 else [(low, 0), ((w - low) >> 8, 8)]
        none = np.zeros(c.window.terms, np.int64)
        group = 1 if self.by_channel else 2
        self.forms = [(Form(self, part, none, 2, group, 2, np.int16), shift) for part, shift in parts]
        self.drive = tiles.run_dot_channels if self.by_channel else tiles.run_dot16
        self.bias = np.array(outer_bias(c), np.int64)

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum limbs and join them."""
        acc[:] = self.bias
        for form, w_shift in self.forms:
            start, ends = np.zeros(form.count, np.int32), np.array([0, len(form.steps)])
            for operands, x_shift in zip(self.operands, (0, 8), strict=True):
                out = np.empty((offsets.size, 1, self.c.outputs), np.int32)
                self.drive(
                    part.packed(operands),
                    offsets * 2,
                    form.steps,
                    ends,
                    form.w,
                    form.panels,
                    start,
                    form.todo(offsets.size),
                    out,
                )
                acc += out[:, 0].astype(np.int64) << (x_shift + w_shift)
