"""One contraction for all sums of products: the planned path over all rows, then the events of its registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.exact import add_up
from fixqnn.arith.fast import CONSTANTS, register_constants, sequence_key
from fixqnn.datapath import Register
from fixqnn.events import Run, Witness
from fixqnn.kernels.extent import Extent, extent
from fixqnn.kernels.pack import Operands, take_rows
from fixqnn.kernels.plan import Plan, choose, content_bound, too_narrow_for_one
from fixqnn.kernels.rescale import element_draw
from fixqnn.kernels.tally import INNER, Tally
from fixqnn.kernels.way import Finish, channels_last
from fixqnn.kernels.ways import way
from fixqnn.kernels.wide import NEVER, wide
from fixqnn.kernels.window import Window
from fixqnn.modes import Rounding

SCRATCH = 1 << 16  # operands of a block of gathered rows: stays in the second-level cache


@dataclass
class Contraction:
    """A sum of products at its place.

    Parameters
    ----------
    window : Window
        How weights walk over the input.
    order : tuple of str
        Order of the reduction axes, the fastest last.
    bound : BoundSum
        Registers with their drops.
    w : ndarray
        Weight operands, integers (groups, outputs, channels, depth, row, column), zero points removed.
    bias : tuple of int
        Bias codes per output channel; empty without a bias.
    scale, offset : int
        An input operand is scale·code − offset.
    padding : int
        The operand that padding contributes.
    x_low, x_high : int
        Smallest and largest input operand, padding included.
    xnor : bool
        Operands are ±1 and a term is 1 where they agree.
    forced : str, optional
        Kernel path to take.
    """

    window: Window
    order: tuple[str, ...]
    bound: BoundSum
    w: np.ndarray
    bias: tuple[int, ...]
    scale: int
    offset: int
    padding: int
    x_low: int
    x_high: int
    xnor: bool = False
    forced: str | None = None
    position: Callable[[int], tuple[int, ...]] = field(default=lambda p: (p,))

    @property
    def outputs(self) -> int:
        """Output channels of all groups."""
        return self.window.groups * self.window.outputs

    @cached_property
    def rows_of_weights(self) -> np.ndarray:
        """Weights of every output channel in the order of terms: (outputs, terms)."""
        channel, *taps = self.window.walk(self.order)
        return np.ascontiguousarray(self.w[:, :, channel, taps[0], taps[1], taps[2]].reshape(self.outputs, -1))

    @cached_property
    def flush(self) -> np.ndarray:
        """How many stages hand on their total after every term; the outermost never does."""
        terms, levels = self.window.terms, len(self.bound.stages)
        flush = np.zeros(terms, np.int64)
        gathered = [0] * levels
        for k in range(terms if levels > 1 else 0):
            gathered[0] += 1
            for level in range(levels - 1):
                ends = self.bound.ends[level]
                full = self.bound.stages[level].size is not None and gathered[level] == self.bound.stages[level].size
                if not (full or (ends is not None and ends[k]) or k == terms - 1):
                    break
                gathered[level] = 0
                gathered[level + 1] += 1
                flush[k] = level + 1
        return flush

    # -- planning ------------------------------------------------------------------------------------------------------

    @cached_property
    def reach(self) -> Extent:
        """How far partial sums can go."""
        return extent(self.rows_of_weights, self.x_low, self.x_high, self.xnor, self.flush)

    @property
    def limit(self) -> int:
        """How far the last register's content can go; asks for no kernel path, so that wide datapaths have an answer too."""
        return content_bound(self.reach, self.bound, self.bias, self.window.terms)

    @cached_property
    def plan(self) -> Plan:
        """Path, reason and bound."""
        plan = choose(self.reach, self.bound, self.bias, self.window.terms, self.forced)
        # torch fills the gaps of a transposed window with zeros only
        if plan.path.startswith("sum/float") and self.window.transposed and self.padding != 0:
            plan = choose(self.reach, self.bound, self.bias, self.window.terms, "wide")
        narrow, forbidden = too_narrow_for_one(self.reach, self.bound)
        return replace(plan, reason=f"{plan.reason}; {narrow}", refused=forbidden) if narrow else plan

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Constants of every place, and which places exist: product, (register, out) per stage, bias."""
        levels = len(self.bound.stages)
        rows = np.zeros((2 * levels + 2, CONSTANTS), np.int64)
        used = np.zeros(2 * levels + 2, np.bool_)
        numbered = {**self.numbered, 2 * levels + 1: self.bound.bias_register if self.bias else None}
        for index, place in numbered.items():
            if place is not None:
                rows[index] = register_constants(place.register, place.drop)
                used[index] = True
        return rows, used

    @property
    def numbered(self) -> dict[int, BoundRegister | None]:
        """Places by number: product, then register and out of every stage; None where there is none."""
        numbered = {0: self.bound.product}
        for i, stage in enumerate(self.bound.stages):
            numbered |= {1 + 2 * i: stage.register, 2 + 2 * i: stage.out}
        return numbered

    @cached_property
    def _way(self) -> Any:
        return way(self)

    # -- running -------------------------------------------------------------------------------------------------------

    def sum(self, x: np.ndarray, run: Run, finish: Finish) -> list[Any]:
        """Sum codes (samples, channels, depth, row, column); events go to `run`.

        Accumulators (rows, outputs) go to ``finish(rows, first)`` some at a time, perhaps from several threads; rows are
        numbered from 0 by sample and position. Returns what it gave, in the order of rows.
        """
        tally = Tally(len(self.places[0]), self.outputs)
        made = self._way(x, run, tally, finish)
        self._report(x, run, tally)
        return made

    @cached_property
    def random(self) -> bool:
        """Whether some register rounds at random."""
        return any(
            p.register.rounding is Rounding.stochastic and p.drop > 0
            for p in [*self.bound.registers, self.bound.bias_register]
        )

    @property
    def whole(self) -> Operands:
        """Operands as 64-bit numbers."""
        return Operands(np.int64, self.scale, self.offset, self.padding)

    @cached_property
    def _panels(self) -> np.ndarray:
        """Weights (groups, terms, outputs) for the wide path."""
        w = self.rows_of_weights.reshape(self.window.groups, self.window.outputs, -1)
        return np.ascontiguousarray(w.swapaxes(1, 2).astype(np.int64))

    def step_by_step(
        self, packed: np.ndarray, offsets: np.ndarray, row0: int, first_row: int, run: Run, tally: Tally
    ) -> np.ndarray:
        """Sum rows at `offsets` of whole operands in 64-bit lanes; row0 numbers the first one in this call."""
        places, used = self.places
        window, o = self.window, self.window.outputs
        bias_first = bool(self.bias) and self.bound.bias == "first"
        key = sequence_key(run.seed, run.stream) if self.random else None
        steps = window.steps(self.order)
        acc = np.empty((offsets.size, self.outputs), np.int64)
        width = max(1, SCRATCH // max(window.terms, 1))
        for group in range(window.groups):
            lanes = slice(group * o, (group + 1) * o)
            bias = np.array(self.bias[lanes] or (0,) * o, np.int64)
            counts, first = np.zeros((2, len(used), o), np.int64), np.full((len(used), o), NEVER)
            for p in range(0, offsets.size, width):
                block = offsets[p : p + width] + group * window.channels
                rows = np.empty((block.size, window.terms), np.int64)
                take_rows(packed.view(np.int64), block, steps, rows)
                totals = np.empty((block.size, o), np.int64)
                # random numbers are numbered by the row among all of the step's, events by the row at hand
                wide(
                    rows, self._panels[group], bias, places, used, len(self.bound.stages) - 1, bias_first,
                    int(self.xnor), self.flush, key, first_row + row0 + p, lanes.start, self.outputs, totals, counts, first,
                )  # fmt: skip
                acc[p : p + width, lanes] = totals
            tally.counts[:, :, lanes] += counts
            tally.first[:, lanes] = np.minimum(
                tally.first[:, lanes], np.where(first == NEVER, NEVER, first - first_row)
            )
        return acc

    @cached_property
    def _registers(self) -> list[tuple[str, Register]]:
        return [(place.name, place.register) for place in self.bound.registers]

    @cached_property
    def _none(self) -> np.ndarray:
        return np.zeros(self.outputs, np.int64)

    # -- events ------------------------------------------------------------------------------------------------------

    def _report(self, x: np.ndarray, run: Run, tally: Tally) -> None:
        if not tally.touched:
            for name, register in self._registers:
                run.note(name, register, self._none, self._none)
            return
        counts, first = tally.counts, tally.first
        last = 2 * len(self.bound.stages) - 1
        counts[:, last] += counts[:, -1]  # the bias enters the outermost register
        np.minimum(first[last], first[-1], out=first[last])
        for index, place in self.numbered.items():
            if place is None:
                continue
            witness = None
            if counts[:, index].any() and not run.has_witness(place.name):
                witness = self._witness(x, run, place, *self._earliest(x, run, index, tally))
            run.note(place.name, place.register, counts[0, index], counts[1, index], witness)

    def _earliest(self, x: np.ndarray, run: Run, index: int, tally: Tally) -> tuple[int, int]:
        """Row and channel of a register's first event."""
        first = tally.first[index]
        if index == INNER + 2 * self.plan.level and tally.suspect < first.min():
            return self._way.first_acted(x, tally.suspect)
        return int(first.min()), int(first.argmin())

    def _witness(self, x: np.ndarray, run: Run, place: BoundRegister, row: int, channel: int) -> Witness:
        """Fold one output again by the definition, to find the term at which its register first acted."""
        n, p = divmod(row, self.window.positions)
        found: list[tuple[int, int]] = []

        def note(name: str, index: int, asked: int) -> None:
            if name == place.name:
                found.append((index, asked))

        self.fold(x[n], channel, p, run.first_sample * self.window.positions + row, run, note)
        index, asked = found[0]
        return Witness(run.first_sample + n, self.position(p), channel, index, asked)

    def terms_of(self, sample: np.ndarray, channel: int, p: int) -> list[tuple[int, int]]:
        """Operand pairs that meet in one output, in order; `sample` is (channels, depth, row, column)."""
        window = self.window
        packed = self.whole.pack(channels_last(sample[None]), window).view(np.int64)
        base = window.offsets[p] + channel // window.outputs * window.channels
        operands = packed[base + window.steps(self.order)]
        return list(zip(operands.tolist(), self.rows_of_weights[channel].tolist(), strict=True))

    def fold(
        self, sample: np.ndarray, channel: int, p: int, row: int, run: Run, note: Callable[[str, int, int], None]
    ) -> int:
        """Fold one output by the definition."""
        pairs = self.terms_of(sample, channel, p)
        products = [int(a == b) if self.xnor else a * b for a, b in pairs]
        key = int(sequence_key(run.seed, run.stream))
        draw = element_draw(key, row * self.outputs + channel, self.window.terms, self.bound.places)
        return add_up(products, self.bound, self.bias[channel] if self.bias else None, note, draw)
