"""Small edits of one step: another rule, width or order in its datapath, other constants, operands read another way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from fixqnn.analysis.rebinding import bind_again, compute
from fixqnn.datapath import Elementwise, Lookup, Register, Stage, SumOfProducts
from fixqnn.events import Run
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops.op import Step
from fixqnn.scaler import RATIOS, Exact, Float, Multiplier, Shift, TwoStepMultiplier, is_scaler

Path = tuple[str | int, ...]
Change = Callable[[Any], Any]

WIDTHS = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 27, 28, 32, 36, 40, 48, 62)
NEAR = 12  # widths up to so many bits away are all tried
STORES = (Overflow.wrap, Overflow.saturate, Overflow.saturate_symmetric, Overflow.saturate_zero)
ROUNDINGS = tuple(mode for mode in Rounding if mode is not Rounding.stochastic)
LARGEST_TILE = 64
PRODUCT = 48  # bits of a register that rounds products and holds them all


@dataclass(frozen=True)
class Edit:
    """One way in which a step could differ from what it is believed to be.

    Attributes
    ----------
    words : str
        What it is, and in place of what.
    size : int
        How many fields it changes.
    distance : float
        How far: bits, or 1 for another rule.
    datapath, constants, formats, attributes, prepared : callable, optional
        What becomes of each of these parts of a step.
    operands : callable, optional
        ``operands(step, [arrays]) -> [arrays]``: how the inputs are read.
    result : callable, optional
        ``result(step, array) -> array``: what becomes of the codes.
    """

    words: str
    size: int = 1
    distance: float = 1.0
    datapath: Change | None = None
    constants: Callable[[Step], Mapping[str, Any]] | None = None
    formats: Callable[[Step], Mapping[str, Any]] | None = None
    attributes: Callable[[Step], Mapping[str, Any]] | None = None
    prepared: Callable[[Step], Mapping[str, Any]] | None = None
    operands: Callable[[Step, list[np.ndarray]], list[np.ndarray]] | None = None
    result: Callable[[Step, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Edited:
    """A step with edits applied, ready to be computed."""

    step: Step
    edits: tuple[Edit, ...]

    @classmethod
    def of(cls, step: Step, edits: tuple[Edit, ...]) -> Edited:
        """Bind a step with its edits; FixqnnError where there can be no such step."""
        datapath, made = step.datapath, step
        for edit in edits:
            if edit.datapath is not None:
                datapath = edit.datapath(datapath)
            for part in ("constants", "formats", "attributes"):
                change = getattr(edit, part)
                if change is not None:
                    made = replace(made, **{part: {**getattr(made, part), **change(made)}})
        if made is not step or datapath is not step.datapath:
            made = bind_again(made, datapath, planned=step.path == "exact")
        for edit in edits:
            if edit.prepared is not None:
                made = replace(made, prepared={**made.prepared, **edit.prepared(made)}, path=kept_path(made))
        return cls(made, edits)

    def compute(self, run: Run, operands: list[np.ndarray]) -> np.ndarray:
        """Codes of the edited step."""
        for edit in self.edits:
            if edit.operands is not None:
                operands = edit.operands(self.step, operands)
        y = compute(self.step, run, *operands)
        for edit in self.edits:
            if edit.result is not None:
                y = edit.result(self.step, y)
        return y


def kept_path(step: Step) -> str:
    """No kernel path but the definition's is kept when constants change."""
    return step.path if step.path == "exact" else ""


# -- fields of a datapath ------------------------------------------------------------------------------------------------


def leaves(record: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Every field of a record and of those in it: (path, the record that holds it, its value)."""
    for f in fields(record):
        value = getattr(record, f.name)
        here = (*path, f.name)
        yield here, record, value
        if is_dataclass(value):
            yield from leaves(value, here)
        elif isinstance(value, tuple) and value and all(is_dataclass(v) for v in value):
            for i, one in enumerate(value):
                yield from leaves(one, (*here, i))


def with_field(record: Any, path: Path, value: Any) -> Any:
    """The record with one field, however deep, replaced.

    >>> with_field(Stage(Register(8)), ("register", "bits"), 9).register.bits
    9
    """
    name, rest = path[0], path[1:]
    if isinstance(name, int):
        return tuple(with_field(v, rest, value) if i == name else v for i, v in enumerate(record))
    return replace(record, **{name: value if not rest else with_field(getattr(record, name), rest, value)})


def path_words(path: Path) -> str:
    """Name a field.

    >>> path_words(("sum", 0, "register", "bits")), path_words(("scaler", "rounding"))
    ('sum[0] register bits', 'scaler rounding')
    """
    words: list[str] = []
    for part in path:
        if isinstance(part, int):
            words[-1] += f"[{part}]"
        else:
            words.append(part)
    return " ".join(words)


def show(value: Any) -> str:
    """Write a field's value briefly.

    >>> show(Register(12, "wrap")), show(Multiplier(16, "floor"))
    ('12 bits that wrap', 'Multiplier(bits=16, rounding=floor)')
    """
    if isinstance(value, Register):
        bits = f", {value.drop} low bit{'s' * (value.drop > 1)} dropped ({value.rounding})" if value.drop else ""
        point = bits if value.frac is None else f", {value.frac} fraction bits ({value.rounding})"
        return f"{value.bits} bits that {_verb(value.overflow)}{point}"
    if isinstance(value, Stage):
        tile = "" if value.size is None else f"{value.size} at a time in "
        return tile + show(value.register)
    if isinstance(value, tuple) and value and isinstance(value[0], Stage):
        return "[" + ", then ".join(map(show, value)) + "]"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if is_scaler(value):
        told = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({', '.join(f'{name}={show(v)}' for name, v in told)})"
    return str(value) if value is None or isinstance(value, str | int | float) else repr(value)


def field_words(path: Path, value: Any, other: Any) -> str:
    """Say that a field has another value.

    >>> field_words(("sum", 0, "register", "bits"), 16, 14), field_words(("product",), None, Register(48, drop=2))
    ('sum[0] register bits 14 instead of 16', 'products rounded, 2 low bits dropped (floor), instead of whole')
    """
    if path != ("product",) or not isinstance(value or other, Register):
        return f"{path_words(path)} {show(other)} instead of {show(value)}"
    mine, theirs = ("whole" if r is None else f"kept in {show(r)}" for r in (value, other))
    if other is not None and other.drop and other.bits == PRODUCT:
        theirs = f"rounded, {show(other).split(', ')[1]},"
    return f"products {theirs} instead of {mine}"


def _verb(overflow: Overflow) -> str:
    return {Overflow.forbid: "forbid overflow"}.get(overflow, str(overflow).replace("_", " "))


def field_edits(step: Step, terms: int) -> Iterator[Edit]:
    """Every other value of every field of a step's datapath."""
    datapath = step.datapath
    bare = is_scaler(datapath)
    if not (bare or isinstance(datapath, SumOfProducts | Elementwise | Lookup)):
        return
    found = [((), None, datapath)] if bare else []
    for path, owner, value in itertools.chain(found, leaves(datapath)):
        name = path[-1] if path else "scaler"
        for other, distance in _others(step, owner, str(name), value, terms):
            yield Edit(
                field_words(("scaler", *path) if bare else path, value, other), 2 if name in ("sum", "scaler") else 1, distance,
                datapath=lambda record, path=path, other=other: with_field(record, path, other) if path else other,
            )  # fmt: skip


def _others(step: Step, owner: Any, name: str, value: Any, terms: int) -> Iterator[tuple[Any, float]]:
    """Other values of one field, and how far they are."""
    if isinstance(value, Rounding) and not (isinstance(owner, Register) and not owner.drop and owner.frac is None):
        yield from ((mode, 1.0) for mode in ROUNDINGS if mode is not value)
    elif isinstance(value, Overflow):
        yield from ((mode, 1.0) for mode in STORES if mode is not value and mode is not _same_store(value))
    elif name == "bits" or (name == "headroom" and isinstance(value, int)):
        near = range(max(value - NEAR, 1 if name == "bits" else 0), value + NEAR + 1)
        yield from ((bits, float(abs(bits - value))) for bits in sorted({*near, *WIDTHS}) if bits != value)
    elif name in ("drop", "frac", "kept") and isinstance(value, int):
        yield from ((n, float(abs(n - value))) for n in range(max(value - 8, 0) if name != "frac" else value - 8, value + 9)
                    if n != value)  # fmt: skip
    elif name == "signed":
        yield not value, 1.0
    elif isinstance(owner, Stage) and name == "size" and value is not None:
        yield from ((n, 1.0 + abs(n - value) / 64) for n in range(1, min(terms, LARGEST_TILE) + 1) if n != value)
    elif isinstance(owner, Lookup) and name == "size" and value is not None:
        yield from ((n, 1.0) for n in (value // 2, value * 2, value - 1, value + 1) if n > 0)
    elif isinstance(owner, SumOfProducts) and name == "order":
        yield from ((order, 1.0) for order in _orders(step, value))
    elif isinstance(owner, SumOfProducts) and name == "product":
        yield from _products(value)
    elif isinstance(owner, SumOfProducts) and name == "sum":
        yield from _stages(value, terms)
    elif name == "register" and isinstance(owner, Elementwise):
        yield from ((r, 2.0) for r in ([None] if value else [Register(b, o) for b in (16, 32) for o in STORES[:2]]))
    else:
        far = 1.5 if name == "within" else 1.0
        yield from ((other, far) for other in _CHOICES.get((type(owner).__name__, name), ()) if other != value)
        if name == "scaler" and is_scaler(value):
            yield from ((other, 2.0) for other in _scalers(value))


_CHOICES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("SumOfProducts", "zero_point"): ("subtracted", "folded"),
    ("SumOfProducts", "bias"): ("first", "last"),
    ("Multiplier", "ratio"): RATIOS,
    ("TwoStepMultiplier", "ratio"): RATIOS,
    ("Float", "precision"): ("float32", "float64"),
    ("Float", "by"): ("multiply", "divide", "reciprocal"),
    ("Float", "zero_point"): ("after", "before"),
    ("Elementwise", "common"): ("output", "finest", "twice_max"),
    ("Stage", "within"): ("row", "column", "channel"),
}


def _same_store(overflow: Overflow) -> Overflow | None:
    return Overflow.saturate if overflow is Overflow.forbid else None  # where nothing overflows, both hold the same


def _orders(step: Step, order: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Other orders of the axes that this sum has."""
    spatial = (
        ("depth", "row", "column")[3 - max(len(step.shapes[step.inputs[0]]) - 2, 0) :]
        if step.op.name != "linear"
        else ()
    )
    used = [axis for axis in order if axis in (*spatial, "channel")]
    rest = [axis for axis in order if axis not in used]
    return [(*rest, *other) for other in itertools.permutations(used) if list(other) != used]


def _products(value: Register | None) -> Iterator[tuple[Register | None, float]]:
    if value is not None:
        yield None, 1.0
        return
    modes = (Rounding.floor, Rounding.half_up, Rounding.half_even, Rounding.toward_zero)
    yield from (
        (Register(PRODUCT, Overflow.saturate, rounding=m, drop=d), float(d)) for d in range(1, 13) for m in modes
    )
    yield from ((Register(bits, overflow), 1.0 + 1 / bits) for bits in range(4, 33) for overflow in STORES[:2])


def _stages(value: tuple[Stage, ...], terms: int) -> Iterator[tuple[tuple[Stage, ...], float]]:
    if len(value) > 1:
        yield value[1:], 2.0
        yield (*value[:-2], replace(value[-2], size=None, within=None, out=None)), 2.0
        return
    sizes = [n for n in (2, 3, 4, 8, 9, 16, 27, 32, 64, 128, 256) if n < terms]
    for size, overflow, bits in itertools.product(sizes, STORES[:2], range(8, 25, 2)):
        yield (Stage(Register(bits, overflow), size), *value), 3.0


def _scalers(value: Any) -> list[Any]:
    rounding = getattr(value, "second", None) or getattr(value, "rounding", None) or Rounding.half_even
    overflow = value.overflow
    rest = {"rounding": rounding, "overflow": overflow}
    kinds = [Exact(**rest), Shift(**rest), Multiplier(32, **rest), Multiplier(16, **rest), Float("float32", **rest)]
    kinds.append(TwoStepMultiplier(overflow=overflow))
    return [kind for kind in kinds if type(kind) is not type(value)]


def same_record(one: Any, other: Any) -> list[tuple[Path, Any, Any]]:
    """Fields in which two records differ: (path, the one's, the other's); the outermost where their kinds differ."""
    if type(one) is not type(other):
        return [((), one, other)]
    if isinstance(one, tuple) and len(one) == len(other) and one and all(is_dataclass(v) for v in (*one, *other)):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    elif is_dataclass(one):
        pairs = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    else:
        return [] if one == other else [((), one, other)]
    return [((name, *path), a, b) for name, x, y in pairs for path, a, b in same_record(x, y)]


def edits_towards(one: Any, other: Any) -> list[Edit]:
    """The edits that turn one datapath into another, field by field."""
    found = []
    for path, mine, theirs in same_record(one, other):
        distance = float(abs(mine - theirs)) if isinstance(mine, int) and isinstance(theirs, int) else 1.0
        words = field_words(path or ("datapath",), mine, theirs)
        found.append(
            Edit(words, 1, distance, datapath=lambda record, p=path, v=theirs: with_field(record, p, v) if p else v)
        )
    return found
