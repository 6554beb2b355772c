"""One contraction for all sums of products: gather, sum along the planned path, report events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.exact import add_up
from fixqnn.arith.fast import CONSTANTS, register_constants, sequence_key
from fixqnn.events import Run, Witness
from fixqnn.kernels.dot import FLOAT32_BOUND, FLOAT64_BOUND, float_sum, self_test
from fixqnn.kernels.gather import Window, gather_rows
from fixqnn.kernels.plan import Plan, choose, extent
from fixqnn.kernels.rescale import element_draw
from fixqnn.kernels.stepwise import fold_tiles, tiles
from fixqnn.kernels.wide import wide
from fixqnn.modes import Rounding

SCRATCH = 1 << 16  # words of a block of gathered rows: stays in the second-level cache


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
    def plan(self) -> Plan:
        """Path, reason and bound."""
        w = self.w.reshape(self.outputs, -1)
        reach = extent(w, self.x_low, self.x_high, self.xnor)
        plan = choose(reach, self.bound, self.bias, self.window.terms, self.forced)
        if plan.path == "sum" and (self.xnor or not self_test()):
            return choose(reach, self.bound, self.bias, self.window.terms, "wide")
        return plan

    def sum(self, x: np.ndarray, run: Run, first_row: int | None = None) -> np.ndarray:
        """Sum codes (samples, channels, depth, row, column) to (samples, outputs, positions); events go to `run`.

        `first_row` numbers the first output position among all of this step; by default from `run.first_sample`.
        """
        if first_row is None:
            first_row = run.first_sample * self.window.positions
        if self.plan.path == "sum":
            for place in self._places():
                none = np.zeros(self.outputs, np.int64)
                run.note(place.name, place.register, none, none)
            return self._float_sum(x)
        acc = np.empty((x.shape[0], self.outputs, self.window.positions), np.int64)
        for group in range(self.window.groups):
            self._step_by_step(x, group, run, first_row, acc)
        return acc

    def _places(self) -> list[BoundRegister]:
        stages = [place for stage in self.bound.stages for place in (stage.register, stage.out) if place]
        return ([self.bound.product] if self.bound.product else []) + stages

    # -- exact sums in floats ----------------------------------------------------------------------------------------

    @cached_property
    def _float_blocks(self) -> list[tuple[slice, np.ndarray, np.ndarray | None]]:
        """Input channels in blocks whose sums float32 holds exactly, or all of them in float64."""
        shift = -self.bound.bias_register.drop
        bias = np.array([b << shift for b in self.bias], object) if self.bias else None
        largest = max(abs(self.x_low), abs(self.x_high))
        weight = np.abs(self.w).sum(axis=(3, 4, 5)).astype(object) * largest  # (groups, outputs, channels)
        extra = int(max(abs(b) for b in bias)) if bias is not None else 0
        channels = self.window.channels
        for count in (1, 2, 3, 4, 6, 8) if self.window.groups == 1 else (1,):
            if count > channels:
                break
            edges = [channels * i // count for i in range(count + 1)]
            slices = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
            if all(int(weight[:, :, s].sum(axis=2).max()) + extra <= FLOAT32_BOUND for s in slices):
                return [
                    (s, np.ascontiguousarray(self.w[:, :, s], np.float32), self._bias_array(bias, np.float32) if i == 0 else None)
                    for i, s in enumerate(slices)
                ]
        assert self.plan.bound <= FLOAT64_BOUND  # what the plan proved
        return [(slice(0, channels), self.w.astype(np.float64), self._bias_array(bias, np.float64))]

    @staticmethod
    def _bias_array(bias: np.ndarray | None, dtype: type) -> np.ndarray | None:
        return None if bias is None else bias.astype(dtype)

    def _float_sum(self, x: np.ndarray) -> np.ndarray:
        blocks = self._float_blocks
        kind = blocks[0][1].dtype
        operand = x.astype(kind)
        if self.scale != 1:
            operand *= kind.type(self.scale)
        if self.offset:
            operand -= kind.type(self.offset)
        if len(blocks) == 1:
            _, w, bias = blocks[0]
            return float_sum(operand, w, bias, self.window, self.padding)
        total = None
        for channels, w, bias in blocks:
            part = replace(self.window, channels=channels.stop - channels.start)
            piece = float_sum(np.ascontiguousarray(operand[:, channels]), w, bias, part, self.padding)
            total = piece.astype(np.float64) if total is None else np.add(total, piece, out=total)
        return total

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
        return any(p.register.rounding is Rounding.stochastic and p.drop > 0 for p in [*self._places(), self.bound.bias_register])

    def _step_by_step(self, x: np.ndarray, group: int, run: Run, first_row: int, acc: np.ndarray) -> None:
        window, terms = self.window, self.window.terms
        lanes = slice(group * window.outputs, (group + 1) * window.outputs)
        places, _ = self._constants
        kinds = places.shape[0]
        counts = np.zeros((2, kinds, window.outputs), np.int64)
        first = np.full((kinds, window.outputs), -1, np.int64)
        block = max(1, min(window.positions, SCRATCH // max(terms, 1)))
        narrow = self.plan.path == "stepwise"
        rows = np.empty((block, terms), np.int32 if narrow else np.int64)
        x = np.ascontiguousarray(x)
        for n in range(x.shape[0]):
            for p in range(0, window.positions, block):
                part = rows[: min(block, window.positions - p)]
                gather_rows(x[n], window.integers, self.walk, group, window.channels, p, self.scale, self.offset, self.padding, part)
                row0 = first_row + n * window.positions + p
                work = self._narrow if narrow else self._wide
                acc[n, lanes, p : p + len(part)] = work(part, group, run, row0, counts, first).T
        self._report(x, run, lanes, first_row, counts, first)

    def _bias_of(self, group: int) -> np.ndarray:
        o = self.window.outputs
        return np.array(self.bias[group * o : (group + 1) * o] or (0,) * o, np.int64)

    def _wide(self, rows: np.ndarray, group: int, run: Run, row0: int, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
        places, used = self._constants
        acc = np.empty((len(rows), self.window.outputs), np.int64)
        last = len(self.bound.stages) - 1
        bias_first = bool(self.bias) and self.bound.bias == "first"
        flush = self.flush.copy()
        key = sequence_key(run.seed, run.stream) if self._random else None
        wide(
            rows, self.panels[group], self._bias_of(group), places, used, last, bias_first, int(self.xnor), flush,
            key, row0, group * self.window.outputs, self.outputs, acc, counts, first,
        )  # fmt: skip
        return acc

    @cached_property
    def _narrow_weights(self) -> np.ndarray:
        kind = np.int16 if np.abs(self.panels).max(initial=0) < 1 << 15 else np.int32
        return self.panels.astype(kind)

    def _narrow(self, rows: np.ndarray, group: int, run: Run, row0: int, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
        places, used = self._constants
        register = self.bound.stages[0].register.register
        ends = np.flatnonzero(self.flush > 0)
        bounds = np.append(0, ends + 1) if len(self.bound.stages) > 1 else np.array([0, self.window.terms])
        lanes, single = self.window.outputs, len(self.bound.stages) == 1
        bias = self._bias_of(group)
        start = (bias << max(-self.bound.bias_register.drop, 0)).astype(np.int32) if single else np.zeros(lanes, np.int32)
        totals = np.empty((len(rows), len(bounds) - 1, lanes), np.int32)
        under, over = np.empty((len(rows), lanes), np.int32), np.empty((len(rows), lanes), np.int32)
        low, high = np.int32(register.low), np.int32(register.high)
        tiles(rows, self._narrow_weights[group], bounds, low, high, start, single and bool(self.bias), totals, under, over)
        acc = np.empty((len(rows), lanes), np.int64)
        touched = np.zeros((len(rows), counts.shape[1], lanes), np.bool_)
        outer = self.flush[ends] if not single else np.zeros(1, np.int64)
        bias_first = bool(self.bias) and self.bound.bias == "first"
        fold_tiles(totals, bias, places, used, len(self.bound.stages) - 1, bias_first, outer, acc, counts, touched)
        counts[0, 1] += under.sum(axis=0, dtype=np.int64)
        counts[1, 1] += over.sum(axis=0, dtype=np.int64)
        touched[:, 1] |= (under + over) > 0
        fresh = touched.any(axis=0) & (first < 0)
        first[fresh] = row0 + touched.argmax(axis=0)[fresh]
        return acc

    # -- events ------------------------------------------------------------------------------------------------------

    def _report(self, x: np.ndarray, run: Run, lanes: slice, first_row: int, counts: np.ndarray, first: np.ndarray) -> None:
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

    def _witness(self, x: np.ndarray, run: Run, place: BoundRegister, row: int, first_row: int, channel: int) -> Witness | None:
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

    def fold(self, sample: np.ndarray, channel: int, p: int, row: int, run: Run, note: Callable[[str, int, int], None]) -> int:
        """Fold one output by the definition."""
        pairs = self.terms_of(sample, channel, p)
        products = [int(a == b) if self.xnor else a * b for a, b in pairs]
        key = int(sequence_key(run.seed, run.stream))
        draw = element_draw(key, row * self.outputs + channel, self.window.terms, self.bound.places)
        return add_up(products, self.bound, self.bias[channel] if self.bias else None, note, draw)

