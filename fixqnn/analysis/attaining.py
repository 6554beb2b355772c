"""Inputs that attain a bound, and the proof by trial that they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fixqnn.analysis.seen import asked
from fixqnn.analysis.terms import Meeting, Terms
from fixqnn.arith.bind import BoundRegister, BoundSum
from fixqnn.arith.exact import add_up
from fixqnn.datapath import Register, SumOfProducts
from fixqnn.encoding import as_codes
from fixqnn.errors import BadInput
from fixqnn.events import RegisterEvents, Run
from fixqnn.graph import show_shape
from fixqnn.modes import Overflow
from fixqnn.ops.op import Step
from fixqnn.program import plan


@dataclass(frozen=True)
class Attaining:
    """Codes of a layer's input that make a register hold the furthest number that it can be asked to hold.

    Attributes
    ----------
    layer, register : str
        Which register.
    channel, position : int, tuple of int
        At which output; the other outputs see whatever the codes give there.
    index : int
        After which term, in the datapath's order; −1: a bias that comes first.
    value : int
        The number.
    bits : int or None
        Width that `value` needs: one bit less, and the register acts. Of the end that needs fewer, other outputs and the
        other end may need more. None: unsigned, and the number is negative.
    inputs : mapping of str to ndarray
        Codes of one sample, by the name of the step's input. They are within what the layer's input can carry; whether
        another layer in front of it can make them is not claimed.
    attained : bool
        Whether this output, computed by the definition, asked the register to hold `value`, and made it act with one bit less
        than `bits` (where one less can be). False where rounding is random or an operand is constant, so that only the bound
        holds.
    step : Step
        The step.
    wide : mapping of str to int
        Bits with which the step's registers never act.
    """

    layer: str
    register: str
    channel: int
    position: tuple[int, ...]
    index: int
    value: int
    bits: int | None
    inputs: Mapping[str, np.ndarray]
    attained: bool
    step: Step = field(repr=False)
    wide: Mapping[str, int] = field(repr=False)

    def run(self, bits: int, engine: str = "exact") -> RegisterEvents:
        """Run the whole step on these codes with the register at so many bits and all others wide; its events."""
        return run_with(self.step, self.register, bits, self.wide, self.inputs, engine)


def run_with(
    step: Step, register: str, bits: int, wide: Mapping[str, int], inputs: Mapping[str, np.ndarray],
    engine: str = "exact",
) -> RegisterEvents:  # fmt: skip
    """Run a step with one register at so many bits and all others wide.

    Parameters
    ----------
    step : Step
        The step.
    register : str
        Its path in the datapath record, as in ``sum[0]``.
    bits : int
        Width of that register.
    wide : mapping of str to int
        Widths of the others, by name.
    inputs : mapping of str to ndarray
        Codes by the name of the step's input.
    engine : {"exact", "fast"}
        The definition, or compiled loops.

    Raises
    ------
    BadInput
        For inputs that are missing, or no codes of the step's input, and for another engine.
    FormatError
        For a width that no register has.
    """
    if engine not in ("exact", "fast"):
        raise BadInput(f"there is no engine {engine!r}; there are exact, fast")
    changed = narrowed(step, register, bits, wide)
    operands = [step.constants[n] if n in step.constants else _given(step, n, inputs) for n in step.inputs]
    run = Run()
    if engine == "exact":
        changed.op.exact(changed, run, *(a.astype(object) for a in operands))
    else:
        changed.op.fast(changed, run, *operands)
    return run.events[register]


def _given(step: Step, name: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Codes of one of the step's inputs, if they are such."""
    if name not in inputs:
        raise BadInput(f"{step.name} takes codes of {name!r}; given were {', '.join(map(repr, inputs)) or 'none'}")
    codes, shape = as_codes(inputs[name], name), step.shapes[name]
    if codes.ndim != len(shape) or codes.shape[1:] != tuple(shape[1:]):
        raise BadInput(f"input {name!r} of {step.name} has shape {codes.shape}; the layer takes {show_shape(shape)}")
    step.formats[name].check_codes(codes, name)
    return codes


def narrowed(step: Step, register: str | None, bits: int, wide: Mapping[str, int]) -> Step:
    """The step with one register at so many bits, and the others wide enough never to act; forbidding ones saturate."""
    datapath: SumOfProducts = step.datapath

    def new(name: str, old: Register | None) -> Register | None:
        if old is None:
            return None
        if name != register:
            return replace(old, bits=wide[name], overflow=Overflow.saturate, signed=True, kept=0)
        return _at(old, bits)

    stages = tuple(
        replace(s, register=new(f"sum[{i}]", s.register), out=new(f"sum[{i}].out", s.out))
        for i, s in enumerate(datapath.sum)
    )
    changed = replace(datapath, product=new("product", datapath.product), sum=stages)
    return plan(replace(step, datapath=changed, path="", reason=""))


def _at(old: Register, bits: int) -> Register:
    overflow = Overflow.saturate if old.overflow is Overflow.forbid else old.overflow
    return replace(old, bits=bits, overflow=overflow)


def attaining_codes(terms: Terms, meeting: Meeting, channel: int, high: bool) -> dict[str, np.ndarray]:
    """Codes of one sample that make every term of one output as large, or as small, as it can be."""
    step = terms.step
    name, form = step.inputs[0], step.in_format(0)
    shape = (1, *step.shapes[name][1:])
    if terms.piece.weights_free:
        return _free(terms, high)
    low_code, high_code = terms.codes
    codes = np.full(int(np.prod(shape)), min(max(round(form.zero_point), low_code), high_code), form.code_dtype)
    met, w = terms.met(channel, meeting.position), terms.w[channel]
    inside = met >= 0
    if terms.contraction.xnor:
        agrees = w == terms.x_high
        up = agrees if high else ~agrees
    else:
        up = (w > 0) if high else (w < 0)
        inside &= w != 0
    codes[met[inside]] = np.where(up, high_code, low_code)[inside]
    return {name: codes.reshape(shape).astype(form.narrow_dtype)}


def _free(terms: Terms, high: bool) -> dict[str, np.ndarray]:
    """Two matrices, each of one code, whose products are the furthest."""
    step = terms.step
    pairs = [(a, b) for a in terms.codes for b in terms.weight_codes]
    best = (max if high else min)(pairs, key=lambda p: terms.product(*p))
    made = {}
    for name, code in zip(step.inputs, best, strict=True):
        shape = tuple(1 if n is None else n for n in step.shapes[name])
        made[name] = np.full(shape, code, step.formats[name].narrow_dtype)
    return made


def confirmed(
    terms: Terms,
    codes: Mapping[str, np.ndarray],
    register: str,
    channel: int,
    position: int,
    value: int,
    bits: int | None,
) -> bool:
    """Compute one output by the definition: the register is asked to hold `value`, and acts with one bit less."""
    c, step = terms.contraction, terms.step
    if terms.piece.weights_free:
        a, b = (int(codes[name].flat[0]) for name in step.inputs)
        products = [terms.product(a, b)] * c.window.terms
    else:
        met, flat = terms.met(channel, position), codes[step.inputs[0]].reshape(-1)
        operands = [c.padding if at < 0 else c.scale * int(flat[at]) - c.offset for at in met.tolist()]
        pairs = zip(operands, c.rows_of_weights[channel].tolist(), strict=True)
        products = [int(a == b) if c.xnor else a * b for a, b in pairs]
    bias = c.bias[channel] if c.bias else None
    old = next(place.register for place in c.bound.registers if place.name == register)

    def acts(width: int) -> bool:
        noted: list[str] = []
        add_up(products, _bound(c.bound, register, width), bias, lambda name, *_: noted.append(name))
        return register in noted

    if value and (register, value) not in asked(products, c.bound, bias):
        return False
    return acts(old.bits) if bits is None else bits - 1 < max(1, old.kept + 1) or acts(bits - 1)


def _bound(bound: BoundSum, register: str, bits: int) -> BoundSum:
    """The same with one register at so many bits, the others far too wide to act."""

    def new(place: BoundRegister | None) -> BoundRegister | None:
        if place is None:
            return None
        if place.name == register:
            return replace(place, register=_at(place.register, bits))
        return replace(
            place, register=replace(place.register, bits=1024, overflow=Overflow.saturate, signed=True, kept=0)
        )

    stages = tuple(replace(s, register=new(s.register), out=new(s.out)) for s in bound.stages)
    return replace(bound, product=new(bound.product), stages=stages, bias_register=new(bound.bias_register))
