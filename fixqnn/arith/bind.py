"""Datapath records with every drop resolved against the formats at hand: what both engines read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fixqnn.datapath import Register, SumOfProducts
from fixqnn.errors import DoesNotFit
from fixqnn.format import Format
from fixqnn.modes import Overflow


@dataclass(frozen=True)
class BoundRegister:
    """A register at its place: `drop` low bits less than what enters (negative: so many zero bits more).

    `number` tells places of one step apart where random numbers are drawn; `name` is the path to the register in
    its datapath record, as in ``sum[0]``.
    """

    name: str
    register: Register
    drop: int
    number: int = 0


@dataclass(frozen=True)
class BoundStage:
    """A stage at its place."""

    register: BoundRegister
    size: int | None
    out: BoundRegister | None


@dataclass(frozen=True)
class BoundSum:
    """A sum of products with its drops and run ends resolved.

    Attributes
    ----------
    product : BoundRegister or None
        Where products are kept.
    stages : tuple of BoundStage
        Innermost first.
    ends : tuple of (tuple of bool or None)
        Per stage: whether a run must end after term k; None where only `size` ends runs.
    bias : str
        When the bias joins: ``"first"`` or ``"last"``.
    bias_register : BoundRegister
        The outermost register as the bias sees it.
    drop : int
        How many low bits all registers together took off the products.
    """

    product: BoundRegister | None
    stages: tuple[BoundStage, ...]
    ends: tuple[tuple[bool, ...] | None, ...]
    bias: str
    bias_register: BoundRegister
    drop: int

    @property
    def registers(self) -> list[BoundRegister]:
        """Every register on the way, in the order in which numbers meet them."""
        stages = [place for stage in self.stages for place in (stage.register, stage.out) if place]
        return [self.product, *stages] if self.product else stages

    @property
    def places(self) -> int:
        """Number of places at which a number may be drawn; the last one is the scaler's."""
        return 2 * len(self.stages) + 2


def run_ends(sizes: Mapping[str, int], order: Sequence[str], within: str) -> np.ndarray:
    """Whether term k is the last of one pass over axis `within`, for axes walked in `order` (the fastest last).

    >>> run_ends({"row": 2, "channel": 3}, ("row", "channel"), "channel").nonzero()[0]
    array([2, 5])
    """
    axes = [axis for axis in order if axis in sizes]
    length = int(np.prod([sizes[axis] for axis in axes[axes.index(within) :]])) if within in axes else 1
    total = int(np.prod([sizes[axis] for axis in axes]))
    return np.arange(1, total + 1) % max(length, 1) == 0


def bind_sum(
    datapath: SumOfProducts, step: Fraction | None, sizes: Mapping[str, int], bias_ratio: Fraction = Fraction(1)
) -> BoundSum:
    """Resolve a datapath's registers for products of a given step.

    Parameters
    ----------
    datapath : SumOfProducts
        The record.
    step : Fraction or None
        Real value of 1 in a whole product; None where channels differ, so that only relative drops can be resolved.
    sizes : mapping of str to int
        Length of every reduction axis.
    bias_ratio : Fraction
        Step of a bias code over the step of a whole product; a power of two.

    Raises
    ------
    DoesNotFit
        For an absolute `frac` where the product's step is no power of two, or an axis missing from `order`.
    """
    missing = [axis for axis in sizes if axis not in datapath.order and sizes[axis] != 1]
    if missing:
        raise DoesNotFit(f"the datapath's order {datapath.order} does not name the reduction axes {missing}")
    frac = 0  # fraction bits relative to the whole product: minus the bits dropped so far
    numbers = iter(range(2 * len(datapath.sum) + 1))

    def place(name: str, register: Register) -> BoundRegister:
        nonlocal frac
        drop = register.drop
        if register.frac is not None:
            drop = frac + power_of_two(step, name) - register.frac
        frac -= drop
        return BoundRegister(name, register, drop, next(numbers))

    product = place("product", datapath.product) if datapath.product else None
    if product is None:
        next(numbers)
    stages: list[BoundStage] = []
    for i, stage in enumerate(datapath.sum):
        name = f"sum[{i}]"
        register = place(name, stage.register)
        point = frac
        out = place(f"{name}.out", stage.out) if stage.out else None
        if out is None:
            next(numbers)
        stages.append(BoundStage(register, stage.size, out))
    last = stages[-1].register
    # a real bias joins in the scaler; what a folded zero point leaves to add still joins in the register
    bias = "last" if datapath.bias == "last" else "first"
    bias_point = _bias_point(bias_ratio)
    bias_register = BoundRegister(last.name, last.register, bias_point - point, last.number)
    ends: list[tuple[bool, ...] | None] = []
    outer: np.ndarray | None = None
    for stage in reversed(datapath.sum):
        if stage.within is not None:
            own = run_ends(sizes, datapath.order, stage.within)
            outer = own if outer is None else own | outer
        ends.append(None if outer is None else tuple(outer.tolist()))
    return BoundSum(product, tuple(stages), tuple(reversed(ends)), bias, bias_register, -frac)


def power_of_two(step: Fraction | None, name: str = "register") -> int:
    """F such that step = 2^−F; DoesNotFit when there is none."""
    if step is None:
        raise DoesNotFit(
            f"{name} has an absolute frac, and the scales differ from channel to channel; use one scale per tensor"
        )
    f = step.denominator.bit_length() - step.numerator.bit_length()
    if step != Fraction(2) ** -f:
        raise DoesNotFit(
            f"{name} has an absolute frac, and the step {float(step):.9g} that enters is no power of two; "
            "quantize with power-of-two scales"
        )
    return f


def _bias_point(ratio: Fraction) -> int:
    """Fraction bits of the bias less those of a product."""
    f = ratio.denominator.bit_length() - ratio.numerator.bit_length()
    if ratio != Fraction(2) ** -f:
        raise DoesNotFit(
            f"the bias's step is {float(ratio):.9g} times the products' step, no power of two, so nothing aligns them; "
            "re-encode the real bias at the products' step"
        )
    return f


def output_register(out: Format, overflow: Overflow, kept: int = 0) -> Register:
    """The register that an output format stands for.

    Raises
    ------
    DoesNotFit
        For a narrow range on a register that wraps.
    """
    if out.narrow_range:
        if overflow is not Overflow.saturate or not out.signed:
            raise DoesNotFit(
                f"the output format {out} has a narrow range, which needs a signed saturating output, not {overflow}"
            )
        overflow = Overflow.saturate_symmetric
    return Register(out.bits, overflow, out.signed, kept=kept)
