"""Before there are weights: how far a ReLU network can move when its parameters do, and the bits that this asks for.

The network is ``R(x) = W_L relu(… relu(W_1 x + b_1) …) + b_L`` with widths N_0 … N_L; no row of a W sums to more than r in
magnitude, no bias passes r, no input passes D. That such a constant grows like r^(L−1), and that bits per weight must
therefore grow with the depth as soon as r > 1, is shown by A. Gonon, N. Brisebarre, R. Gribonval and E. Riccietti,
"Approximation speed of quantized vs. unquantized ReLU neural networks and beyond" (arXiv 2205.11874). The constant used
here is sharper than theirs and derived anew: hidden values grow at most as A_0 = D, A_l = r·A_{l−1} + r, a change of the
l-th layer's entries by δ moves its output by at most (N_{l−1}·A_{l−1} + 1)·δ, and every later layer stretches by r at
most. It is attained: all weights r/N_{l−1}, all biases r, x = D everywhere, and every entry moved down alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format, fixed

MOST_BITS = 1 << 16  # of a parameter: a search that goes beyond was asked for nonsense


@dataclass(frozen=True)
class BitPlan:
    """Fixed point for all parameters of a network, and what it certifies.

    Attributes
    ----------
    F : int
        Fraction bits.
    I : int
        Integer bits: every entry up to r has a code. Negative where all entries are small.
    total : int
        Width of a code with its sign: 1 + I + F.
    K : float
        What `param_lipschitz` says of the network.
    certified_error : float
        No output moves farther than that, at any input of the domain, when every parameter is rounded to nearest.
    """

    F: int
    I: int  # noqa: E741 - the literature's name
    total: int
    K: float
    certified_error: float

    @property
    def format(self) -> Format:
        """The format of the parameters.

        >>> BitPlan(13, 1, 15, 87.0, 0.0053).format
        fixed(15, 13)
        """
        return fixed(self.total, self.F)


def param_lipschitz(widths: Sequence[int], r: float, domain: Any) -> float:
    """Bound the change of a ReLU network's output by the largest change among its parameters.

    ``sup |R_θ(x) − R_θ'(x)| ≤ K · max |θ − θ'|`` over all inputs of the domain and all outputs, with
    ``K = Σ_l r^(L−l) · (N_{l−1}·A_{l−1} + 1)``, A_0 = D, A_l = r·A_{l−1} + r; it cannot be improved (see the module).

    Parameters
    ----------
    widths : sequence of int
        N_0 … N_L, the input's width first.
    r : float
        Bound of every row sum of magnitudes of weights, and of every bias. Of weights up to w alone, take w times the
        largest fan-in.
    domain : float, or (low, high)
        Largest magnitude of an input, or the ends of a box, numbers or arrays of N_0.

    Returns
    -------
    float
        K.

    Raises
    ------
    BadInput
        For fewer than two widths, or a width, r or domain that cannot be.

    Examples
    --------
    >>> param_lipschitz((4, 16, 16, 1), r=1, domain=1), param_lipschitz((4, 16, 16, 1), r=2, domain=(-1, 1))
    (87.0, 311.0)
    """
    layers, r, reach = _checked(widths, r, domain)
    return _float(_constant(layers, r, reach, Fraction(0)))


def frac_bits_for(widths: Sequence[int], r: float, domain: Any, eps: float) -> BitPlan:
    """Fewest fraction bits with which rounding every parameter to nearest moves no output by more than `eps`.

    With steps η = 2^−F entries move by at most η/2, and the rounded rows sum to at most r_l' = r + N_{l−1}·η/2, so that
    the error is at most ``(η/2) · Σ_l (Π_{k>l} r_k') · (N_{l−1}·A_{l−1} + 1)``; to first order F = ⌈log2(K / (2·eps))⌉.
    Computed in exact rationals.

    Parameters
    ----------
    widths, r, domain
        As for `param_lipschitz`.
    eps : float
        Largest error wanted, above 0.

    Returns
    -------
    BitPlan
        Fraction and integer bits, and the error that they certify.

    Raises
    ------
    BadInput
        As `param_lipschitz`, or for an `eps` that is not above 0.

    Examples
    --------
    >>> plan = frac_bits_for((4, 16, 16, 1), r=1, domain=1, eps=1e-2)
    >>> plan.F, plan.I, plan.total, plan.format
    (13, 1, 15, fixed(15, 13))
    >>> frac_bits_for((8, 32, 32, 32, 32, 10), r=2, domain=1, eps=1e-2).total
    22
    """
    layers, r, reach = _checked(widths, r, domain)
    target = _number(eps, "eps")
    if target <= 0:
        raise BadInput(f"eps must be above 0, not {eps!r}; only infinitely many bits make no error")
    constant = _constant(layers, r, reach, Fraction(0))
    fraction = _exponent_at_least(constant / (2 * target))  # rounded rows are no shorter: no smaller F can do
    while (error := _error(layers, r, reach, fraction)) > target:
        fraction += 1
        if fraction > MOST_BITS:
            raise BadInput(f"eps={eps!r} asks for more than {MOST_BITS} fraction bits")
    integer = _exponent_at_least(r + _power(-fraction))
    certified = _float(error)
    if Fraction(certified) < error:
        certified = math.nextafter(certified, math.inf)
    return BitPlan(fraction, integer, 1 + integer + fraction, _float(constant), certified)


def _constant(layers: tuple[int, ...], r: Fraction, reach: Fraction, half_step: Fraction) -> Fraction:
    """K, or with a half step above 0 the same for rounded rows, by Horner's rule: each layer stretches what came before."""
    total, largest = Fraction(0), reach
    for width in layers[:-1]:
        total = (r + width * half_step) * total + width * largest + 1
        largest = r * largest + r
    return total


def _error(layers: tuple[int, ...], r: Fraction, reach: Fraction, fraction: int) -> Fraction:
    half_step = _power(-fraction) / 2
    return half_step * _constant(layers, r, reach, half_step)


def _power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def _exponent_at_least(x: Fraction) -> int:
    """The smallest e with x ≤ 2^e."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    while _power(e) < x:
        e += 1
    while _power(e - 1) >= x:
        e -= 1
    return e


def _float(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf


def _number(value: Any, name: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction | np.number):
        raise BadInput(f"{name} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise BadInput(f"{name} must be finite, not {value!r}")
    return Fraction(value.item() if isinstance(value, np.number) else value)


def _checked(widths: Sequence[int], r: float, domain: Any) -> tuple[tuple[int, ...], Fraction, Fraction]:
    if isinstance(widths, str) or not hasattr(widths, "__iter__"):
        raise BadInput(
            f"widths must be the widths of all layers, the input's first, such as (4, 16, 1), not {widths!r}"
        )
    layers = tuple(widths)
    for i, width in enumerate(layers):
        if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
            raise BadInput(f"widths[{i}] must be a whole number of at least 1, not {width!r}")
    if len(layers) < 2:
        raise BadInput(f"widths needs the input's and at least one layer's, such as (4, 1), not {layers}")
    layers = tuple(int(width) for width in layers)
    bound = _number(r, "r")
    if bound < 0:
        raise BadInput(f"r bounds magnitudes, so it cannot be negative, as {r!r} is")
    return layers, bound, _reach(domain, layers[0])


def _reach(domain: Any, width: int) -> Fraction:
    """Largest magnitude of an input: the number itself, or the farther end of a box."""
    if np.ndim(domain) == 0 and not isinstance(domain, tuple | list):
        reach = _number(domain, "domain")
        if reach < 0:
            raise BadInput(f"domain is the largest magnitude of an input, so it cannot be negative, as {domain!r} is")
        return reach
    if not isinstance(domain, tuple | list | np.ndarray) or len(domain) != 2:
        raise BadInput(f"domain must be the largest magnitude of an input, or a pair (low, high), not {domain!r}")
    try:
        low, high = (np.asarray(end, np.float64) for end in domain)
    except (TypeError, ValueError):
        raise BadInput(f"domain must be a pair of numbers or of arrays, not {domain!r}") from None
    for name, end in (("low", low), ("high", high)):
        if end.shape not in ((), (width,)):
            raise BadInput(f"the domain's {name} has shape {end.shape}; the network has {width} inputs")
        if not np.isfinite(end).all():
            raise BadInput(f"the domain's {name} must be finite, not {end}")
    if (low > high).any():
        raise BadInput(f"the domain's low must not pass its high: {domain!r}")
    return Fraction(float(max(np.abs(low).max(), np.abs(high).max())))
