"""A continuous function, rounded to the grid and built: the approximation that the format allows, with its error bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph
from fixqnn.modes import round_quotient
from fixqnn.rationals import rational
from fixqnn.universal.build import build
from fixqnn.universal.constructions.layers import grid
from fixqnn.universal.grid import Setting
from fixqnn.universal.verify import verify

__all__ = ["Approximation", "approximate"]

MOST_POINTS = 1 << 22


@dataclass(frozen=True, eq=False)
class Approximation:
    """A network for a rounded function, and how far it is from the function.

    Attributes
    ----------
    graph : Graph
        The network: at every grid point it gives `target`.
    target : ndarray of int
        The function's values, rounded once to codes, shape (2M+1,) * d.
    clipped : int
        Grid points of the domain at which the function is beyond ±q_max = ±M/s, so that the code saturates; no bound holds
        there.
    bound : Fraction
        1/(2s): no grid point of the domain that is not clipped is further from the function than this, and no network of
        this format does better for every function.
    largest_error : Fraction
        The largest distance found, over all grid points of the domain that are not clipped: exact for functions of fractions.
    where : tuple of int
        Input codes of the point with the largest distance.
    radius : Fraction
        How far a coordinate of the domain may be from the grid point that stands for it: 1/(2s), or more if the domain
        ends between two grid points.
    """

    graph: Graph
    target: np.ndarray
    clipped: int
    bound: Fraction
    largest_error: Fraction
    where: tuple[int, ...]
    radius: Fraction

    def bound_between(self, modulus: Callable[[Fraction], Any]) -> Fraction:
        """Bound the error off the grid: 1/(2s) + ω(radius), for points of the domain rounded to the grid first.

        `modulus` is the function's modulus of continuity in the largest coordinate: |f(x) − f(y)| ≤ ω(max |xᵢ − yᵢ|).
        It holds where |f| ≤ q_max.

        >>> import fixqnn as fq
        >>> approximation = approximate(lambda x: abs(x), fq.symmetric(2, 2), activation="relu")
        >>> approximation.bound_between(lambda distance: distance)  # |x| has slope 1
        Fraction(1, 2)
        """
        return self.bound + rational(modulus(self.radius), "modulus")

    def __str__(self) -> str:
        note = self.graph.notes["y"]
        clipped = f"; {self.clipped} of {self.target.size} points are clipped" if self.clipped else ""
        return (
            f"{note['why']}; largest error on the grid {float(self.largest_error):.6g} (bound {self.bound} = "
            f"{float(self.bound):.6g}){clipped}"
        )


def approximate(
    function: Callable[..., Any],
    values: Format,
    domain: int | Sequence[Any] = 1,
    *,
    activation: Any = "relu",
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    exact: bool = True,
    **build_arguments: Any,
) -> Approximation:
    """Build the network that computes a continuous function as well as the format can, and check it on every input.

    The target is f(x) = round(f*(x)) on the grid, saturated at ±q_max. So |f(x) − f*(x)| ≤ 1/(2s) at every grid point x with
    |f*(x)| ≤ q_max; elsewhere in [−q_max, q_max]^d, with x rounded to the grid first, the error is at most
    1/(2s) + ω(1/(2s)), ω the modulus of continuity of f* in the largest coordinate. No network does better at grid
    points, since outputs are multiples of 1/s. (After the corollary in Park, Park, Hwang, arXiv 2409.00297.)

    Parameters
    ----------
    function : callable
        With `exact`, it is called with d Fractions and gives a Fraction, an int or a float, taken at its exact binary
        value. Without, it is called once with d float64 arrays of grid points and gives an array.
    values : Format
        ``fq.symmetric(p, s)``.
    domain : int or sequence of pairs
        The number d of inputs, for functions on all values; or where the function is wanted: (low, high) for each input, or
        one such pair. It is asked at grid points of the domain only. Elsewhere the network gives what it gives at the
        nearest of these.
    activation, weights, bias, rounding, **build_arguments
        As for `build`.
    exact : bool
        See `function`. Rounding is exact for the numbers that the function gives; where these carry an error of their
        own, as math.sin does, a value within that error of a tie may be rounded to the other neighbour, and the bound
        grows by that error.

    Returns
    -------
    Approximation
        Its network was run on every grid point and gave the target.

    Raises
    ------
    BadInput
        For values that are no finite numbers, with the grid point; a domain beyond the values, or without a grid point; more
        than 2^22 grid points; and as `build`.

    Examples
    --------
    >>> import fixqnn as fq
    >>> print(approximate(lambda x: x * x / 2, fq.symmetric(2, 2), weights="ternary", bias="wide").largest_error)
    1/8
    >>> approximate(lambda x: 1 / x, fq.symmetric(3, 4), domain=(0.6, 1.75)).target.tolist()
    [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 3, 3, 2]
    """
    setting = Setting.of(values, weights, bias, rounding)
    side = 2 * setting.largest + 1
    ends, radius = _domain(domain, setting)
    points = grid(setting, len(ends))
    lows, highs = np.array(ends).T
    inner = np.clip(points, lows, highs)
    within = (inner == points).all(axis=1)
    reals = _reals(function, setting, points[within], exact)
    s, m = setting.s, setting.largest
    codes = np.array([round_quotient(v.numerator * s, v.denominator, setting.rounding) for v in reals], object)
    known = np.clip(codes, -m, m).astype(np.int64)
    inside = [abs(v) * s <= m for v in reals]
    errors = [
        abs(Fraction(int(k), s) - v) if ok else Fraction(-1) for k, v, ok in zip(known, reals, inside, strict=True)
    ]
    worst = max(range(len(errors)), key=errors.__getitem__)
    shaped = np.empty((side,) * len(ends), np.int64)
    shaped[tuple(points[within].T + m)] = known
    shaped = shaped[tuple(inner.T + m)].reshape(shaped.shape)
    graph = build(shaped, activation, values, weights, bias, rounding, **build_arguments)
    wrong = verify(graph, shaped)
    if wrong is not None:
        raise AssertionError(f"a built network does not compute its target: {wrong}; this is a mistake in the library")
    return Approximation(
        graph,
        shaped,
        inside.count(False),
        Fraction(1, 2 * s),
        max(errors[worst], Fraction(0)),
        tuple(points[within][worst].tolist()),
        radius,
    )


def _domain(domain: Any, setting: Setting) -> tuple[list[tuple[int, int]], Fraction]:
    """The first and last code of every input, and how far a point of the domain may be from these and what lies between."""
    s, m = setting.s, setting.largest
    if isinstance(domain, int | np.integer) and not isinstance(domain, bool):
        pairs = [(Fraction(-m, s), Fraction(m, s))] * int(domain)
    else:
        pairs = _pairs(domain)
    if not pairs or (2 * m + 1) ** len(pairs) > MOST_POINTS:
        raise BadInput(
            f"there must be at least 1 input, with at most {MOST_POINTS} grid points, not {len(pairs)} "
            f"({2 * m + 1} points each)"
        )
    ends, radius = [], Fraction(1, 2 * s)
    for low, high in pairs:
        first, last = ceil(low * s), floor(high * s)
        if not -m <= first <= last <= m:
            raise BadInput(f"the domain ({low}, {high}) must hold one of the values k/{s} and stay within ±{m}/{s}")
        ends.append((first, last))
        radius = max(radius, Fraction(first, s) - low, high - Fraction(last, s))
    return ends, radius


def _pairs(domain: Any) -> list[tuple[Fraction, Fraction]]:
    words = f"domain must be a number of inputs, a pair (low, high), or such a pair for each input, not {domain!r}"
    try:
        sides = [domain] if not np.ndim(domain[0]) else list(domain)
        return [(rational(low, "low end"), rational(high, "high end")) for low, high in sides]
    except (TypeError, ValueError, IndexError, KeyError):
        raise BadInput(words) from None


def _reals(function: Callable[..., Any], setting: Setting, points: np.ndarray, exact: bool) -> list[Fraction]:
    """The function's values as fractions."""
    if not callable(function):
        raise BadInput(f"the function must be callable with {points.shape[1]} numbers, not {function!r}")
    if exact:
        found = [_value(function, tuple(Fraction(int(k), setting.s) for k in point)) for point in points]
    else:
        try:
            found = np.asarray(function(*(points.T.astype(np.float64) / setting.s)), dtype=np.float64)
        except (TypeError, ValueError) as problem:
            raise BadInput(
                f"the function does not turn {points.shape[1]} arrays into one of floats: {problem}"
            ) from problem
        if found.shape != (len(points),):
            raise BadInput(
                f"the function must give one number per point, {len(points)} of them, not shape {found.shape}"
            )
        found = found.tolist()
    values = []
    for point, value in zip(points, found, strict=True):
        try:
            values.append(rational(value, "value"))
        except ValueError as problem:
            where = ", ".join(str(Fraction(int(k), setting.s)) for k in point)
            raise BadInput(f"the function at ({where}): {problem}") from None
    return values


def _value(function: Callable[..., Any], point: tuple[Fraction, ...]) -> Any:
    try:
        return function(*point)
    except TypeError as problem:
        raise BadInput(
            f"the function does not take {len(point)} fractions ({problem}); one for arrays of floats needs exact=False"
        ) from problem
    except (ArithmeticError, ValueError) as problem:
        raise BadInput(f"the function has no value at ({', '.join(map(str, point))}): {problem}") from problem
