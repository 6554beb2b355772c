"""First-layer neurons written again from the definitions, in plain loops, for checking what `decide` says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from math import ceil, floor
from random import Random

from fixqnn.universal.grid import Setting

__all__ = ["Neurons", "divisor", "round_once"]

SAMPLE = 40  # inputs
FORMS, CHANGES = 1000, 32  # weights, and codes where the table changes, that a search tries


def round_once(n: int, s: int, tie: str) -> int:
    """The nearest integer to n/s, from the definition.

    >>> [round_once(n, 2, "half_even") for n in (-3, -1, 1, 3)]
    [-2, 0, 0, 2]
    """
    x = Fraction(n, s)
    below, above = ceil(x - Fraction(1, 2)), floor(x + Fraction(1, 2))
    if below == above:
        return below
    down = {
        "half_up": False,
        "half_down": True,
        "half_away": x < 0,
        "half_toward_zero": x > 0,
        "half_even": below % 2 == 0,
    }
    return below if down[tie] else above


class Neurons:
    """What neurons of a setting give, one at a time."""

    def __init__(self, setting: Setting, table: Sequence[int]) -> None:
        self.s, self.tie, self.bias = setting.s, str(setting.rounding), str(setting.bias)
        self.largest = 2**setting.p - 1
        self.table = list(table)
        kind, _, size = setting.weights.partition(":")
        self.weights = {
            "full": list(range(-self.largest, self.largest + 1)),
            "ternary": [-self.s, 0, self.s],
            "binary": [-self.s, self.s],
            "scaled": [-int(size or 0), int(size or 0)],
        }[kind]
        self.unit = divisor(self.weights)
        self.known: dict[int, int] = {}

    def round(self, n: int) -> int:
        """Round a sum of unit 1/s² once, to a code."""
        if n not in self.known:
            if len(self.known) > 10**6:
                self.known.clear()
            self.known[n] = max(-self.largest, min(round_once(n, self.s, self.tie), self.largest))
        return self.known[n]

    def output(self, n: int) -> int:
        """What a hidden neuron gives for a sum."""
        return self.table[self.round(n) + self.largest]

    def biases(self, reach: int) -> range:
        """Every bias, in units of 1/s²; of unlimited ones, those that do not saturate all sums up to `reach`."""
        unit = 1 if self.bias == "fine" else self.s
        if self.bias == "values":
            return range(-self.s * self.largest, self.s * self.largest + 1, unit)
        most = (reach // unit + 2) * unit + (self.largest + 1) * self.s
        return range(-most, most + 1, unit)

    def end_of_cells(self, side: int) -> int:
        """The last sum towards one side that does not saturate."""
        n = side * self.largest * self.s
        while abs(self.round(n)) == self.largest:
            n -= side
        return n

    def index(self, point: Sequence[int]) -> int:
        """Where an input stands in a flat table of codes, the last coordinate running fastest."""
        at = 0
        for code in point:
            at = at * (2 * self.largest + 1) + code + self.largest
        return at

    def sample(self, inputs: int) -> list[tuple[int, ...]]:
        """Some inputs, corners among them; the same at every call."""
        draw, codes = Random(0), range(-self.largest, self.largest + 1)
        some = {tuple(draw.choice(codes) for _ in range(inputs)) for _ in range(SAMPLE)}
        return sorted(some | {(end,) * inputs for end in (*codes[:3], *codes[-3:], 0)})

    def tells_apart(self, x: tuple[int, ...], y: tuple[int, ...], draw: Random) -> bool:
        """Look for a neuron that tells two inputs apart: weights that part them least, biases at the table's changes."""
        if len(self.weights) ** len(x) <= FORMS:
            forms = list(product(self.weights, repeat=len(x)))
        else:
            forms = [tuple(draw.choice(self.weights) for _ in x) for _ in range(FORMS)]
        sums = {tuple(sum(w * code for w, code in zip(form, point, strict=True)) for point in (x, y)) for form in forms}
        changes = [
            k
            for k in range(-self.largest, self.largest)
            if self.table[k + self.largest] != self.table[k + 1 + self.largest]
        ]
        changes = sorted(changes, key=abs)[:CHANGES] + changes[:: max(1, len(changes) // CHANGES)]
        for left, right in sorted(
            sums, key=lambda pair: (abs(pair[0] - pair[1]) < self.s, abs(pair[0] - pair[1]), pair)
        ):
            biases = self.biases(abs(left) + abs(right))
            for start, k in product((left, right), changes):
                for place in (k, k + 1):
                    bias = place * self.s - start
                    bias -= bias % biases.step
                    if bias in biases and self.output(left + bias) != self.output(right + bias):
                        return True
        return False


def divisor(numbers: Iterable[int]) -> int:
    """The greatest common divisor, by Euclid.

    >>> divisor([6, -4])
    2
    """
    found = 0
    for number in numbers:
        a, b = found, abs(number)
        while b:
            a, b = b, a % b
        found = a
    return found
