"""Machines with some settings changed: hardware is data, so a variant is a record with other numbers in it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from fixqnn.accelerator import Accelerator
from fixqnn.datapath import Datapath, Elementwise, Lookup, Register, SumOfProducts
from fixqnn.errors import BadInput, FixqnnError
from fixqnn.graph import Graph
from fixqnn.machines import Reference, call, check_arguments, find, open_module, parse_reference
from fixqnn.scaler import Divide, TwoStepMultiplier, is_scaler

Change = Callable[[Datapath, Any], Datapath]
RANGE = re.compile(r"""("[^"]*"|'[^']*')|(?<![\w.])(-?\d+)\.\.(-?\d+)(?![\w.])""")  # texts in quotes are left alone


# ------------------------------------------------------------------ settings that every machine knows
def _accumulator_bits(datapath: Datapath, bits: Any) -> Datapath:
    if not isinstance(datapath, SumOfProducts):
        return datapath
    *inner, last = datapath.sum
    return replace(datapath, sum=(*inner, replace(last, register=replace(last.register, bits=bits))))


def _partial_bits(datapath: Datapath, bits: Any) -> Datapath:
    if not isinstance(datapath, SumOfProducts) or len(datapath.sum) < 2:
        return datapath
    first, *others = datapath.sum
    return replace(datapath, sum=(replace(first, register=replace(first.register, bits=bits)), *others))


def _overflow(datapath: Datapath, overflow: Any) -> Datapath:
    if not isinstance(datapath, SumOfProducts):
        return datapath

    def changed(register: Register | None) -> Register | None:
        if register is None:
            return None
        kept = register.kept if str(overflow).startswith("wrap") else 0
        return replace(register, overflow=overflow, kept=kept)

    stages = tuple(replace(s, register=changed(s.register), out=changed(s.out)) for s in datapath.sum)
    return replace(datapath, product=changed(datapath.product), sum=stages)


def _rounding(datapath: Datapath, rounding: Any) -> Datapath:
    def changed(scaler: Any) -> Any:
        if isinstance(scaler, TwoStepMultiplier):
            return replace(scaler, first=rounding, second=rounding)
        if isinstance(scaler, Divide):
            return replace(scaler, rounding=rounding, then=changed(scaler.then))
        if scaler is None or scaler.rounding is None:  # hands on what it has, unrounded
            return scaler
        return replace(scaler, rounding=rounding)

    if isinstance(datapath, Elementwise):
        return replace(datapath, scaler=changed(datapath.scaler), align=changed(datapath.align))
    if isinstance(datapath, Lookup):
        return replace(datapath, scaler=changed(datapath.scaler), output_rounding=rounding)
    return changed(datapath) if is_scaler(datapath) else replace(datapath, scaler=changed(datapath.scaler))


GENERIC: Mapping[str, Change] = {
    "accumulator_bits": _accumulator_bits,
    "partial_bits": _partial_bits,
    "overflow": _overflow,
    "rounding": _rounding,
}
# Tried on every datapath to learn whether a machine has what a setting is about: values that no machine comes with.
PROBES: Mapping[str, Any] = {
    "accumulator_bits": 61,
    "partial_bits": 61,
    "overflow": "saturate_zero",
    "rounding": "half_odd",
}


def changed(machine: Accelerator, settings: Mapping[str, Any]) -> Accelerator:
    """Change settings that every machine knows, in all its datapaths.

    Parameters
    ----------
    machine : Accelerator
        Stays as it is.
    settings : mapping of str to value
        ``accumulator_bits``: width of the register that gathers a whole sum of products; ``partial_bits``: of the innermost
        one, where there are two or more; ``overflow``: of all registers of sums of products; ``rounding``: of all scalers
        and tables.

    Returns
    -------
    Accelerator
        Its name says what was changed.

    Raises
    ------
    FormatError
        For a register that cannot exist.

    Examples
    --------
    >>> from fixqnn.machines import resolve
    >>> narrow = changed(resolve("systolic"), {"accumulator_bits": 20})
    >>> narrow.name, narrow.datapaths["conv"].sum[-1].register.bits
    ('systolic(16x16, partial=16, accumulator=32), accumulator_bits=20', 20)
    """
    if not settings:
        return machine
    paths = dict(machine.datapaths)
    for name, value in settings.items():
        paths = {key: GENERIC[name](path, value) for key, path in paths.items()}
    label = ", ".join([machine.name, *(f"{name}={value}" for name, value in settings.items())])
    return replace(machine, name=label, datapaths=paths)


def changed_layers(machine: Accelerator, graph: Graph, layers: Mapping[str, Mapping[str, Any]]) -> Accelerator:
    """Change settings of single layers: nodes whose names match a pattern get a datapath of their own.

    Raises
    ------
    BadInput
        For a pattern that matches no node with a datapath, or a setting that is none of `GENERIC`.
    """
    if not layers:
        return machine
    paths, names = dict(machine.datapaths), [node.name for node in graph.nodes]
    for pattern, settings in layers.items():
        nodes = [node for node in graph.nodes if fnmatchcase(node.name, pattern)]
        found = {n.name: paths.get(n.name, machine.datapath(n)) for n in nodes if machine.datapath(n) is not None}
        if not found:
            raise BadInput(f"the pattern in {next(iter(settings))}[{pattern}] matches no layer{_close(pattern, names)}")
        for name, value in settings.items():
            if name not in GENERIC:
                raise BadInput(f"{name}[{pattern}] is no setting of a layer{_close(name, GENERIC)}")
            found = {node: GENERIC[name](path, value) for node, path in found.items()}
        paths.update(found)
    said = [f"{name}[{pattern}]={value}" for pattern, settings in layers.items() for name, value in settings.items()]
    return replace(machine, name=", ".join([machine.name, *said]), datapaths=paths)


# ------------------------------------------------------------------ what users call machines
@dataclass(frozen=True)
class Machine:
    """A machine as a user gave it, and how settings reach it.

    Attributes
    ----------
    source : Accelerator or callable
        The record, or what makes it.
    text : str or None
        What the user wrote, if it was a text.
    reference : Reference
        Arguments that the text came with, for a callable.
    generic : mapping of str to value
        Arguments of the text that the callable does not take, but every machine knows.
    """

    source: Accelerator | Callable[..., Accelerator]
    text: str | None = None
    reference: Reference | None = None
    generic: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What messages call it."""
        if self.text is not None:
            return self.text
        return (
            self.source.name
            if isinstance(self.source, Accelerator)
            else getattr(self.source, "__name__", str(self.source))
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names that its callable takes."""
        if isinstance(self.source, Accelerator):
            return ()
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return tuple(p.name for p in inspect.signature(self.source).parameters.values() if p.kind in kinds)

    def make(self, settings: Mapping[str, Any]) -> Accelerator:
        """Make the accelerator with some settings: those that its callable takes go there, the others are changed in the record.

        Raises
        ------
        FixqnnError
            For a machine that cannot exist.
        BadInput
            For a setting that it does not know.
        """
        own = {name: value for name, value in settings.items() if name in self.parameters}
        generic = {**self.generic, **{name: value for name, value in settings.items() if name not in own}}
        for name in generic:
            if name not in GENERIC:
                raise BadInput(f"{self.label} has no setting {name!r}{_close(name, [*self.parameters, *GENERIC])}")
        return changed(self._made(own), generic)

    def _made(self, own: Mapping[str, Any]) -> Accelerator:
        if isinstance(self.source, Accelerator):
            return self.source
        positional, named = (), {}
        if self.reference is not None:
            taken = dict(zip(self.parameters, self.reference.positional, strict=False))
            rest = self.reference.positional[len(taken) :]  # too many: `call` says so
            positional, named = rest, {**taken, **self.reference.named}
        where = self.reference or Reference(getattr(self.source, "__module__", "") or "", self.label)
        made = call(replace(where, positional=positional, named={**named, **own}), self.source)
        if not isinstance(made, Accelerator):
            raise BadInput(f"{self.label} gives an object of type {type(made).__name__}, not an Accelerator")
        return made

    def check(self, names: Iterable[str]) -> None:
        """Refuse settings that the machine does not know, with close names (BadInput)."""
        try:
            plain = self._made({})
        except FixqnnError:
            plain = None  # perhaps a point's settings make it possible
        for name in names:
            if name in self.parameters:
                continue
            known = name in GENERIC and (plain is None or _has(plain, name))
            if not known:
                why = f"{self.label} has no setting {name!r}"
                if name in GENERIC:
                    raise BadInput(f"{why}: it has no such register or scaler")
                raise BadInput(f"{why}{_close(name, [*self.parameters, *GENERIC])}")


def machines_of(machines: Any) -> tuple[Machine, ...]:
    """Take what a user calls machines: a record, a callable that makes one, a text, or several of these.

    A text may hold ranges (``"systolic(accumulator=16..24)"``): it then stands for several machines.

    Raises
    ------
    BadInput
        For anything else, a name that leads nowhere, or none at all.
    """
    if isinstance(machines, str | Accelerator | Machine) or callable(machines):
        machines = (machines,)
    if not isinstance(machines, Iterable) or isinstance(machines, Mapping):
        raise BadInput(
            f"machines are Accelerators, functions that make one, names, or a list of these, not {machines!r}"
        )
    found: list[Machine] = []
    for machine in machines:
        if isinstance(machine, str):
            found += [named(text) for text in expanded(machine)]
        elif isinstance(machine, Machine):
            found.append(machine)
        elif isinstance(machine, Accelerator) or callable(machine):
            found.append(Machine(machine))
        else:
            raise BadInput(f"a machine is an Accelerator, a function that makes one, or a name, not {machine!r}")
    if not found:
        raise BadInput("there are no machines; name one, such as 'ideal'")
    return tuple(found)


def named(text: str) -> Machine:
    """Find the machine that a text names, as `fixqnn.machines.resolve` does; arguments may be settings every machine knows.

    >>> named("systolic(partial=12, accumulator_bits=20)").make({}).name
    'systolic(16x16, partial=12, accumulator=32), accumulator_bits=20'
    """
    reference = parse_reference(text)
    source = find(open_module(reference.where), reference, "machine")
    if not isinstance(source, Accelerator) and not callable(source):
        raise BadInput(f"{text!r} gives an object of type {type(source).__name__}, not an Accelerator")
    parameters = Machine(source).parameters
    generic = {n: v for n, v in reference.named.items() if n in GENERIC and n not in parameters}
    own = {name: value for name, value in reference.named.items() if name not in generic}
    if isinstance(source, Accelerator) and (own or reference.positional):
        raise BadInput(f"{text!r} gives arguments to a record; only {', '.join(GENERIC)} can be changed in it")
    reference = replace(reference, named=own)
    if not isinstance(source, Accelerator):
        check_arguments(reference, source, whole=False)  # points may give the others
    machine = Machine(source, text, reference, generic)
    machine.check(generic)
    return machine


def expanded(text: str) -> Iterator[str]:
    """Write a text with ranges as one text per combination; the last range runs fastest.

    >>> list(expanded("systolic(partial=12..13, rows=8)"))
    ['systolic(partial=12, rows=8)', 'systolic(partial=13, rows=8)']
    """
    found = next(
        (match for match in RANGE.finditer(text) if match[2] is not None and "(" in text[: match.start()]), None
    )
    if found is None:
        yield text
        return
    low, high = int(found[2]), int(found[3])
    if high < low:
        raise BadInput(f"the range {found[0]} in {text!r} is empty; the smaller number comes first")
    for number in range(low, high + 1):
        yield from expanded(f"{text[: found.start()]}{number}{text[found.end() :]}")


def _has(machine: Accelerator, name: str) -> bool:
    """Whether changing a setting changes anything in a machine."""
    return any(GENERIC[name](path, PROBES[name]) != path for path in machine.datapaths.values())


def _close(name: str, known: Iterable[str]) -> str:
    known = list(dict.fromkeys(known))
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; there are {', '.join(known[:12])}" + (" …" if len(known) > 12 else "")


def registers_of(record: Any) -> Iterator[Register]:
    """All registers inside a datapath, in the order of its fields."""
    if isinstance(record, Register):
        yield record
    elif isinstance(record, tuple):
        for part in record:
            yield from registers_of(part)
    elif is_dataclass(record):
        for f in fields(record):
            yield from registers_of(getattr(record, f.name))
