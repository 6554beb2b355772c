"""What sums can be where no register saturates: a lattice, and with it a bound on what a layer computes.

Whole sums of terms, each taken any number of times, are the integer combinations of the terms; in a register that wraps
they are these modulo a power of two. Let D be such that D times every unit vector is among them. Then a vector of sums
can be moved by D at any single input, so all that counts are its residues modulo D, a finite group: for each element of it,
every input may show any code whose cell holds a number of that residue.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from fixqnn.modes import Overflow
from fixqnn.universal.closure_arithmetic import Arithmetic
from fixqnn.universal.closure_search import BITMAP, Rows
from fixqnn.universal.grid import Bias

__all__ = ["applies", "lattice_functions", "sufficient"]

MOST_ELEMENTS = 300_000
MOST_GENERATORS, MANY_TERMS = 64, 50_000
FEW_TERMS = 64


def applies(arithmetic: Arithmetic) -> bool:
    """Whether sums are whole, but for what wraps in a single register: nothing is rounded away or saturates."""
    places = [level.place for level in arithmetic.levels]
    places += [stage.out for stage in arithmetic.bound.stages if stage.out]
    overflows = {place.register.overflow for place in places}
    if overflows == {Overflow.wrap} and len(places) == 1 and not places[0].register.kept:
        whole = True
    else:
        whole = overflows == {Overflow.forbid}
    whole &= all(place.drop <= 0 for place in places) and (len(places) == 1 or not any(p.drop for p in places))
    return whole and arithmetic.bound.bias_register.drop <= 0 and arithmetic.datapath.bias != "scaler"


def lattice_functions(arithmetic: Arithmetic, terms: np.ndarray) -> Rows | None:
    """All functions of a layer with these terms (terms, points), or more than these; None: not worked out.

    For a register that wraps, exactly those of the layer. For one that forbids overflow, those of one without end.
    """
    level, codes = arithmetic.levels[-1], len(arithmetic.setting.codes)
    if not applies(arithmetic) or codes ** terms.shape[1] > BITMAP:
        return None
    ends = _ends(arithmetic)
    if ends is None:
        return None
    scale = 1 << -arithmetic.levels[0].place.drop
    numbers = np.unique((terms + arithmetic.levels[0].first) * scale, axis=0)
    classes, where = np.unique(numbers, axis=1, return_inverse=True)
    bits = level.place.register.bits if level.place.register.overflow is Overflow.wrap else None
    biases = sorted({_aligned(arithmetic, b) for b in arithmetic.biases})
    if arithmetic.setting.bias != Bias.values:  # all multiples of a unit: one generator more
        unit, biases = _aligned(arithmetic, arithmetic.setting.bias_unit), [0]
        classes = np.concatenate([classes, np.full((1, classes.shape[1]), unit)])
    silent = ~classes.any(axis=0) & (bits is None)  # inputs at which there is nothing but the bias
    basis, step = _basis(classes[:, ~silent], bits)
    if step is None or (bits is not None and not level.whole and (1 << bits - 1) - level.high <= step):
        return None
    group = _elements(basis, step, int((~silent).sum()))
    if group is None:
        return None
    masks = _masks(arithmetic, step, ends)
    found, patterns = Rows((codes,) * terms.shape[1]), Rows((1 << codes,) * classes.shape[1])
    for bias in biases:
        pattern = np.empty((len(group), len(silent)), np.uint16)
        pattern[:, ~silent], pattern[:, silent] = masks[(group + bias) % step], _mask_of(arithmetic, bias, ends)
        patterns.add(pattern)
    for pattern in patterns.array:
        choices = [[k for k in range(codes) if mask >> k & 1] for mask in pattern]
        found.add(_product(choices)[:, where.reshape(-1)])
        if found.size == found.total:
            break
    return found


def _aligned(arithmetic: Arithmetic, bias: int) -> int:
    return (bias // arithmetic._bias_step) << -arithmetic.bound.bias_register.drop


def _ends(arithmetic: Arithmetic) -> tuple[int, int] | None:
    """Codes that contents beyond the window have, −1 for none; None where that is not known."""
    level = arithmetic.levels[-1]
    if level.whole:
        return -1, -1
    return (0, len(arithmetic.setting.codes) - 1) if arithmetic.clamps else None


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


def _product(choices: list[list[int]]) -> np.ndarray:
    """All rows with one of its choices at every place."""
    return np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, len(choices)).astype(np.uint16)


def _basis(vectors: np.ndarray, bits: int | None) -> tuple[list[list[int]], int | None]:
    """A triangular basis of integer combinations, and D, the least with D·e in them for every unit vector e, or None."""
    width = vectors.shape[1]
    basis: list[list[int] | None] = [None] * width
    if bits is not None:
        for place in range(width):
            _insert(basis, [0] * place + [1 << bits] + [0] * (width - place - 1))
    for vector in vectors.tolist():
        _insert(basis, vector)
    if any(row is None for row in basis):
        return [], None
    step = 1
    for place in range(width):
        # how often e must be taken until back substitution leaves nothing
        rest, times = [int(i == place) for i in range(width)], 1
        for column in range(width):
            pivot = basis[column][column]
            factor = pivot // gcd(pivot, rest[column]) if rest[column] else 1
            rest, times = [factor * v for v in rest], times * factor
            quotient = rest[column] // pivot
            rest = [v - quotient * b for v, b in zip(rest, basis[column], strict=True)]
        step = step * times // gcd(step, times)
    return basis, step


def _insert(basis: list[list[int] | None], vector: list[int]) -> None:
    """Let a triangular basis generate one more vector: Euclid's algorithm, column by column."""
    for column in range(len(vector)):
        while vector[column]:
            held = basis[column]
            if held is None:
                basis[column] = vector if vector[column] > 0 else [-v for v in vector]
                return
            quotient = vector[column] // held[column]
            vector, rest = [v - quotient * h for v, h in zip(vector, held, strict=True)], held
            if vector[column]:
                basis[column], vector = vector, rest


def _elements(basis: list[list[int]], step: int, width: int) -> np.ndarray | None:
    """All combinations of a basis modulo `step`; None: too many."""
    size = step**width
    for place, row in enumerate(basis):
        size //= row[place] if step % row[place] == 0 else 1
    if size > MOST_ELEMENTS:
        return None
    elements = np.zeros((1, width), np.int64)
    for row in basis:
        multiples = np.arange(step)[:, None] * np.array([v % step for v in row])
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
    basis: list[list[int] | None] = [None] * width
    for place in range(width):
        _insert(basis, [0] * place + [1 << bits] + [0] * (width - place - 1))
    for place, vector in enumerate(numbers.tolist()):
        before = [row[i] for i, row in enumerate(basis)]
        _insert(basis, vector)
        if place == 0 or [row[i] for i, row in enumerate(basis)] != before:
            kept.append(place)
            if all(row[i] == 1 for i, row in enumerate(basis)):
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
