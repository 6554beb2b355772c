"""Every function of one code: a table, or, for leaky_relu, a scaler with one constant per sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fixqnn.arith import exact as steps
from fixqnn.arith.bind import output_register
from fixqnn.arith.explicit import NAMED
from fixqnn.arith.fast import WIDEST, sequence_key
from fixqnn.arith.real import rounded, tabulate
from fixqnn.datapath import Lookup, Register
from fixqnn.errors import BadInput, DoesNotFit, FormatError, TooWide
from fixqnn.events import Counter, Run, Witness
from fixqnn.format import Format
from fixqnn.kernels.rescale import Rescale, element_draw
from fixqnn.kernels.rows import from_rows, rows_of
from fixqnn.kernels.tables import Table
from fixqnn.modes import Overflow, Rounding, round_quotient
from fixqnn.ops.layout import Shape, check_one_scale, check_rounds, lanes, position_of, positions_of
from fixqnn.ops.op import Op, Step
from fixqnn.ops.pair import draws, reach
from fixqnn.ops.requantize import operands
from fixqnn.ops.sums import Operand
from fixqnn.rationals import rational
from fixqnn.scaler import Exact, Shift, is_scaler

LARGEST = 20  # bits of input, or of a table's index: a million entries
COMPOSED = 16  # bits of input up to which the fast engine writes the index out, code by code


def shape(x: Shape, *, function: str, **parameters: Any) -> Shape:
    """Keep the shape; the function and its parameters must be known."""
    if function not in NAMED:
        raise BadInput(f"there is no function {function!r}; there are {', '.join(sorted(NAMED))}")
    NAMED[function].complete(parameters)
    return x


def real(x: np.ndarray, *, function: str, **parameters: Any) -> np.ndarray:
    """Apply the function to every number."""
    return NAMED[function].real(x, **parameters)


def prepare(step: Step) -> dict[str, Any]:
    """Fill the table, or make a scaler's two constants.

    Returns
    -------
    dict
        ``entries`` and ``flags`` (which entries their type clipped: −1 below, +1 above), ``rescale`` if a scaler
        follows; for a bare scaler ``rescale``: its constants from zero on, and below zero.

    Raises
    ------
    DoesNotFit
        Where the datapath cannot carry the function or the formats; the message names the step.
    """
    check_one_scale(step)
    try:
        if isinstance(step.datapath, Lookup):
            check_rounds(step)
            return _prepare_table(step)
        return _prepare_signs(step)
    except (DoesNotFit, FormatError) as problem:
        raise DoesNotFit(f"{step.name} ({step.attributes['function']}): {problem}") from None


def exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Look up, or rescale, one code after another."""
    return (_table_exact if isinstance(step.datapath, Lookup) else _signs_exact)(step, run, x)


def fast(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    """Look up, or rescale, all codes."""
    try:
        if "work" not in step.cache:
            step.cache["work"] = Reader.of(step) if isinstance(step.datapath, Lookup) else Signs.of(step)
        y = step.cache["work"].fast(run, x)
    except TooWide as problem:
        raise TooWide(f"{step.name} ({step.attributes['function']}): {problem}") from None
    return y.astype(step.out_format.narrow_dtype, copy=False)


LOOKUP = Op("lookup", shape, real, prepare, exact, fast)


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """Which entry a code reads: store(round(slope·operand) + zero), or the code itself less the smallest."""

    length: int
    slope: Fraction | None
    zero: int
    points: Format  # entry j stands at the real number that code j of this format means

    @classmethod
    def of(cls, step: Step) -> Index:
        """Resolve a Lookup against the input's format."""
        datapath, form = step.datapath, step.in_format(0)
        if datapath.size is None:
            points = Format(form.bits, False, form.scale, form.zero_point - form.low, None, form.narrow_range)
            return cls(form.high - form.low + 1, None, -form.low, points)
        low, high = rational(datapath.low, "Lookup.low"), rational(datapath.high, "Lookup.high")
        pitch = (high - low) / datapath.size
        points = Format(max((datapath.size - 1).bit_length(), 1), False, pitch, -low / pitch)
        return cls(datapath.size, Operand.of(form.scale, form.zero_point).step / pitch, int(-low / pitch), points)

    def check(self, step: Step) -> None:
        """Refuse what no table does."""
        datapath, form = step.datapath, step.in_format(0)
        if datapath.size is None and form.bits > LARGEST:
            raise DoesNotFit(
                f"{form} has 2^{form.bits} codes, too many for one entry each (at most 2^{LARGEST}); requantize "
                f"{step.inputs[0]!r} to fewer bits first, or give the machine a Lookup(size=...)"
            )
        if self.length > 1 << LARGEST:
            raise DoesNotFit(f"a table of {self.length} entries; at most 2^{LARGEST}")
        if datapath.size is not None and Fraction(self.points.zero_point).denominator != 1:
            raise DoesNotFit(
                f"Lookup(size={datapath.size}, low={datapath.low}, high={datapath.high}) has no entry at zero: "
                "size·low / (high − low) must be whole"
            )
        if datapath.size is not None and datapath.rounding is Rounding.stochastic:
            raise DoesNotFit("an index is not rounded by stochastic; choose another Lookup.rounding")
        if datapath.size is not None and datapath.overflow is Overflow.wrap and datapath.size & (datapath.size - 1):
            raise DoesNotFit(f"an index that wraps needs a table whose size is a power of two, not {datapath.size}")


def _entry_register(step: Step) -> Register:
    return step.datapath.entry or output_register(step.out_format, Overflow.saturate)


def _entry_format(step: Step) -> Format:
    entry = step.datapath.entry
    return step.out_format if entry is None else Format(entry.bits, entry.signed, Fraction(2) ** -entry.frac)


def _parameters(step: Step) -> dict[str, Any]:
    return {name: value for name, value in step.attributes.items() if name != "function"}


def _prepare_table(step: Step) -> dict[str, Any]:
    datapath, target = step.datapath, _entry_format(step)
    index = Index.of(step)
    index.check(step)
    if datapath.fill is not None:
        entries, flags = _filled(step, index.length, target), np.zeros(index.length, np.int8)
    else:
        entry = datapath.entry or Register(target.bits, signed=target.signed, rounding=datapath.output_rounding)
        if entry.kept:
            raise DoesNotFit(f"a table entry does not keep {entry.kept} bits; fill the table by Lookup.fill")
        entries, flags = tabulate(
            step.attributes["function"], index.points, target, entry.rounding, entry.overflow, **_parameters(step)
        )
    made = {"entries": entries[: index.length], "flags": flags[: index.length]}
    if datapath.scaler is not None:
        if datapath.entry is None:
            raise DoesNotFit(f"{datapath.scaler!r} needs the step of an entry: Lookup(entry=Register(..., frac=...))")
        made["rescale"] = datapath.scaler.prepare((target.scale,), step.out_format.scale)
        _table_rescale(step, made)  # refuses output formats that the scaler does not reach
    return made


def _filled(step: Step, length: int, target: Format) -> np.ndarray:
    entries = np.asarray(step.datapath.fill(step), dtype=object).reshape(-1)
    wrong = [e for e in entries if not isinstance(e, int | np.integer) or not target.low <= e <= target.high]
    if len(entries) != length or wrong:
        raise DoesNotFit(
            f"Lookup.fill must give {length} whole entries from {target.low} to {target.high}; "
            f"it gave {len(entries)}" + (f", among them {wrong[0]!r}" if wrong else "")
        )
    return entries.astype(target.code_dtype)


def _table_rescale(step: Step, made: dict[str, Any]) -> Rescale | None:
    if step.datapath.scaler is None:
        return None
    bound = max((abs(int(e)) for e in (made["entries"].min(), made["entries"].max())), default=0)
    return Rescale(step.datapath.scaler, (made["rescale"],), step.out_format, bound)


def _entry_name(step: Step) -> str:
    return "output" if step.datapath.entry is None else "entry"


def _asked(step: Step, index: Index, entry: int, flag: int) -> int:
    """The number that a clipped entry should have held; one beyond the last code where the function has a pole."""
    target, register = _entry_format(step), _entry_register(step)
    rounding = step.datapath.output_rounding if step.datapath.entry is None else register.rounding
    x = index.points.scale * (entry - index.points.zero_point)
    try:
        return rounded(step.attributes["function"], x, target.scale, target.zero_point, rounding, **_parameters(step))
    except BadInput:
        return target.high + 1 if flag > 0 else target.low - 1


def _table_exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    index, operand = Index.of(step), Operand.of(step.in_format(0).scale, step.in_format(0).zero_point)
    entries, flags = step.prepared["entries"], step.prepared["flags"]
    codes, position = lanes(x), position_of(x.shape)
    y = np.empty(codes.shape, object)
    counter = Counter(codes.shape[1])
    for n, c, p in np.ndindex(*codes.shape):
        i = int(codes[n, c, p]) + index.zero
        if index.slope is not None:
            place = index.slope * (operand.scale * int(codes[n, c, p]) - operand.offset)
            i = round_quotient(place.numerator, place.denominator, step.datapath.rounding) + index.zero
            wraps = step.datapath.overflow is Overflow.wrap
            i = i % index.length if wraps else max(0, min(i, index.length - 1))
        y[n, c, p] = int(entries[i])
        if flags[i]:
            asked = _asked(step, index, i, int(flags[i]))
            (counter.above if flags[i] > 0 else counter.below)[c] += 1
            witness = Witness(run.first_sample + n, position(p), c, -1, asked)
            counter.first = witness if counter.first is None else min(counter.first, witness)
    run.note(_entry_name(step), _entry_register(step), counter.below, counter.above, counter.first)
    rescale = _table_rescale(step, step.prepared)
    return (y if rescale is None else rescale.exact_array(y, run, position)).reshape(x.shape)


@dataclass
class Reader:
    """A table that arrays of codes read at once."""

    step: Step
    index: Index
    table: Table
    where: Callable[[np.ndarray], np.ndarray] | None  # None: the code itself names the entry
    rescale: Rescale | None
    register: Register

    @classmethod
    def of(cls, step: Step) -> Reader:
        """Make the working form of a prepared table."""
        index, form = Index.of(step), step.in_format(0)
        entries, flags = step.prepared["entries"], step.prepared["flags"]
        if step.datapath.scaler is None:
            entries = entries.astype(step.out_format.narrow_dtype)
        where = None if index.slope is None else _indices(step, index)
        if where is not None and form.bits > COMPOSED:
            table = Table.of_places(entries, flags)
        else:
            if where is not None:
                places = where(np.arange(form.low, form.high + 1))
                entries, flags, where = entries[places], flags[places], None
            table = Table.of_codes(form, entries, flags)
        return cls(step, index, table, where, _table_rescale(step, step.prepared), _entry_register(step))

    def fast(self, run: Run, x: np.ndarray) -> np.ndarray:
        """Entries of all codes, rescaled if a scaler follows."""
        places = x if self.where is None else self.where(x)
        y = self.table.read(places, run.threads)
        _note_clips(self.table, run, _entry_name(self.step), self.register, places, self._asked)
        if self.rescale is None:
            return y
        return from_rows(self.rescale.fast(rows_of(y), run, position_of(x.shape), positions_of(x.shape)), x.shape)

    def _asked(self, code: int) -> int:
        """What the entry that a code (or place) reads should have held."""
        entry = code
        if self.where is None and self.index.slope is None:
            entry += self.index.zero
        elif self.where is None:
            entry = int(_indices(self.step, self.index)(np.array([code]))[0])
        return _asked(self.step, self.index, entry, int(self.step.prepared["flags"][entry]))


def _note_clips(
    table: Table, run: Run, name: str, register: Register, codes: np.ndarray, asked: Callable[[int], int]
) -> None:
    """Count the clipped entries that were read, and look for the first."""
    below, above = table.clipped(codes)
    first = None
    if table.flags is not None and (below.any() or above.any()) and not run.has_witness(name):
        row, channel, code = table.first(codes)
        sample, p = divmod(row, positions_of(codes.shape))
        first = Witness(run.first_sample + sample, position_of(codes.shape)(p), channel, -1, asked(code))
    run.note(name, register, below, above, first)


def _indices(step: Step, index: Index) -> Callable[[np.ndarray], np.ndarray]:
    """Make the compiled index rule: a scaler without a register, then the table's ends."""
    datapath, form = step.datapath, step.in_format(0)
    operand = Operand.of(form.scale, form.zero_point)
    bound = max(map(abs, operand.range(form)))
    if (int(bound * index.slope) + index.length).bit_length() > WIDEST - 2:
        raise TooWide(f"an index for codes of {form} passes 62 bits; use a narrower format, or engine='exact'")
    rescale = Rescale(Exact(datapath.rounding), (index.slope,), Format(WIDEST), bound, index.zero)

    def where(codes: np.ndarray) -> np.ndarray:
        x = rows_of(operands(operand, bound, codes))
        places = from_rows(rescale.fast(x, Run(), lambda p: (p,), len(x)), codes.shape)
        if datapath.overflow is Overflow.wrap:
            return places & (index.length - 1)
        return np.clip(places, 0, index.length - 1, out=places)

    return where


# -- one constant per sign ---------------------------------------------------------------------------------------------


def _prepare_signs(step: Step) -> dict[str, Any]:
    scaler, function = step.datapath, step.attributes["function"]
    if not is_scaler(scaler):
        raise DoesNotFit(f"{function} needs a Lookup, not {scaler!r}; give the machine Lookup() for 'lookup'")
    if function != "leaky_relu":
        raise DoesNotFit(
            f"a bare {type(scaler).__name__} computes leaky_relu only, not {function}; "
            "give the machine Lookup() for 'lookup'"
        )
    check_rounds(step)
    slope = NAMED[function].complete(_parameters(step))["negative_slope"]
    if slope <= 0:
        raise DoesNotFit(f"a scaler needs a slope > 0, not {float(slope)}; 0 is clamp(low=0), less takes a Lookup()")
    unit, out = Operand.of(step.in_format(0).scale, step.in_format(0).zero_point).step, step.out_format
    made = {"rescale": (scaler.prepare((unit,), out.scale), scaler.prepare((unit, slope), out.scale))}
    Rescale(scaler, made["rescale"], out, 0)  # refuses output formats that the scaler does not reach
    return made


def _store(step: Step, bound: int) -> Rescale:
    """The output register alone: it takes numbers that are rounded already."""
    scaler = step.datapath
    return Rescale(Shift(overflow=scaler.overflow, kept=getattr(scaler, "kept", 0)), (0,), step.out_format, bound, 0)


def _signs_exact(step: Step, run: Run, x: np.ndarray) -> np.ndarray:
    operand, position = Operand.of(step.in_format(0).scale, step.in_format(0).zero_point), position_of(x.shape)
    codes = lanes(x)
    from_zero, below_zero = step.prepared["rescale"]
    key = int(sequence_key(run.seed, run.stream))
    asked = np.empty(codes.shape, object)
    for n, c, p in np.ndindex(*codes.shape):
        element = ((run.first_sample + n) * codes.shape[2] + p) * codes.shape[1] + c
        acc = operand.scale * int(codes[n, c, p]) - operand.offset
        constants = below_zero if acc < 0 else from_zero
        draw = element_draw(key, element, 0, 1)(0, 0)
        asked[n, c, p] = steps.scale(acc, step.datapath, constants, step.out_format.zero_point, draw)
    return _store(step, 0).exact_array(asked, run, position).reshape(x.shape)


@dataclass
class Signs:
    """A scaler for each sign, without a register, and the register behind both."""

    operand: Operand
    from_zero: Rescale
    below_zero: Rescale
    store: Rescale
    table: Table | None = None  # the codes that narrow codes become
    numbers: np.ndarray | None = None  # and what the register was asked to hold, from the lowest code on
    lowest: int = 0

    @classmethod
    def of(cls, step: Step) -> Signs:
        """Make the working form of two prepared constants."""
        form, zero = step.in_format(0), step.out_format.zero_point
        operand = Operand.of(form.scale, form.zero_point)
        bound = max(map(abs, operand.range(form)))
        rescales = [Rescale(step.datapath, (c,), Format(WIDEST), bound, zero) for c in step.prepared["rescale"]]
        furthest = max(reach(step.datapath, c, bound) for c in step.prepared["rescale"]) + abs(int(zero)) + 1
        if furthest.bit_length() > WIDEST - 2:
            raise TooWide(f"numbers of up to ±{furthest} pass 62 bits; use narrower formats, or engine='exact'")
        signs = cls(operand, *rescales, _store(step, furthest), lowest=form.low)
        if form.bits <= COMPOSED and not draws(step.datapath):
            asked = signs.asked(np.arange(form.low, form.high + 1).reshape(-1, 1), Run())
            codes = signs.store.fast(asked, Run(), lambda p: (p,), len(asked)).astype(step.out_format.narrow_dtype)
            # A register acts on the numbers that it changes, and on no others.
            flags = np.where(codes == asked, 0, np.where(asked > signs.store.register.high, 1, -1)).astype(np.int8)
            signs.table, signs.numbers = Table.of_codes(form, codes[:, 0], flags[:, 0]), asked[:, 0]
        return signs

    def asked(self, codes: np.ndarray, run: Run, positions: int = 1) -> np.ndarray:
        """What the register is asked to hold, for rows of codes."""
        quiet = Run(run.seed, run.stream, run.first_sample)
        acc = operands(self.operand, self.from_zero.bound, codes)
        above, below = (
            scaler.fast(acc, quiet, lambda p: (p,), positions) for scaler in (self.from_zero, self.below_zero)
        )
        return np.where(acc < 0, below, above)

    def fast(self, run: Run, x: np.ndarray) -> np.ndarray:
        """Output codes."""
        if self.table is None:
            codes, positions = rows_of(x), positions_of(x.shape)
            asked = self.asked(codes, run, positions)
            return from_rows(self.store.fast(asked, run, position_of(x.shape), positions), x.shape)
        _note_clips(self.table, run, "output", self.store.register, x, lambda c: int(self.numbers[c - self.lowest]))
        return self.table.read(x, run.threads)
