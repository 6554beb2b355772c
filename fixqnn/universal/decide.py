"""Universal or not: exact criteria for every activation table, with a certificate.

Park, Park and Hwang (arXiv 2409.00297) give a necessary and a sufficient condition for networks of fixed-point
arithmetic to compute every function. The criteria here are exact; they are derived for this library, and compared with
exhaustive closures of all functions that tiny networks compute (``tests/universal``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from math import gcd
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.modes import Rounding
from fixqnn.universal.grid import Bias, Setting, difference_gcd, integer, value_gcd
from fixqnn.universal.second_layer import second_layer
from fixqnn.universal.separation import first_layer
from fixqnn.universal.table import resolve_table
from fixqnn.universal.verdict import BlindPair, Condition, ConstantTable, MissedCells, Recipe, Verdict

__all__ = ["check_inputs", "covers", "decide", "decide_setting", "offsets"]

MOST_OFFSETS, MOST_VISITS = 8192, 2**21
DERIVED = "derived for this library, after Park, Park, Hwang (arXiv 2409.00297)"


def decide(
    activation: str | Callable[..., Any] | Sequence[int],
    values: Format,
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    inputs: int = 1,
    **parameters: Any,
) -> Verdict:
    """Decide whether networks can compute every function from `inputs` values to a value, bit for bit.

    A network has affine layers; each forms its sums exactly and rounds them once, to the values. Hidden layers then
    apply the activation, which is its table of correctly rounded codes T(k); the last layer does not. Depth and width
    are free. Call g the greatest common divisor of the differences of the table's codes, ω that of the weights, both
    in units of 1/s, and M = 2**p − 1.

    Theorem A (weights with a zero): every function, if and only if T is not constant; (covering) some residue class
    modulo ω·g meets the rounding cell of every code but ±M, which is ``(2M − 2)(ωg − s) ≤ s − 1``, or ``≤ s`` for
    half_toward_zero and half_even; and (distinguishability) the first layer tells all inputs apart. The number of
    inputs does not matter. Theorem B (no zero, biases wide or fine): the same. Theorem C (no zero, biases among the
    values): these three are necessary; with a condition on the second layer they suffice.

    Parameters
    ----------
    activation : str, callable or sequence of int
        A name (``fq.universal.ACTIVATIONS``), a function that `activation_table` can round for sure, or the table
        itself: 2M+1 codes for k = −M … M.
    values : Format
        ``fq.symmetric(p, s)``: the numbers k/s with |k| ≤ 2**p − 1; s is any whole number.
    weights : str
        ``"full"``: the values; ``"ternary"``: −1, 0, 1; ``"binary"``: −1, 1; ``"scaled:a"``: −a/s, a/s.
    bias : str
        ``"values"``; ``"wide"``: all multiples of 1/s; ``"fine"``: all multiples of 1/s².
    rounding : Rounding or str
        The tie rule of table and sums: half_up, half_down, half_away, half_toward_zero, half_even.
    inputs : int
        d, the number of inputs.
    **parameters
        Of a named activation, by torch's names.

    Returns
    -------
    Verdict
        ``universal`` (True, False; None: open), ``reason``, ``conditions``, ``certificate``; prints in words.

    Raises
    ------
    BadInput
        For formats that are not symmetric, unknown names, tables of another length or with codes beyond ±M, and
        functions that cannot be rounded for sure.

    Examples
    --------
    >>> from fixqnn.format import symmetric
    >>> decide("gelu", symmetric(3, 4), weights="binary", bias="wide", inputs=2).universal
    True
    >>> verdict = decide("sigmoid", symmetric(2, 1), weights="binary", inputs=2)
    >>> verdict.universal, verdict.failed, verdict.certificate
    (False, 'distinguishability', BlindPair(x=(-3, -3), y=(-2, -2)))
    >>> decide([-3, -3, -3, 3, 3, 3, 3], symmetric(2, 4)).failed
    'covering'
    """
    setting = Setting.of(values, weights, bias, rounding)
    inputs = check_inputs(inputs)
    name, table = resolve_table(activation, setting, parameters)
    return decide_setting(name, setting, inputs, table)


def check_inputs(inputs: Any) -> int:
    """Accept a number of inputs."""
    number = integer(inputs, "inputs")
    if number < 1:
        raise BadInput(f"inputs must be at least 1, not {number}")
    return number


def covers(setting: Setting, step: int) -> bool:
    """Whether multiples of `step` reach the cell of every code but ±M: the closed form of the covering condition.

    Points of one residue class in the 2M − 1 interior cells are at least (2M − 2)·step apart, first to last, and the
    cells together span (2M − 2)·s + h, where h is s − 1, s − 2 (half_away, even s) or s (half_toward_zero, half_even,
    even s). Conversely the multiple j·step lies in cell j. Derived, proved.

    >>> [covers(Setting(2, 4, rounding=tie), 5) for tie in ("half_up", "half_even")]
    [False, True]
    """
    generous = setting.rounding in (Rounding.half_toward_zero, Rounding.half_even)
    return step > 0 and (2 * setting.largest - 2) * (step - setting.s) <= setting.s - (not generous)


def offsets(setting: Setting, code: int, gamma: int, step: int) -> Sequence[int]:
    """All residues modulo `step` that sums of the last layer can have; `code` is any code of the table.

    A sum is Σ wᵢTᵢ + b, all Tᵢ ≡ code modulo g, so its residue is that of a multiple of ω·code plus a bias.
    There may be as many as `step`.

    >>> offsets(Setting(2, 4), 2, 1, 6), offsets(Setting(2, 4, bias="fine"), 2, 1, 6)
    (range(0, 6, 2), range(0, 6))
    """
    if step == 0:
        raise BadInput("a constant table has no step")
    if setting.bias == Bias.values and setting.weights.startswith("scaled:"):
        unit = gcd(setting.weight_unit * gamma, step)
        shifts = {setting.s * b % unit for b in setting.codes}
        return sorted({start + shift for shift in shifts for start in range(0, step, unit)})
    return range(0, step, gcd(setting.weight_unit * code, setting.bias_unit, step))


def decide_setting(name: str, setting: Setting, inputs: int, table: tuple[int, ...]) -> Verdict:
    """Decide for a table that was checked: what `decide` does after reading its arguments."""
    g, gamma, omega = difference_gcd(table), value_gcd(table), setting.weight_unit
    results = {
        title: Condition(title, None, "not looked at")
        for title in ("constant", "covering", "distinguishability", "second layer")
    }

    def note(title: str, holds: bool | None, words: str) -> bool | None:
        results[title] = Condition(title, holds, words)
        return holds

    def verdict(universal: bool | None, reason: str, theorem: str, certificate: Any) -> Verdict:
        conditions = MappingProxyType(dict(results))
        codes = tuple(sorted(set(table)))
        return Verdict(
            name, setting, inputs, table, universal, reason, theorem, conditions, codes, g, gamma, omega, certificate
        )

    if not note("constant", g > 0, "the table has several codes" if g else f"all entries are {table[0]}"):
        reason = "the table is constant: hidden layers forget their inputs"
        return verdict(False, reason, "a constant activation", ConstantTable(table[0]))
    step = omega * g
    if not note("covering", covers(setting, step), _inequality(setting, step)):
        reason = f"last sums lie {step} units of 1/s² apart and miss cells, which are {setting.s} units wide"
        return verdict(False, reason, f"covering condition; {DERIVED}", _missed_cells(setting, table, step))
    first = first_layer(setting, table, inputs)
    note("distinguishability", first.holds, first.why)
    letter = "A" if setting.has_zero else "C" if setting.bias == Bias.values else "B"
    theorem = f"theorem {letter}; {DERIVED}"
    if first.holds is False:
        reason = "the first layer cannot tell all inputs apart"
        return verdict(False, reason, theorem, BlindPair(*first.pair))
    if first.holds is None:
        return verdict(None, f"not decided whether the first layer tells all inputs apart: {first.why}", theorem, None)
    layers = 2
    if letter == "C":
        second = second_layer(setting, table, inputs)
        layers = second.hidden_layers
        note("second layer", second.holds, second.why)
        if not second.holds:
            return verdict(None, f"open: {second.why}", theorem, None)
    else:
        note(
            "second layer",
            None,
            "not needed: " + ("a weight may be zero" if letter == "A" else "biases are not bounded"),
        )
    reason = f"the first layer tells all inputs apart, and last sums {step} units of 1/s² apart reach every cell"
    return verdict(True, reason, theorem, _recipe(setting, table, inputs, layers, step))


def _inequality(setting: Setting, step: int) -> str:
    bound = setting.s - (setting.rounding not in (Rounding.half_toward_zero, Rounding.half_even))
    left = (2 * setting.largest - 2) * (step - setting.s)
    return f"(2M-2)(ωg-s) = {left} {'≤' if left <= bound else '>'} {bound}"


def _missed_cells(setting: Setting, table: Sequence[int], step: int) -> MissedCells:
    cells = [setting.cell(k) for k in setting.codes[1:-1]]
    first, last = cells[0][0], cells[-1][1]
    found = list(islice(offsets(setting, table[0], value_gcd(table), step), MOST_OFFSETS + 1))
    listed: tuple[tuple[int, int], ...] = ()
    if len(found) <= MOST_OFFSETS and len(found) * len(cells) <= MOST_VISITS:
        kind = np.int64 if 4 * max(-first, last, step) < 2**62 else object
        low, high = (np.array(ends, kind) for ends in zip(*cells, strict=True))
        missed = low + (np.array(found, kind)[:, None] - low) % step > high
        codes = missed.argmax(axis=1) - setting.largest + 1
        listed = tuple(zip(found, codes.tolist(), strict=True))
    return MissedCells(step, listed, first, last)


def _recipe(setting: Setting, table: Sequence[int], inputs: int, layers: int, step: int) -> Recipe:
    jump = abs(table[-1] - table[0])
    if inputs == 1 or (not setting.has_zero and setting.bias == Bias.values):
        construction = "generic"
    else:
        construction = "cubes" if setting.has_zero else "binary cubes"
    return Recipe(construction, layers, step, 0, jump > 0 and covers(setting, setting.weight_unit * jump))
