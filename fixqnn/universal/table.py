"""An activation on the values: its table of correctly rounded codes, the only thing about it that counts.

Two activations with equal tables are the same activation, and one wrong entry can change a verdict. So nothing is
guessed: see ``fixqnn.arith.real``, which also fills the lookup tables of simulated machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache, partial
from inspect import signature
from numbers import Rational
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.arith.enclosures import bounds
from fixqnn.arith.functions import FUNCTIONS, RealFunction
from fixqnn.arith.real import tabulate
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.universal.grid import Setting, as_table

__all__ = ["ACTIVATIONS", "activation_table", "resolve_table"]

MOST_EXPONENT = 2**14  # of values over intervals

# The functions of lookups, and the jumps that the theory names. Here a sign has two values; torch's, with 0, is sign3.
ACTIVATIONS: Mapping[str, RealFunction] = MappingProxyType(
    {
        **{name: function for name, function in FUNCTIONS.items() if not function.undefined},
        "sign": RealFunction("sign", lambda x: Fraction(1 if x >= 0 else -1), lambda x: np.where(x >= 0, 1.0, -1.0)),
        "step": RealFunction("step", lambda x: Fraction(x >= 0), lambda x: np.where(x >= 0, 1.0, 0.0)),
        "sign3": RealFunction("sign3", FUNCTIONS["sign"].rational, FUNCTIONS["sign"].vector),
    }
)


def activation_table(
    activation: str | Callable[..., Any] | Iterable[int],
    values: Format,
    rounding: str = "half_up",
    **parameters: Any,
) -> tuple[int, ...]:
    """Tabulate an activation: the codes T(k) of round(σ(k/s)) for k = −M … M, saturated at ±M.

    Parameters
    ----------
    activation : str, callable or sequence of int
        A name of `ACTIVATIONS`; or a function with proof, in one of three forms: from Fraction to Fraction, taken as
        exact; ``f(x, bits) -> (low, high)``, an enclosure in fractions that tightens with `bits` (equal ends are the
        value itself); or a formula over mpmath intervals, such as ``lambda x: mpmath.iv.exp(-x * x)``. Or the table
        itself, which is checked and returned.
    values : Format
        ``symmetric(p, s)``.
    rounding : Rounding or str
        The tie rule.
    **parameters
        Of a named activation, by torch's names.

    Returns
    -------
    tuple of int
        2M + 1 codes.

    Raises
    ------
    BadInput
        For unknown names, tables of another length or with codes beyond ±M, and functions whose values cannot be
        rounded for sure.

    Examples
    --------
    >>> from fixqnn.format import symmetric
    >>> activation_table("sigmoid", symmetric(2, 3)), activation_table("sigmoid", symmetric(2, 3), "half_down")
    ((1, 1, 1, 2, 2, 2, 2), (1, 1, 1, 1, 2, 2, 2))
    >>> activation_table(lambda x: x * x, symmetric(2, 2))
    (3, 2, 1, 0, 1, 2, 3)
    >>> from mpmath import iv
    >>> activation_table(lambda x: 1 / (1 + iv.exp(-x)), symmetric(2, 3))
    (1, 1, 1, 2, 2, 2, 2)
    """
    return resolve_table(activation, Setting.of(values, rounding=rounding), parameters)[1]


def resolve_table(activation: Any, setting: Setting, parameters: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Name an activation and tabulate it."""
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            close = get_close_matches(activation, ACTIVATIONS)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(ACTIVATIONS))}"
            raise BadInput(f"no activation is called {activation!r}; {hint}")
        settled = ACTIVATIONS[activation].complete(parameters)
        return activation, _named(activation, setting.p, setting.s, setting.rounding, tuple(settled.items()))
    if isinstance(activation, RealFunction):
        if activation.undefined:
            raise BadInput(f"{activation.name} is not defined everywhere, so it is no activation")
        return activation.name, _rounded(activation, setting, activation.complete(parameters))
    if parameters:
        raise BadInput(f"only a named activation takes parameters, not {', '.join(sorted(parameters))}")
    if callable(activation):
        function = _with_proof(activation)
        return function.name, _rounded(function, setting, {})
    return "table", as_table(activation, setting)


def _with_proof(activation: Callable[..., Any]) -> RealFunction:
    """Recognise what a callable gives: exact fractions, an enclosure, or intervals."""
    name = getattr(activation, "__name__", type(activation).__name__)
    if _takes_two(activation):
        return RealFunction(name, lambda x: None, enclosure=activation)
    try:
        value = activation(Fraction(1, 3))
    except (TypeError, NotImplementedError, AttributeError, ValueError):
        value = None  # a formula over intervals does not take fractions
    except ArithmeticError:  # it takes fractions, but has no value at this one, which need not be on the grid
        return RealFunction(name, activation)
    if isinstance(value, Rational) and not isinstance(value, bool):
        return RealFunction(name, activation)
    if value is not None and not hasattr(value, "_mpi_"):
        raise BadInput(
            f"{name} returned {value!r}, which proves nothing about how the true value rounds; return a Fraction, or "
            "give f(x, bits) -> (low, high), or a formula over mpmath intervals"
        )
    return RealFunction(name, lambda x: None, enclosure=partial(_over_intervals, activation, name))


def _takes_two(activation: Callable[..., Any]) -> bool:
    try:
        parameters = signature(activation).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(places) == 2


def _over_intervals(activation: Callable[..., Any], name: str, x: Fraction, bits: int) -> tuple[Any, Any]:
    """Evaluate a formula over mpmath's intervals at so many bits, and put the precision back."""
    from mpmath import iv

    before = iv.prec
    iv.prec = bits
    try:
        value = activation(iv.mpf(x.numerator) / iv.mpf(x.denominator))
        ends = bounds(iv.convert(value), MOST_EXPONENT)
    except (TypeError, NotImplementedError, AttributeError, ValueError) as problem:
        raise BadInput(f"{name} takes neither fractions nor mpmath intervals: {problem}") from None
    finally:
        iv.prec = before
    if ends is None:
        raise BadInput(f"{name} is infinite or not a number at {x}, or beyond 2**{MOST_EXPONENT}")
    return ends


@lru_cache(maxsize=256)
def _named(name: str, p: int, s: int, rounding: str, parameters: tuple[tuple[str, Any], ...]) -> tuple[int, ...]:
    return _rounded(ACTIVATIONS[name], Setting(p, s, rounding=rounding), dict(parameters))


def _rounded(function: RealFunction, setting: Setting, parameters: Mapping[str, Any]) -> tuple[int, ...]:
    try:
        entries, _ = tabulate(function, setting.values, setting.values, setting.rounding, **parameters)
    except ArithmeticError as problem:
        raise BadInput(f"{function.name} must have a value at every k/{setting.s}: {problem}") from None
    return tuple(entries.tolist())
