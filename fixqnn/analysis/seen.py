"""What registers were asked to hold on data, no register acting; and whether another order or tile size changes a sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.analysis.spans import CLIPS, Span, joined, rounds_in_tiles
from fixqnn.analysis.terms import Terms
from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.exact import add, no_draw, round_shift
from fixqnn.arith.fast import CONSTANTS, LEFT, WIDEST, sequence_key, shift_constants
from fixqnn.errors import TooWide
from fixqnn.kernels.contract import Contraction
from fixqnn.kernels.partial_sums import fold_columns, take_columns
from fixqnn.kernels.rescale import element_draw
from fixqnn.kernels.way import channels_last
from fixqnn.ops.sums import Operand

PACKED = 1 << 26  # bytes of operands that are laid out at once
BLOCK = 1 << 18  # operands of a block of gathered rows: they stay in the second-level cache
TRIED = 1 << 28  # multiplications per layer that are spent on other orders and tiles


@dataclass
class Order:
    """Whether another order, or another tile size, changes a sum on the data.

    Attributes
    ----------
    sums : int
        All sums.
    settled : int
        Of these, sums where no register can act in any order and with any tile size, and nothing is rounded on the way.
    tried : int
        Of the rest, how many were computed again.
    by_order, by_tiles : int
        Of those tried, sums that came out different in reversed or shuffled order; with half, double, or endless tiles.
    """

    sums: int = 0
    settled: int = 0
    tried: int = 0
    by_order: int = 0
    by_tiles: int = 0


@dataclass
class Observer:
    """Gathers, piece by piece and part by part, what the registers of one step are asked to hold.

    Parameters
    ----------
    terms : sequence of Terms
        The step's contractions.
    order : bool
        Whether to look at other orders and tile sizes as well.
    seed, stream : int
        Where random numbers come from.
    """

    terms: Sequence[Terms]
    order: bool
    seed: int
    stream: int
    spans: dict[str, Span] = field(default_factory=dict)
    found: Order = field(default_factory=Order)

    def add(self, codes: Sequence[np.ndarray]) -> None:
        """Look at the codes of some samples: the step's first input, and for a product of two values the second."""
        for number, terms in enumerate(self.terms):
            seed = self.seed + (number << 32 if len(self.terms) > 1 else 0)
            for row, contraction, rows in _sums_of(terms, codes):
                fold = self._folds(number, contraction)
                fold.key = int(sequence_key(seed, self.stream))
                fold(rows, row * contraction.window.positions)
                for name, span in fold.spans.items():
                    self.spans[name] = self.spans[name].join(span) if name in self.spans else span

    def _folds(self, number: int, contraction: Contraction) -> _Fold:
        terms = self.terms[number]
        if terms.piece.weights_free:  # other weights every time
            return _Fold(terms, contraction, self.order, self.found)
        key = id(contraction)
        known = self.__dict__.setdefault("_known", {})
        if key not in known:
            known[key] = _Fold(terms, contraction, self.order, self.found)
        return known[key]


def _sums_of(terms: Terms, codes: Sequence[np.ndarray]) -> Iterator[tuple[int, Contraction, np.ndarray]]:
    """(number of the first sample, contraction, its codes); a product of two values is one contraction per matrix."""
    c = terms.contraction
    if not terms.piece.weights_free:
        rows = terms.piece.rows(codes[0])
        part = max(1, PACKED // (8 * max(c.window.volume, 1)))
        for start in range(0, len(rows), part):
            yield start, c, rows[start : start + part]
        return
    a, b = codes
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(v, (*lead, *v.shape[-2:])) for v in (a, b))
    operand = Operand.of(*terms.piece.layout.w_scales[0])
    for number, index in enumerate(np.ndindex(*lead)):
        w = b[index].T.astype(object if b.dtype == object else np.int64) * operand.scale - operand.offset
        one = replace(c, w=np.ascontiguousarray(w)[None, :, :, None, None, None])
        yield number, one, a[index].T[None, :, None, None, :]


class _Fold:
    """Folds rows of one contraction and keeps the ends."""

    def __init__(self, terms: Terms, contraction: Contraction, order: bool, found: Order) -> None:
        self.c, self.found, self.key = contraction, found, 0
        c, bound = contraction, contraction.bound
        ends = terms.ends(terms.meetings[0]) if terms.piece.weights_free else terms.every_end()
        largest = int(np.abs(ends).max(axis=1).sum(axis=0).max(initial=0)) + max(map(abs, c.bias), default=0)
        shifts = sum(abs(place.drop) for place in [*bound.registers, bound.bias_register])
        bits = largest.bit_length() + shifts + 2
        self.word: Any = np.int32 if bits < 31 else np.int64 if bits < WIDEST else object
        self.names = {index: place.name for index, place in c.numbered.items() if place is not None}
        if c.random:
            self.word = object
        self.order = order and self.word is not object and self._storable()
        self.low, self.high = (np.zeros((2 * len(bound.stages) + 2, c.outputs), np.int64) for _ in range(2))
        if self.word is object:
            self.low, self.high = (v.astype(object) for v in (self.low, self.high))

    def _storable(self) -> bool:
        try:
            self.c.places  # noqa: B018  asks for the constants of all registers
        except TooWide:
            return False
        return True

    @property
    def spans(self) -> dict[str, Span]:
        """By register name; what the bias asks belongs to the outermost register."""
        last = 2 * len(self.c.bound.stages) - 1
        low, high = self.low.copy(), self.high.copy()
        low[last], high[last] = np.minimum(low[last], low[-1]), np.maximum(high[last], high[-1])
        return {name: Span.of(low[index], high[index]) for index, name in self.names.items()}

    @cached_property
    def _constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Roundings of all places, and which exist; nothing is stored."""
        c = self.c
        numbered = {**c.numbered, len(self.low) - 1: c.bound.bias_register if c.bias else None}
        rows, used = np.zeros((len(self.low), CONSTANTS), self.word), np.zeros(len(self.low), np.bool_)
        for index, place in numbered.items():
            if place is not None:
                rows[index, :5] = shift_constants(place.drop, place.register.rounding)[:5]
                rows[index, LEFT] = max(-place.drop, 0)
                used[index] = True
        return rows, used

    def __call__(self, x: np.ndarray, first_row: int) -> None:
        """Fold codes (samples, channels, depth, row, column)."""
        window = self.c.window
        if self.word is object:
            return self._by_definition(x, first_row)
        packed = self.c.whole.pack(channels_last(x), window).view(np.int64)
        offsets = (np.arange(len(x))[:, None] * window.volume + window.offsets).reshape(-1)
        width = min(max(64, BLOCK // max(window.terms, 1)), 2048)
        steps, straight = window.steps(self.c.order), np.arange(window.terms)
        for group in range(window.groups):
            lanes = slice(group * window.outputs, (group + 1) * window.outputs)
            for p in range(0, offsets.size, width):
                block = offsets[p : p + width] + group * window.channels
                columns = np.empty((window.terms, block.size), self.word)
                take_columns(packed, block, steps, straight, columns)
                plus, minus = self._ends_of(columns, lanes)
                self.found.sums += block.size * window.outputs
                if self.order:
                    self._try(columns, lanes, plus, minus)
        return None

    @cached_property
    def _w(self) -> np.ndarray:
        return self.c.rows_of_weights.astype(self.word)

    @cached_property
    def _bias(self) -> np.ndarray:
        return np.array(self.c.bias or (0,) * self.c.outputs, self.word)

    def _ends_of(self, columns: np.ndarray, lanes: slice) -> tuple[np.ndarray, np.ndarray]:
        places, used = self._constants
        low, high = (np.ascontiguousarray(v[:, lanes]) for v in (self.low, self.high))
        plus, minus = np.zeros(low.shape[1], np.int64), np.zeros(low.shape[1], np.int64)
        self._fold(
            columns, self._w[lanes], self._bias[lanes], places, used, self.c.flush, False, low, high, plus, minus
        )
        self.low[:, lanes], self.high[:, lanes] = low, high
        return plus, minus

    def _fold(
        self, columns: np.ndarray, w: np.ndarray, bias: np.ndarray, places: np.ndarray, used: np.ndarray,
        flush: np.ndarray, acting: bool, low: np.ndarray, high: np.ndarray, plus: np.ndarray, minus: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        c = self.c
        totals = np.empty((len(w), columns.shape[1]), columns.dtype)
        first = bool(c.bias) and c.bound.bias == "first"
        parts = self.order and not acting
        fold_columns(columns, np.ascontiguousarray(w), bias, places, used, len(c.bound.stages) - 1, first, int(c.xnor), flush,
                     acting, parts, low, high, plus, minus, totals)  # fmt: skip
        return totals

    # -- other orders --------------------------------------------------------------------------------------------------

    def _try(self, columns: np.ndarray, lanes: slice, plus: np.ndarray, minus: np.ndarray) -> None:
        """Compute sums again that another order or tile size might change, with registers as they are."""
        c, rows = self.c, columns.shape[1]
        quiet = np.zeros(len(plus), bool)
        product = c.bound.product
        if not rounds_in_tiles(c.bound) and (product is None or product.register.overflow in CLIPS):
            least, most = (limits[lanes] for limits in self._limits)
            quiet = (least <= minus) & (plus <= most)
        busy = np.flatnonzero(~quiet)
        self.found.settled += rows * int(quiet.sum())
        others = self._others
        cost = rows * c.window.terms * (1 + len(others))
        left = (TRIED - self.found.tried * c.window.terms * (1 + len(others))) // max(cost, 1)
        busy = busy[: max(left, 0)]
        if not busy.size:
            return
        self.found.tried += rows * busy.size
        channels = busy + lanes.start
        columns, w = columns.astype(np.int64), self._w[channels].astype(np.int64)
        own = self._acting(columns, w, channels, c.flush)
        changed = {"order": np.zeros(own.shape, bool), "tiles": np.zeros(own.shape, bool)}
        for kind, order, flush in others:
            again = self._acting(np.ascontiguousarray(columns[order]), w[:, order], channels, flush)
            changed[kind] |= again != own
        self.found.by_order += int(changed["order"].sum())
        self.found.by_tiles += int(changed["tiles"].sum())

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """How far negative and positive terms of one sum may go, per channel, so that no order makes a stage act."""
        c, up = self.c, 0
        least, most = (np.array([v] * c.outputs, object) for v in (-(1 << WIDEST), 1 << WIDEST))
        last = len(c.bound.stages) - 1
        for level, stage in enumerate(c.bound.stages):
            for place in filter(None, (stage.register, stage.out if level < last else None)):
                up += max(-place.drop, 0)
                bias = np.zeros((2, c.outputs), object)
                if level == last and c.bias:
                    bias = joined(np.array([c.bias] * 2, object), c.bound.bias_register)
                least = np.maximum(least, -((bias[0] - place.register.low) // (1 << up)))
                most = np.minimum(most, (place.register.high - bias[1]) // (1 << up))
        return least, most

    def _acting(self, columns: np.ndarray, w: np.ndarray, channels: np.ndarray, flush: np.ndarray) -> np.ndarray:
        places, used = self.c.places
        low, high = (np.zeros((len(used), len(w)), np.int64) for _ in range(2))
        plus, minus = np.zeros(len(w), np.int64), np.zeros(len(w), np.int64)
        bias = self._bias[channels].astype(np.int64)
        return self._fold(columns, w, bias, places, used, flush, True, low, high, plus, minus)

    @cached_property
    def _others(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """(what it tries, order of terms, flush)."""
        c, count = self.c, self.c.window.terms
        straight = np.arange(count)
        others = [("order", order, c.flush) for order in (straight[::-1], np.random.default_rng(0).permutation(count))]
        if len(c.bound.stages) > 1:
            others += [("tiles", straight, replace(c, bound=bound).flush) for bound in _other_tiles(c.bound)]
        return others

    # -- by the definition ---------------------------------------------------------------------------------------------

    def _by_definition(self, x: np.ndarray, first_row: int) -> None:
        c, index = self.c, {name: i for i, name in self.names.items()}
        positions = c.window.positions
        for n, channel, p in np.ndindex(len(x), c.outputs, positions):
            pairs = c.terms_of(x[n], channel, p)
            products = [int(a == b) if c.xnor else a * b for a, b in pairs]
            row = first_row + n * positions + p
            draw = element_draw(self.key, row * c.outputs + channel, c.window.terms, c.bound.places)
            for name, value in asked(products, c.bound, c.bias[channel] if c.bias else None, draw):
                at = index[name], channel
                self.low[at], self.high[at] = min(self.low[at], value), max(self.high[at], value)
        self.found.sums += len(x) * c.outputs * positions


def _other_tiles(bound: BoundSum) -> list[BoundSum]:
    """Half as many terms in the innermost tiles, twice as many, and all of them."""
    inner, *outer = bound.stages
    sizes = () if inner.size is None else (max(1, inner.size // 2), 2 * inner.size)
    tiled = [replace(bound, stages=(replace(inner, size=size), *outer)) for size in sizes]
    return [*tiled, replace(bound, stages=(replace(inner, size=None), *outer), ends=(None,) * len(bound.ends))]


def asked(
    terms: Sequence[int], bound: BoundSum, bias: int | None, draw: Callable[[int, int], int] = no_draw
) -> Iterator[tuple[str, int]]:
    """Every number that a register is asked to hold, in order, if none acts: the definition, in Python integers.

    Parameters
    ----------
    terms : sequence of int
        Whole products, in the datapath's order.
    bound : BoundSum
        The datapath with its drops and run ends resolved.
    bias : int or None
        Bias code.
    draw : callable
        Random bits, as `fixqnn.arith.exact.add_up` takes them.
    """

    def kept(x: int, place: BoundRegister, index: int) -> int:
        return round_shift(x, place.drop, place.register.rounding, draw(place.number, index))

    def entered(total: int, x: int, place: BoundRegister, index: int) -> int:
        return add(total, x, place, draw(place.number, index))[1]

    last = len(bound.stages) - 1
    totals, gathered = [0] * len(bound.stages), [0] * len(bound.stages)
    final = bound.stages[last].register
    if bias is not None and bound.bias == "first":
        totals[last] = kept(bias, bound.bias_register, -1)
        yield final.name, totals[last]
    for k, number in enumerate(terms):
        if bound.product:
            number = kept(number, bound.product, k)
            yield bound.product.name, number
        for level, stage in enumerate(bound.stages):
            totals[level] = entered(totals[level], number, stage.register, k)
            yield stage.register.name, totals[level]
            gathered[level] += 1
            ends = bound.ends[level]
            full = gathered[level] == stage.size or (ends is not None and ends[k]) or k == len(terms) - 1
            if level == last or not full:
                break
            number, totals[level], gathered[level] = totals[level], 0, 0
            if stage.out:
                number = kept(number, stage.out, k)
                yield stage.out.name, number
    if bias is not None and bound.bias == "last":
        totals[last] = entered(totals[last], bias, bound.bias_register, len(terms))
        yield final.name, totals[last]
    if bound.stages[last].out:
        yield bound.stages[last].out.name, kept(totals[last], bound.stages[last].out, len(terms) - 1)
