"""A continuous function, rounded to the grid and built: the approximation that the format allows, with its error bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
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
        Grid points at which the function is beyond ±q_max = ±M/s, so that the code saturates; no bound holds there.
    bound : Fraction
        1/(2s): no grid point that is not clipped is further from the function than this, and no network of this format
        does better for every function.
    largest_error : Fraction
        The largest distance found, over all grid points that are not clipped: exact for functions of fractions.
    where : tuple of int
        Input codes of the point with the largest distance.
    """

    graph: Graph
    target: np.ndarray
    clipped: int
    bound: Fraction
    largest_error: Fraction
    where: tuple[int, ...]

    def bound_between(self, modulus: Callable[[Fraction], Any]) -> Fraction:
        """Bound the error off the grid: 1/(2s) + ω(1/(2s)), for points of [−q_max, q_max]^d rounded to the grid first.

        `modulus` is the function's modulus of continuity in the largest coordinate: |f(x) − f(y)| ≤ ω(max |xᵢ − yᵢ|).
        It holds where |f| ≤ q_max.

        >>> import fixqnn as fq
        >>> approximation = approximate(lambda x: abs(x), fq.symmetric(2, 2), activation="relu")
        >>> approximation.bound_between(lambda distance: distance)  # |x| has slope 1
        Fraction(1, 2)
        """
        return self.bound + rational(modulus(self.bound), "modulus")

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
    inputs: int = 1,
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
        With `exact`, it is called with `inputs` Fractions and gives a Fraction, an int or a float, taken at its exact binary
        value. Without, it is called once with `inputs` float64 arrays of grid points and gives an array.
    values : Format
        ``fq.symmetric(p, s)``.
    inputs : int
        d.
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
        For values that are no finite numbers, with the grid point; more than 2^22 grid points; and as `build`.

    Examples
    --------
    >>> import fixqnn as fq
    >>> print(approximate(lambda x: x * x / 2, fq.symmetric(2, 2), weights="ternary", bias="wide").largest_error)
    1/8
    """
    setting = Setting.of(values, weights, bias, rounding)
    side = 2 * setting.largest + 1
    if not isinstance(inputs, int) or inputs < 1 or side**inputs > MOST_POINTS:
        raise BadInput(
            f"inputs must be at least 1, with at most {MOST_POINTS} grid points, not {inputs!r} ({side} per input)"
        )
    points = grid(setting, inputs)
    reals = _reals(function, setting, points, exact)
    s, m = setting.s, setting.largest
    codes = np.array([round_quotient(v.numerator * s, v.denominator, setting.rounding) for v in reals], object)
    target = np.clip(codes, -m, m).astype(np.int64)
    inside = [abs(v) * s <= m for v in reals]
    errors = [
        abs(Fraction(int(k), s) - v) if ok else Fraction(-1) for k, v, ok in zip(target, reals, inside, strict=True)
    ]
    worst = max(range(len(errors)), key=errors.__getitem__)
    shaped = target.reshape((side,) * inputs)
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
        tuple(points[worst].tolist()),
    )


def _reals(function: Callable[..., Any], setting: Setting, points: np.ndarray, exact: bool) -> list[Fraction]:
    """The function's values as fractions."""
    if not callable(function):
        raise BadInput(f"the function must be callable with {points.shape[1]} numbers, not {function!r}")
    if exact:
        found = [_value(function, tuple(Fraction(int(k), setting.s) for k in point)) for point in points]
    else:
        found = np.asarray(function(*(points.T.astype(np.float64) / setting.s)), dtype=np.float64)
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
    except (ArithmeticError, ValueError) as problem:
        raise BadInput(f"the function has no value at ({', '.join(map(str, point))}): {problem}") from problem
