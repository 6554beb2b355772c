"""Ways to sum, and attempts of stepwise sums, for the plain loops of `fixqnn.kernels.portable`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.arith.fast import shift_constants, store_constants
from fixqnn.events import Run
from fixqnn.kernels import portable
from fixqnn.kernels.lanes import Lanes
from fixqnn.kernels.pack import Operands
from fixqnn.kernels.portable import MOST, UNIT
from fixqnn.kernels.tally import INNER, Tally
from fixqnn.kernels.vectors import ROWS
from fixqnn.kernels.way import Part, Way, outer_bias

if TYPE_CHECKING:
    from fixqnn.kernels.contract import Contraction
    from fixqnn.kernels.stepwise import Stepwise

NEVER = np.zeros(5, np.int32)  # `shift_constants` of a number that is not rounded


@dataclass(frozen=True)
class Layout:
    """Weights (terms, lanes), places of terms, and the table of panels."""

    w: np.ndarray
    places: np.ndarray
    panels: np.ndarray
    reach: int = 0  # rows past the end are not touched

    def todo(self, rows: int) -> np.ndarray:
        """All blocks of rows, for all panels."""
        return np.ones((-(-rows // ROWS), len(self.panels)), np.uint8)

    def lanes(self, per_channel: np.ndarray) -> np.ndarray:
        """Spread rows (…, channels) over the lanes of all panels; lanes without a channel get 0."""
        spread = np.zeros((*per_channel.shape[:-1], self.w.shape[1]), per_channel.dtype)
        for _, lane, channel, width in self.panels.tolist():
            spread[..., lane : lane + width] = per_channel[..., channel : channel + width]
        return spread


def layout(way: Way, w: np.ndarray) -> Layout:
    """Lay out weights (channels, terms)."""
    window = way.c.window
    outputs = way.c.outputs if way.by_channel else window.outputs
    panels, lanes = [], 0
    for group in range(way.c.outputs // outputs):
        for first in range(0, outputs, MOST):
            width = min(MOST, outputs - first)
            panels.append((first if way.by_channel else group * window.channels, lanes, group * outputs + first, width))
            lanes += -(-width // UNIT) * UNIT
    made = Layout(np.zeros((window.terms, lanes), w.dtype), way.window.steps(way.c.order), np.array(panels, np.int64))
    made.w[:] = made.lanes(np.ascontiguousarray(w.T))
    return made


def operands_of(c: Contraction) -> Operands:
    """Whole operands in the narrowest type that holds them all."""
    fits = -(1 << 15) <= c.x_low <= c.x_high < 1 << 15
    return Operands(np.int16 if fits else np.int32, c.scale, c.offset, c.padding)


class PlainSum(Way):
    """No register acts: sums modulo 2^32 where the finished one fits, else in 64 bits."""

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction)
        self.dtype = np.int64 if contraction.plan.path == "sum/limbs" else np.int32
        self.operands = operands_of(contraction)
        self.layout = layout(self, contraction.rows_of_weights.astype(np.int16))
        bias = np.array(outer_bias(contraction), object) % (1 << 64)
        self.start = self.layout.lanes(bias.astype(np.uint64).view(np.int64).astype(self.dtype))
        self.ends = np.array([0, contraction.window.terms])
        self.loop = portable.sums_of_channels if self.by_channel else portable.sums

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum rows exactly."""
        made, x = self.layout, part.packed(self.operands).view(self.operands.dtype)
        todo = made.todo(offsets.size)
        self.loop(x, offsets, made.places, self.ends, made.w, made.panels, self.start, todo, acc[:, None])


class Attempt:
    """What all attempts share: the loops' common arguments."""

    def __init__(
        self, way: Stepwise, operands: Operands, w_shift: int, spare: int, lane: type, ends: np.ndarray
    ) -> None:
        self.operands, self.spare, self.ends = operands, spare, ends
        self.form = layout(way, (way.c.rows_of_weights.astype(np.int64) << w_shift).astype(np.int16))
        self.start = self.form.lanes((way.first_bias << spare).astype(lane))

    def arguments(self, part: Part, offsets: np.ndarray) -> tuple[Any, ...]:
        """Operands, and places of rows and terms."""
        return part.packed(self.operands).view(self.operands.dtype), offsets, self.form.places

    def rest(self) -> tuple[Any, ...]:
        """Weights and panels."""
        return self.ends, self.form.w, self.form.panels, self.start


def attempts(way: Stepwise) -> list[Any]:
    """The attempts of a stepwise sum: cheap ones where they can tell that the register does not act, then one that counts."""
    plan = way.c.plan
    if plan.counting is None:
        return [Totals(way)]
    quiet: list[Any] = []
    lanes = narrow(way)
    if lanes is not None:
        quiet = [Saturating(way, lanes)]
    elif not way.level and plan.counting.rounding == "none":
        quiet = [Plain(way, plan.counting)]
    return [*quiet, Counting(way, plan.counting)]


def narrow(way: Stepwise) -> Lanes | None:
    """How 16-bit lanes hold a register that saturates at both ends, whatever explicit vectors would take; None if they cannot.

    Every event is seen at once, so that no spare bits are needed.
    """
    c, lanes, register = way.c, way.c.plan.lanes, way.register.register
    if way.by_channel or way.level or lanes is None or register.bits > 16 or not lanes.form.startswith("saturate"):
        return None
    shift = lanes.x_shift + lanes.w_shift + lanes.doubled - (16 if lanes.form == "saturate32" else 0)
    weights = int(c.w.min()) << shift, int(c.w.max()) << shift
    products = [x * w for x in (c.x_low, c.x_high) for w in weights]
    if not all(-(1 << 15) <= v < 1 << 15 for v in (*products, *weights, c.x_low, c.x_high)):
        return None
    return Lanes("saturate16", 0, shift, 16 - register.bits)


class Totals(Attempt):
    """Exact totals of runs in which no register can act."""

    def __init__(self, way: Stepwise) -> None:
        super().__init__(way, operands_of(way.c), 0, 0, np.int32, run_ends(way))
        self.loop = portable.sums_of_channels if way.by_channel else portable.sums

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle all blocks."""
        self.loop(*self.arguments(part, offsets), *self.rest(), todo, out)


class Saturating(Attempt):
    """The saturation of 16-bit lanes, where it is the register's."""

    def __init__(self, way: Stepwise, lanes: Lanes) -> None:
        super().__init__(way, operands_of(way.c), lanes.w_shift, lanes.spare, np.int16, run_ends(way))

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle what was not clamped."""
        portable.saturating(*self.arguments(part, offsets), *self.rest(), self.spare, todo, out)


def shifted(c: Contraction, lanes: Lanes) -> Operands:
    """Operands scaled for lanes; they fit 16 bits."""
    return Operands(np.int16, c.scale, c.offset, c.padding, lanes.x_shift)


class Plain(Attempt):
    """Sums and their extremes in 32-bit lanes, for registers that do not round."""

    def __init__(self, way: Stepwise, lanes: Lanes) -> None:
        super().__init__(way, shifted(way.c, lanes), lanes.w_shift, lanes.spare, np.int32, run_ends(way))
        first, last, *_ = store_constants(way.register.register)
        self.edges = first << lanes.spare, last << lanes.spare
        self.loop = portable.plain_of_channels if way.by_channel else portable.plain

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle what stayed within the register."""
        self.loop(*self.arguments(part, offsets), *self.rest(), self.spare, todo, out, *self.edges)


class Counting(Attempt):
    """Any rounding and any register in 32-bit lanes, with its events."""

    def __init__(self, way: Stepwise, lanes: Lanes) -> None:
        ended = np.flatnonzero(way.c.flush >= way.level) if way.level else np.arange(way.c.window.terms)
        ends = np.searchsorted(way.runs[ended], np.arange(way.count + 1))
        super().__init__(way, shifted(way.c, lanes), lanes.w_shift, lanes.spare, np.int32, ends)
        self.terms = np.append(0, ended + 1)
        rounding = np.array(shift_constants(lanes.drop, lanes.mode)[:5], np.int32)
        self.roundings = [NEVER if lanes.rounding in (other, "none") else rounding for other in ("sum", "term")]
        self.register = (np.array(store_constants(way.register.register), np.int64) << lanes.spare).astype(np.int32)
        self.place = INNER + 2 * way.level
        self.loop = portable.any_step_of_channels if way.by_channel else portable.any_step

    def __call__(
        self, part: Part, offsets: np.ndarray, todo: np.ndarray, out: np.ndarray, row0: int, tally: Tally
    ) -> None:
        """Settle all blocks; events go to the tally."""
        counts = np.zeros((2, self.form.w.shape[1]), np.int64)
        earliest = self.loop(*self.arguments(part, offsets), self.terms, *self.rest(), self.spare, todo, out,
                             *self.roundings, self.register, counts)  # fmt: skip
        if earliest >= 0:
            tally.suspect = min(tally.suspect, row0 + earliest * ROWS)
            for _, lane, channel, width in self.form.panels.tolist():
                tally.counts[:, self.place, channel : channel + width] += counts[:, lane : lane + width]


def run_ends(way: Stepwise) -> np.ndarray:
    """Where the terms of every run begin, and where the last one ends."""
    return np.searchsorted(way.runs, np.arange(way.count + 1))
