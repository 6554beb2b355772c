"""A machine's arithmetic as plain records: registers, stages, and the four kinds of datapath.

A record holds widths, orders and modes; it computes nothing. The meaning of every field is defined in
`fixqnn.arith.exact` and repeated, to be fast, in `fixqnn.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fixqnn.errors import FormatError
from fixqnn.modes import Overflow, Rounding
from fixqnn.scaler import Scaler, Shift, check_choice, check_count, check_kind, is_scaler

__all__ = ["Rounding", "Overflow", "Register", "Stage", "SumOfProducts", "Elementwise", "Lookup", "Datapath"]

ORDER = ("depth", "row", "column", "channel")


@dataclass(frozen=True)
class Register:
    """A place that holds a number. ``keep(x, drop, register)``: round away `drop` low bits, then store.

    Parameters
    ----------
    bits : int
        Width, sign included.
    overflow : Overflow or str
        What becomes of a number that does not fit.
    signed : bool
        Whether it holds negative numbers.
    rounding : Rounding or str
        How dropped bits are rounded.
    drop : int
        How many low bits less than what enters.
    frac : int, optional
        Absolute number of fraction bits, in place of `drop`; such a register is exactly an ``ap_fixed`` type.
    kept : int
        With ``overflow="wrap"`` or ``"wrap_sign_magnitude"``: how many top bits saturate (the N of AP_WRAP).

    Raises
    ------
    FormatError
        When such a register cannot exist.
    """

    bits: int
    overflow: Overflow = Overflow.saturate
    signed: bool = True
    rounding: Rounding = Rounding.floor
    drop: int = 0
    frac: int | None = None
    kept: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "overflow", Overflow.of(self.overflow))
        object.__setattr__(self, "rounding", Rounding.of(self.rounding))
        check_count("Register.bits", self.bits, 1)
        check_count("Register.drop", self.drop, 0)
        check_count("Register.kept", self.kept, 0)
        if not isinstance(self.signed, bool):
            raise FormatError(f"Register.signed must be True or False, not {self.signed!r}")
        if self.frac is not None and (isinstance(self.frac, bool) or not isinstance(self.frac, int)):
            raise FormatError(f"Register.frac must be a whole number, not {self.frac!r}")
        if self.frac is not None and self.drop:
            raise FormatError(f"a Register takes drop or frac, not both: drop={self.drop}, frac={self.frac}")
        if self.kept and self.overflow not in (Overflow.wrap, Overflow.wrap_sign_magnitude):
            raise FormatError(f"kept={self.kept} has a meaning only when the register wraps, not for {self.overflow}")
        if self.kept >= self.bits:
            raise FormatError(f"a Register of {self.bits} bits can keep at most {self.bits - 1}, not kept={self.kept}")
        if self.overflow is Overflow.wrap_sign_magnitude and not self.signed:
            raise FormatError("wrap_sign_magnitude needs a signed register")

    @property
    def low(self) -> int:
        """Smallest code it can hold."""
        if not self.signed:
            return 0
        return -self.high if self.overflow is Overflow.saturate_symmetric else -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """Largest code it can hold."""
        return (1 << (self.bits - self.signed)) - 1


@dataclass(frozen=True)
class Stage:
    """A register that gathers numbers one after another, then hands its total to the next stage.

    Parameters
    ----------
    register : Register
        Where the running total lives.
    size : int, optional
        How many numbers it gathers; None: all that remain.
    within : str, optional
        Name of a reduction axis; a run of numbers never crosses the end of one pass over it.
    out : Register, optional
        A register that the total passes on its way to the next stage.
    """

    register: Register
    size: int | None = None
    within: str | None = None
    out: Register | None = None

    def __post_init__(self) -> None:
        check_kind("Stage.register", self.register, Register)
        check_kind("Stage.out", self.out, Register | None)
        if self.size is not None:
            check_count("Stage.size", self.size, 1)
        if self.within is not None:
            check_choice("Stage.within", self.within, ORDER)


@dataclass(frozen=True)
class SumOfProducts:
    """Terms (x − zₓ)(w − z_w), each kept in `product` if given; total = keep(total + term); then the scaler.

    Serves linear, conv, matmul, mean and average pool.

    Parameters
    ----------
    scaler : Scaler, optional
        From the last register to the output code; None: the register's content is the code.
    product : Register, optional
        Where each product is kept before it is added; None: products stay whole.
    sum : tuple of Stage
        Stages, innermost first; the last one gathers all that remains.
    order : tuple of str
        Reduction axes, the fastest last: the order in which terms meet.
    term : str
        ``"product"``, or ``"xnor"``: 1 where two one-bit codes agree, so that the register is a popcount.
    zero_point : str
        ``"subtracted"`` before the multiplier; ``"folded"``: raw codes meet and the correction joins the bias;
        ``"ignored"``: codes are averaged as they are (equal formats on both sides).
    bias : str
        ``"first"`` or ``"last"`` in the outermost register, aligned to its point; ``"scaler"``: a real number added
        inside a Float scaler.
    """

    scaler: Scaler | None = None
    product: Register | None = None
    sum: tuple[Stage, ...] = (Stage(Register(32, Overflow.wrap)),)
    order: tuple[str, ...] = ORDER
    term: str = "product"
    zero_point: str = "subtracted"
    bias: str = "first"

    def __post_init__(self) -> None:
        check_kind("SumOfProducts.scaler", self.scaler, Scaler | None)
        check_kind("SumOfProducts.product", self.product, Register | None)
        check_kind("SumOfProducts.sum", self.sum, Stage | tuple | list)
        check_kind("SumOfProducts.order", self.order, tuple | list)
        stages = (self.sum,) if isinstance(self.sum, Stage) else tuple(self.sum)
        for stage in stages:
            check_kind("SumOfProducts.sum", stage, Stage)
        object.__setattr__(self, "sum", stages)
        object.__setattr__(self, "order", tuple(self.order))
        check_choice("SumOfProducts.term", self.term, ("product", "xnor"))
        check_choice("SumOfProducts.zero_point", self.zero_point, ("subtracted", "folded", "ignored"))
        check_choice("SumOfProducts.bias", self.bias, ("first", "last", "scaler"))
        for axis in self.order:
            check_choice("SumOfProducts.order", axis, ORDER)
        if len(set(self.order)) != len(self.order):
            raise FormatError(f"SumOfProducts.order names an axis twice: {self.order}")
        if not stages:
            raise FormatError("a SumOfProducts needs at least one Stage")
        if stages[-1].size is not None or stages[-1].within is not None:
            raise FormatError(f"the last Stage gathers all that remains: size and within must be None in {stages[-1]}")
        for stage in stages[:-1]:
            if stage.size is None and stage.within is None:
                raise FormatError(f"an inner Stage needs a size or a within, or nothing is left for the next: {stage}")


@dataclass(frozen=True)
class Elementwise:
    """a′ = align((a − zₐ)·2^headroom), b′ likewise; a′ ± b′ or a′·b′ kept in `register`; then the scaler.

    Serves add, subtract and multiply.

    Parameters
    ----------
    scaler : Scaler, optional
        From the register to the output code; None: the register's content is the code.
    common : str, optional
        The step on which a sum is formed: ``"output"``, ``"finest"`` (exact multiples of a common divisor of both steps),
        ``"twice_max"`` (2·max of both, as in LiteRT), ``"real"`` (step 1: dequantised floats); None for multiply.
    align : Scaler, optional
        How operands get to the common step; None: exactly.
    headroom : int
        Left shift before aligning, in bits.
    register : Register, optional
        Where the sum or product is kept.
    zero_point : str
        ``"subtracted"`` or ``"folded"`` (all three zero points become one constant).
    """

    scaler: Scaler | None = None
    common: str | None = None
    align: Scaler | None = None
    headroom: int = 0
    register: Register | None = None
    zero_point: str = "subtracted"

    def __post_init__(self) -> None:
        check_kind("Elementwise.scaler", self.scaler, Scaler | None)
        check_kind("Elementwise.align", self.align, Scaler | None)
        check_kind("Elementwise.register", self.register, Register | None)
        check_choice("Elementwise.common", self.common, (None, "output", "finest", "twice_max", "real"))
        check_choice("Elementwise.zero_point", self.zero_point, ("subtracted", "folded"))
        check_count("Elementwise.headroom", self.headroom, 0)


@dataclass(frozen=True)
class Lookup:
    """y = scaler(entries[i]): every function of one code.

    With a `size`, ``i = store(round(x·size/(high − low)) − size·low/(high − low))``; with ``size=None``, i is the code.

    Parameters
    ----------
    fill : callable, optional
        ``fill(step) -> entries``: the machine's own table; None: the correctly rounded function.
    size : int, optional
        Number of entries over [low, high); None: one per input code.
    low, high : float
        Range of x that a table with a `size` covers.
    rounding, overflow : str
        How the index is rounded, and stored on the table's range.
    entry : Register, optional
        Type of an entry (with `frac`), if not the output's format.
    scaler : Scaler, optional
        From an entry to the output code; None: the entry is the code.
    output_rounding : Rounding or str
        How the function's real value becomes an entry.
    """

    fill: Callable[..., Any] | None = None
    size: int | None = None
    low: float = 0.0
    high: float = 0.0
    rounding: Rounding = Rounding.toward_zero
    overflow: Overflow = Overflow.saturate
    entry: Register | None = None
    scaler: Scaler | None = None
    output_rounding: Rounding = Rounding.half_even

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounding", Rounding.of(self.rounding))
        object.__setattr__(self, "overflow", Overflow.of(self.overflow))
        object.__setattr__(self, "output_rounding", Rounding.of(self.output_rounding))
        check_kind("Lookup.scaler", self.scaler, Scaler | None)
        check_kind("Lookup.entry", self.entry, Register | None)
        for name in ("low", "high"):
            check_kind(f"Lookup.{name}", getattr(self, name), int | float)
        check_choice("Lookup.overflow", str(self.overflow), ("saturate", "wrap"))
        if self.size is not None:
            check_count("Lookup.size", self.size, 1)
            if not self.high > self.low:
                raise FormatError(f"a Lookup of {self.size} entries needs low < high, not [{self.low}, {self.high})")
        if self.entry is not None and self.entry.frac is None:
            raise FormatError(f"Lookup.entry is a type of its own and needs frac: {self.entry}")
        if self.entry is not None and self.scaler is None:
            raise FormatError("a Lookup with entries of their own type needs a scaler to the output, e.g. Shift()")


Datapath = SumOfProducts | Elementwise | Lookup | Scaler

__all__ += ["Shift", "is_scaler"]
