"""Which inputs no network can tell apart, because its first layer cannot.

With a zero among the weights a neuron may read one coordinate only, so the question is the same for every dimension;
without it, every form ``±x₁ … ± x_d`` reads all of them. Closed forms answer where a theorem gives one, first-layer
rows where it does not. The theorems are derived for this library; their docstrings say how far they were checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from fixqnn.modes import Rounding
from fixqnn.universal.grid import Bias, Setting
from fixqnn.universal.rows import Rows

__all__ = ["Separation", "equal_pair", "first_layer", "form_sums", "points"]

MOST_POINTS = 2**21  # inputs that are listed one by one: 127³ for p = 6 and d = 3
CHECKED_P = 7  # the closed form for bounded biases and full weights was compared with every neuron up to here

Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Separation:
    """Whether the first layer tells all inputs apart.

    Attributes
    ----------
    holds : bool or None
        None: not decided, because the inputs are too many to list.
    pair : pair of tuples of int, or None
        Two inputs, as codes, that no neuron of the first layer tells apart.
    why : str
        The theorem or the computation, in words.
    """

    holds: bool | None
    pair: Pair | None
    why: str


def first_layer(setting: Setting, table: Sequence[int], inputs: int) -> Separation:
    """Decide whether every two inputs give different outputs on some neuron of the first layer.

    The table must not be constant. Hypotheses and sources of the closed forms stand with the functions below.

    Examples
    --------
    >>> first_layer(Setting(2, 1, "binary"), (0, 1, 0, 0, 0, 1, 0), 1).pair
    ((-2,), (2,))
    >>> first_layer(Setting(2, 1, "binary", "wide"), (0, 1, 0, 0, 0, 1, 0), 1).holds
    True
    """
    if setting.bias == Bias.fine:
        why = "a bias of unit 1/s² shifts the table by any amount, and no table but a constant one equals its own shift"
        return Separation(True, None, why)
    if setting.weights == "full":
        found = _full(setting, table)
    elif setting.weights == "ternary" or inputs == 1:
        found = _one_input(setting, table)
    else:
        return _signs(setting, table, inputs)
    return Separation(found.holds, _padded(found.pair, inputs), found.why)


def _padded(pair: Pair | None, inputs: int) -> Pair | None:
    return pair and tuple(x + (0,) * (inputs - len(x)) for x in pair)


# -- full weights ------------------------------------------------------------------------------------------------------


def _full(setting: Setting, table: Sequence[int]) -> Separation:
    """Theorem S: full weights and biases in units of 1/s, for every table that is not constant.

    If s > 2M, no weight moves the inputs 0 and 1/s apart. If s < 2M, all inputs are told apart. If s = 2M, the inputs
    −1/s and 1/s meet only at ties: half_away never compares T(0) with the rest, half_even compares only even codes and
    ±M; the other rules tell all inputs apart. Proved for unlimited biases (a table that agrees with all its shifts is
    constant); for biases among the values compared with every neuron for p ≤ 7. Above, a list of neurons proves it.
    """
    largest, s = setting.largest, setting.s
    if s > 2 * largest:
        return Separation(False, ((0,), (1,)), "s > 2M: no weight moves the inputs 0 and 1/s apart (theorem S)")
    if s == 2 * largest and setting.rounding in (Rounding.half_away, Rounding.half_even):
        away = setting.rounding is Rounding.half_away
        compared = [
            T for k, T in zip(setting.codes, table, strict=True) if (k if away else k % 2 == 0 or abs(k) == largest)
        ]
        if len(set(compared)) == 1:
            which = "except at 0" if away else "on the even codes and ±M"
            why = f"s = 2M and {setting.rounding}: -1/s and 1/s meet only at ties, where the table is constant {which}"
            return Separation(False, ((-1,), (1,)), why + " (theorem S)")
    if setting.bias == Bias.wide or setting.p <= CHECKED_P:
        return Separation(True, None, "s ≤ 2M, and the table is not constant (theorem S)")
    return _by_neurons(setting, table)


def _by_neurons(setting: Setting, table: Sequence[int]) -> Separation:
    """Go through the weights, likely ones first, until all inputs are told apart."""
    rows, codes = Rows(setting, table), np.array(setting.codes)
    largest, s = setting.largest, setting.s
    likely = (s, (s + 1) // 2, s // 2, largest, 1)
    sizes = dict.fromkeys([*(size for size in likely if 1 <= size <= largest), *range(largest, 0, -1)])
    labels = np.zeros(len(codes), np.uint64)
    for number, size in enumerate(sizes, 1):
        for weight in (size, -size):
            labels = _mixed(labels, rows.labels(weight * codes))
        if len(np.unique(labels)) == len(codes):
            return Separation(
                True, None, f"the neurons of {2 * number} weights tell all inputs apart (compared one by one)"
            )
    forms = [weight * codes for weight in setting.weight_codes]
    pair = _first_equal([codes], labels, forms, rows)
    return Separation(
        pair is None, pair, "no neuron tells the two inputs apart (all compared)" if pair else "all compared"
    )


# -- one input, weights ±a ---------------------------------------------------------------------------------------------


def _one_input(setting: Setting, table: Sequence[int]) -> Separation:
    """Weights −a and a (and 0): compare the rows of x and of −x."""
    if setting.bias == Bias.wide and setting.weight_unit % setting.s == 0:
        return Separation(
            True, None, "wide biases show every shift, and no table but a constant one equals its own shift"
        )
    rows = Rows(setting, table)
    coordinates = [np.array(setting.codes)]
    pair = equal_pair(coordinates, form_sums(setting, coordinates), rows)
    if pair is None:
        return Separation(True, None, "the rows of ±x + b differ for all inputs (compared one by one)")
    return Separation(False, pair, "±x + b has the same outputs for both inputs, for every bias")


# -- several inputs, weights ±a ----------------------------------------------------------------------------------------


def _signs(setting: Setting, table: Sequence[int], inputs: int) -> Separation:
    if setting.weight_unit == setting.s:
        return _binary(setting, table, inputs)
    one = _one_input(setting, table)
    if not one.holds:
        return Separation(False, _padded(one.pair, inputs), one.why)
    rows = Rows(setting, table)
    places = _doubtful_points(setting, rows, inputs)
    if places is None:
        return Separation(None, None, f"more than {MOST_POINTS} inputs, and no theorem that spares listing them")
    if not len(places[0]):
        return Separation(True, None, "different sums ±x₁ … ± x_d have different rows (compared one by one)")
    pair = equal_pair(places, form_sums(setting, places), rows)
    if pair is None:
        why = "the rows of ±x₁ … ± x_d + b differ for all inputs (compared one by one, up to signs)"
        return Separation(True, None, why)
    return Separation(False, pair, "all forms ±x₁ … ± x_d + b have the same outputs for both inputs, for every bias")


def _doubtful_points(setting: Setting, rows: Rows, inputs: int) -> list[np.ndarray] | None:
    """List inputs among which there are two that the first layer does not tell apart, if there are any at all.

    Two such inputs x ≠ y differ in the sum of some form. Changing the signs of the same coordinates in both permutes the
    forms, so let it be x₁ + … + x_d: its values differ, but their rows agree, and so do those of the negative sums. Only
    inputs with a sum that shares its rows with another need a look; where these sums are large, so are all coordinates.
    """
    reach = inputs * setting.largest
    sums = setting.weight_unit * np.arange(-reach, reach + 1)
    labels = _mixed(rows.labels(sums), rows.labels(-sums))
    _, back, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shared = counts[back] > 1
    if not shared.any():
        return [np.zeros(0, np.int64)] * inputs
    least = int(np.abs(np.flatnonzero(shared) - reach).min()) - (inputs - 1) * setting.largest  # of every coordinate
    corner = np.arange(least if least > 0 else -setting.largest, setting.largest + 1)
    corners = [corner, -corner] if least > 0 else [corner]
    if len(corner) ** inputs > MOST_POINTS:
        return None
    boxes = [np.meshgrid(*[corner] * inputs, indexing="ij") for corner in corners]
    places = [np.concatenate([box[i].ravel() for box in boxes]) for i in range(inputs)]
    kept = shared[sum(places) + reach]
    return [axis[kept] for axis in places]


def _binary(setting: Setting, table: Sequence[int], inputs: int) -> Separation:
    """Theorem D: weights −1 and 1, at least two inputs.

    With wide biases every table that is not constant tells all inputs apart. With biases among the values it does so
    if and only if (D1) T(−M) ≠ T(M), and (D2) T is not constant on −M, −M+1, −M+2, or not on M−2, M−1, M. For inputs
    (−M, −M) and (M, M) show the ends of the table only, and (−M, −M) and (−M+1, −M+1) the three codes at either end.
    Proved; also compared with all neurons: for all tables at once for p = 1, d ≤ 6; p = 2, d ≤ 4; p = 3, d ≤ 3.
    """
    largest = setting.largest
    if setting.bias == Bias.wide:
        return Separation(
            True, None, "wide biases show every shift, and no table but a constant one equals its own shift"
        )
    low = (-largest, -largest)
    if table[0] == table[-1]:
        why = "T(-M) = T(M): all neurons saturate alike on both inputs (theorem D, D1)"
        return Separation(False, _padded((low, (largest, largest)), inputs), why)
    if len({*table[:3]}) == 1 and len({*table[-3:]}) == 1:
        why = "the table is constant on its three first and on its three last codes (theorem D, D2)"
        return Separation(False, _padded((low, (1 - largest, 1 - largest)), inputs), why)
    return Separation(True, None, "T(-M) ≠ T(M), and the table is not flat on three codes at both ends (theorem D)")


# -- listing -----------------------------------------------------------------------------------------------------------


def points(setting: Setting, inputs: int) -> list[np.ndarray]:
    """All inputs in lexicographic order, one array per coordinate."""
    return [axis.ravel() for axis in np.meshgrid(*[np.array(setting.codes)] * inputs, indexing="ij")]


def form_sums(setting: Setting, coordinates: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sums ±a·x₁ … ± a·x_d of all forms at all points, before the bias."""
    unit = setting.weight_unit
    return [
        unit * sum(sign * axis for sign, axis in zip(signs, coordinates, strict=True))
        for signs in product((1, -1), repeat=len(coordinates))
    ]


def equal_pair(
    coordinates: Sequence[np.ndarray], forms: Sequence[np.ndarray], rows: Rows, target: np.ndarray | None = None
) -> Pair | None:
    """Find two points whose rows agree in every form, though `target`, if given, does not; None: there are none."""
    labels = np.zeros(len(coordinates[0]), np.uint64)
    for form in forms:
        labels = _mixed(labels, rows.labels(form))
    return _first_equal(coordinates, labels, forms, rows, target)


def _mixed(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Join further labels to labels so far; what differs afterwards differed in one of them."""
    scrambled = others.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return labels * np.uint64(0xD1342543DE82EF95) + (scrambled ^ scrambled >> np.uint64(29))


def _first_equal(
    coordinates: Sequence[np.ndarray],
    labels: np.ndarray,
    forms: Sequence[np.ndarray],
    rows: Rows,
    target: np.ndarray | None = None,
) -> Pair | None:
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    starts = np.concatenate([[0], ends[:-1] + 1])
    together = np.flatnonzero(ends > starts)
    for i in together[np.argsort(order[starts[together]])]:
        first, *others = order[starts[i] : ends[i] + 1].tolist()
        for other in others:
            if target is not None and target[first] == target[other]:
                continue
            if all(_same(rows, int(form[first]), int(form[other])) for form in forms):
                return tuple(tuple(int(axis[at]) for axis in coordinates) for at in (first, other))
    return None


def _same(rows: Rows, n: int, other: int) -> bool:
    """Compare two rows themselves; the labels of unlimited biases are no hashes and suffice."""
    if rows.setting.bias == Bias.values:
        return rows.row(n) == rows.row(other)
    left, right = rows.labels(np.array([n, other])).tolist()
    return left == right
