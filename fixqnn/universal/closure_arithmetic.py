"""A datapath's sums as tables over small whole numbers: what one term does to a register, looked up instead of computed.

Everything is filled in by the definition, ``fixqnn.arith.exact``, from a program that was lowered as any other: drops,
aligned biases and the scaler's constants are those that a machine with this datapath would hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.arith import exact
from fixqnn.arith.bind import BoundRegister
from fixqnn.datapath import Lookup, SumOfProducts
from fixqnn.errors import BadInput
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops.linear import layout
from fixqnn.ops.sums import Sum, cached
from fixqnn.program import lower
from fixqnn.scaler import Exact, Float, Multiplier, Shift
from fixqnn.universal.constructions.layers import Layer, Network
from fixqnn.universal.grid import Bias, Setting

__all__ = ["DEAD", "Arithmetic", "Level", "machine_of"]

DEAD, BEYOND = -1, -2  # what a table says in place of a content: overflow is forbidden; outside of the window
TERMS = 7  # of the sum that is lowered to see how a datapath is bound; a prime, so that no axis divides it
MOST_ENTRIES = 20_000  # of a table
MOST_STATES = 1 << 27  # contents of one register on all inputs, for which there is room
WINDOW = 6  # contents of wide registers are followed so many times as far as a product and a code of the output reach


def machine_of(datapath: SumOfProducts, rounding: str) -> Accelerator:
    """Make the machine of built networks whose sums take this datapath."""
    return Accelerator(
        "closure", {"linear": datapath, "lookup": Lookup(output_rounding=rounding)}, source="A test bed."
    )


@dataclass(frozen=True)
class Level:
    """One stage: contents low … high (fewer than the register holds if it is wide) and what a number does to them.

    Attributes
    ----------
    low, high : int
        The contents that are followed.
    whole : bool
        Whether these are all that the register can hold.
    size : int or None
        Numbers per run.
    enter : ndarray
        ``enter[content − low, number − first]``: the next content less `low`, or `DEAD`, or beyond the window.
    first : int
        The smallest number that enters.
    leave : ndarray
        ``leave[content − low]``: what is handed on (or `dead_number` where the way out forbids it).
    place : BoundRegister
        The register.
    """

    low: int
    high: int
    whole: bool
    size: int | None
    enter: np.ndarray
    first: int
    leave: np.ndarray
    dead: np.ndarray
    place: BoundRegister


class Arithmetic:
    """A datapath at work on the values of a setting.

    Parameters
    ----------
    datapath : SumOfProducts
        The record.
    setting : Setting
        Values, weights, biases.
    points : int
        Inputs of the grid; the more there are, the fewer contents of a wide register can be followed.

    Raises
    ------
    BadInput
        For another record, for stochastic rounding, and for unbounded biases that only a Float scaler adds.
    DoesNotFit
        Where the datapath cannot carry the formats, as lowering says.
    """

    def __init__(self, datapath: SumOfProducts, setting: Setting, points: int) -> None:
        _check(datapath, setting)
        self.datapath, self.setting, self.points = datapath, setting, points
        self.work = self._lowered((0,))
        self.bound = self.work.contraction.bound
        self.window = self._reach(points)
        products = range(-self._largest_product, self._largest_product + 1)
        self.kept = self._table(products, self.bound.product)
        numbers = sorted({value for value in self.kept if value is not None})
        levels = []
        for index, stage in enumerate(self.bound.stages):
            ends = self.bound.ends[index]
            size = 1 if ends is not None and all(ends) else stage.size
            levels.append(self._level(stage.register, stage.out, size, numbers[0], numbers[-1]))
            numbers = sorted({int(value) for value in levels[-1].leave})
        self.levels = tuple(levels)
        self.biases = self._biases()

    def _reach(self, points: int) -> int:
        """The largest content that is followed where a register is wide: at least up to the cells of ±M."""
        setting = self.setting
        fitting = (int(MOST_STATES ** (1 / points)) - 1) // 2
        needed = setting.largest * setting.s + 1
        largest = max(setting.largest, *map(abs, self.weight_operands))
        return min(WINDOW * setting.largest * (setting.s + largest), max(fitting, needed))

    @property
    def all_biases(self) -> bool:
        """Whether no bias was left out that could make a difference."""
        return self._bias_codes[1]

    @property
    def ends_clamp(self) -> bool:
        """Whether contents outside of the window of a wide register all have the codes ±M: scaling is monotone."""
        scaler, saturating = self.datapath.scaler, (Overflow.saturate, Overflow.saturate_symmetric)
        if not isinstance(scaler, Exact | Shift | Multiplier) or scaler.overflow not in saturating:
            return False
        codes = self.ways_out[0][0]
        return bool(codes[0] == 0 and codes[-1] == 2 * self.setting.largest) and self.bound.bias == "first"

    @property
    def clamps(self) -> bool:
        """Whether contents outside of the window, and a little inside, all have the codes ±M."""
        codes, inside = self.ways_out[0][0], self.setting.largest * self._largest_product * 2
        return self.ends_clamp and bool(
            (codes[: inside + 1] == 0).all() and (codes[-inside - 1 :] == 2 * self.setting.largest).all()
        )

    @property
    def stays(self) -> bool:
        """Whether the outermost register never comes back from beyond its end by going on."""
        return self.levels[-1].place.register.overflow in (
            Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid
        )  # fmt: skip

    @property
    def wraps(self) -> bool:
        """Whether there is one register, and it wraps: its content is known modulo a power of two."""
        place = self.levels[0].place
        single = not self.tiled and self.bound.stages[0].out is None
        return single and place.register.overflow is Overflow.wrap and not place.register.kept and place.drop <= 0

    @property
    def tiled(self) -> bool:
        """Whether there are inner stages."""
        return len(self.levels) > 1

    @property
    def _largest_product(self) -> int:
        return self.setting.largest * max(abs(int(w)) for w in self.weight_operands)

    @cached_property
    def weight_operands(self) -> tuple[int, ...]:
        """The weights as the multiplier sees them, in the order of ``setting.weight_codes``."""
        unit = 1 if self._bias_step == 1 else self.setting.s
        return tuple(code // unit for code in self.setting.weight_codes)

    @property
    def _bias_step(self) -> int:
        """Step of a product, in units of 1/s²: as networks are written."""
        setting = self.setting
        return setting.s if setting.bias != Bias.fine and setting.weights in ("binary", "ternary") else 1

    def _lowered(self, biases: tuple[int, ...]) -> Sum:
        """Lower one layer with these biases, in units of 1/s², and take its working form."""
        setting = self.setting
        weights = np.full((len(biases), TERMS), setting.weight_codes[-1])
        graph = Network(setting, (0,) * len(setting.codes), (Layer(weights, np.array(biases)),)).graph()
        (step,) = lower(graph, machine_of(self.datapath, str(setting.rounding))).steps
        return cached(step, layout)

    @staticmethod
    def _table(numbers: range, place: BoundRegister | None) -> list[int | None]:
        """What a register makes of each number; None where it forbids it."""
        if place is None:
            return list(numbers)
        pairs = [exact.keep(x, place.drop, place.register) for x in numbers]
        forbids = place.register.overflow is Overflow.forbid
        return [None if forbids and stored != asked else stored for stored, asked in pairs]

    def _level(self, place: BoundRegister, out: BoundRegister | None, size: int | None, first: int, last: int) -> Level:
        register = place.register
        low, high = register.low, register.high
        if (high - low + 1) ** self.points > MOST_STATES:
            low, high = max(low, -self.window), min(high, self.window)
        forbids = register.overflow is Overflow.forbid
        if (high - low + 1) * (last - first + 1) > MOST_ENTRIES:
            low, high = max(low, -self.window), min(high, self.window)
        enter = np.full((high - low + 1, last - first + 1), BEYOND, np.int32)
        for content in range(low, high + 1):
            for number in range(first, last + 1):
                stored, asked = exact.add(content, number, place)
                if forbids and stored != asked:
                    enter[content - low, number - first] = DEAD
                elif low <= stored <= high:
                    enter[content - low, number - first] = stored - low
        handed = self._table(range(low, high + 1), out)
        dead = np.array([value is None for value in handed])
        leave = np.array([0 if value is None else value for value in handed], np.int64)
        whole = (low, high) == (register.low, register.high)
        return Level(low, high, whole, size, enter, first, leave, dead, place)

    # -- biases and the way out ------------------------------------------------------------------------------------------

    @cached_property
    def _bias_codes(self) -> tuple[tuple[int, ...], bool]:
        """Biases to be tried, in units of 1/s², and whether they are all that make a difference."""
        setting = self.setting
        unit, limit = setting.bias_unit, setting.bias_limit
        if limit is not None:
            return tuple(range(-limit, limit + 1, unit)), True
        # Beyond the register's range, contents repeat with a period of 2^(bits + 1) or stay at the end.
        place, level = self.bound.bias_register, self.levels[-1]
        reach = 3 << place.register.bits if level.whole else 2 * self.window
        reach = (reach << max(place.drop, 0)) >> max(-place.drop, 0)
        most = -(-(reach + 1) * self._bias_step // unit) * unit
        return tuple(range(-most, most + 1, unit)), level.whole

    def _biases(self) -> tuple[int, ...]:
        """Biases that differ in what they do, small ones first: in units of 1/s²."""
        codes = sorted(self._bias_codes[0], key=lambda b: (abs(b), b))
        if self.datapath.bias == "scaler":
            return tuple(codes)
        seen: dict[bytes, int] = {}
        for code in codes:
            effect = self._effect(code)
            if (effect >= 0).any():
                seen.setdefault(effect.tobytes(), code)
        return tuple(seen.values())

    def _effect(self, bias: int) -> np.ndarray:
        """The content (less `low`) that a bias leaves: of an empty register if it comes first, of every content if last."""
        level, place, number = self.levels[-1], self.bound.bias_register, bias // self._bias_step
        first = self.bound.bias == "first"
        made = []
        for content in (0,) if first else range(level.low, level.high + 1):
            pair = exact.keep(number, place.drop, place.register) if first else exact.add(content, number, place)
            if place.register.overflow is Overflow.forbid and pair[0] != pair[1]:
                made.append(DEAD)
            else:
                made.append(pair[0] - level.low if level.low <= pair[0] <= level.high else BEYOND)
        return np.array(made, np.int32)

    @cached_property
    def starts(self) -> tuple[tuple[int, int], ...]:
        """(content of the outermost register less `low` before the first term, number of the bias or −1)."""
        if self.bound.bias == "first" and self.datapath.bias != "scaler":
            return tuple((int(self._effect(bias)[0]), number) for number, bias in enumerate(self.biases))
        return ((-self.levels[-1].low, -1),)

    @cached_property
    def ways_out(self) -> tuple[tuple[np.ndarray, int], ...]:
        """(code less −M by content of the outermost register, −1 where overflow is forbidden; number of the bias or −1)."""
        level = self.levels[-1]
        contents = [int(value) for value in level.leave]
        if self.datapath.bias == "scaler":
            work = self._lowered(self.biases)
            return tuple((self._codes(contents, work, n), n) for n in range(len(self.biases)))
        codes = np.where(level.dead, -1, self._codes(contents, self.work, 0))
        if self.bound.bias == "first":
            return ((codes, -1),)
        effects = (self._effect(bias) for bias in self.biases)
        return tuple((np.where(e >= 0, codes[np.maximum(e, 0)], -1), n) for n, e in enumerate(effects))

    def _codes(self, contents: list[int], work: Sum, channel: int) -> np.ndarray:
        rescale = work.rescales[0][1]
        forbids = rescale.register.overflow is Overflow.forbid

        def code(content: int) -> int:
            stored, asked = rescale.exact(content, channel, 0, None, _no_draw)
            return -1 if forbids and stored != asked else stored + self.setting.largest

        return np.array([code(content) for content in contents], np.int32)

    def terms(self, functions: np.ndarray, weight: int) -> np.ndarray | None:
        """What weight number `weight` makes of functions (…, points) of codes: kept products less `first`; None: forbidden."""
        products = functions.astype(np.int64) * self.weight_operands[weight] + self._largest_product
        lookup = np.array([DEAD if v is None else v - self.levels[0].first for v in self.kept])
        return lookup[products]


_no_draw: Callable[[int, int], int] = exact.no_draw


def _check(datapath: Any, setting: Setting) -> None:
    if isinstance(datapath, Accelerator):
        raise BadInput(
            f"give the datapath of a machine's sums, not the machine: {datapath.name}, for instance, has "
            "machine.datapaths['linear']"
        )
    if not isinstance(datapath, SumOfProducts):
        raise BadInput(f"datapath must be a SumOfProducts, not {datapath!r}")
    registers = [stage.register for stage in datapath.sum] + [s.out for s in datapath.sum if s.out]
    registers += [datapath.product] if datapath.product else []
    scaler = datapath.scaler
    modes = [r.rounding for r in registers]
    while scaler is not None:
        modes += [getattr(scaler, name, None) for name in ("rounding", "first", "second")]
        scaler = getattr(scaler, "then", None)
    if Rounding.stochastic in modes:
        raise BadInput("a datapath that rounds at random computes no function; give it another rounding")
    if datapath.bias == "scaler" and setting.bias != Bias.values:
        raise BadInput("biases that a Float scaler adds have no end here; use bias='values' with bias='scaler'")
    if datapath.bias == "scaler" and not isinstance(datapath.scaler, Float):
        raise BadInput(f"bias='scaler' adds a real number inside a Float scaler, not {datapath.scaler}")
