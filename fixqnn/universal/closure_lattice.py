"""What sums can be where no register saturates: a lattice, and with it what a layer computes, or a bound on it.

Whole sums of terms, each taken any number of times, are the integer combinations of the terms; in a register that wraps
they are these modulo a power of two. Let D be such that D times every unit vector is among them. Then a vector of sums
can be moved by D at any single input, so all that counts are its residues modulo D, a finite group: for each element of it,
every input may show any code whose cell holds a number of that residue. How many terms such a combination takes at most is
counted along: a register that holds the sum of so many never acts on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from fixqnn.modes import Overflow
from fixqnn.universal.closure_arithmetic import Arithmetic
from fixqnn.universal.closure_search import BITMAP, Rows
from fixqnn.universal.grid import Bias

__all__ = ["Combinations", "combinations", "sufficient"]

MOST_ELEMENTS = 300_000
MOST_GENERATORS, MANY_TERMS = 64, 50_000
FEW_TERMS = 64


@dataclass(frozen=True)
class Combinations:
    """What integer combinations of a layer's terms, rounded and clamped, are as functions.

    Attributes
    ----------
    functions : Rows
        The functions, as code + M.
    reached : bool
        Whether the layer computes all of them.
    no_others : bool
        Whether it computes nothing else.
    """

    functions: Rows
    reached: bool
    no_others: bool


def combinations(arithmetic: Arithmetic, terms: np.ndarray) -> Combinations | None:
    """Work out the functions that are integer combinations of terms (terms, points); None: sums are no such, or too many.

    For a register that wraps they are those of the layer. For one that forbids overflow they are at least those of the
    layer, for one that may saturate they may be fewer; of both they are reached if the register has room enough.
    """
    level, codes = arithmetic.levels[-1], len(arithmetic.setting.codes)
    if not _whole(arithmetic) or codes ** terms.shape[1] > BITMAP:
        return None
    wraps, known = arithmetic.wraps, level.whole or arithmetic.ends_clamp
    ends = (0, codes - 1) if known and not level.whole else (-1, -1)  # codes beyond the window, −1 for none
    scale = 1 << -arithmetic.levels[0].place.drop
    numbers = np.unique((terms + arithmetic.levels[0].first) * scale, axis=0)
    classes, where = np.unique(numbers, axis=1, return_inverse=True)
    bits = level.place.register.bits if wraps else None
    biases = sorted({_aligned(arithmetic, b) for b in arithmetic.biases})
    if arithmetic.setting.bias != Bias.values:  # all multiples of a unit: one generator more
        unit, biases = _aligned(arithmetic, arithmetic.setting.bias_unit), [0]
        classes = np.concatenate([classes, np.full((1, classes.shape[1]), unit)])
    silent = ~classes.any(axis=0) & (not wraps)  # inputs at which there is nothing but the bias
    lattice = _lattice(classes[:, ~silent], bits)
    if lattice is None or (wraps and not level.whole and (1 << bits - 1) - level.high <= lattice.step):
        return None
    group = _elements(lattice)
    if group is None:
        return None
    masks = _masks(arithmetic, lattice.step, ends)
    found, patterns = Rows((codes,) * terms.shape[1]), Rows((1 << codes,) * classes.shape[1])
    for bias in biases:
        pattern = np.empty((len(group), len(silent)), np.uint16)
        pattern[:, ~silent], pattern[:, silent] = masks[(group + bias) % lattice.step], _mask_of(arithmetic, bias, ends)
        patterns.add(pattern)
    found.add(_choices(patterns.array, codes)[:, where.reshape(-1)])
    largest = int(np.abs(classes).max(initial=0))
    return Combinations(
        found,
        reached=(wraps and known) or _has_room(arithmetic, lattice, largest, max(map(abs, biases))),
        no_others=known and (wraps or _overflows(arithmetic) == {Overflow.forbid}),
    )


def _overflows(arithmetic: Arithmetic) -> set[Overflow]:
    places = [level.place for level in arithmetic.levels]
    places += [stage.out for stage in arithmetic.bound.stages if stage.out]
    return {place.register.overflow for place in places}


def _whole(arithmetic: Arithmetic) -> bool:
    """Whether sums are whole unless they overflow: nothing is rounded away, and what wraps is a single register."""
    places = [level.place for level in arithmetic.levels]
    overflows = _overflows(arithmetic)
    known = arithmetic.wraps or overflows == {Overflow.forbid} or (len(places) == 1 and arithmetic.stays)
    whole = all(place.drop <= 0 for place in places) and (len(places) == 1 or not any(p.drop for p in places))
    return known and whole and arithmetic.bound.bias_register.drop <= 0 and arithmetic.datapath.bias != "scaler"


def _has_room(arithmetic: Arithmetic, lattice: _Lattice, largest: int, bias: int) -> bool:
    """Whether the register holds every partial sum on the way to any content of the window, or just beyond."""
    level = arithmetic.levels[-1]
    if len(arithmetic.levels) > 1 or arithmetic.bound.stages[0].out is not None:
        return False
    element = sum((lattice.step - 1) * row.terms for row in lattice.basis)
    moved = element * largest + bias + max(-level.low, level.high) + 2 * lattice.step  # at most, at every input
    terms = element + sum(-(-moved // lattice.step) * count for count in lattice.unit_terms)
    return terms * largest + bias <= min(-level.place.register.low, level.place.register.high)


def _aligned(arithmetic: Arithmetic, bias: int) -> int:
    return (bias // arithmetic._bias_step) << -arithmetic.bound.bias_register.drop


def _masks(arithmetic: Arithmetic, step: int, ends: tuple[int, int]) -> np.ndarray:
    """For every residue modulo `step`, as bits, the codes of the contents that have it."""
    level = arithmetic.levels[-1]
    codes = arithmetic._codes([int(v) for v in level.leave], arithmetic.work, 0)
    masks = np.zeros(step, np.int64)
    for content, code in zip(range(level.low, level.high + 1), codes.tolist(), strict=True):
        if code >= 0:
            masks[content % step] |= 1 << code
    for code in ends:
        if code >= 0:
            masks |= 1 << code
    return masks


def _mask_of(arithmetic: Arithmetic, content: int, ends: tuple[int, int]) -> int:
    """As a bit, the code of one content; 0 for none."""
    level = arithmetic.levels[-1]
    if level.low <= content <= level.high:
        (code,) = arithmetic._codes([int(level.leave[content - level.low])], arithmetic.work, 0).tolist()
    else:
        code = ends[content > 0]
    return 1 << code if code >= 0 else 0


def _choices(patterns: np.ndarray, codes: int) -> np.ndarray:
    """All rows with, at every place, one of the codes whose bit is set in some pattern there."""
    rows = patterns.astype(np.int64)
    for place in range(rows.shape[1]):
        parts = []
        for code in range(codes):
            chosen = rows[(rows[:, place] >> code & 1) == 1]
            chosen[:, place] = code
            parts.append(chosen)
        rows = np.concatenate(parts)
        # a mask takes `codes` bits, and so many inputs as a closure has fit a word
        _, first = np.unique(rows @ (np.int64(1) << codes * np.arange(rows.shape[1])), return_index=True)
        rows = rows[first]
    return rows.astype(np.uint16)


@dataclass(frozen=True)
class _Row:
    """An integer combination of the generators, and how many of them it takes."""

    entries: list[int]
    terms: int

    def less(self, other: _Row, times: int) -> _Row:
        """Take `times` times the other away."""
        entries = [v - times * w for v, w in zip(self.entries, other.entries, strict=True)]
        return _Row(entries, self.terms + abs(times) * other.terms)


@dataclass(frozen=True)
class _Lattice:
    """All integer combinations of some vectors.

    Attributes
    ----------
    basis : list of _Row
        Triangular.
    step : int
        D, the least with D·e in the lattice for every unit vector e.
    unit_terms : list of int
        How many of the vectors, at most, D·e takes for every e.
    """

    basis: list[_Row]
    step: int
    unit_terms: list[int]


def _lattice(vectors: np.ndarray, bits: int | None) -> _Lattice | None:
    """The lattice of vectors, modulo a power of two if `bits` is given; None where there is no D."""
    width = vectors.shape[1]
    basis: list[_Row | None] = [None] * width
    if bits is not None:
        for place in range(width):
            _insert(basis, _unit(place, width, 1 << bits))
    for vector in vectors.tolist():
        _insert(basis, _Row(vector, 1))
    if any(row is None for row in basis):
        return None
    step, units = 1, []
    for place in range(width):
        # how often e must be taken until back substitution leaves nothing
        rest, times = _unit(place, width, 1), 1
        for column in range(width):
            pivot = basis[column].entries[column]
            factor = pivot // gcd(pivot, rest.entries[column]) if rest.entries[column] else 1
            rest, times = _Row([factor * v for v in rest.entries], factor * rest.terms), times * factor
            rest = rest.less(basis[column], rest.entries[column] // pivot)
        units.append((times, rest.terms))
        step = step * times // gcd(step, times)
    return _Lattice(basis, step, [step // times * terms for times, terms in units])


def _unit(place: int, width: int, value: int) -> _Row:
    return _Row([value * (i == place) for i in range(width)], 0)


def _insert(basis: list[_Row | None], row: _Row) -> None:
    """Let a triangular basis generate one more vector: Euclid's algorithm, column by column."""
    for column in range(len(row.entries)):
        while row.entries[column]:
            held = basis[column]
            if held is None:
                basis[column] = row if row.entries[column] > 0 else _Row([-v for v in row.entries], row.terms)
                return
            row, rest = row.less(held, row.entries[column] // held.entries[column]), held
            if row.entries[column]:
                basis[column], row = row, rest


def _elements(lattice: _Lattice) -> np.ndarray | None:
    """All elements of a lattice modulo D; None: too many."""
    step, width = lattice.step, len(lattice.basis)
    size = step**width
    for place, row in enumerate(lattice.basis):
        size //= row.entries[place] if step % row.entries[place] == 0 else 1
    if size > MOST_ELEMENTS:
        return None
    elements = np.zeros((1, width), np.int64)
    for row in lattice.basis:
        multiples = np.arange(step)[:, None] * np.array([v % step for v in row.entries])
        elements = np.unique((elements[:, None] + multiples[None]).reshape(-1, width) % step, axis=0)
        if len(elements) * step > 20 * MOST_ELEMENTS:
            return None
    return elements


def sufficient(arithmetic: Arithmetic, terms: np.ndarray) -> np.ndarray:
    """Places of terms that lead to all states that all of them lead to, in a single register where nothing is rounded."""
    if len(terms) < FEW_TERMS or len(arithmetic.levels) > 1 or arithmetic.levels[0].place.drop > 0:
        return np.arange(len(terms))
    register = arithmetic.levels[0].place.register
    if register.overflow is Overflow.wrap and not register.kept:
        if not arithmetic.levels[0].whole:
            return np.arange(len(terms))  # in a window there is no way round
        return _generators(terms + arithmetic.levels[0].first, register.bits)
    if register.overflow in (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid):
        return _irreducible(arithmetic, terms)
    return np.arange(len(terms))


def _generators(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Places of numbers that generate, modulo a power of two, all the others: adding one often enough takes it away."""
    width, kept = numbers.shape[1], []
    basis: list[_Row | None] = [None] * width
    for place in range(width):
        _insert(basis, _unit(place, width, 1 << bits))
    for place, vector in enumerate(numbers.tolist()):
        before = [row.entries[i] for i, row in enumerate(basis)]
        _insert(basis, _Row(vector, 1))
        if place == 0 or [row.entries[i] for i, row in enumerate(basis)] != before:
            kept.append(place)
            if all(row.entries[i] == 1 for i, row in enumerate(basis)):
                break
    return np.array(kept)


def _irreducible(arithmetic: Arithmetic, terms: np.ndarray) -> np.ndarray:
    """Places of the terms that are no sum of two others of the same signs; the others bring nothing in a single register.

    Where nothing is rounded on entering, adding a and then b, of equal signs at every input, leaves what a + b would:
    on the way to saturation, or to an overflow that is forbidden, there is no turning back.
    """
    level = arithmetic.levels[0]
    numbers, span = terms + level.first, terms.max() + 1
    norms = np.abs(numbers).sum(axis=1)
    weights = np.array([int(span) ** i for i in range(terms.shape[1])], object)
    if int(span) ** terms.shape[1] >= 1 << 62:
        return np.arange(len(terms))
    weights = weights.astype(np.int64)
    keys = np.sort(terms @ weights)
    left, kept = np.argsort(norms, kind="stable"), []
    most = MOST_GENERATORS if len(terms) < MANY_TERMS else MOST_GENERATORS // 4
    while len(left) and len(kept) < most:
        generator, left = left[0], left[1:]
        kept.append(generator)
        if not norms[generator]:
            continue
        rest = numbers[left] - numbers[generator]
        inside = (np.sign(numbers[left]) * np.sign(numbers[generator]) >= 0) & (np.abs(rest) <= np.abs(numbers[left]))
        inside = inside.all(axis=1) & (rest * np.sign(numbers[left]) >= 0).all(axis=1)
        wanted = (rest - level.first) @ weights
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        left = left[~(inside & (keys[at] == wanted))]
    return np.sort(np.concatenate([kept, left]).astype(np.intp))
