"""How wide must each register be? By types, by the weights at hand (a proof), and as seen in data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fixqnn.analysis.attaining import narrowed
from fixqnn.analysis.needs import Accumulators, LayerNeeds, Overflowed, RegisterNeed, Source
from fixqnn.analysis.seen import Observer, Order
from fixqnn.analysis.spans import Span, Walk, any_order, rounds_in_tiles
from fixqnn.analysis.terms import Terms
from fixqnn.datapath import SumOfProducts
from fixqnn.errors import BadInput
from fixqnn.modes import Overflow, Rounding
from fixqnn.ops.op import Step
from fixqnn.ops.pieces import pieces
from fixqnn.program import Program, plan
from fixqnn.simulate import run
from fixqnn.tensor import Tensor

WATCHED = 1 << 27  # bytes of codes that are watched at once
Progress = Callable[[int, int], None]


def accumulators(
    program: Program,
    data: Any = None,
    *,
    engine: str = "fast",
    seed: int = 0,
    order: bool = True,
    progress: Progress | None = None,
) -> Accumulators:
    """Say for every register of every sum of products how many bits it needs.

    A register *acts* when it is asked to hold a number that does not fit. Four widths are given for each, every one the
    smallest with which it never acts as long as the registers before it do not:

    - by types: any codes of the formats may meet;
    - proven: the weights and bias at hand meet any codes that the layer's input can carry, in the datapath's own order;
      the least width that can be proven, since an input that attains it is at hand (`RegisterNeed.attaining`);
    - in any order, and in any order with tiles of any size: the same, whatever the order of the terms and of the bias;
    - on data: the codes that the data bring, if no register acts anywhere.

    Where every register is as wide as proven, none ever acts. Registers of elementwise operations are no part of this.

    Parameters
    ----------
    program : Program
        From `lower` or `Program.load`.
    data : optional
        Inputs as `run` takes them, batch first; without them nothing is said of data.
    engine : {"fast", "exact"}
        How the data are run.
    seed : int
        Of stochastic rounding.
    order : bool
        Whether to compute sums again in other orders and with other tile sizes, where these are not proved to be idle.
    progress : callable, optional
        ``progress(done, all)`` in samples.

    Returns
    -------
    Accumulators
        Printed, it answers on one screen; ``.table()`` gives rows, ``report["conv1"]["sum[0]"]`` one register.

    Raises
    ------
    BadInput
        For data that do not fit the program.
    RegisterOverflow
        When the data bring a result that does not fit an output whose register forbids overflow.
    TooWide
        With data, when the fast engine cannot be trusted with a step; ``engine="exact"`` then can.

    Notes
    -----
    Rounding and clipping never reverse the order of two numbers, so that the largest terms make the largest partial sums:
    the ends are found by two walks through the datapath, in integers. Colbert, Pappalardo and Petri-Koenig (A2Q,
    arXiv:2308.13504) bound the accumulator of a layer by the l1 norm of its weights; here each prefix of the datapath's
    order is bounded with signs, offsets, bias and rounding, which is never wider.

    Examples
    --------
    >>> import fixqnn as fq, hw_models as hw
    >>> x = fq.Value("x", (None, 3), fq.fixed(8, 0))
    >>> graph = fq.Graph((x,), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w")),),
    ...     {"w": fq.Tensor([[-128, -128, 127]], fq.fixed(8, 0))}, {"fc": fq.fixed(32, 0)})
    >>> need = fq.accumulators(fq.lower(graph, hw.systolic(partial=16)))["fc"]["sum[0]"]
    >>> need.types_bits, need.proven_bits, need.proven.high, need.attaining().inputs["x"]
    (17, 17, (48897,), array([[-128, -128,  127]], dtype=int8))
    """
    if not isinstance(program, Program):
        raise BadInput(
            f"accumulators takes a Program, not {type(program).__name__}; lower(graph, accelerator) makes one"
        )
    steps = [step for step in program.steps if isinstance(step.datapath, SumOfProducts)]
    sums = {step.name: tuple(Terms(step, piece) for piece in pieces(step)) for step in steps}
    layers = {step.name: _needs(step, sums[step.name]) for step in steps if sums[step.name]}
    skipped = tuple(step.name for step in steps if not sums[step.name])
    samples, overflowed = None, None
    if data is not None:
        samples, observers = _observe(program, data, layers, sums, (engine, seed, order), progress)
        layers = {name: _with_data(layer, observers[name]) for name, layer in layers.items()}
        unsafe = any(not need.seen.fits(need.record) for layer in layers.values() for need in layer.registers)
        if unsafe or skipped or any(_random(step) for step in steps):
            layers, overflowed = _run_as_it_is(program, data, layers, engine, seed)
    return Accumulators(program.accelerator, tuple(layers.values()), samples, overflowed, skipped)


# -- proofs ------------------------------------------------------------------------------------------------------------


@dataclass
class _Bounds:
    """Spans of one register, joined over the pieces of a step."""

    types: Span
    proven: Span
    acting: Span
    sources: list[Source]
    tight: bool
    own_order: Mapping[str, Span | None]


def _needs(step: Step, sums: Sequence[Terms]) -> LayerNeeds:
    bounds: dict[str, _Bounds] = {}
    distinct = list({id(terms.contraction): terms for terms in sums}.values())
    for terms in distinct:
        for name, one in _bounds(step, terms):
            bounds[name] = one if name not in bounds else _joined(bounds[name], one)
    registers = {place.name: place.register for place in distinct[0].contraction.bound.registers}
    wide = {name: max(2, _signed_bits(b.proven)) for name, b in bounds.items()}
    needs: list[RegisterNeed] = []
    for name, record in registers.items():
        b = bounds[name]
        can_act = _can_act(b, record, all(need.can_act is False for need in needs))
        needs.append(RegisterNeed(
            step.name, name, record, b.types, b.proven, b.own_order["order"], b.own_order["tiles"], None, can_act, None,
            b.sources, step, wide,
        ))  # fmt: skip
    return LayerNeeds(step.name, step.op.name, tuple(needs), _order_is_idle(distinct, needs), None)


def _bounds(step: Step, terms: Terms) -> Iterator[tuple[str, _Bounds]]:
    c = terms.contraction
    types = Walk(c.bound, c.flush, terms.type_ends(), terms.type_bias()).reaches
    attainable = _attainable(step, terms)
    for meeting in terms.meetings:
        ends = terms.ends(meeting)
        walk = Walk(c.bound, c.flush, ends, terms.bias)
        acting = Walk(c.bound, c.flush, ends, terms.bias, acting=True)
        orders = {
            kind: any_order(c.bound, c.flush, walk.products, terms.bias, kind == "tiles") for kind in ("order", "tiles")
        }
        for name, reach in walk.reaches.items():
            as_it_is = acting.reaches[name]
            yield name, _Bounds(
                types[name].span, reach.span, as_it_is.span, [Source(terms, meeting, reach, attainable)],
                bool(as_it_is.tight.all()) and attainable,
                {k: reach.span if name == "product" else spans.get(name) for k, spans in orders.items()},
            )  # fmt: skip


def _joined(a: _Bounds, b: _Bounds) -> _Bounds:
    orders = {
        kind: None if span is None or b.own_order[kind] is None else span.join(b.own_order[kind])
        for kind, span in a.own_order.items()
    }
    return _Bounds(
        a.types.join(b.types), a.proven.join(b.proven), a.acting.join(b.acting), a.sources + b.sources,
        a.tight and b.tight, orders,
    )  # fmt: skip


def _attainable(step: Step, terms: Terms) -> bool:
    """Whether the codes of all terms may be chosen; of two values that are one, or of a constant, they may not."""
    operands = step.inputs[:2] if terms.piece.weights_free else step.inputs[:1]
    return len(set(operands)) == len(operands) and not any(name in step.constants for name in operands)


def _signed_bits(span: Span) -> int:
    return max(span.most, -span.least).bit_length() + 1


def _can_act(b: _Bounds, record: Any, first: bool) -> bool | None:
    """Whether some input makes a register act, the others being as they are; None: neither proved nor refuted.

    `first` says that those before it cannot act: then what it is asked as if it did not act either makes it act.
    """
    if b.acting.fits(record):
        return False
    attained = all(source.free and bool(source.reach.tight.all()) for source in b.sources)
    return True if b.tight or (first and attained) else None


def _order_is_idle(sums: Sequence[Terms], needs: Sequence[RegisterNeed]) -> bool:
    """Whether no order and no tile size can change a sum: nothing is rounded on the way, and no stage can act in any."""
    bound = sums[0].contraction.bound
    if rounds_in_tiles(bound):
        return False
    last = bound.stages[-1]
    for need in needs:
        if need.register == "product":
            if not need.proven.fits(need.record) and need.record.overflow not in _CLIPPING:
                return False
        elif last.out is not None and need.register == last.out.name:
            continue  # sees finished sums only
        elif need.register == last.register.name and need.record.overflow is Overflow.wrap and not need.record.kept:
            continue  # what wraps last is right modulo 2^bits in every order
        elif need.any_tiling is None or not need.any_tiling.fits(need.record):
            return False
    return True


_CLIPPING = (Overflow.saturate, Overflow.saturate_symmetric, Overflow.forbid)


# -- data --------------------------------------------------------------------------------------------------------------


def _observe(
    program: Program, data: Any, layers: Mapping[str, LayerNeeds], sums: Mapping[str, tuple[Terms, ...]],
    how: tuple[str, int, bool], progress: Progress | None,
) -> tuple[int, dict[str, Observer]]:  # fmt: skip
    """Run the data with registers that cannot act, and look at every sum."""
    engine, seed, order = how
    steps = tuple(
        narrowed(step, None, 0, layers[step.name].registers[0].wide) if step.name in layers else step
        for step in program.steps
    )
    inert = replace(program, steps=steps)
    observers = {
        step.name: Observer(sums[step.name], order and not layers[step.name].order_is_idle, seed, stream)
        for stream, step in enumerate(program.steps)
        if step.name in layers
    }
    samples = _samples(data)
    part = samples if any(map(_random, program.steps)) else max(1, WATCHED // max(_bytes(program), 1))
    for start in range(0, max(samples, 1), max(part, 1)):
        trace = run(inert, _part(data, start, start + part, samples), engine=engine, watch="all", seed=seed)
        for step in steps:
            if step.name in layers:
                codes = [step.constants[n] if n in step.constants else trace[n].codes for n in step.inputs[:2]]
                observers[step.name].add(codes)
        if progress is not None:
            progress(min(start + part, samples), samples)
    return trace.samples if samples == 0 else samples, observers


def _with_data(layer: LayerNeeds, observer: Observer) -> LayerNeeds:
    zeros = Span.of(*([0] * len(layer.registers[0].proven.low),) * 2)
    registers = tuple(replace(need, seen=observer.spans.get(need.register, zeros)) for need in layer.registers)
    order: Order | None = observer.found if observer.order else None
    return replace(layer, registers=registers, order=order)


def _run_as_it_is(
    program: Program, data: Any, layers: Mapping[str, LayerNeeds], engine: str, seed: int
) -> tuple[dict[str, LayerNeeds], Overflowed | None]:
    """Run the machine itself and count; registers that forbid overflow saturate here, so that all is counted."""
    steps = tuple(_unforbidden(step) for step in program.steps)
    trace = run(replace(program, steps=steps), data, engine=engine, seed=seed)
    first: Overflowed | None = None
    counted = dict(layers)
    for step in program.steps:
        events = {n: e for n, e in trace.events.get(step.name, {}).items() if n != "output"}
        if not isinstance(step.datapath, SumOfProducts):
            continue
        for name, e in events.items():
            if e.any and first is None:
                first = Overflowed(step.name, name, e.first)
        if step.name in counted:
            needs = tuple(replace(n, events=events[n.register].count) for n in counted[step.name].registers)
            counted[step.name] = replace(counted[step.name], registers=needs)
    return counted, first


def _unforbidden(step: Step) -> Step:
    datapath = step.datapath
    if not isinstance(datapath, SumOfProducts):
        return step

    def new(register: Any) -> Any:
        forbids = register is not None and register.overflow is Overflow.forbid
        return replace(register, overflow=Overflow.saturate) if forbids else register

    stages = tuple(replace(s, register=new(s.register), out=new(s.out)) for s in datapath.sum)
    changed = replace(datapath, product=new(datapath.product), sum=stages)
    return step if changed == datapath else plan(replace(step, datapath=changed, path="", reason=""))


def _random(step: Step) -> bool:
    datapath = step.datapath
    if not isinstance(datapath, SumOfProducts):
        return "stochastic" in str(datapath)
    registers = [datapath.product, *(r for s in datapath.sum for r in (s.register, s.out))]
    return "stochastic" in str(datapath.scaler) or any(r and r.rounding is Rounding.stochastic for r in registers)


def _bytes(program: Program) -> int:
    """Bytes of all codes of one sample, as a trace keeps them."""
    shapes = {v.name: v.shape for v in program.inputs} | {s.output: s.shapes[s.output] for s in program.steps}
    return sum(int(np.prod(shape[1:])) * program.formats[n].code_dtype.itemsize for n, shape in shapes.items())


def _samples(data: Any) -> int:
    """Length of the batch; `run` says what is wrong where inputs disagree."""
    arrays = list(data.values()) if isinstance(data, Mapping) else data if isinstance(data, tuple | list) else [data]
    lengths = {len(a.codes if isinstance(a, Tensor) else a) for a in arrays if np.ndim(getattr(a, "codes", a))}
    return lengths.pop() if len(lengths) == 1 else 0


def _part(data: Any, start: int, stop: int, samples: int) -> Any:
    if start == 0 and stop >= samples:
        return data
    if isinstance(data, Mapping):
        return {name: _part(a, start, stop, samples) for name, a in data.items()}
    if isinstance(data, tuple | list):
        return type(data)(_part(a, start, stop, samples) for a in data)
    return Tensor(data.codes[start:stop], data.format) if isinstance(data, Tensor) else data[start:stop]
