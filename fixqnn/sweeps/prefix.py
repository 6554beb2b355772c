"""Results of steps that several points share: computed once, found again under a hash of all that they depend on.

What a step hands out depends on its operation, attributes, datapath, formats and constants, on random numbers where it draws
any, and on what its inputs depend on: the hash of all this is the key of its output. A register that never acted might as
well have been wider, or of another overflow, without a code being another. So widths and overflows of registers stand apart
from the rest of a key: where no register acted, and where a proof says that none can, steps that differ in these only share
their results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np

from fixqnn.datapath import Datapath, Elementwise, SumOfProducts
from fixqnn.events import Run
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.program import Program
from fixqnn.simulate import check_forbidden, compute_step
from fixqnn.storage import to_json

Key = bytes
Events = Mapping[str, int]  # by register, how often it acted
ERASED = ("bits", "overflow", "signed", "kept")  # of a register: all that can matter only when it acts
MOST_ALIKE = 8  # steps looked at for one that did the same with other registers
MOST_KEYS = 1 << 18  # outcomes kept: some hundred bytes each


@dataclass(frozen=True)
class Place:
    """A register inside a step: the name its events have, the record in words, and what it can hold."""

    name: str
    record: str
    low: int
    high: int

    def replaces(self, other: Place, acted: bool) -> bool:
        """Whether it would have done what another one did, which acted or did not."""
        return self.record == other.record or (not acted and self.low <= other.low and other.high <= self.high)


@dataclass(frozen=True)
class Identity:
    """What a step's output depends on besides its inputs.

    Attributes
    ----------
    shape : bytes
        Hash of everything but widths and overflows of the registers inside.
    places : tuple of Place
        Those, in order.
    proved : bool
        Whether none of them can act, by a proof.
    """

    shape: bytes
    places: tuple[Place, ...]
    proved: bool

    @property
    def registers(self) -> bytes:
        """The widths and overflows, as a key holds them."""
        return repr([place.record for place in self.places]).encode()


@dataclass(frozen=True)
class _Done:
    """A step that ran: its key, its registers, and which of them acted."""

    key: Key
    places: tuple[Place, ...]
    acted: tuple[bool, ...]

    def serves(self, identity: Identity) -> bool:
        """Whether a step with other registers is sure to hand out the same, and to count the same events."""
        if identity.proved:
            return not any(self.acted)
        return all(new.replaces(old, a) for new, old, a in zip(identity.places, self.places, self.acted, strict=True))


@dataclass
class _Kept:
    codes: np.ndarray
    depth: int
    age: int


@dataclass
class Prefixes:
    """Outcomes and codes by key, within a limit of memory.

    Parameters
    ----------
    memory : int
        Bytes of codes that may be kept; 0: nothing is kept or found.

    Attributes
    ----------
    computed, reused : int
        Steps, by part of the test set, that ran, and whose outcome was known.
    """

    memory: int
    computed: int = 0
    reused: int = 0
    _outcomes: dict[Key, Events] = field(default_factory=dict, repr=False)
    _names: dict[Key, Key] = field(default_factory=dict, repr=False)  # other keys of the same output
    _alike: dict[Key, list[_Done]] = field(default_factory=dict, repr=False)  # steps that differ in registers only
    _codes: dict[Key, _Kept] = field(default_factory=dict, repr=False)
    _bytes: int = 0
    _age: int = 0
    _lock: Any = field(default_factory=Lock, repr=False)

    def next_point(self) -> None:
        """Begin another point: what it does not use grows older."""
        with self._lock:
            self._age += 1
            if len(self._outcomes) + len(self._names) > MOST_KEYS:
                for table in (self._outcomes, self._names, self._alike, self._codes):
                    table.clear()
                self._bytes = 0

    def resolve(self, identity: Identity, inputs: Key) -> tuple[Key, Key]:
        """Give the key of a step's output, that of an equal one if there is any, and the key of all but registers."""
        shape = _hash(identity.shape, inputs)
        own = _hash(shape, b"no register acts" if identity.proved else identity.registers)
        with self._lock:
            if own in self._names:
                return self._names[own], shape
            for done in self._alike.get(shape, ()):
                if done.serves(identity):
                    self._names[own] = done.key
                    return done.key, shape
        return own, shape

    def outcome(self, key: Key) -> Events | None:
        """Give how often each register acted, if the step ran before."""
        with self._lock:
            return self._outcomes.get(key)

    def note(self, key: Key, shape: Key, identity: Identity, events: Events) -> Key:
        """Take in what a step did; the key of its output from now on."""
        if not self.memory:
            return key
        names = {place.name for place in identity.places}
        if any(count for name, count in events.items() if name != "output" and name not in names):
            acted = (True,) * len(identity.places)  # something acted that is none of them: nothing is known of any
        else:
            acted = tuple(bool(events.get(place.name)) for place in identity.places)
        mine = _Done(key, identity.places, acted)
        with self._lock:
            alike = self._alike.setdefault(shape, [])
            for done in alike:  # equal to one that was noted with wider registers
                if mine.serves(Identity(identity.shape, done.places, False)):
                    self._names[key] = done.key
                    alike.append(_Done(done.key, identity.places, acted))
                    break
            else:
                alike.append(mine)
                self._outcomes[key] = events
            del alike[:-MOST_ALIKE]
            return self._names.get(key, key)

    def codes(self, key: Key) -> np.ndarray | None:
        """Give codes that were kept."""
        with self._lock:
            kept = self._codes.get(key)
            if kept is None:
                return None
            kept.age = self._age
            return kept.codes

    def keep(self, key: Key, codes: np.ndarray, depth: int) -> None:
        """Keep codes if there is room; the longest unused go first, and of equally old ones those of early steps."""
        if codes.nbytes > self.memory:
            return
        with self._lock:
            if key in self._codes:
                return
            self._codes[key] = _Kept(codes, depth, self._age)
            self._bytes += codes.nbytes
            if self._bytes > self.memory:
                for old in sorted(self._codes, key=lambda k: (self._codes[k].age, self._codes[k].depth)):
                    self._bytes -= self._codes.pop(old).codes.nbytes
                    if self._bytes <= 0.9 * self.memory:
                        break


class Walk:
    """One part of the test set through one program: steps whose outcome is known run only if their codes are needed.

    Parameters
    ----------
    program : Program
        What runs.
    identities : tuple of Identity
        Of its steps.
    prefixes : Prefixes
        What is known.
    encode : callable
        ``encode(input) -> codes`` of this part.
    part : tuple of int
        First sample and the one after the last.
    seed : int
        Of stochastic rounding.
    """

    def __init__(
        self, program: Program, identities: tuple[Identity, ...], prefixes: Prefixes,
        encode: Callable[[Any], np.ndarray], part: tuple[int, int], seed: int = 0,
    ) -> None:  # fmt: skip
        self.program, self.identities, self.prefixes = program, identities, prefixes
        self.encode, self.first, self.seed = encode, part[0], seed
        self.values: dict[str, np.ndarray] = {}
        self.makers = {step.output: index for index, step in enumerate(program.steps)}
        self.inputs = {value.name: value for value in program.inputs}
        start = repr(part).encode()
        self.keys = {v.name: _hash(start, v.name.encode(), _text(to_json(v.format))) for v in program.inputs}

    def run(self) -> dict[str, Events]:
        """Compute what is not known, and count events by step and register; outputs are in `values` then.

        Raises
        ------
        RegisterOverflow
            For a register that must not overflow and did.
        """
        events = {}
        for index, (step, gone) in enumerate(zip(self.program.steps, self.program.last_reads, strict=True)):
            inputs = _hash(*(self.keys[name] for name in step.inputs if name in self.keys))
            key, shape = self.prefixes.resolve(self.identities[index], inputs)
            known = self.prefixes.outcome(key)
            self.keys[step.output] = key
            if known is not None:
                self.prefixes.reused += 1
                events[step.name] = known
                continue  # its inputs stay, lest they be asked for later
            events[step.name] = found = self._compute(index)
            self.prefixes.computed += 1
            self.keys[step.output] = self.prefixes.note(key, shape, self.identities[index], found)
            self.prefixes.keep(self.keys[step.output], self.values[step.output], index)
            for name in gone:
                if name not in self.program.outputs:
                    self.values.pop(name, None)
        for name in self.program.outputs:
            self._need(name)
        return events

    def _compute(self, index: int) -> Events:
        """Run a step on what it needs."""
        step = self.program.steps[index]
        operands = [step.constants[n] if n in step.constants else self._need(n) for n in step.inputs]
        run = Run(self.seed, index, self.first)
        self.values[step.output] = compute_step(step, run, "fast", operands)
        check_forbidden(step, run)
        return {name: e.count for name, e in run.events.items()}

    def _need(self, name: str) -> np.ndarray:
        """Find or compute a value."""
        if name not in self.values:
            codes = self.prefixes.codes(self.keys[name])
            if codes is not None:
                self.values[name] = codes
                return codes
            if name in self.inputs:
                self.values[name] = self.encode(self.inputs[name])
            else:
                self._compute(self.makers[name])
            self.prefixes.keep(self.keys[name], self.values[name], self.makers.get(name, -1))
        return self.values[name]


def identify(program: Program, seed: int = 0) -> tuple[Identity, ...]:
    """Say of every step of a program what its output depends on besides its inputs.

    Parameters
    ----------
    program : Program
        From `lower`.
    seed : int
        Of stochastic rounding.
    """
    return tuple(_identity(step, index, seed) for index, step in enumerate(program.steps))


def _identity(step: Step, stream: int, seed: int) -> Identity:
    datapath, places = _parts(step.datapath)
    digest = blake2b(datapath, digest_size=20)
    built_in = OPS.get(step.op.name) is step.op
    if not built_in or b'"stochastic"' in datapath:  # of a user's operation nobody knows whether it draws numbers
        digest.update(repr((seed, stream)).encode())
    if not built_in:
        digest.update(repr(id(step.op)).encode())
    numbers = {name: value for name, value in step.prepared.items() if not isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in step.attributes.items() if not isinstance(value, np.ndarray)}
    forms = [step.formats[name] for name in (*step.inputs, step.output)]
    digest.update(_text([step.op.name, to_json(attributes), to_json(forms), to_json(numbers)]))
    for mapping in (step.attributes, step.prepared, step.constants):
        for name, value in mapping.items():
            if isinstance(value, np.ndarray):
                digest.update(f"{name} {value.shape} {value.dtype}".encode())
                digest.update(_text(value.tolist()) if value.dtype.hasobject else np.ascontiguousarray(value).data)
    constant = [i for i, name in enumerate(step.inputs) if name in step.constants]
    digest.update(repr(constant).encode())
    return Identity(digest.digest(), places, step.path.startswith("sum/"))


def _parts(datapath: Datapath | None) -> tuple[bytes, tuple[Place, ...]]:
    try:
        return _known_parts(datapath)
    except TypeError:  # a record that holds something without a hash
        return _parts_of(datapath)


def _parts_of(datapath: Datapath | None) -> tuple[bytes, tuple[Place, ...]]:
    """A datapath without the widths of its registers, and these."""
    if not isinstance(datapath, SumOfProducts | Elementwise):
        return _text(to_json(datapath)), ()
    document = to_json(datapath)
    erased = dict(document["fields"])
    if isinstance(datapath, SumOfProducts):
        inside = {"product": datapath.product}
        for i, stage in enumerate(datapath.sum):
            inside |= {f"sum[{i}]": stage.register, f"sum[{i}].out": stage.out}
        erased["product"] = _erased(erased["product"])
        erased["sum"] = [
            {**s["fields"], "register": _erased(s["fields"]["register"]), "out": _erased(s["fields"]["out"])}
            for s in erased["sum"]
        ]
    else:
        inside = {"sum": datapath.register}  # a product's is called otherwise: where it acts, it is none that is known
        erased["register"] = _erased(erased["register"])
    places = tuple(Place(name, repr(r), r.low, r.high) for name, r in inside.items() if r is not None)
    return _text([document["record"], erased]), places


_known_parts = lru_cache(maxsize=4096)(_parts_of)


def _erased(register: dict[str, Any] | None) -> dict[str, Any] | None:
    return register and {name: value for name, value in register["fields"].items() if name not in ERASED}


def _hash(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=20)
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()


def _text(document: Any) -> bytes:
    return json.dumps(document).encode()
