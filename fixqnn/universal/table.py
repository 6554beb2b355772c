"""An activation on the values: its table of correctly rounded codes, the only thing about it that counts.

Two activations with equal tables are the same activation, and one wrong entry can change a verdict. So nothing is
guessed: see ``fixqnn.arith.real``, which also fills the lookup tables of simulated machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.arith.functions import FUNCTIONS, RealFunction
from fixqnn.arith.real import tabulate
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.universal.grid import Setting, as_table

__all__ = ["ACTIVATIONS", "activation_table", "resolve_table"]

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
        A name of `ACTIVATIONS`; a function from Fraction to Fraction, taken as exact; or the table itself, which is
        checked and returned.
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
        function = RealFunction(getattr(activation, "__name__", "function"), activation)
        return function.name, _rounded(function, setting, {})
    return "table", as_table(activation, setting)


@lru_cache(maxsize=256)
def _named(name: str, p: int, s: int, rounding: str, parameters: tuple[tuple[str, Any], ...]) -> tuple[int, ...]:
    return _rounded(ACTIVATIONS[name], Setting(p, s, rounding=rounding), dict(parameters))


def _rounded(function: RealFunction, setting: Setting, parameters: Mapping[str, Any]) -> tuple[int, ...]:
    entries, _ = tabulate(function, setting.values, setting.values, setting.rounding, **parameters)
    return tuple(entries.tolist())
