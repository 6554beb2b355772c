"""Values written with bits: digits of mixed radix, one bit for every value of a digit but one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np

__all__ = ["Bits", "bit_codes", "radices"]

ALL_ORDERS = 4  # up to so many digits every order is looked at


@dataclass(frozen=True, eq=False)
class Bits:
    """A code zero + Σ steps_j, over the bits j that are 1 for a value.

    Attributes
    ----------
    zero : int
        The code whose bits are all 0.
    steps : tuple of int
        What every bit adds, in codes.
    ones : mapping of int to tuple of int
        For every value the bits that are 1.
    digits : int
        How many bits are 1 at most.
    """

    zero: int
    steps: tuple[int, ...]
    ones: Mapping[int, tuple[int, ...]]
    digits: int

    def slack(self, s: int) -> int:
        """By how much the sum, in units of 1/s², may miss what each bit adds: together less than half a code."""
        return (s - 1) // 2 // self.digits

    def shown(self, codes: np.ndarray) -> list[np.ndarray]:
        """For every bit, where in an array of codes it is 1."""
        return [np.isin(codes, [k for k, bits in self.ones.items() if j in bits]) for j in range(len(self.steps))]


def radices(values: int) -> Iterator[tuple[int, ...]]:
    """All mixed radices that tell so many values apart and none of which may be less; the digit of weight 1 first.

    >>> sorted(radices(7))
    [(2, 2, 2), (2, 4), (3, 3), (4, 2), (7,)]
    """

    def rising(left: int, least: int, most: int) -> Iterator[tuple[int, ...]]:
        if left <= most:
            yield (max(left, least),)
        for radix in range(least, most + 1):
            if radix < left:
                for rest in rising(-(-left // radix), radix, most):
                    yield (radix, *rest)

    seen = set()
    for found in rising(values, 2, values if values <= 32 else 8):
        spare = any((radix - 1) * prod(found) // radix >= values for radix in found)
        if not spare:
            orders = permutations(found) if len(found) <= ALL_ORDERS else (found, found[::-1])
            for order in orders:
                if order not in seen:
                    seen.add(order)
                    yield order


def bit_codes(counts: Mapping[int, int], price: Callable[[int, int], float], most: int = 1) -> list[Bits]:
    """Choose bits for values that occur so often; the cheapest first.

    Parameters
    ----------
    counts : mapping of int to int
        How often each code occurs.
    price : callable
        Of a bit: from what it adds, in codes, and how often it is 1.
    most : int
        How many to give, at most.
    """
    low, high = min(counts), max(counts)
    found: list[tuple[float, int, Bits]] = []
    for radix in radices(high - low + 1):
        weight, zero, cost, parts = 1, low, 0.0, []
        for size in radix:
            often: dict[int, int] = {}
            for code, count in counts.items():
                digit = (code - low) // weight % size
                often[digit] = often.get(digit, 0) + count
            priced = {
                rest: sum(price(weight * (digit - rest), n) for digit, n in often.items() if digit != rest)
                for rest in often
            }
            rest = min(priced, key=lambda digit: (priced[digit], digit))
            cost, zero = cost + priced[rest], zero + weight * rest
            parts.append((weight, size, rest, [digit for digit in sorted(often) if digit != rest]))
            weight *= size
        number = {(i, digit): n for n, (i, digit) in enumerate((i, d) for i, p in enumerate(parts) for d in p[3])}
        ones = {
            code: tuple(
                number[i, (code - low) // weight % size]
                for i, (weight, size, rest, _) in enumerate(parts)
                if (code - low) // weight % size != rest
            )
            for code in counts
        }
        steps = tuple(parts[i][0] * (digit - parts[i][2]) for i, digit in number)
        found.append((cost, len(found), Bits(zero, steps, ones, len(radix))))
    return [bits for _, _, bits in sorted(found)[:most]]
