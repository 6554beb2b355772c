"""Theorem C: what the second layer needs when no weight is zero and biases are bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations, product
from math import gcd

import numpy as np

from fixqnn.universal.grid import Setting
from fixqnn.universal.rows import PRIMES, Rows
from fixqnn.universal.sum_pairs import Pair, form_sums, input_of, two_within

__all__ = ["SecondLayer", "second_layer"]

AT_ONCE = 4096  # multiples that are compared together

Kinds = dict[tuple[int, int], Pair | None]
Related = dict[tuple[int, int], list[tuple[int, int, int]]]


@dataclass(frozen=True)
class SecondLayer:
    """What theorem C says.

    Attributes
    ----------
    holds : bool or None
        None: undecided.
    hidden_layers : int
        How many hidden layers suffice where it holds.
    pair : pair of inputs or None
        Two inputs that leave it undecided.
    why : str
        In words.
    """

    holds: bool | None
    hidden_layers: int
    pair: Pair | None
    why: str


def second_layer(setting: Setting, table: Sequence[int], inputs: int) -> SecondLayer:
    """Apply theorem C (weights −a and a, biases among the values).

    Covering is given; inputs that the first layer does not tell apart count as one.

    Call h(x) the vector of what all first-layer neurons give on input x. (C1) If no h(x) is zero and no two are
    proportional, two hidden layers suffice. (C2) Otherwise, if every pair whose vectors are multiples α·e and β·e of
    one primitive vector has a weight 2t and a bias b with T(round(2tα + b)) ≠ T(round(2tβ + b)), three suffice. If
    neither holds, the question is open; no such table is known. Derived; compared with the exhaustive closure for p = 1.

    Two inputs say it for any number. Let x and y have three coordinates or more and h(y) = λ·h(x), λ ≠ 1. Two
    coordinates can be joined as in theorem E, as often as there are three: h of the shorter x and y holds entries of
    the longer ones, so they are proportional by the same λ, or both zero; and joined once more, a zero h(x) leaves a
    code u with h(u) zero. Zeros added to shorter inputs only repeat entries. So C1 holds for all d ≥ 2 or for none. If
    no h(u) is zero, α and β of the shorter pair are multiples mα and mβ of those of the longer one, and what tells them
    apart with 2t tells the longer pair apart with 2mt: so C2, too, holds for all d ≥ 2 or for none. If some h(u) is
    zero, which only happens where the first layer is blind already, and d ≥ 3, all pairs of proportional single sums are
    asked to be told apart, which suffices in the same way. Proved; also compared with lists of all inputs for p ≤ 3.

    Examples
    --------
    >>> second_layer(Setting(2, 4, "binary"), (-3, -2, -1, 0, 1, 2, 3), 2).hidden_layers
    2
    """
    rows = Rows(setting, table)
    kinds = _kinds(rows, inputs)
    if not kinds:
        return SecondLayer(True, 2, None, "no two inputs have proportional rows, and none has zero rows (theorem C1)")
    for (alpha, beta), pair in kinds.items():
        if pair and not _proportional(rows, alpha, beta, pair):
            return SecondLayer(None, 0, None, "rows with the same hash up to a factor are not proportional")
        if not _told_apart(rows, alpha, beta):
            why = "proportional rows may stay proportional through the second layer (theorem C leaves this open)"
            return SecondLayer(None, 0, pair and tuple(x + (0,) * (inputs - len(x)) for x in pair), why)
    return SecondLayer(True, 3, None, "inputs with proportional rows are told apart by the second layer (theorem C2)")


def _kinds(rows: Rows, inputs: int) -> Kinds:
    """Find all (α, β), α of the first input positive or 0, with an example; without one, for what need not occur."""
    largest = rows.setting.largest
    zeros: dict[int, int] = {}  # the smallest sum of either parity with zero rows
    groups: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)  # and of rows that are `size` times a shape
    for u, shape, size in _sums_with_multiples(rows, inputs):
        if size:
            groups[shape].setdefault((size, u % 2), u)
        else:
            zeros.setdefault(u % 2, u)
    related: Related = defaultdict(list)
    for group in groups.values():
        for ((alpha, _), u), ((beta, _), v) in permutations(group.items(), 2):
            if alpha != beta:  # equal rows: the first layer's affair
                common = gcd(alpha, beta) if alpha > 0 else -gcd(alpha, beta)
                related[alpha // common, beta // common].append((abs(alpha), u, v))
    single = {(size, size // r * q): ((u,), (v,)) for (r, q), pairs in related.items() for size, u, v in pairs}
    zero = next((u for u in zeros.values() if abs(u) <= largest), None)
    blank = {} if zero is None else {(0, gcd(*rows.table.tolist())): ((zero,), (0,))}
    if inputs == 1:
        return blank | single
    return (dict.fromkeys(single) if blank and inputs > 2 else {}) | blank | _of_two(related, zeros, 2 * largest)


def _of_two(related: Related, zeros: dict[int, int], limit: int) -> Kinds:
    """Kinds of inputs with two coordinates: two sums and two others that are related by one ratio."""
    kinds: Kinds = {}
    for (r, q), pairs in related.items():
        alike: dict[tuple[int, int], dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for size, u, v in [*pairs, *((0, u, v) for u, v in product(zeros.values(), repeat=2))]:
            alike[u % 2, v % 2][size].append((u, v))
        for by_size in alike.values():
            for (size, left), (other, right) in combinations_with_replacement(by_size.items(), 2):
                common = gcd(size, other)
                found = two_within(np.array(left), np.array(right), limit) if common else None
                if found:
                    (u, v), (w, z) = left[found[0]], right[found[1]]
                    kinds[common, common // r * q] = input_of(u, w), input_of(v, z)
    return kinds


def _sums_with_multiples(rows: Rows, inputs: int) -> list[tuple[int, int, int]]:
    """List sums whose rows, with those of the negative sum, are zero or a multiple of another's; small ones first.

    Each with a hash of its shape, which multiples share, and its size, the greatest common divisor. None are listed if
    no sum is among them that is a code: every input has such a sum, for signs can be balanced.
    """
    setting = rows.setting
    largest, unit = setting.largest, setting.weight_unit
    reach = min(inputs * largest, max(2 * largest, (2 * largest + 2) * setting.s // unit + 1))  # then saturated
    sums = np.arange(-reach, reach + 1)
    shapes, first = _shapes(rows, unit * sums)
    order = np.lexsort((first, shapes))
    in_turn, entries = shapes[order], first[order]
    differ = (in_turn[1:] == in_turn[:-1]) & (entries[1:] != entries[:-1])
    listed = np.isin(shapes, in_turn[1:][differ]) | (first == 0)
    if not listed[abs(sums) <= largest].any():
        return []
    at = np.flatnonzero(listed)
    at = at[np.argsort(abs(sums[at]), kind="stable")]
    sizes = np.gcd(rows.sizes(unit * sums[at]), rows.sizes(-unit * sums[at])) * np.sign(first[at])
    return list(zip(sums[at].tolist(), shapes[at].tolist(), sizes.tolist(), strict=True))


def _shapes(rows: Rows, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash the rows of each sum and its negative, divided by their first entry that is not zero; and that entry."""
    first = rows.first_nonzero(sums)
    first = np.where(first == 0, rows.first_nonzero(-sums), first)
    values, back = np.unique(first, return_inverse=True)
    shapes = np.zeros(len(sums), np.int64)
    for prime in PRIMES:
        inverses = np.array([pow(value, -1, prime) if value else 0 for value in values.tolist()])
        hashed = (rows.hashes(sums, prime) + rows.hashes(-sums, prime) * 48_271) % prime
        shapes = shapes << 31 | hashed * inverses[back] % prime
    return shapes, first


def _proportional(rows: Rows, alpha: int, beta: int, pair: Pair) -> bool:
    """Compare the rows themselves."""
    x, y = (np.concatenate(rows.windows(np.array(form_sums(rows.setting, point)))) for point in pair)
    return bool((beta * x == alpha * y).all())


def _told_apart(rows: Rows, alpha: int, beta: int) -> bool:
    """Look for t and b with T(round(2at·α + b)) ≠ T(round(2at·β + b)); larger t only saturate."""
    setting = rows.setting
    step, smallest = 2 * setting.weight_unit, min(abs(value) for value in (alpha, beta) if value)
    end = (2 * setting.largest + 2) * setting.s // (step * smallest) + 2
    saturated = (2 * setting.largest + 2) * setting.s // step + 1
    for start in range(1, end, AT_ONCE):
        factors = np.arange(start, min(start + AT_ONCE, end))
        one, other = (  # beyond saturation nothing changes, and products would leave 64 bits
            step * size * np.minimum(factors, saturated // max(abs(size), 1) + 1) for size in (alpha, beta)
        )
        if any((rows.labels(sign * one) != rows.labels(sign * other)).any() for sign in (1, -1)):
            return True
    return False
