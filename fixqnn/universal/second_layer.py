"""Theorem C: what the second layer needs when no weight is zero and biases are bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from fixqnn.universal.grid import Setting
from fixqnn.universal.rows import PRIMES, Rows
from fixqnn.universal.separation import MOST_POINTS, Pair, form_sums, points

__all__ = ["SecondLayer", "second_layer"]

MOST_SUSPECTS = 20_000
MOST_ENTRIES = 2**22  # outputs of neurons that are looked at for single sums


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

    For weights −1, 1 and at least two inputs, where theorem D gives T(−M) ≠ T(M), few sums need a look. Let h(x) =
    λ·h(x'), λ ≠ 1. A form with values u, u' of one sign shows T(M) = λT(M) and T(−M) = λT(−M), so no form has values
    of one sign. Then the two shifted copies of the table are each λ times the other, so λ = −1. A form with the signs
    balanced has |u| ≤ M. So without such u and a u' of other sign whose rows are opposite, C1 holds.

    Examples
    --------
    >>> second_layer(Setting(2, 4, "binary"), (-3, -2, -1, 0, 1, 2, 3), 2).hidden_layers
    2
    """
    rows = Rows(setting, table)
    ends_differ = table[0] != table[-1]
    if setting.weight_unit == setting.s and inputs > 1 and ends_differ and not _has_opposite_rows(rows, inputs):
        return SecondLayer(True, 2, None, "no small sum has the opposite row of another (theorem C1)")
    if _no_small_sum_has_multiples(rows, inputs):
        return SecondLayer(True, 2, None, "no small sum has rows that are a multiple of another's (theorem C1)")
    if (2 * setting.largest + 1) ** inputs > MOST_POINTS:
        return SecondLayer(None, 0, None, f"more than {MOST_POINTS} inputs, and no theorem that spares listing them")
    coordinates = points(setting, inputs)
    forms = form_sums(setting, coordinates)
    suspects, zeros = _suspects(rows, forms)
    if len(suspects) > MOST_SUSPECTS:
        return SecondLayer(None, 0, None, f"more than {MOST_SUSPECTS} inputs with proportional rows")
    kinds = _proportional(rows, forms, suspects)
    for zero in zeros:
        kinds |= {(0, size): (zero, other) for size, other in _sizes(rows, forms) if size}
    if not kinds:
        return SecondLayer(True, 2, None, "no two inputs have proportional rows, and none has zero rows (theorem C1)")
    for (alpha, beta), pair in kinds.items():
        if not _told_apart(setting, table, alpha, beta):
            inputs_of_pair = tuple(tuple(int(axis[i]) for axis in coordinates) for i in pair)
            why = "proportional rows may stay proportional through the second layer (theorem C leaves this open)"
            return SecondLayer(None, 0, inputs_of_pair, why)
    return SecondLayer(True, 3, None, "inputs with proportional rows are told apart by the second layer (theorem C2)")


def _has_opposite_rows(rows: Rows, inputs: int) -> bool:
    setting, prime = rows.setting, PRIMES[0]
    largest = setting.largest
    sums = setting.s * np.arange(-min(inputs, 3) * largest, min(inputs, 3) * largest + 1)  # beyond 2M all rows agree
    hashed = rows.hashes(sums, prime)
    small = np.abs(sums) <= setting.s * largest
    opposite = -hashed % prime
    for i in np.flatnonzero(small & np.isin(opposite, hashed)):
        for j in np.flatnonzero(hashed == opposite[i]):
            if sums[i] * sums[j] < 0 and all(
                rows.row(int(sign * sums[i])) == tuple(-code for code in rows.row(int(sign * sums[j])))
                for sign in (1, -1)
            ):
                return True
    return False


def _no_small_sum_has_multiples(rows: Rows, inputs: int) -> bool:
    """Whether C1 holds because of single forms: a look at all sums instead of all inputs.

    Let h(x) = λ·h(y), λ ≠ 1, or h(x) = 0. Some form has a sum of at most M on x, signs balanced, and its rows on x, and
    those of its negative, are λ times its rows on y, or zero.
    """
    largest = rows.setting.largest
    reach = inputs * largest
    if (2 * reach + 1) * (4 * largest + 2) > MOST_ENTRIES:
        return False
    sums = rows.setting.weight_unit * np.arange(-reach, reach + 1)
    seen = np.concatenate([rows.windows(sums), rows.windows(-sums)], axis=1)
    sizes = np.gcd.reduce(seen, axis=1)
    sizes *= np.sign(seen[np.arange(len(seen)), (seen != 0).argmax(axis=1)])
    small = np.arange(reach - largest, reach + largest + 1)
    if not sizes[small].all():
        return False
    _, shape = np.unique(seen // np.where(sizes == 0, 1, sizes)[:, None], axis=0, return_inverse=True)
    shape = shape.ravel()
    most, least = np.full(len(sums), sizes.min()), np.full(len(sums), sizes.max())
    np.maximum.at(most, shape, sizes)
    np.minimum.at(least, shape, sizes)
    return bool((most == least)[shape[small]].all())


def _proportional(
    rows: Rows, forms: Sequence[np.ndarray], suspects: Sequence[int]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Find all (α, β) for which one input's rows are α times and another's β times the same primitive vector."""
    groups = defaultdict(list)
    for i in suspects:
        row = [code for form in forms for code in rows.row(int(form[i]))]
        size = gcd(*row) * (1 if next(code for code in row if code) > 0 else -1)
        groups[tuple(code // size for code in row)].append((size, i))
    return {
        (alpha, beta): (i, j)
        for group in groups.values()
        for at, (alpha, i) in enumerate(group)
        for beta, j in group[at + 1 :]
        if alpha != beta  # equal rows: the first layer's affair
    }


def _sizes(rows: Rows, forms: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """All greatest common divisors of an input's rows, each with one input that has it."""
    sizes = np.zeros(len(forms[0]), np.int64)
    for form in forms:
        sums, back = np.unique(form, return_inverse=True)
        sizes = np.gcd(sizes, np.gcd.reduce(rows.windows(sums), axis=1)[back])
    found, where = np.unique(sizes, return_index=True)
    return list(zip(found.tolist(), where.tolist(), strict=True))


def _suspects(rows: Rows, forms: Sequence[np.ndarray]) -> tuple[list[int], list[int]]:
    """Find points whose label, divided by the first entry that is not zero, is another's; and points with zero rows."""
    first = np.zeros(len(forms[0]), np.int64)
    for form in forms:
        first = np.where(first == 0, rows.first_nonzero(form), first)
    keys = np.zeros(len(first), np.int64)
    for prime in PRIMES:
        label = np.zeros(len(first), np.int64)
        for number, form in enumerate(forms):
            label = (label + rows.hashes(form, prime) * pow(48_271, number + 1, prime)) % prime
        inverse = {int(value): pow(int(value), -1, prime) for value in np.unique(first) if value}
        values = np.array(sorted(inverse))
        inverses = np.array([inverse[value] for value in values.tolist()], np.int64)
        scale = inverses[np.minimum(np.searchsorted(values, first), len(values) - 1)]
        keys = keys << 31 | label * scale % prime
    _, back, counts = np.unique(keys, return_inverse=True, return_counts=True)
    together = np.flatnonzero((counts[back] > 1) & (first != 0))
    return together.tolist(), np.flatnonzero(first == 0).tolist()


def _told_apart(setting: Setting, table: Sequence[int], alpha: int, beta: int) -> bool:
    """Look for t and b with T(round(2at·α + b)) ≠ T(round(2at·β + b)); larger t only saturate."""
    largest, s, unit = setting.largest, setting.s, setting.weight_unit
    smallest = min(abs(value) for value in (alpha, beta) if value)
    biases = range(-s * largest, s * largest + 1, s)
    for t in range(1, (2 * largest + 2) * s // (2 * unit * smallest) + 2):
        for step in (2 * unit * t, -2 * unit * t):
            for bias in biases:
                left, right = (setting.round(step * value + bias) + largest for value in (alpha, beta))
                if table[left] != table[right]:
                    return True
    return False
