"""All functions on three points that networks of any depth and width compute, layer by layer, by plain exhaustion.

Shares nothing with the library: own rounding in fractions, own lattices. A layer's neurons, duplicated at will, give
the next layer every integer combination of their functions (weights with a zero), or those of one class modulo twice
the lattice (weights ±a: every neuron reads every neuron, so all combinations share the parities of the multiplicities).
Combinations are searched in a box: what is found can be computed; a box too small could only miss functions.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache, cached_property, lru_cache
from itertools import product
from math import ceil, floor
from operator import mul

import numpy as np


@cache
def nearest(n: int, s: int, tie: str) -> int:
    x = Fraction(n, s)
    low, high = ceil(x - Fraction(1, 2)), floor(x + Fraction(1, 2))
    if low == high:
        return low
    return {
        "half_up": high,
        "half_down": low,
        "half_away": high if x > 0 else low,
        "half_toward_zero": low if x > 0 else high,
        "half_even": low if low % 2 == 0 else high,
    }[tie]


def hermite(vectors) -> tuple[tuple[int, ...], ...]:
    """A triangular basis of the lattice that integer vectors generate, in a normal form."""
    rows, basis = [list(v) for v in vectors if any(v)], []
    for column in range(3):
        while True:
            rows = [r for r in rows if any(r)]
            live = [r for r in rows if r[column]]
            if len(live) < 2:
                break
            pivot = min(live, key=lambda r: abs(r[column]))
            for r in live:
                if r is not pivot:
                    q = r[column] // pivot[column]
                    for i in range(3):
                        r[i] -= q * pivot[i]
        if live:
            pivot = live[0]
            rows.remove(pivot)
            if pivot[column] < 0:
                pivot = [-v for v in pivot]
            for above, _ in basis:
                q = above[column] // pivot[column]
                for i in range(3):
                    above[i] -= q * pivot[i]
            basis.append((pivot, column))
    return tuple(tuple(pivot) for pivot, _ in basis)


def box_points(basis, start, radius) -> np.ndarray:
    """All points of start + lattice within the box."""
    found = np.array([start], np.int64)
    for vector in basis:
        column = next(i for i, v in enumerate(vector) if v)
        size = vector[column]
        first = -((radius + found[:, column]) // size)
        count = 2 * radius // size + 1
        steps = first[:, None] + np.arange(count)
        found = (found[:, None, :] + steps[:, :, None] * np.array(vector)).reshape(-1, 3)
        found = found[np.abs(found[:, column]) <= radius]
    return found[(np.abs(found) <= radius).all(axis=1)]


class Exhaustive:
    """One arithmetic; functions on three points are triples of codes."""

    def __init__(self, p, s, weights, bias, tie, points, radius=None):
        self.p, self.s, self.tie, self.points = p, s, tie, points
        self.largest = 2**p - 1
        self.weights, self.bias = weights, bias
        self.unit = 1 if weights == "full" else int(weights[7:]) if weights.startswith("scaled:") else s
        self.zero = weights in ("full", "ternary")
        self.radius = radius or 3 * self.largest * s + 3 * self.unit + 4
        self.codes = np.array(
            [
                max(-self.largest, min(nearest(n, s, tie), self.largest))
                for n in range(-4 * self.radius, 4 * self.radius + 1)
            ]
        )
        self.outcomes = lru_cache(maxsize=None)(self.outcomes)

    def round(self, n):
        return self.codes[np.clip(n, -4 * self.radius, 4 * self.radius) + 4 * self.radius]

    def biases(self, reach):
        s, largest = self.s, self.largest
        if self.bias == "values":
            return [s * b for b in range(-largest, largest + 1)]
        if self.bias == "wide":
            return [s * b for b in range(-reach // s - largest - 2, reach // s + largest + 3)]
        return list(range(-reach - s * (largest + 2), reach + s * (largest + 2) + 1))

    @cached_property
    def first_sums(self) -> set[tuple[int, int, int]]:
        """Rounded sums of the first layer, which reads each input once."""
        if self.weights == "full":
            sizes = range(-self.largest, self.largest + 1)
        else:
            sizes = [-self.unit, self.unit] + ([0] if self.zero else [])
        reach = max(abs(w) for w in sizes) * self.largest
        points = [x if isinstance(x, tuple) else (x,) for x in self.points]
        return {
            tuple(self.round(np.array([sum(map(mul, w, x)) + b for x in points])).tolist())
            for w in product(sizes, repeat=len(points[0]))
            for b in self.biases(reach * len(points[0]))
        }

    def outcomes(self, basis, start):
        """Rounded sums start + lattice + bias, as triples."""
        n_basis = tuple(tuple(self.unit * v for v in vector) for vector in basis)
        n_start = tuple(self.unit * v for v in start)
        if self.bias != "values":
            n_basis = hermite((*n_basis, (self.s if self.bias == "wide" else 1,) * 3))
            shifts = [0]
        else:
            shifts = [self.s * b for b in range(-self.largest, self.largest + 1)]
        sums = box_points(n_basis, n_start, self.radius)
        seen = np.concatenate([self.round(sums + shift) for shift in shifts]) + self.largest
        base = 2 * self.largest + 1
        keys = np.unique((seen[:, 0] * base + seen[:, 1]) * base + seen[:, 2])
        return frozenset(
            (int(k // base**2) - self.largest, int(k // base % base) - self.largest, int(k % base) - self.largest)
            for k in keys
        )

    def functions(self, table) -> set[tuple[int, int, int]]:
        """Everything that networks with this table compute on the three points."""
        act = dict(zip(range(-self.largest, self.largest + 1), table, strict=True))
        first = self.first_sums
        found = set(first)
        queue = [frozenset(tuple(act[k] for k in f) for f in first)]
        seen = set(queue)
        while queue:
            hidden = queue.pop()
            basis = hermite(hidden)
            found |= self.outcomes(basis, (0, 0, 0))
            if self.zero:
                classes = [self.outcomes(basis, (0, 0, 0))]
            else:
                double = tuple(tuple(2 * v for v in vector) for vector in basis)
                starts = [
                    tuple(sum(c * v[i] for c, v in zip(chosen, basis, strict=True)) for i in range(3))
                    for chosen in product((0, 1), repeat=len(basis))
                ]
                classes = [self.outcomes(double, start) for start in starts]
            for sums in classes:
                after = frozenset(tuple(act[k] for k in f) for f in sums)
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
        return found
