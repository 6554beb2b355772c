"""Register tiles: rows × vectors of channels, summed over all terms without leaving registers.

A tile writes the loop over terms, and over runs of terms, around a form of `fixqnn.kernels.vectors`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fixqnn.kernels.vectors import (
    FORMS,
    HALF,
    I8,
    I16,
    I32,
    I64,
    WIDTH,
    any_set,
    at,
    call,
    load,
    loop,
    pair_products,
    splat,
    vector,
)


@dataclass(frozen=True)
class _Shape:
    """How many rows and vectors a tile has, and whether every channel has operands of its own (depthwise)."""

    rows: int
    vectors: int
    by_channel: bool

    @property
    def size(self) -> int:
        return WIDTH // 8

    def places(self, b: ir.IRBuilder, total: ir.Value) -> list[ir.Value]:
        """Addresses of all running sums, row after row."""
        return [at(b, total, i * self.size) for i in range(self.rows * self.vectors)]

    def sources(self, b: ir.IRBuilder, x: ir.Value, offsets: ir.Value) -> list[ir.Value]:
        """Where the operands of every row begin."""
        return [at(b, x, b.load(at(b, offsets, r))) for r in range(self.rows)]

    def operands(
        self, b: ir.IRBuilder, k: ir.Value, sources: list[ir.Value], steps: ir.Value, w: ir.Value
    ) -> Iterator[tuple[ir.Value, ir.Value]]:
        """Factors of term k for every running sum, in the order of `places`."""
        step = b.load(at(b, steps, k))
        panel = at(b, w, b.mul(k, ir.Constant(I64, self.vectors * self.size)))
        weights = [load(b, at(b, panel, v * self.size), vector(I32)) for v in range(self.vectors)]
        for base in sources:
            source = at(b, base, step)
            common = None if self.by_channel else splat(b, load(b, source, I32), vector(I32))
            for v, weight in enumerate(weights):
                yield (_words_of_channels(b, at(b, source, v * self.size // 2)) if self.by_channel else common), weight


def _words_of_channels(b: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """16-bit operands of neighbouring channels, each in both halves of a 32-bit lane."""
    word = b.zext(load(b, address, vector(I16, WIDTH // 2)), vector(I32))
    return b.or_(word, b.shl(word, ir.Constant(word.type, [16] * word.type.count)))


def pointers(b: ir.IRBuilder, *addresses: tuple[ir.Value, ir.Type]) -> list[ir.Value]:
    """Addresses as pointers to elements of a type."""
    return [b.inttoptr(a, kind.as_pointer()) for a, kind in addresses]


def write(b: ir.IRBuilder, values: list[ir.Value], places: list[ir.Value]) -> None:
    """Store vectors that need not be aligned."""
    for value, place in zip(values, places, strict=True):
        b.store(value, b.bitcast(place, value.type.as_pointer()), align=1)


def _shape_of(rows: types.Type, vectors: types.Type, by_channel: types.Type) -> _Shape:
    return _Shape(rows.literal_value, vectors.literal_value, bool(by_channel.literal_value))


@intrinsic(prefer_literal=True)
def tile(context, form, rows, vectors, by_channel, x, offsets, steps, w, ends, runs, start, total, stride, spare):
    """Sum ``rows × vectors`` lanes over runs of terms; terms ends[t] … ends[t + 1] make run t.

    `form`, `rows`, `vectors`, `by_channel` are literals. The others are addresses: of packed operands, of the byte offsets of
    the rows and of the terms, of the panel's weights, of the runs' ends, of what a run starts with, and of 32-bit totals, to
    which every run is added without its `spare` low bits, `stride` bytes on for every run. Returns whether any sum left
    the pattern 0…01 in its spare bits.
    """
    shape, step = _shape_of(rows, vectors, by_channel), FORMS[form.literal_value]
    columns = shape.vectors * step.per_lane * step.lane.width // 32  # vectors of sums in a row

    def emit(context, b, signature, arguments):
        if shape.vectors > HALF and step.per_lane == 2:
            return ir.Constant(I64, 0)  # there is no such panel: nothing is written that would never run
        x, offsets, steps, w, ends, runs, start, total, stride, spare = arguments[4:]
        x, offsets, steps, w, ends, start, total = pointers(
            b, (x, I8), (offsets, I64), (steps, I64), (w, I8), (ends, I64), (start, I8), (total, I8)
        )
        sources, kind = shape.sources(b, x, offsets), vector(step.lane)

        def run(t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            def term(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                operands = shape.operands(b, k, sources, steps, w)
                factors = (pair for x, w in operands for pair in step.factors(b, x, w, spare))
                return [step.step(b, s, *pair) for s, pair in zip(sums, factors, strict=True)]

            first = [load(b, at(b, start, v * shape.size), kind) for v in range(columns)]
            sums = loop(b, *_between(b, ends, t), first * shape.rows, term)
            _add_totals(b, sums, spare, at(b, total, b.mul(t, stride)))
            return [b.or_(carried[0], _left_pattern(b, sums, spare))]

        (left,) = loop(b, ir.Constant(I64, 0), runs, [ir.Constant(kind, [0] * kind.count)], run)
        return any_set(b, left)

    return types.int64(form, rows, vectors, by_channel, *[types.int64] * 10), emit


def _between(b: ir.IRBuilder, ends: ir.Value, t: ir.Value) -> list[ir.Value]:
    return [b.load(at(b, ends, b.add(t, ir.Constant(I64, n)))) for n in (0, 1)]


def _add_totals(b: ir.IRBuilder, sums: list[ir.Value], spare: ir.Value, total: ir.Value) -> None:
    """Add sums, without their spare bits, to 32-bit totals in memory."""
    lane = sums[0].type.element
    shift = splat(b, b.trunc(spare, lane), sums[0].type)
    parts = [part for s in sums for part in _halves(b, b.ashr(s, shift))]
    for i, part in enumerate(parts):
        place = at(b, total, i * (WIDTH // 8))
        write(b, [b.add(part, load(b, place, part.type))], [place])


def _halves(b: ir.IRBuilder, v: ir.Value) -> list[ir.Value]:
    """A vector as vectors of 32-bit lanes."""
    if v.type.element.width == 32:
        return [v]
    count = v.type.count // 2
    masks = [ir.Constant(ir.VectorType(I32, count), list(range(i * count, (i + 1) * count))) for i in (0, 1)]
    return [b.sext(b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), m), vector(I32)) for m in masks]


def _left_pattern(b: ir.IRBuilder, sums: list[ir.Value], spare: ir.Value) -> ir.Value:
    """Bits are set where the low bits are not 0…01: they start so, addends leave them, and every clamp makes them 0…0 or 1…1."""
    kind = sums[0].type
    one = ir.Constant(kind.element, 1)
    mask = b.sub(b.shl(one, b.trunc(spare, kind.element)), one)
    pattern = splat(b, b.and_(mask, one), kind)
    return b.and_(functools.reduce(b.or_, [b.xor(s, pattern) for s in sums]), splat(b, mask, kind))


@intrinsic(prefer_literal=True)
def watched_tile(
    context, form, rows, vectors, by_channel, x, offsets, steps, w, blocks, ends, runs, start, total, stride, limits
):
    """Add blocks b0 … b1 of terms exactly; returns whether some sum stood outside its limits when a block began.

    Block i holds terms blocks[i] … blocks[i + 1]. ``limits`` holds, per block, a vector row of least and one of largest sums from
    which the block cannot reach the register's ends, whatever the order inside it. Rows share the channels' limits, so only
    their extremes are compared.
    """
    shape, step = _shape_of(rows, vectors, by_channel), FORMS[form.literal_value]

    def emit(context, b, signature, arguments):
        x, offsets, steps, w, blocks, ends, runs, start, total, stride, limits = arguments[4:]
        x, offsets, steps, w, blocks, ends, start, total, limits = pointers(
            b,
            (x, I8),
            (offsets, I64),
            (steps, I64),
            (w, I8),
            (blocks, I64),
            (ends, I64),
            (start, I8),
            (total, I8),
            (limits, I8),
        )
        sources, kind = shape.sources(b, x, offsets), vector(I32)
        row = shape.vectors * shape.size

        def block(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            outside, *sums = carried
            here = at(b, limits, b.mul(i, ir.Constant(I64, 2 * row)))
            for v in range(shape.vectors):
                column = sums[v :: shape.vectors]
                least, largest = (functools.reduce(lambda p, q: _extreme(b, n, p, q), column) for n in ("smin", "smax"))
                low, high = (load(b, at(b, here, v * shape.size + part), kind) for part in (0, row))
                beyond = b.or_(b.icmp_signed("<", least, low), b.icmp_signed(">", largest, high))
                outside = b.or_(outside, b.sext(beyond, kind))

            def term(k: ir.Value, inner: list[ir.Value]) -> list[ir.Value]:
                pairs = shape.operands(b, k, sources, steps, w)
                return [step.step(b, s, *pair) for s, pair in zip(inner, pairs, strict=True)]

            return [outside, *loop(b, *_between(b, blocks, i), sums, term)]

        def run(t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            begin = at(b, start, b.mul(t, ir.Constant(I64, row)))
            first = [load(b, at(b, begin, v * shape.size), kind) for v in range(shape.vectors)]
            outside, *sums = loop(b, *_between(b, ends, t), [carried[0], *first * shape.rows], block)
            _add_totals(b, sums, ir.Constant(I64, 0), at(b, total, b.mul(t, stride)))
            return [outside]

        (outside,) = loop(b, ir.Constant(I64, 0), runs, [ir.Constant(kind, [0] * kind.count)], run)
        return any_set(b, outside)

    return types.int64(form, rows, vectors, by_channel, *[types.int64] * 11), emit


def _extreme(b: ir.IRBuilder, name: str, p: ir.Value, q: ir.Value) -> ir.Value:
    return call(b, f"llvm.{name}.v{p.type.count}i{p.type.element.width}", p.type, p, q)


@intrinsic
def address(context, array):
    """Where an array's elements begin, as a number; None stays None."""
    if isinstance(array, types.NoneType):
        return types.none(array), lambda context, b, signature, arguments: context.get_dummy_value()

    def emit(context, b, signature, arguments):
        return b.ptrtoint(context.make_array(array)(context, b, arguments[0]).data, I64)

    return types.int64(array), emit


@intrinsic(prefer_literal=True)
def any_tile(
    context, form, rows, vectors, by_channel, x, offsets, steps, w, ends, runs, start, total, stride, spare, marks,
    term, sum_, signed, odd, register, wraps, counts, words, base,
):  # fmt: skip
    """As `tile`, step by step with any rounding and any register, and count its events.

    `term` and `sum_` are the constants of `shift_constants` (None: no rounding there); `signed` and `odd` are None where the
    mode does not look at the sign, or at the last bit that is kept, which most do not. A rounded term loses its low bits
    before it is added; where the sum is rounded, it stays at the term's scale, and its low bits are cleared. `register` holds
    the six constants of `store_constants` at that scale; `wraps` is None for one that clamps. With `counts` not None
    events are added to `marks`, a vector row of those below and one of those above, and 0 is returned; with None, whether
    there was one.

    A term is one product, or, where `form` is not None, an exact sum: term k begins with row k of `base`, and words
    words[k] … words[k + 1] enter it by that form.
    """
    shape = _shape_of(rows, vectors, by_channel)
    exact = None if isinstance(form, types.NoneType) else FORMS[form.literal_value]

    def emit(context, b, signature, arguments):
        x, offsets, steps, w, ends, runs, start, total, stride, spare, marks = arguments[4:15]
        x, offsets, steps, w, ends, start, total, marks = pointers(
            b, (x, I8), (offsets, I64), (steps, I64), (w, I8), (ends, I64), (start, I8), (total, I8), (marks, I8)
        )
        kind, given = vector(I32), [not isinstance(t, types.NoneType) for t in signature.args[15:]]
        roundings = [_constants(b, a, 5) if g else None for a, g in zip(arguments[15:17], given[:2], strict=True)]
        edges = _constants(b, arguments[19], 6)
        looks, wrapping, counting = given[2:4], given[5], given[6]
        words, base = pointers(b, (arguments[22], I64), (arguments[23], I8))
        sources, one = shape.sources(b, x, offsets), ir.Constant(kind, [1] * kind.count)
        rows_of_counts = [at(b, marks, i * shape.size) for i in range(2 * shape.vectors)]
        lanes = shape.rows * shape.vectors

        def terms(k: ir.Value) -> Iterator[ir.Value]:
            if exact is None:
                yield from (pair_products(b, *pair) for pair in shape.operands(b, k, sources, steps, w))
                return
            begin = at(b, base, b.mul(k, ir.Constant(I64, shape.vectors * shape.size)))
            first = [load(b, at(b, begin, v * shape.size), kind) for v in range(shape.vectors)]

            def word(i: ir.Value, inner: list[ir.Value]) -> list[ir.Value]:
                pairs = shape.operands(b, i, sources, steps, w)
                return [exact.step(b, s, *pair) for s, pair in zip(inner, pairs, strict=True)]

            yield from loop(b, *_between(b, words, k), first * shape.rows, word)

        def step(k: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            sums, seen = carried[:lanes], carried[lanes:]
            made = []
            for i, (total, p) in enumerate(zip(sums, terms(k), strict=True)):
                if roundings[0]:
                    p = b.ashr(_ready_to_shift(b, p, roundings[0], *looks), roundings[0][0])
                asked = b.add(total, p)
                if roundings[1]:
                    shift = roundings[1][0]
                    asked = b.shl(b.ashr(_ready_to_shift(b, asked, roundings[1], *looks), shift), shift)
                below, above = b.icmp_signed("<", asked, edges[0]), b.icmp_signed(">", asked, edges[1])
                held = _store(b, asked, below, above, edges, wrapping)
                made.append(held)
                for side, event in enumerate((below, above) if counting else ()):
                    at = side * shape.vectors + i % shape.vectors
                    seen[at] = b.select(event, b.add(seen[at], one), seen[at])
                if not counting:
                    seen[0] = b.or_(seen[0], b.xor(asked, held))
            return [*made, *seen]

        def run(t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            first = [load(b, at(b, start, v * shape.size), kind) for v in range(shape.vectors)]
            after = loop(b, *_between(b, ends, t), [*first * shape.rows, *carried], step)
            _add_totals(b, after[:lanes], spare, at(b, total, b.mul(t, stride)))
            return after[lanes:]

        before = [load(b, p, kind) for p in rows_of_counts] if counting else [ir.Constant(kind, [0] * kind.count)]
        seen = loop(b, ir.Constant(I64, 0), runs, before, run)
        if counting:
            write(b, seen, rows_of_counts)
            return ir.Constant(I64, 0)
        return any_set(b, seen[0])

    numbers, given = [types.int64] * 11, (term, sum_, signed, odd, register, wraps, counts)
    return types.int64(form, rows, vectors, by_channel, *numbers, *given, words, base), emit


def _constants(b: ir.IRBuilder, address: ir.Value, count: int) -> list[ir.Value]:
    (base,) = pointers(b, (address, I32))
    return [splat(b, b.load(at(b, base, i)), vector(I32)) for i in range(count)]


def _ready_to_shift(b: ir.IRBuilder, v: ir.Value, constants: list[ir.Value], signed: bool, odd: bool) -> ir.Value:
    """Add what makes an arithmetic shift round as `fixqnn.arith.fast.round_shift` does."""
    shift, add, if_negative, if_odd, flip = constants
    moved = b.add(v, add)
    if signed:
        sign = b.ashr(v, ir.Constant(v.type, [31] * v.type.count))
        moved = b.add(moved, b.and_(sign, if_negative))
    if odd:
        moved = b.add(moved, b.and_(b.xor(b.ashr(v, shift), flip), if_odd))
    return moved


def _store(
    b: ir.IRBuilder, asked: ir.Value, below: ir.Value, above: ir.Value, edges: list[ir.Value], wrapping: bool
) -> ir.Value:
    first, last, low, rest, over, under = edges
    if not wrapping:
        return _extreme(b, "smin", _extreme(b, "smax", asked, first), last)
    outside = b.add(b.and_(b.sub(asked, low), rest), b.select(above, over, under))
    return b.select(b.or_(below, above), outside, asked)
