"""A verdict and its certificates: plain records that print in words and can be checked by anyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fixqnn.format import Format
from fixqnn.universal.grid import Setting

__all__ = ["BlindPair", "Condition", "ConstantTable", "MissedCells", "Recipe", "Verdict"]


@dataclass(frozen=True)
class Condition:
    """One condition of a theorem.

    Attributes
    ----------
    name : str
        ``"constant"`` (the table is not constant), ``"covering"``, ``"distinguishability"`` or ``"second layer"``.
    holds : bool or None
        Whether it is met; None: undecided, or not looked at because an earlier one fails or none is needed.
    words : str
        Why, with the numbers.
    """

    name: str
    holds: bool | None
    words: str

    def __str__(self) -> str:
        title = "not constant" if self.name == "constant" else self.name
        return f"{title}: {({True: 'yes', False: 'NO', None: '-'})[self.holds]}: {self.words}"


@dataclass(frozen=True)
class ConstantTable:
    """The activation gives one code whatever comes in."""

    code: int

    def __str__(self) -> str:
        return f"all entries of the table are {self.code}"


@dataclass(frozen=True)
class MissedCells:
    """The last layer's sums, all in one residue class modulo `step`, never reach some code.

    Attributes
    ----------
    step : int
        ω·g: sums of the last layer differ by multiples of it.
    offsets : tuple of (int, int)
        For every residue θ that a bias can give, a code whose cell holds no number θ + step·j. Empty where there are
        too many to list; then the span proves it.
    first, last : int
        The first and the last sum of all interior cells together, which hold 2M − 1 codes. Where
        ``(2M − 2)·step > last − first``, no residue class can visit them all.
    """

    step: int
    offsets: tuple[tuple[int, int], ...]
    first: int
    last: int

    def __str__(self) -> str:
        shown = "; ".join(f"sums {theta} + {self.step}·j never round to code {k}" for theta, k in self.offsets[:3])
        more = f"; and so on for {len(self.offsets)} offsets" if len(self.offsets) > 3 else ""
        span = f"interior cells span {self.last - self.first} units of 1/s², too little for steps of {self.step}"
        return f"{shown}{more}" if shown else span


@dataclass(frozen=True)
class BlindPair:
    """Two inputs, as codes, on which all neurons of the first layer agree, whatever their weights and biases."""

    x: tuple[int, ...]
    y: tuple[int, ...]

    def __str__(self) -> str:
        shown = " and ".join(str(x[0]) if len(x) == 1 else self._shown(x) for x in (self.x, self.y))
        return f"no neuron of the first layer tells the input codes {shown} apart"

    def _shown(self, x: tuple[int, ...]) -> str:
        """A point of many coordinates without the zeros that both end with."""
        live = max((i for i, pair in enumerate(zip(self.x, self.y, strict=True)) if any(pair)), default=0) + 1
        return str(x) if len(x) <= max(live, 8) else f"({', '.join(map(str, x[:live]))}, 0, … 0)"


@dataclass(frozen=True)
class Recipe:
    """How to build a network for any function.

    Attributes
    ----------
    construction : str
        ``"generic"``: code the inputs, then thresholds or pairs of bumps; ``"cubes"``: products of thresholds per
        coordinate (weights with a zero); ``"binary cubes"``: the same from forms ±x₁ … ± x_d.
    hidden_layers : int
        So many suffice for the generic construction.
    step, offset : int
        The last layer's sums are offset + step·j, in units of 1/s²; every interior cell holds one.
    threshold : bool
        Whether one neuron can be a threshold whose step covers all cells, T(M) − T(−M) serving as the step; if not,
        bumps are made from pairs of neurons.
    """

    construction: str
    hidden_layers: int
    step: int
    offset: int
    threshold: bool

    def __str__(self) -> str:
        return (
            f"{self.construction} construction, {self.hidden_layers} hidden layers suffice, last sums "
            f"{self.offset} + {self.step}·j from {'thresholds' if self.threshold else 'pairs of neurons'}"
        )


Certificate = ConstantTable | MissedCells | BlindPair | Recipe


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether networks with this activation and arithmetic compute every function, and why.

    Attributes
    ----------
    activation : str
        Its name; ``"table"`` for one given by its codes.
    setting : Setting
        Format, weights, biases, tie rule.
    inputs : int
        d: functions from Q^d to Q are meant.
    table : tuple of int
        The activation's codes for k = −M … M.
    universal : bool or None
        True: every function; False: not every function; None: no theorem decides.
    reason : str
        In words.
    theorem : str
        The theorem used, with its source.
    conditions : mapping of str to Condition
        ``"constant"``, ``"covering"``, ``"distinguishability"``, ``"second layer"``.
    value_set : tuple of int
        The codes in the table, in order.
    g, gamma, omega : int
        Greatest common divisors: of the differences of the table's codes, of the codes, of the weights.
    certificate : ConstantTable, MissedCells, BlindPair, Recipe or None
        What proves it; None where undecided.
    """

    activation: str
    setting: Setting
    inputs: int
    table: tuple[int, ...]
    universal: bool | None
    reason: str
    theorem: str
    conditions: Mapping[str, Condition]
    value_set: tuple[int, ...]
    g: int
    gamma: int
    omega: int
    certificate: Certificate | None

    @property
    def values(self) -> Format:
        """The format of inputs, outputs and hidden values."""
        return self.setting.values

    @property
    def failed(self) -> str | None:
        """The condition that fails, or None."""
        return next((name for name, condition in self.conditions.items() if condition.holds is False), None)

    def condition(self, name: str) -> Condition:
        """One condition by name."""
        return self.conditions[name]

    @property
    def letter(self) -> str:
        """``R`` representable; not: ``k`` constant table, ``c`` covering, ``x`` distinguishability; ``?`` undecided."""
        if self.universal is not False:
            return "R" if self.universal else "?"
        return {"constant": "k", "covering": "c", "distinguishability": "x"}[self.failed]

    def __repr__(self) -> str:
        return f"<Verdict {self.activation} {self.setting} inputs={self.inputs}: {self.universal}, {self.reason}>"

    def __str__(self) -> str:
        setting = self.setting
        answer = {True: "YES, every function", False: "NO, not every function", None: "UNDECIDED"}[self.universal]
        biases = {"values": "the values", "wide": "multiples of 1/s", "fine": "multiples of 1/s²"}[str(setting.bias)]
        lines = [
            f"{self.activation} on k/{setting.s}, |k| ≤ {setting.largest} (p={setting.p}, s={setting.s}), "
            f"{self.inputs} input{'s' if self.inputs > 1 else ''}: {answer}",
            f"  weights {setting.weights}, biases: {biases}, ties {setting.rounding}",
            f"  {self.reason}",
            *(f"  {condition}" for condition in self.conditions.values()),
            f"  table codes {_briefly(self.value_set)}: g={self.g}, γ={self.gamma}; weights: ω={self.omega}",
            f"  theorem: {self.theorem}",
        ]
        if self.certificate is not None:
            lines.append(f"  certificate: {self.certificate}")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """The same as plain lists and numbers, for JSON."""
        setting = self.setting
        return {
            "activation": self.activation,
            "p": setting.p,
            "s": setting.s,
            "weights": setting.weights,
            "bias": str(setting.bias),
            "rounding": str(setting.rounding),
            "inputs": self.inputs,
            "universal": self.universal,
            "reason": self.reason,
            "theorem": self.theorem,
            "conditions": {name: asdict(condition) for name, condition in self.conditions.items()},
            "value_set": list(self.value_set),
            "g": self.g,
            "gamma": self.gamma,
            "omega": self.omega,
            "table": list(self.table),
            "certificate": self.certificate
            and {"kind": type(self.certificate).__name__, **asdict(self.certificate), "words": str(self.certificate)},
        }


def _briefly(codes: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, codes))
    return f"{{{shown}}}" if len(codes) <= 9 else f"{{{codes[0]}, {codes[1]}, … {codes[-1]}}} ({len(codes)})"
