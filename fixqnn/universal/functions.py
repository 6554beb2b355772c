"""One function, universal or not: whether any network of this arithmetic computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.universal.affine import Affine, find_affine
from fixqnn.universal.decide import DERIVED, offsets
from fixqnn.universal.grid import Bias, Setting, check_sums, difference_gcd, value_gcd
from fixqnn.universal.rows import Rows
from fixqnn.universal.second_layer import second_layer
from fixqnn.universal.separation import Pair, equal_pair, first_layer, form_sums, points
from fixqnn.universal.table import resolve_table
from fixqnn.universal.verdict import BlindPair, Certificate, ConstantTable, MissedCells, Recipe

__all__ = ["FunctionVerdict", "as_target", "decide_function"]

MOST_OFFSETS = 2**20  # of last sums that are tried
MOST_SUMS = 2 * 10**7  # inputs times neurons of the first layer, before the bias


@dataclass(frozen=True, repr=False)
class FunctionVerdict:
    """Whether some network computes one function, and why.

    Attributes
    ----------
    representable : bool or None
        None: no theorem decides.
    reason, theorem : str
        In words.
    activation, setting, inputs, table
        As in `Verdict`.
    target : tuple of int
        The function's codes, the last input running fastest.
    certificate : Affine, ConstantTable, MissedCells, BlindPair, Recipe or None
        What proves it.
    """

    representable: bool | None
    reason: str
    theorem: str
    activation: str
    setting: Setting
    inputs: int
    table: tuple[int, ...]
    target: tuple[int, ...]
    certificate: Certificate | Affine | None

    @property
    def universal(self) -> bool | None:
        """The same as `representable`, so that verdicts of both kinds can be read alike."""
        return self.representable

    def __repr__(self) -> str:
        return f"<FunctionVerdict {self.activation} {self.setting}: {self.representable}, {self.reason}>"

    def __str__(self) -> str:
        setting = self.setting
        answer = {True: "YES, some network", False: "NO, no network", None: "UNDECIDED"}[self.representable]
        lines = [
            f"{self.activation} on k/{setting.s}, |k| ≤ {setting.largest} (p={setting.p}, s={setting.s}), "
            f"this function of {self.inputs} input{'s' if self.inputs > 1 else ''}: {answer}",
            f"  weights {setting.weights}, biases {setting.bias}, ties {setting.rounding}",
            f"  {self.reason}",
            f"  theorem: {self.theorem}",
        ]
        return "\n".join([*lines, *([f"  certificate: {self.certificate}"] if self.certificate else [])])


def decide_function(
    target: Any,
    activation: str | Callable[..., Any] | Sequence[int],
    values: Format,
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    **parameters: Any,
) -> FunctionVerdict:
    """Decide whether a network can compute one given function, bit for bit, universal or not.

    Theorem A' (derived; compared with exhaustive closures for p = 1 and p = 2): a function is computed if and only if
    it is one rounded affine map, or it is constant on inputs that the first layer does not tell apart and some offset
    θ of the last sums makes θ + ωg·Z meet the cell of every code but ±M that the function takes. Proved for weights
    with a zero, and for wide and fine biases. Where no weight is zero and biases are among the values, the condition is
    necessary; with theorem C's condition on the second layer it suffices.

    Parameters
    ----------
    target : sequence or array of int
        The function's codes at all inputs: (2M+1)**d of them, flat with the last input running fastest, or an array
        with d axes of 2M+1 entries; along an axis the input code runs from −M to M.
    activation, values, weights, bias, rounding, **parameters
        As for `decide`.

    Returns
    -------
    FunctionVerdict
        ``representable`` (True, False, None), ``reason``, ``certificate``.

    Raises
    ------
    BadInput
        As `decide`; and for targets of another size or with codes beyond ±M.

    Examples
    --------
    >>> from fixqnn.format import symmetric
    >>> parity = [1, 0, 1, 0, 1, 0, 1]
    >>> decide_function(parity, "sign", symmetric(2, 1)).reason
    'last sums 2 units of 1/s² apart, with any offset, miss a code that the function takes'
    >>> decide_function([3 * k for k in parity], "sign", symmetric(2, 1)).representable
    True
    """
    setting = Setting.of(values, weights, bias, rounding)
    check_sums(setting)
    name, table = resolve_table(activation, setting, parameters)
    codes = as_target(target, setting)
    answer, reason, theorem, certificate = _settle(setting, table, codes)
    flat = tuple(codes.ravel().tolist())
    return FunctionVerdict(answer, reason, theorem, name, setting, codes.ndim, table, flat, certificate)


def as_target(target: Any, setting: Setting) -> np.ndarray:
    """Check a function's table of codes and give it one axis per input.

    >>> as_target([0] * 9, Setting(1, 1)).shape
    (3, 3)
    """
    try:
        codes = np.asarray(target)
    except ValueError as problem:
        raise BadInput(f"the function's codes must be an array of integers: {problem}") from None
    side = 2 * setting.largest + 1
    if codes.ndim == 0:
        raise BadInput(f"a function is a table of codes, {side} for one input, not the single value {target!r}")
    if codes.dtype.kind not in "iu":
        raise BadInput(f"the function's codes must be integers, not {codes.dtype}")
    inputs = codes.ndim
    if codes.ndim == 1:
        inputs = next(d for d in range(1, 64) if side**d >= max(codes.size, 2))
    if codes.size != side**inputs or (codes.ndim > 1 and set(codes.shape) != {side}):
        raise BadInput(
            f"a function of d inputs has {side}**d codes for p={setting.p}, or d axes of {side}, not shape {codes.shape}"
        )
    beyond = codes[(codes > setting.largest) | (codes < -setting.largest)]
    if beyond.size:
        raise BadInput(f"the function's codes must be between ±{setting.largest}, not {beyond.flat[0]}")
    return codes.astype(np.int64).reshape((side,) * inputs)


def _settle(setting: Setting, table: tuple[int, ...], target: np.ndarray) -> tuple[bool | None, str, str, Any]:
    affine = find_affine(setting, target)
    if affine:
        return True, "the function is one rounded affine map", "no hidden layer", affine
    theorem = f"theorem A'; {DERIVED}"
    image = sorted(set(target.ravel().tolist()))
    g = difference_gcd(table)
    if g == 0:
        if len(image) == 1:
            layer = Recipe("constant", 1, 0, setting.s * image[0], False)
            return True, "the function is constant: a bias in the last layer", theorem, layer
        return _unless_affine(
            affine, "the table is constant: hidden layers forget inputs", theorem, ConstantTable(table[0])
        )
    step = setting.weight_unit * g
    found, missed = _offset(setting, table, image, step)
    if found is None and missed is None:
        return None, f"more than {MOST_OFFSETS} offsets of the last sums miss a code of the function", theorem, None
    if found is None:
        reason = f"last sums {step} units of 1/s² apart, with any offset, miss a code that the function takes"
        span = setting.cell(1 - setting.largest)[0], setting.cell(setting.largest - 1)[1]
        return _unless_affine(affine, reason, theorem, MissedCells(step, missed, *span))
    known, pair = _blind_pair(setting, table, target)
    if pair:
        reason = "the function differs on two inputs that no first layer tells apart"
        return _unless_affine(affine, reason, theorem, BlindPair(*pair))
    if not known:
        return None, "too many inputs and neurons to see which inputs the first layer tells apart", theorem, None
    layers = 2
    if not setting.has_zero and setting.bias == Bias.values:
        second = second_layer(setting, table, target.ndim)
        if not second.holds:
            return None, f"open: {second.why}", theorem, None
        layers = second.hidden_layers
    reason = f"inputs with different values are told apart, and last sums {found} + {step}·j reach every code it takes"
    return True, reason, theorem, Recipe("generic", layers, step, found, False)


def _unless_affine(affine: Any, reason: str, theorem: str, certificate: Any) -> tuple[bool | None, str, str, Any]:
    """No network with hidden layers; without them, one that was not found among too many may exist."""
    if affine is False:
        return None, f"{reason}; too many affine maps to try them all", theorem, None
    return False, f"{reason}", theorem, certificate


def _offset(
    setting: Setting, table: Sequence[int], image: Sequence[int], step: int
) -> tuple[int | None, tuple[tuple[int, int], ...] | None]:
    """Find an offset that reaches all codes of the image; if none does, what each misses; None: too many to try."""
    cells = [(k, *setting.cell(k)) for k in image if abs(k) < setting.largest]
    missed = []
    for theta in islice(offsets(setting, table[0], value_gcd(table), step), MOST_OFFSETS + 1):
        miss = next((k for k, low, high in cells if low + (theta - low) % step > high), None)
        if miss is None:
            return theta, ()
        missed.append((theta, miss))
    return None, tuple(missed) if len(missed) <= MOST_OFFSETS else None


def _blind_pair(setting: Setting, table: tuple[int, ...], target: np.ndarray) -> tuple[bool, Pair | None]:
    """Find two inputs with different values that the first layer does not tell apart; first, whether this is known."""
    first = first_layer(setting, table, target.ndim)
    if first.holds:
        return True, None
    if first.pair:
        x, y = (tuple(code + setting.largest for code in point) for point in first.pair)
        if target[x] != target[y]:
            return True, first.pair
    forms = len(setting.weight_codes) ** target.ndim
    if forms * target.size > MOST_SUMS:
        return False, None
    coordinates = points(setting, target.ndim)
    if setting.has_zero:
        sums = [
            sum(w * axis for w, axis in zip(weights, coordinates, strict=True))
            for weights in product(setting.weight_codes, repeat=target.ndim)
        ]
    else:
        sums = form_sums(setting, coordinates)
    return True, equal_pair(coordinates, sums, Rows(setting, table), target.ravel())
