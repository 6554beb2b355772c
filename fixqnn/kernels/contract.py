"""One contraction for all sums of products: gather, sum along the planned path, report events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.exact import add_up
from fixqnn.arith.fast import CONSTANTS, register_constants, sequence_key
from fixqnn.events import Run, Witness
from fixqnn.kernels.dot import FloatSum, self_test
from fixqnn.kernels.gather import Window, gather_columns, gather_rows
from fixqnn.kernels.plan import Extent, Plan, choose, content_bound, extent, too_narrow_for_one
from fixqnn.kernels.rescale import element_draw
from fixqnn.kernels.stepwise import fold_tiles, tiles
from fixqnn.kernels.wide import wide
from fixqnn.modes import Rounding

SCRATCH = 1 << 16  # words of a block of gathered rows: stays in the second-level cache
POSITIONS = 512  # output positions of a block that has positions in its lanes


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
        Weight operands, int64 (groups, outputs, channels, depth, row, column), zero points removed.
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
    def walk(self) -> np.ndarray:
        """Coordinates of every term, in the datapath's order."""
        return self.window.walk(self.order)

    @cached_property
    def panels(self) -> np.ndarray:
        """Weight operands in the datapath's order: (groups, terms, outputs)."""
        channel, depth, row, column = self.walk
        return np.ascontiguousarray(self.w[:, :, channel, depth, row, column].swapaxes(1, 2))

    @cached_property
    def reach(self) -> Extent:
        """How far partial sums can go."""
        return extent(self.w.reshape(self.outputs, -1), self.x_low, self.x_high, self.xnor)

    @property
    def limit(self) -> int:
        """How far the last register's content can go; asks for no kernel path, so that wide datapaths have an answer too."""
        return content_bound(self.reach, self.bound, self.bias, self.window.terms)

    @cached_property
    def plan(self) -> Plan:
        """Path, reason and bound."""
        reach = self.reach
        plan = choose(reach, self.bound, self.bias, self.window.terms, self.forced)
        # float products know neither agreement of bits nor gaps filled with a zero point
        gaps = self.window.transposed and self.padding != 0
        if plan.path == "sum" and (self.xnor or gaps or not self_test()):
            plan = choose(reach, self.bound, self.bias, self.window.terms, "wide")
        narrow, forbidden = too_narrow_for_one(reach, self.bound)
        return replace(plan, reason=f"{plan.reason}; {narrow}", refused=forbidden) if narrow else plan

    def sum(self, x: np.ndarray, run: Run, first_row: int | None = None) -> np.ndarray:
        """Sum codes (samples, channels, depth, row, column) to (samples, outputs, positions); events go to `run`.

        `first_row` numbers the first output position among all of this step; by default from `run.first_sample`.
        """
        if first_row is None:
            first_row = run.first_sample * self.window.positions
        if self.plan.path == "sum":
            for place in self.bound.registers:
                none = np.zeros(self.outputs, np.int64)
                run.note(place.name, place.register, none, none)
            return self._float_sum(x)
        acc = np.empty((x.shape[0], self.outputs, self.window.positions), np.int64)
        for group in range(self.window.groups):
            self._step_by_step(x, group, run, first_row, acc)
        return acc

    @cached_property
    def _floats(self) -> FloatSum:
        shift = -self.bound.bias_register.drop
        bias = [b << shift for b in self.bias] if self.bias else None
        return FloatSum(self.window, self.w, bias, max(abs(self.x_low), abs(self.x_high)), self.padding)

    def _float_sum(self, x: np.ndarray) -> np.ndarray:
        operand = x.astype(self._floats.dtype)
        if self.scale != 1:
            operand *= operand.dtype.type(self.scale)
        if self.offset:
            operand -= operand.dtype.type(self.offset)
        return self._floats(operand)

    # -- step by step ------------------------------------------------------------------------------------------------

    @cached_property
    def _constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Constants of every place, and which places exist: product, (register, out) per stage, bias."""
        levels = len(self.bound.stages)
        rows = np.zeros((2 * levels + 2, CONSTANTS), np.int64)
        used = np.zeros(2 * levels + 2, np.bool_)

        def fill(index: int, place: BoundRegister | None) -> None:
            if place is not None:
                rows[index] = register_constants(place.register, place.drop)
                used[index] = True

        fill(0, self.bound.product)
        for i, stage in enumerate(self.bound.stages):
            fill(1 + 2 * i, stage.register)
            fill(2 + 2 * i, stage.out)
        if self.bias:
            fill(2 * levels + 1, self.bound.bias_register)
        return rows, used

    @cached_property
    def flush(self) -> np.ndarray:
        """How many stages hand on their total after every term; the outermost never does."""
        terms, levels = self.window.terms, len(self.bound.stages)
        flush = np.zeros(terms, np.int64)
        gathered = [0] * levels
        for k in range(terms):
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

    @cached_property
    def _random(self) -> bool:
        return any(
            p.register.rounding is Rounding.stochastic and p.drop > 0
            for p in [*self.bound.registers, self.bound.bias_register]
        )

    def _step_by_step(self, x: np.ndarray, group: int, run: Run, first_row: int, acc: np.ndarray) -> None:
        lanes = slice(group * self.window.outputs, (group + 1) * self.window.outputs)
        kinds = len(self._constants[0])
        counts = np.zeros((2, kinds, self.window.outputs), np.int64)
        first = np.full((kinds, self.window.outputs), -1, np.int64)
        x = np.ascontiguousarray(x)
        work = self._narrow if self.plan.path == "stepwise" else self._wide
        for n in range(x.shape[0]):
            work(x[n], group, run, first_row + n * self.window.positions, acc[n, lanes], counts, first)
        self._report(x, run, lanes, first_row, counts, first)

    def _blocks(self, width: int) -> Iterator[tuple[int, int]]:
        """Output positions in blocks of at most `width`."""
        for p in range(0, self.window.positions, width):
            yield p, min(p + width, self.window.positions)

    def _gather(
        self, how: Callable[..., None], sample: np.ndarray, group: int, position: int, out: np.ndarray
    ) -> np.ndarray:
        window = self.window
        how(
            sample,
            window.integers,
            self.walk,
            group,
            window.channels,
            position,
            self.scale,
            self.offset,
            self.padding,
            out,
        )
        return out

    def _bias_of(self, group: int) -> np.ndarray:
        o = self.window.outputs
        return np.array(self.bias[group * o : (group + 1) * o] or (0,) * o, np.int64)

    def _wide(
        self,
        sample: np.ndarray,
        group: int,
        run: Run,
        row0: int,
        acc: np.ndarray,
        counts: np.ndarray,
        first: np.ndarray,
    ) -> None:
        places, used = self._constants
        window = self.window
        bias_first = bool(self.bias) and self.bound.bias == "first"
        key = sequence_key(run.seed, run.stream) if self._random else None
        width = max(1, SCRATCH // max(window.terms, 1))
        for p, q in self._blocks(width):
            rows = self._gather(gather_rows, sample, group, p, np.empty((q - p, window.terms), np.int64))
            totals = np.empty((q - p, window.outputs), np.int64)
            wide(
                rows, self.panels[group], self._bias_of(group), places, used, len(self.bound.stages) - 1, bias_first,
                int(self.xnor), self.flush, key, row0 + p, group * window.outputs, self.outputs, totals, counts, first,
            )  # fmt: skip
            acc[:, p:q] = totals.T

    @cached_property
    def _merges(self) -> bool:
        """Whether the outer registers are proved inert, so that tile totals may simply be added in 32 bits."""
        inner, outer = self.bound.stages[0], self.bound.stages[1:]
        if (
            any(s.out for s in self.bound.stages)
            or any(s.register.drop for s in outer)
            or self.bound.bias_register.drop
        ):
            return False
        tile = max(-inner.register.register.low, inner.register.register.high)
        most = tile * (int((self.flush > 0).sum()) + 1) + max(map(abs, self.bias), default=0)
        registers = [s.register.register for s in outer]
        return all(r.low <= -most and most <= r.high for r in registers) and most < 1 << 31

    @property
    def _by_position(self) -> bool:
        """Whether lanes are output positions, with a weight as the common factor, and not output channels."""
        return self.window.outputs < 192 and self.window.positions >= 64

    @cached_property
    def _lane_type(self) -> type:
        """Narrowest type of the operand that differs from lane to lane."""
        largest = max(abs(self.x_low), abs(self.x_high)) if self._by_position else int(np.abs(self.w).max(initial=0))
        return np.int16 if largest < 1 << 15 else np.int32

    @cached_property
    def _packed(self) -> list[np.ndarray]:
        """Weights of every group as the stepwise kernel takes them."""
        if self._by_position:
            return [np.ascontiguousarray(panel.T, np.int32) for panel in self.panels]
        return [panel.astype(self._lane_type) for panel in self.panels]

    def _narrow(
        self,
        sample: np.ndarray,
        group: int,
        run: Run,
        row0: int,
        acc: np.ndarray,
        counts: np.ndarray,
        first: np.ndarray,
    ) -> None:
        window, weights, kind = self.window, self._packed[group], self._lane_type
        by_position = self._by_position
        width = POSITIONS if by_position else max(1, SCRATCH // max(window.terms, 1))
        bias = self._bias_of(group)
        for p, q in self._blocks(width):
            if by_position:
                block = self._gather(gather_columns, sample, group, p, np.empty((window.terms, q - p), kind))
                totals, hits = self._tiles(weights, block, np.repeat(bias[:, None], q - p, 1))
            else:
                block = self._gather(gather_rows, sample, group, p, np.empty((q - p, window.terms), np.int32))
                totals, hits = self._tiles(block, weights, np.repeat(bias[None, :], q - p, 0))
                totals, hits = totals.T, hits.swapaxes(2, 3)
            acc[:, p:q] = totals
            if hits.any():
                counts += hits.sum(axis=3, dtype=np.int64)
                touched = (hits[0] + hits[1]) > 0
                fresh = touched.any(axis=2) & (first < 0)
                first[fresh] = row0 + p + touched.argmax(axis=2)[fresh]

    def _tiles(self, scalars: np.ndarray, vectors: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Totals (rows, lanes), and events (2, places, rows, lanes) below and above."""
        places, used = self._constants
        register, levels = self.bound.stages[0].register.register, len(self.bound.stages)
        ends = np.flatnonzero(self.flush > 0) if levels > 1 else np.empty(0, np.int64)
        bounds = np.append(0, ends + 1) if levels > 1 else np.array([0, self.window.terms])
        shape = bias.shape
        start = np.zeros(shape, np.int32)
        if levels == 1 and self.bias:
            start = (bias << max(-self.bound.bias_register.drop, 0)).astype(np.int32)
        hits = np.zeros((2, len(places), *shape), np.int32)
        low, high = np.int32(register.low), np.int32(register.high)
        merge = self._merges
        totals = np.empty((shape[0], 1 if merge else len(bounds) - 1, shape[1]), np.int32)
        tiles(scalars, vectors, bounds, low, high, start, totals, hits[0, 1], hits[1, 1])
        if merge:
            return totals[:, 0] + bias if levels > 1 and self.bias else totals[:, 0], hits
        outer = self.flush[ends] if levels > 1 else np.zeros(1, np.int64)
        bias_first = bool(self.bias) and self.bound.bias == "first"
        acc = np.empty(shape, np.int64)
        fold_tiles(totals, bias, places, used, levels - 1, bias_first, outer, acc, hits)
        return acc, hits

    # -- events ------------------------------------------------------------------------------------------------------

    def _report(
        self, x: np.ndarray, run: Run, lanes: slice, first_row: int, counts: np.ndarray, first: np.ndarray
    ) -> None:
        kinds = counts.shape[1]
        last = 2 * len(self.bound.stages) - 1
        counts[:, last] += counts[:, kinds - 1]  # the bias enters the outermost register
        later = np.where(first[kinds - 1] < 0, np.iinfo(np.int64).max, first[kinds - 1])
        mine = np.where(first[last] < 0, np.iinfo(np.int64).max, first[last])
        first[last] = np.where(np.minimum(mine, later) == np.iinfo(np.int64).max, -1, np.minimum(mine, later))
        numbered = {0: self.bound.product}
        for i, stage in enumerate(self.bound.stages):
            numbered |= {1 + 2 * i: stage.register, 2 + 2 * i: stage.out}
        for index, place in numbered.items():
            if place is None:
                continue
            below, above = np.zeros(self.outputs, np.int64), np.zeros(self.outputs, np.int64)
            below[lanes], above[lanes] = counts[0, index], counts[1, index]
            witness = None
            if (first[index] >= 0).any():
                rows = np.where(first[index] < 0, np.iinfo(np.int64).max, first[index])
                row, lane = int(rows.min()), int(rows.argmin())
                witness = self._witness(x, run, place, row, first_row, lanes.start + lane)
            run.note(place.name, place.register, below, above, witness)

    def _witness(
        self, x: np.ndarray, run: Run, place: BoundRegister, row: int, first_row: int, channel: int
    ) -> Witness | None:
        """Fold one output again by the definition, to find the term at which its register first acted."""
        n, p = divmod(row - first_row, self.window.positions)
        found: list[tuple[int, int]] = []

        def note(name: str, index: int, asked: int) -> None:
            if name == place.name:
                found.append((index, asked))

        self.fold(x[n], channel, p, row, run, note)
        sample, q = divmod(row, self.window.positions)
        index, asked = found[0]
        return Witness(sample, self.position(q), channel, index, asked)

    def terms_of(self, sample: np.ndarray, channel: int, p: int) -> list[tuple[int, int]]:
        """Operand pairs that meet in one output, in order; `sample` is (channels, depth, row, column)."""
        window = self.window
        group = channel // window.outputs
        rows = np.empty((1, window.terms), np.int64)
        gather_rows(
            np.ascontiguousarray(sample), window.integers, self.walk, group, window.channels, p,
            self.scale, self.offset, self.padding, rows,
        )  # fmt: skip
        return list(zip(rows[0].tolist(), self.panels[group][:, channel % window.outputs].tolist(), strict=True))

    def fold(
        self, sample: np.ndarray, channel: int, p: int, row: int, run: Run, note: Callable[[str, int, int], None]
    ) -> int:
        """Fold one output by the definition."""
        pairs = self.terms_of(sample, channel, p)
        products = [int(a == b) if self.xnor else a * b for a, b in pairs]
        key = int(sequence_key(run.seed, run.stream))
        draw = element_draw(key, row * self.outputs + channel, self.window.terms, self.bound.places)
        return add_up(products, self.bound, self.bias[channel] if self.bias else None, note, draw)
