"""Weights −a and a: what sums of two or three inputs say about any number of inputs.

Without a zero weight a neuron reads one of the forms ``±x₁ ± … ± x_d``, and their number grows as 2ᵈ. But inputs can be
joined: of three coordinates of two inputs x and y, some two can be added or subtracted, in x and y alike, so that both
results are codes again. The forms of the shorter inputs are forms of the longer ones. So pairs of inputs with a property
that every form has to share are found among inputs of two coordinates, or as few as the property leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from fixqnn.universal.grid import Setting
from fixqnn.universal.rows import Rows

__all__ = ["Pair", "blind_pair", "form_sums", "input_of", "mixed", "two_within"]

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def blind_pair(rows: Rows, inputs: int) -> Pair | None:
    """Find two inputs whose labels are equal in every form, by theorem E, without coordinates that may be 0 in both.

    Theorem E: weights −a and a, any biases. Say that sums u ≠ v are *alike* if u and v have the same row, and −u and −v
    have. Two of the inputs −M … M are blind (no neuron tells them apart) if they are alike. Two inputs of two
    coordinates are blind if and only if (E1) sums u ≡ v mod 2 with |u|, |v| ≤ 2M are alike, or (E2) even sums e, e' and
    odd sums o, o' are such that e is like o, e' like o', |e| + |e'| ≤ 2M and |o| + |o'| ≤ 2M. For three and every larger
    number of coordinates: E1, E2, or (E3) sums u ≡ v mod 2 with |u + v| ≤ 2M and |u − v| ≤ 4M are alike.

    Two coordinates: x = (x₁, x₂) has the sums u₁ = x₁ + x₂ and u₂ = x₁ − x₂, which are all integers with u₁ ≡ u₂ mod 2
    and |u₁| + |u₂| ≤ 2M. If x and y are blind, their u₁ are alike or equal, and so their u₂. If one of these has the
    same parity in x and y, E1, else E2. Conversely, take u and v for u₁, and 0 or 1, of their parity, for both u₂; or e
    and e' for the sums of x, o and o' for those of y.

    More coordinates: the columns (xᵢ, yᵢ) can change sign, so let xᵢ ≥ 0, and yᵢ ≥ 0 if xᵢ = 0. Of three columns two
    have yᵢ ≥ 0 or two have yᵢ < 0, and their difference consists of codes: put it in place of the two. The shorter x
    and y are still blind, unless they are equal: the two columns have the same yᵢ − xᵢ ≠ 0, and xᵢ = yᵢ in the others.
    Then, if the two have yᵢ ≥ 0, take one of them with a third; else, if there are two others, those; else, if the third
    column is 0 or one of the two on an axis, these. There remains x = (x₁, x₂, c), y = (x₁ − r, x₂ − r, c) with
    x₁, x₂, c > 0 and the other two of y below 0. Its forms are alike if, with S = x₁ + x₂ and S' = S − 2r, S + c is like
    S' + c, and c − S' like c − S. If E1 does not hold, S + c and c − S' exceed 2M; the smaller of them is the u of E3,
    and its like one the v. Conversely with S = (u − v)/2 and c = (u + v)/2, split S = x₁ + x₂ and take
    y = (−x₂, −x₁, c). Proved; also compared with lists of all inputs, for rows and for arbitrary likeness, d ≤ 5.

    Examples
    --------
    >>> blind_pair(Rows(Setting(2, 1, "binary"), (0, 0, 0, 0, 1, 1, 1)), 2)
    ((2, 2), (3, 3))
    """
    if inputs > 1 and (pair := blind_pair(rows, 1)):
        return pair
    largest, unit = rows.setting.largest, rows.setting.weight_unit
    reach = min(inputs, 3) * largest
    sums = np.arange(-reach, reach + 1)
    labels = rows.labels(unit * sums)
    labels = mixed(labels, labels[::-1])
    u, v = _alike(sums, labels)
    if inputs == 1:
        return ((int(u[0]),), (int(v[0]),)) if len(u) else None
    short = np.maximum(abs(u), abs(v)) <= 2 * largest
    found = np.flatnonzero(((u - v) % 2 == 0) & (short | (abs(u + v) <= 2 * largest) & (abs(u - v) <= 4 * largest)))
    if len(found):
        at = found[short[found].argmax()]
        return _of_one_parity(int(u[at]), int(v[at]), bool(short[at]))
    inner = abs(sums) <= 2 * largest
    both = np.stack(_alike(sums[inner], labels[inner]), axis=1)  # without E1, at most two sums are alike: even and odd
    at = two_within(both, both, 2 * largest)
    return at and tuple(input_of(*(int(both[i, side]) for i in at)) for side in (0, 1))


def _alike(sums: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours among sums with one label, even ones first, in order."""
    order = np.lexsort((sums, sums % 2, labels))
    at = np.flatnonzero(labels[order[1:]] == labels[order[:-1]])
    return sums[order[at]], sums[order[at + 1]]


def _of_one_parity(u: int, v: int, short: bool) -> Pair:
    if short:
        return input_of(u, u % 2), input_of(v, v % 2)
    half, third = (u - v) // 2, (u + v) // 2
    return (half - half // 2, half // 2, third), (-(half // 2), half // 2 - half, third)


def input_of(total: int, difference: int) -> tuple[int, int]:
    """The input of two coordinates with this sum and this difference, which have one parity."""
    return (total + difference) // 2, (total - difference) // 2


def form_sums(setting: Setting, coordinates: Sequence[Any]) -> list[Any]:
    """The sums ±a·x₁ … ± a·x_d of all forms before the bias, at one point or, for arrays, at many.

    >>> form_sums(Setting(2, 4, "scaled:3"), (1, 2))
    [9, -3, 3, -9]
    """
    unit = setting.weight_unit
    return [
        unit * sum(sign * axis for sign, axis in zip(signs, coordinates, strict=True))
        for signs in product((1, -1), repeat=len(coordinates))
    ]


def two_within(left: np.ndarray, right: np.ndarray, limit: int) -> tuple[int, int] | None:
    """Find a row i of `left` and a row j of `right` whose absolute values add up to `limit` at most in both columns.

    >>> two_within(np.array([[3, -1], [2, 5]]), np.array([[4, 0], [-1, 2]]), 4)
    (0, 1)
    """
    left, right = abs(left), abs(right)
    order = np.argsort(right[:, 0], kind="stable")
    least = np.minimum.accumulate(right[order, 1])
    room = np.searchsorted(right[order, 0], limit - left[:, 0], side="right")  # so many of `right` are short enough
    fits = np.flatnonzero((room > 0) & (left[:, 1] + least[room - 1] <= limit)) if len(right) else room[:0]
    if not len(fits):
        return None
    i = int(fits[0])
    return i, int(order[right[order[: room[i]], 1].argmin()])


def mixed(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Join further labels to labels so far; what differs afterwards differed in one of them."""
    labels, others = labels.astype(np.uint64), others.astype(np.uint64)
    scrambled = others * np.uint64(0x9E3779B97F4A7C15)
    return labels * np.uint64(0xD1342543DE82EF95) + (scrambled ^ scrambled >> np.uint64(29))
