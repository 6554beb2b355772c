"""Which inputs no network can tell apart, because its first layer cannot.

With a zero among the weights a neuron may read one coordinate only, so the question is the same for every dimension;
without it, every form ``±x₁ … ± x_d`` reads all of them, and sums of three decide for all. Closed forms answer where a
theorem gives one, first-layer rows where it does not. The theorems are derived for this library; their docstrings say
how far they were checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fixqnn.modes import Rounding
from fixqnn.universal.grid import Bias, Setting
from fixqnn.universal.rows import Rows
from fixqnn.universal.sum_pairs import Pair, blind_pair, form_sums, mixed

__all__ = ["Separation", "equal_pair", "first_layer", "form_sums", "points"]

CHECKED_P = 7  # the closed form for bounded biases and full weights was compared with every neuron up to here


@dataclass(frozen=True)
class Separation:
    """Whether the first layer tells all inputs apart.

    Attributes
    ----------
    holds : bool or None
        None: not decided, because different rows have the same hash; that is one chance in 2⁶⁰.
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
    elif setting.bias == Bias.wide and setting.weight_unit % setting.s == 0:
        why = "wide biases show every shift, and no table but a constant one equals its own shift"
        return Separation(True, None, why)
    elif setting.weight_codes == (-setting.s, setting.s) and inputs > 1:
        found = _binary(setting, table)
    else:
        found = _signs(setting, table, 1 if setting.has_zero else inputs)
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
            labels = mixed(labels, rows.labels(weight * codes))
        if len(np.unique(labels)) == len(codes):
            return Separation(
                True, None, f"the neurons of {2 * number} weights tell all inputs apart (compared one by one)"
            )
    forms = [weight * codes for weight in setting.weight_codes]
    pair = _first_equal([codes], labels, forms, rows)
    return Separation(
        pair is None, pair, "no neuron tells the two inputs apart (all compared)" if pair else "all compared"
    )


# -- weights ±a --------------------------------------------------------------------------------------------------------


def _signs(setting: Setting, table: Sequence[int], inputs: int) -> Separation:
    """Theorem E, which stands with `blind_pair`: compare the rows of sums ±x₁ … ± x_d."""
    rows = Rows(setting, table)
    pair = blind_pair(rows, inputs)
    if pair is None:
        return Separation(True, None, "the rows of sums ±x₁ … ± x_d + b tell all inputs apart (theorem E)")
    x, y = (form_sums(setting, point) for point in pair)
    if not all(map(rows.same, x, y)):
        return Separation(None, None, "different rows have the same hash")
    return Separation(False, pair, "all forms ±x₁ … ± x_d + b have the same outputs for both inputs (theorem E)")


def _binary(setting: Setting, table: Sequence[int]) -> Separation:
    """Theorem D: weights −1 and 1, biases among the values, at least two inputs.

    Every two inputs are told apart if and only if (D1) T(−M) ≠ T(M), and (D2) T is not constant on −M, −M+1, −M+2, or
    not on M−2, M−1, M. For inputs (−M, −M) and (M, M) show the ends of the table only, and (−M, −M) and (−M+1, −M+1)
    the three codes at either end. Proved; also compared with all neurons: for all tables at once for p = 1, d ≤ 6;
    p = 2, d ≤ 4; p = 3, d ≤ 3.
    """
    largest = setting.largest
    low = (-largest, -largest)
    if table[0] == table[-1]:
        why = "T(-M) = T(M): all neurons saturate alike on both inputs (theorem D, D1)"
        return Separation(False, (low, (largest, largest)), why)
    if len({*table[:3]}) == 1 and len({*table[-3:]}) == 1:
        why = "the table is constant on its three first and on its three last codes (theorem D, D2)"
        return Separation(False, (low, (1 - largest, 1 - largest)), why)
    return Separation(True, None, "T(-M) ≠ T(M), and the table is not flat on three codes at both ends (theorem D)")


# -- listing -----------------------------------------------------------------------------------------------------------


def points(setting: Setting, inputs: int) -> list[np.ndarray]:
    """All inputs in lexicographic order, one array per coordinate."""
    return [axis.ravel() for axis in np.meshgrid(*[np.array(setting.codes)] * inputs, indexing="ij")]


def equal_pair(
    coordinates: Sequence[np.ndarray], forms: Sequence[np.ndarray], rows: Rows, target: np.ndarray | None = None
) -> Pair | None:
    """Find two points whose rows agree in every form, though `target`, if given, does not; None: there are none."""
    labels = np.zeros(len(coordinates[0]), np.uint64)
    for form in forms:
        labels = mixed(labels, rows.labels(form))
    return _first_equal(coordinates, labels, forms, rows, target)


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
            if all(rows.same(int(form[first]), int(form[other])) for form in forms):
                return tuple(tuple(int(axis[at]) for axis in coordinates) for at in (first, other))
    return None
