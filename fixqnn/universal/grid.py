"""The arithmetic of the representability question in Python integers: grid, ties, cells, weights, biases.

The values are ``Q = {k / s : |k| ≤ M}`` with ``M = 2**p − 1``; ``k / s`` is kept as the integer k. Weights have the same
unit 1/s, so sums of products and biases have the unit 1/s². A layer forms such a sum n exactly and rounds it once, to
``clamp(nearest(n / s), −M, M)``. The definitions follow Park, Park, Hwang (arXiv 2409.00297); the tie rule, which
changes verdicts in boundary cases, and the range of biases are parameters here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction
from math import gcd
from typing import Any

from fixqnn.errors import BadInput, FormatError
from fixqnn.format import Format, symmetric
from fixqnn.modes import Rounding, round_quotient
from fixqnn.rationals import whole

__all__ = ["TIES", "Bias", "Setting", "as_table", "check_sums", "difference_gcd", "integer", "value_gcd"]

TIES = (
    Rounding.half_up,
    Rounding.half_down,
    Rounding.half_away,
    Rounding.half_toward_zero,
    Rounding.half_even,
)
MOST_DIGITS = 4000  # of a number that Python reads
LARGEST_P = 23  # a table has 2**(p + 1) - 1 entries


class Bias(StrEnum):
    """Which biases a neuron may have."""

    values = "values"  # the values themselves: b / s with |b| ≤ M
    wide = "wide"  # every multiple of 1 / s
    fine = "fine"  # every multiple of 1 / s²: the unit of the sum, as in int32 biases


@dataclass(frozen=True)
class Setting:
    """A format with its weights, biases and tie rule: everything about the question but activation and dimension.

    Attributes
    ----------
    p, s : int
        The values are k / s with |k| ≤ 2**p − 1; both at least 1, `s` no power of two in general.
    weights : str
        ``"full"``: the values themselves; ``"ternary"``: −1, 0, 1; ``"binary"``: −1, 1; ``"scaled:a"``: −a/s, a/s.
    bias : str
        ``"values"``, ``"wide"`` (multiples of 1/s) or ``"fine"`` (multiples of 1/s²).
    rounding : Rounding or str
        The tie rule, one of `TIES`; ``half_to_zero`` is taken for ``half_toward_zero``.

    Raises
    ------
    BadInput
        For numbers and names that there are not.

    Examples
    --------
    >>> setting = Setting(2, 4, "binary")
    >>> setting.largest, setting.weight_codes, setting.weight_unit, setting.has_zero
    (3, (-4, 4), 4, False)
    >>> [setting.round(n) for n in (-100, -2, 1, 2, 5)], setting.cell(0), setting.cell(3)
    ([-3, 0, 0, 1, 1], (-2, 1), (10, None))
    """

    p: int
    s: int
    weights: str = "full"
    bias: str = "values"
    rounding: str = "half_up"

    def __post_init__(self) -> None:
        for name in ("p", "s"):
            value = integer(getattr(self, name), name)
            if value < 1:
                raise BadInput(f"{name} must be at least 1, not {value}")
            object.__setattr__(self, name, value)
        if self.p > LARGEST_P:
            raise BadInput(f"p must be at most {LARGEST_P}, not {self.p}: a table has 2**(p + 1) - 1 entries")
        object.__setattr__(self, "weights", _weights(self.weights, self.s))
        object.__setattr__(self, "bias", _bias(self.bias))
        object.__setattr__(self, "rounding", _tie(self.rounding))

    @classmethod
    def of(cls, values: Format, weights: str = "full", bias: str = "values", rounding: str = "half_up") -> Setting:
        """Take p and s from a format made by ``symmetric(p, s)``.

        >>> Setting.of(symmetric(3, 5), "ternary")
        Setting(p=3, s=5, weights='ternary', bias='values', rounding='half_up')
        """
        if not isinstance(values, Format):
            raise BadInput(f"values must be a format such as symmetric(3, 4), not {values!r}")
        if values.per_channel or values.zero_point != 0 or not values.signed or not values.narrow_range:
            raise BadInput(f"values must be a symmetric format such as symmetric(3, 4), not {values}")
        if values.scale.numerator != 1:
            raise BadInput(
                f"values must be multiples of 1 / s for a whole number s, but {values} steps by {values.scale}"
            )
        return cls(values.bits - 1, values.scale.denominator, weights, bias, rounding)

    def __repr__(self) -> str:
        return (
            f"Setting(p={self.p}, s={self.s}, weights={self.weights!r}, bias={str(self.bias)!r}, "
            f"rounding={str(self.rounding)!r})"
        )

    @property
    def values(self) -> Format:
        """The format of the values."""
        return symmetric(self.p, self.s)

    @property
    def largest(self) -> int:
        """M = 2**p − 1, the largest code."""
        return 2**self.p - 1

    @property
    def codes(self) -> range:
        """All codes, −M … M."""
        return range(-self.largest, self.largest + 1)

    @property
    def weight_codes(self) -> tuple[int, ...]:
        """The weights in units of 1 / s, in order."""
        if self.weights == "full":
            return tuple(self.codes)
        size = self.weight_unit
        return (-size, 0, size) if self.weights == "ternary" else (-size, size)

    @property
    def weight_unit(self) -> int:
        """ω, the greatest common divisor of the weights in units of 1 / s."""
        if self.weights == "full":
            return 1
        return int(self.weights.partition(":")[2]) if self.weights.startswith("scaled:") else self.s

    @property
    def has_zero(self) -> bool:
        """Whether a weight may be zero; without zero a neuron reads every neuron of the layer before."""
        return self.weights in ("full", "ternary")

    @property
    def bias_unit(self) -> int:
        """What biases are multiples of, in units of 1 / s²."""
        return 1 if self.bias == Bias.fine else self.s

    @property
    def bias_limit(self) -> int | None:
        """The largest bias in units of 1 / s²; None where there is none."""
        return self.s * self.largest if self.bias == Bias.values else None

    def nearest(self, n: int) -> int:
        """Round a sum of unit 1 / s² to a multiple of 1 / s, whatever its size.

        >>> [Setting(2, 2, rounding=tie).nearest(n) for tie in ("half_up", "half_even") for n in (-3, -1, 1, 3)]
        [-1, 0, 1, 2, -2, 0, 0, 2]
        """
        return round_quotient(n, self.s, self.rounding)

    def clamp(self, k: int) -> int:
        """Saturate a code at ±M."""
        return max(-self.largest, min(k, self.largest))

    def round(self, n: int) -> int:
        """Round a sum of unit 1 / s² once, to a code: ``clamp(nearest(n))``."""
        return self.clamp(self.nearest(n))

    def cell(self, k: int) -> tuple[int | None, int | None]:
        """Give the first and the last sum that rounds to code `k`; None where the cell has no end.

        Interior cells are as long as `s`, but for even `s` and the tie rules that treat codes unequally.

        >>> [Setting(2, 2, rounding="half_even").cell(k) for k in (-3, 0, 1)]
        [(None, -6), (-1, 1), (2, 2)]
        """
        if not -self.largest <= k <= self.largest:
            raise BadInput(f"codes are between -{self.largest} and {self.largest}, not {k}")
        low = None if k == -self.largest else self._first(k)
        return low, None if k == self.largest else self._first(k + 1) - 1

    def _first(self, k: int) -> int:
        """The first sum that `nearest` takes to `k` or above: beside the half step, which it may include."""
        half_step = (2 * k - 1) * self.s
        first = -(-half_step // 2)
        return first if 2 * first != half_step or self.nearest(first) == k else first + 1

    def real(self, k: int) -> Fraction:
        """The number that a code stands for."""
        return Fraction(k, self.s)


def as_table(codes: Iterable[Any], setting: Setting) -> tuple[int, ...]:
    """Check an activation table: 2M+1 codes, for the inputs k = −M … M in this order.

    Raises
    ------
    BadInput
        For another number of entries, entries that are no integers, and codes beyond ±M.

    Examples
    --------
    >>> as_table([0, 0, 1], Setting(1, 1))
    (0, 0, 1)
    """
    if hasattr(codes, "tolist"):
        codes = codes.tolist()
    if not isinstance(codes, Iterable) or isinstance(codes, Mapping | Set):
        raise BadInput(f"an activation is a name, a function, or the sequence of its codes, not {codes!r}")
    entries, largest = list(codes), setting.largest
    if any(isinstance(entry, list | tuple) for entry in entries):
        raise BadInput(f"a table for p={setting.p} is one row of {2 * largest + 1} codes, not rows of rows")
    if len(entries) != 2 * largest + 1:
        raise BadInput(
            f"a table for p={setting.p} has {2 * largest + 1} codes, for k = -{largest} … {largest}, not {len(entries)}"
        )
    table = []
    for k, entry in zip(setting.codes, entries, strict=True):
        code = integer(entry, f"the table's code for k={k}")
        if abs(code) > largest:
            raise BadInput(f"the table's code for k={k} must be between -{largest} and {largest}, not {code}")
        table.append(code)
    return tuple(table)


def integer(value: Any, name: str) -> int:
    """Accept an integer of any kind, as `whole` does; anything else is a bad argument.

    >>> integer("3", "inputs")
    Traceback (most recent call last):
    fixqnn.errors.BadInput: inputs must be an integer, not '3'
    """
    try:
        return whole(value, name)
    except FormatError as problem:
        raise BadInput(str(problem)) from None


def check_sums(setting: Setting) -> None:
    """Refuse a setting whose sums are too large to be listed in 64 bits: there is room for those of 16 inputs.

    >>> check_sums(Setting(12, 10**12, "binary"))
    >>> check_sums(Setting(12, 10**15, "binary"))
    Traceback (most recent call last):
    fixqnn.errors.BadInput: s=1000000000000000, weights binary: too large, sums are exact up to 17596482060544
    """
    most = 2**62 // (64 * setting.largest)
    if max(setting.s, setting.weight_unit) > most:
        raise BadInput(f"s={setting.s}, weights {setting.weights}: too large, sums are exact up to {most}")


def difference_gcd(codes: Iterable[int]) -> int:
    """g, the greatest common divisor of all differences; 0 where all codes are equal.

    >>> difference_gcd([1, 3, 7]), difference_gcd([2, 2])
    (2, 0)
    """
    distinct = sorted(set(codes))
    return gcd(*(code - distinct[0] for code in distinct)) if distinct else 0


def value_gcd(codes: Iterable[int]) -> int:
    """γ, the greatest common divisor of the codes themselves.

    >>> value_gcd([1, 3, 7]), value_gcd([-6, 4])
    (1, 2)
    """
    return gcd(*set(codes))


def _close(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names) if isinstance(name, str) else []
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(map(repr, names))}"


def _weights(weights: str, s: int) -> str:
    names = ("full", "ternary", "binary")
    if weights in names:
        return weights
    head, colon, size = weights.partition(":") if isinstance(weights, str) else ("", "", "")
    if head != "scaled" or not colon:
        raise BadInput(f"no weights are called {weights!r}; {_close(weights, (*names, 'scaled:a'))}")
    if not size.strip().isdecimal() or len(size) > MOST_DIGITS or int(size) < 1:
        raise BadInput(f"weights {weights!r}: the size after 'scaled:' is a whole number of units 1/{s}, at least 1")
    return f"scaled:{int(size)}"


def _bias(bias: str) -> Bias:
    if bias not in list(Bias):
        raise BadInput(f"no range of biases is called {bias!r}; {_close(bias, [str(name) for name in Bias])}")
    return Bias(bias)


def _tie(rounding: str) -> Rounding:
    if rounding == "half_to_zero":
        return Rounding.half_toward_zero
    if rounding not in TIES:
        names = [str(tie) for tie in TIES]
        raise BadInput(f"the tie rule must round to the nearest value: {', '.join(names)}; not {rounding!r}")
    return Rounding(rounding)
