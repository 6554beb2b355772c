"""Theorems C and E against lists of all inputs, for sums with any rows: also such as no table has."""

from __future__ import annotations

from itertools import product
from math import gcd
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fixqnn.universal.second_layer import _kinds
from fixqnn.universal.sum_pairs import blind_pair, two_within


def likeness(largest, merged):
    """Labels of sums, all different but for pairs that are merged one after the other."""
    labels = {u: u for u in range(-9 * largest, 9 * largest + 1)}
    for u, v in merged:
        labels = {w: labels[v] if label == labels[u] else label for w, label in labels.items()}
    setting = SimpleNamespace(largest=largest, weight_unit=1)
    return SimpleNamespace(setting=setting, labels=lambda sums: np.array([labels[u] for u in sums.tolist()]))


def forms(rows, x):
    return tuple(rows.labels(np.array([np.dot(signs, x) for signs in product((1, -1), repeat=len(x))])).tolist())


def listed(rows, inputs):
    """Whether two inputs agree in all forms."""
    points = list(product(range(-rows.setting.largest, rows.setting.largest + 1), repeat=inputs))
    return len({forms(rows, x) for x in points}) < len(points)


@st.composite
def questions(draw):
    largest, inputs = draw(st.sampled_from([(1, 1), (1, 2), (1, 3), (1, 3), (1, 4), (2, 2), (2, 2), (2, 3), (3, 2)]))
    code = st.integers(-inputs * largest, inputs * largest)
    pairs = draw(st.lists(st.tuples(code, code), min_size=1, max_size=3))
    merged = [pair for u, v in pairs for pair in ((u, v), (-u, -v))]
    return largest, inputs, merged + draw(st.lists(st.tuples(code, code), max_size=2))


@settings(max_examples=300, deadline=None)
@given(questions())
@example((1, 3, [(3, -1), (-3, 1)]))
@example((3, 2, [(4, 1), (-4, -1), (2, 5), (-2, -5)]))
def test_blind_pairs_are_found_where_a_list_has_them(question):
    largest, inputs, merged = question
    rows = likeness(largest, merged)
    pair = blind_pair(rows, inputs)
    assert (pair is not None) is listed(rows, inputs)
    if pair:
        x, y = pair
        assert x != y
        assert max(map(abs, x + y)) <= largest
        assert forms(rows, x) == forms(rows, y)


@pytest.mark.parametrize(
    ("largest", "merged", "blind"),
    [
        (1, [], [False, False, False]),
        (1, [(1, 0), (-1, 0)], [True, True, True]),
        (1, [(2, -2)], [False, True, True]),  # E1
        (3, [(4, 1), (-4, -1), (2, 5), (-2, -5)], [False, True, True]),  # E2, by two pairs
        (3, [(4, 3), (-4, -3), (2, 5), (-2, -5)], [False, False, False]),
        (1, [(3, -1), (-3, 1)], [False, False, True]),  # E3
    ],
)
def test_each_condition_alone(largest, merged, blind):
    rows = likeness(largest, merged)
    assert [blind_pair(rows, inputs) is not None for inputs in (1, 2, 3)] == blind
    assert [listed(rows, inputs) for inputs in (1, 2, 3)] == blind


PAIRS = st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=1, max_size=6)


@given(PAIRS, PAIRS, st.integers(0, 12))
def test_two_within_a_limit(left, right, limit):
    fit = [
        (i, j)
        for (i, a), (j, b) in product(enumerate(left), enumerate(right))
        if abs(a[0]) + abs(b[0]) <= limit and abs(a[1]) + abs(b[1]) <= limit
    ]
    found = two_within(np.array(left), np.array(right), limit)
    assert found in fit if fit else found is None


class Vectors:
    """Rows of two entries, no two of them proportional, but for sums that are made multiples of others."""

    def __init__(self, largest, multiples):
        self.setting = SimpleNamespace(largest=largest, weight_unit=1, s=1000)
        self.table = np.array([1])
        self.vectors = {u: (1, u + 100) for u in range(-9 * largest, 9 * largest + 1)}
        for u, v, factor in multiples:
            for sign in (1, -1):
                self.vectors[sign * v] = tuple(factor * entry for entry in self.vectors[sign * u])

    def of(self, sums):
        return np.array([self.vectors[u] for u in sums.tolist()])

    def hashes(self, sums, prime):
        return self.of(sums) @ (1, 10**6) % prime

    def first_nonzero(self, sums):
        return self.of(sums)[:, 0]

    def sizes(self, sums):
        return np.gcd.reduce(self.of(sums), axis=1)


def listed_kinds(rows, inputs):
    """All (α, β) as sorted pairs of either sign, with 0 for inputs whose rows are zero."""
    largest, groups, zero = rows.setting.largest, {}, False
    for x in product(range(-largest, largest + 1), repeat=inputs):
        row = [entry for signs in product((1, -1), repeat=inputs) for entry in rows.vectors[int(np.dot(signs, x))]]
        size = gcd(*row) * (-1 if next((entry for entry in row if entry), 0) < 0 else 1)
        if size:
            groups.setdefault(tuple(entry // size for entry in row), set()).add(size)
        zero = zero or not size
    return {normal(a, b) for group in groups.values() for a, b in product(group, repeat=2) if a != b}, zero


def normal(a, b):
    return max(tuple(sorted((a, b))), tuple(sorted((-a, -b))))


@st.composite
def multiples(draw, shapes):
    largest, inputs = draw(st.sampled_from(shapes))
    code = st.integers(-inputs * largest, inputs * largest)
    factors = st.sampled_from((-1, -1, -2, 1, 2, 3, 6, 0))
    return largest, inputs, draw(st.lists(st.tuples(code, code, factors), min_size=1, max_size=4))


@settings(max_examples=300, deadline=None)
@given(multiples([(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (3, 2)]))
@example((3, 2, [(4, 1, 2), (2, 5, 2)]))
@example((3, 2, [(4, 1, -1), (2, 5, -1)]))
@example((3, 2, [(6, 1, 2), (6, 2, 4), (5, 3, 3), (5, 4, 6)]))
@example((4, 2, [(5, 2, 1), (5, 7, 2), (8, 3, 3), (8, 1, 6)]))
@example((3, 2, [(1, 2, 2), (4, 4, 0)]))
def test_kinds_of_proportional_inputs_are_those_of_a_list(question):
    largest, inputs, made = question
    rows = Vectors(largest, made)
    wanted, zero = listed_kinds(rows, inputs)
    found = _kinds(rows, inputs)
    assert {normal(a, b) for a, b in found if a} == wanted
    assert any(a == 0 for a, _ in found) == zero


@settings(max_examples=100, deadline=None)
@given(multiples([(1, 3), (1, 3), (1, 4), (2, 3)]))
def test_kinds_of_more_inputs_divide_those_that_are_found(question):
    largest, inputs, made = question
    rows = Vectors(largest, made)
    wanted, zero = listed_kinds(rows, inputs)
    found = _kinds(rows, inputs)
    assert bool(found) == bool(wanted or zero)
    for a, b in wanted:
        assert any(normal(m * a, m * b) in {normal(*kind) for kind in found} for m in range(1, 400)), (a, b)
