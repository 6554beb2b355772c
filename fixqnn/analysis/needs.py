"""What registers need, as records: per register, per layer, and for a whole program with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fixqnn.analysis.attaining import Attaining, attaining_codes, confirmed, run_with
from fixqnn.analysis.seen import Order
from fixqnn.analysis.spans import Reach, Span, narrowest
from fixqnn.analysis.terms import Meeting, Terms
from fixqnn.datapath import Register
from fixqnn.errors import BadInput
from fixqnn.events import RegisterEvents, Witness
from fixqnn.ops.op import Step


@dataclass(frozen=True)
class Source:
    """Where a proven span comes from: terms at some output positions, how far they lead, and whether codes are free."""

    terms: Terms
    meeting: Meeting
    reach: Reach
    free: bool


@dataclass(frozen=True)
class RegisterNeed:
    """What one register needs, and has.

    Attributes
    ----------
    layer, register : str
        The step, and the register's path in its datapath record: ``product``, ``sum[0]``, ``sum[0].out``. The bias enters the
        outermost ``sum`` and counts there.
    record : Register
        What it is.
    types, proven : Span
        Numbers that it can be asked to hold as long as none before it acted: if only formats are known; with the weights at
        hand, in the datapath's order, ends attained.
    any_order, any_tiling : Span or None
        The same as `proven` for every order of the terms and the bias; for every order and tile size. None where a running
        total is rounded, so that the order shows in the sums themselves. Not always attained.
    seen : Span or None
        Numbers that it was asked to hold on the data, no register acting.
    can_act : bool or None
        Whether it acts for some input of the layer, all registers being as they are; None: neither proved nor refuted (a
        register before it wraps, rounding is random, or an operand is constant).
    events : int or None
        How often it acted on the data, the whole machine being as it is; None: not run, as nothing can have acted or no data
        were given.
    """

    layer: str
    register: str
    record: Register
    types: Span
    proven: Span
    any_order: Span | None
    any_tiling: Span | None
    seen: Span | None
    can_act: bool | None
    events: int | None
    sources: Sequence[Source] = field(repr=False, compare=False)
    step: Step = field(repr=False, compare=False)
    wide: Mapping[str, int] = field(repr=False, compare=False)

    @property
    def bits(self) -> int:
        """Bits that it has."""
        return self.record.bits

    @property
    def types_bits(self) -> int | None:
        """Bits by types alone; None: unsigned, and numbers can be negative."""
        return self.types.bits(self.record)

    @property
    def proven_bits(self) -> int | None:
        """Bits with which it never acts, and fewer will not do."""
        return self.proven.bits(self.record)

    @property
    def any_order_bits(self) -> int | None:
        """Bits for every order of the terms; None where none is proved."""
        return self.any_order and self.any_order.bits(self.record)

    @property
    def any_tiling_bits(self) -> int | None:
        """Bits for every order and tile size; None where none is proved."""
        return self.any_tiling and self.any_tiling.bits(self.record)

    @property
    def seen_bits(self) -> int | None:
        """Bits that the data asked for."""
        return self.seen and self.seen.bits(self.record)

    @property
    def spare(self) -> int | None:
        """Bits that it has beyond the proven ones; negative: it lacks so many."""
        return None if self.proven_bits is None else self.bits - self.proven_bits

    @property
    def short_channels(self) -> int:
        """Output channels for which its bits are not proved to do."""
        held = self.record.low, self.record.high
        return sum(low < held[0] or held[1] < high for low, high in zip(self.proven.low, self.proven.high, strict=True))

    def channels(self) -> list[dict[str, Any]]:
        """One row per output channel: bits by types, proven, on data, and the numbers behind them."""
        rows = []
        for channel in range(len(self.proven.low)):
            row: dict[str, Any] = {
                "layer": self.layer,
                "register": self.register,
                "channel": channel,
                "bits": self.bits,
            }
            for name in ("types", "proven", "any_order", "any_tiling", "seen"):
                span: Span | None = getattr(self, name)
                low, high = (None, None) if span is None else (span.low[channel], span.high[channel])
                row[name] = None if low is None else narrowest(low, high, self.record)
                if name in ("proven", "seen"):
                    row[f"{name}_low"], row[f"{name}_high"] = low, high
            rows.append(row)
        return rows

    def attaining(self, channel: int | None = None, high: bool | None = None) -> Attaining:
        """Codes of the layer's input that make the register hold the furthest number, and the proof by trial.

        Parameters
        ----------
        channel : int, optional
            Output channel; by default the one that needs most bits.
        high : bool, optional
            The largest number, or the smallest; by default the one that needs more bits.

        Raises
        ------
        BadInput
            For a channel that there is not.
        """
        count = len(self.proven.low)
        if channel is None:
            channel = max(range(count), key=self._demand)
        if isinstance(channel, bool) or not isinstance(channel, int | np.integer) or not 0 <= channel < count:
            raise BadInput(f"{self.layer} has the channels 0 … {count - 1}, not {channel!r}")
        ends = self.proven.low[channel], self.proven.high[channel]
        if high is None:
            sides = [narrowest(ends[0], 0, self.record), narrowest(0, ends[1], self.record)]
            high = sides[0] is not None and (sides[1], ends[1]) > (sides[0], -ends[0])
        side = int(high)
        source = max(self.sources, key=lambda s: s.reach.further[side, channel])
        value, at = ends[side], int(source.reach.at[side, channel])
        codes = attaining_codes(source.terms, source.meeting, channel, high)
        bits = narrowest(min(value, 0), max(value, 0), self.record)
        position = source.meeting.position
        attained = (
            source.free
            and bool(source.reach.tight[channel])
            and confirmed(source.terms, codes, self.register, channel, position, value, bits)
        )
        return Attaining(
            self.layer, self.register, channel, self._position(source, position), at, value, bits, codes, attained,
            self.step, self.wide,
        )  # fmt: skip

    def run(self, inputs: Mapping[str, Any], bits: int, engine: str = "exact") -> RegisterEvents:
        """Run the layer on codes with this register at so many bits and all others wide; its events.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            Codes by the name of the step's input, batch first.
        bits : int
            Width of the register.
        engine : {"exact", "fast"}
            The definition, or compiled loops.
        """
        return run_with(self.step, self.register, bits, self.wide, inputs, engine)

    def _demand(self, channel: int) -> tuple[float, int]:
        low, high = self.proven.low[channel], self.proven.high[channel]
        bits = narrowest(low, high, self.record)
        return (float("inf") if bits is None else bits), max(-low, high)

    def _position(self, source: Source, position: int) -> tuple[int, ...]:
        piece = source.terms.piece
        if piece.position:  # one output per piece
            return piece.position
        where = piece.contraction.position(position)
        lead = len(self.step.shapes[self.step.output]) - 2 - len(where) if self.step.op.name == "matmul" else 0
        return (0,) * lead + where

    def row(self) -> dict[str, Any]:
        """Facts of one line of a table."""
        return {
            "layer": self.layer,
            "register": self.register,
            "bits": self.bits,
            "types": self.types_bits,
            "proven": self.proven_bits,
            "any_order": self.any_order_bits,
            "any_tiling": self.any_tiling_bits,
            "seen": self.seen_bits,
            "spare": self.spare,
            "short_channels": self.short_channels,
            "channels": len(self.proven.low),
            "can_act": {True: "yes", False: "no", None: "perhaps"}[self.can_act],
            "events": self.events,
            "record": str(self.record),
            "low": self.proven.least,
            "high": self.proven.most,
            "seen_low": self.seen and self.seen.least,
            "seen_high": self.seen and self.seen.most,
        }


@dataclass(frozen=True)
class LayerNeeds:
    """What the registers of one layer need; ``layer["sum[0]"]`` is one of them.

    Attributes
    ----------
    layer, op : str
        The step, and its operation.
    registers : tuple of RegisterNeed
        In the order in which numbers meet them.
    order_is_idle : bool
        Whether no order of the terms and no tile size can change a sum, for any input: a proof.
    order : Order or None
        What other orders and tile sizes changed on the data; None where that was not looked at, or need not be.
    """

    layer: str
    op: str
    registers: tuple[RegisterNeed, ...]
    order_is_idle: bool
    order: Order | None

    def __getitem__(self, register: str) -> RegisterNeed:
        for need in self.registers:
            if need.register == register:
                return need
        names = ", ".join(need.register for need in self.registers)
        raise BadInput(f"{self.layer} has no register {register!r}; it has {names}")

    @property
    def order_in_words(self) -> str:
        """Whether order or tile size matters: proved, or as far as the data show."""
        if self.order_is_idle:
            return "never"
        if self.order is None:
            return "perhaps"
        if self.order.settled == self.order.sums:
            return "not on this data"
        if self.order.by_order or self.order.by_tiles:
            return f"order {self.order.by_order}, tiles {self.order.by_tiles} of {self.order.sums}"
        return f"no change found in {self.order.tried}"


@dataclass(frozen=True)
class Overflowed:
    """The first register that acted on the data, in the order of computation, and its first witness."""

    layer: str
    register: str
    witness: Witness | None


@dataclass(frozen=True)
class Accumulators:
    """What every register of a program needs; printed, the answer on one screen.

    Attributes
    ----------
    machine : str
        Name of the machine.
    layers : tuple of LayerNeeds
        One per sum of products, in order.
    samples : int or None
        How many samples were seen; None without data.
    overflowed : Overflowed or None
        The first register that acted on the data.
    skipped : tuple of str
        Steps of a user's own operations, of which nothing is known.
    """

    machine: str
    layers: tuple[LayerNeeds, ...]
    samples: int | None
    overflowed: Overflowed | None
    skipped: tuple[str, ...]

    def __getitem__(self, layer: str) -> LayerNeeds:
        for needs in self.layers:
            if needs.layer == layer:
                return needs
        raise BadInput(f"no sum of products is named {layer!r}; there are {', '.join(n.layer for n in self.layers)}")

    @property
    def registers(self) -> tuple[RegisterNeed, ...]:
        """All registers, in order."""
        return tuple(need for layer in self.layers for need in layer.registers)

    @property
    def proven(self) -> bool:
        """Whether no register can act, for any input."""
        return not self.skipped and all(need.can_act is False for need in self.registers)

    @property
    def survived(self) -> bool | None:
        """Whether no register acted on the data; None without data."""
        return None if self.samples is None else self.overflowed is None

    @property
    def verdict(self) -> str:
        """Whether it survives, in one sentence."""
        if self.proven:
            return "survives: proven for every input, no register can act"
        if self.overflowed is not None:
            return self._first_overflow()
        return f"{self._on_data()}; {self._lacking()}"

    def _on_data(self) -> str:
        if self.samples is None:
            return "not proven"
        return f"survived this data ({self.samples} samples, no register acted)"

    def _lacking(self) -> str:
        short = [need for need in self.registers if need.spare is None or need.spare < 0]
        if not short:
            open_ones = [f"{n.layer} {n.register}" for n in self.registers if n.can_act is not False] or self.skipped
            return f"a proof is missing for {', '.join(open_ones)}"
        worst = max(short, key=lambda need: float("inf") if need.proven_bits is None else need.proven_bits - need.bits)
        where = f"{worst.register} of layer {worst.layer}"
        more = f", and {len(short) - 1} more registers lack bits" if len(short) > 1 else ""
        if worst.proven_bits is None:
            return f"{where} is unsigned, and sums reach {worst.proven.least}{more}"
        return f"a proof needs {worst.proven_bits} bits in {where}, which has {worst.bits}{more}"

    def _first_overflow(self) -> str:
        first = self.overflowed
        assert first is not None
        w, events = first.witness, sum(need.events or 0 for need in self.registers)
        text = f"does not survive: first overflow in {first.register} of layer {first.layer}"
        if w is not None:
            place = f", position {', '.join(map(str, w.position))}" if w.position else ""
            text += f" at sample {w.sample}, channel {w.channel}{place}, term {w.index}: asked to hold {w.value}"
        text += f"; {events} overflows in all"
        needs = [need for need in self.registers if need.layer == first.layer and need.register == first.register]
        if needs and needs[0].proven_bits is not None:
            text += f"; this register needs {needs[0].seen_bits} bits for this data and {needs[0].proven_bits} for every input"
        return text

    def table(self) -> list[dict[str, Any]]:
        """One row per register, plain facts: bits it has and needs, spare bits, whether it can act and did."""
        return [
            {**need.row(), "order": layer.order_in_words if i == len(layer.registers) - 1 else None}
            for layer in self.layers
            for i, need in enumerate(layer.registers)
        ]

    def channels(self) -> list[dict[str, Any]]:
        """One row per register and output channel."""
        return [row for need in self.registers for row in need.channels()]

    def facts(self) -> dict[str, Any]:
        """What is said of the whole."""
        first = self.overflowed
        return {
            "machine": self.machine,
            "samples": self.samples,
            "proven": self.proven,
            "survived": self.survived,
            "first overflow": None if first is None else f"{first.layer} {first.register}: {first.witness}",
            "not looked at": list(self.skipped),
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        names = {"layer": "layer", "register": "register", "bits": "has", "types": "by types", "proven": "proven",
                 "any_order": "any order", "any_tiling": "any tiling", "seen": "on data", "spare": "spare",
                 "short_channels": "short channels", "can_act": "can act", "events": "events",
                 "order": "order matters"}  # fmt: skip
        rows = [{key: "" if row[key] is None else str(row[key]) for key in names} for row in self.table()]
        rows = [names, *rows]
        shown = [key for key in names if any(row[key] for row in rows[1:])]
        widths = {key: max(len(row[key]) for row in rows) for key in shown}
        left = ("layer", "register", "can_act", "order")
        lines = [
            "  ".join(row[k].ljust(widths[k]) if k in left else row[k].rjust(widths[k]) for k in shown).rstrip()
            for row in rows
        ]
        data = "no data" if self.samples is None else f"{self.samples} samples"
        return "\n".join([f"registers of {self.machine}, in bits; {data}", *lines, self.verdict])
