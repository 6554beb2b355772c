"""What registers did on the way: counts per register and channel, and the first witness of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, order=True)
class Witness:
    """The first number that did not fit a register.

    Witnesses are ordered by sample, position, channel, then reduction index.

    Attributes
    ----------
    sample : int
        Index along the batch.
    position : tuple of int
        Index of the output within its sample, without the channel.
    channel : int
        Output channel.
    index : int
        Term at which it happened, in the datapath's order; −1: a bias that comes first, or a register without terms.
    value : int
        The number that the register was asked to hold.
    """

    sample: int
    position: tuple[int, ...]
    channel: int
    index: int
    value: int


@dataclass
class RegisterEvents:
    """How often one register acted: per channel, below its range and above it."""

    name: str
    record: str
    below: np.ndarray
    above: np.ndarray
    first: Witness | None = None
    forbidden: bool = False

    @property
    def count(self) -> int:
        """All events."""
        return int(self.below.sum() + self.above.sum())

    @property
    def any(self) -> bool:
        """Whether the register acted at all."""
        return bool(np.count_nonzero(self.below) or np.count_nonzero(self.above))

    @property
    def per_channel(self) -> np.ndarray:
        """Events per output channel."""
        return self.below + self.above

    def merge(self, below: np.ndarray, above: np.ndarray, first: Witness | None) -> None:
        """Add counts, and keep the earlier witness."""
        self.below = self.below + below
        self.above = self.above + above
        if first is not None and (self.first is None or first < self.first):
            self.first = first

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RegisterEvents)
            and self.name == other.name
            and np.array_equal(self.below, other.below)
            and np.array_equal(self.above, other.above)
            and self.first == other.first
        )

    def __repr__(self) -> str:
        text = f"{self.name}: {self.count} events ({int(self.below.sum())} below, {int(self.above.sum())} above)"
        return f"{text}, first {self.first}" if self.first else text


@dataclass
class Run:
    """One pass of one step over some samples: where randomness comes from, and where events go.

    Attributes
    ----------
    seed : int
        Seed of all stochastic rounding.
    stream : int
        Number of the step in its program: steps draw independent numbers.
    first_sample : int
        Index, in the whole batch, of the first sample at hand.
    events : dict of str to RegisterEvents
        Filled by the step, by register name.
    threads : int
        How many threads may share the step's rows; nothing that comes out depends on it.
    """

    seed: int = 0
    stream: int = 0
    first_sample: int = 0
    events: dict[str, RegisterEvents] = field(default_factory=dict)
    threads: int = 1

    def has_witness(self, name: str) -> bool:
        """Whether a register of this step acted on a sample before those at hand: no witness among them can be earlier."""
        first = self.events[name].first if name in self.events else None
        return first is not None and first.sample < self.first_sample

    def note(self, name: str, record: Any, below: np.ndarray, above: np.ndarray, first: Witness | None = None) -> None:
        """Add counts per channel to a register of this step; the arrays are kept, and may not change any more."""
        if name in self.events:
            self.events[name].merge(below, above, first)
            return
        text, forbidden = _described(record)
        below, above = np.asarray(below, np.int64), np.asarray(above, np.int64)
        self.events[name] = RegisterEvents(name, text, below, above, first, forbidden)


_WORDS: dict[int, tuple[Any, str, bool]] = {}  # by identity: a record is slow to hash, and slower to write


def _described(record: Any) -> tuple[str, bool]:
    """A register in words, and whether it forbids overflow: the same in every run."""
    known = _WORDS.get(id(record))
    if known is None or known[0] is not record:
        if len(_WORDS) >= 4096:
            _WORDS.clear()
        known = _WORDS[id(record)] = record, str(record), getattr(record, "overflow", None) == "forbid"
    return known[1:]


@dataclass
class Counter:
    """Counts single events of one register; the exact engine's way."""

    channels: int
    below: np.ndarray = field(init=False)
    above: np.ndarray = field(init=False)
    first: Witness | None = None

    def __post_init__(self) -> None:
        self.below = np.zeros(self.channels, np.int64)
        self.above = np.zeros(self.channels, np.int64)

    def add(self, witness: Witness, high: int) -> None:
        """Count one event: above if the number was larger than `high`."""
        (self.above if witness.value > high else self.below)[witness.channel] += 1
        if self.first is None or witness < self.first:
            self.first = witness


StepEvents = Mapping[str, RegisterEvents]
