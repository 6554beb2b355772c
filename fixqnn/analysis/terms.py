"""What the terms of a sum can be: by the formats alone, or by the weights at hand and the codes that can come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fixqnn.datapath import SumOfProducts
from fixqnn.kernels.contract import Contraction
from fixqnn.kernels.pack import Operands
from fixqnn.kernels.ranges import range_of
from fixqnn.kernels.way import channels_last
from fixqnn.ops.op import Step
from fixqnn.ops.pieces import Piece
from fixqnn.ops.sums import Operand


@dataclass(frozen=True)
class Meeting:
    """Output positions at which the same terms meet codes, and the others padding: one of them stands for all."""

    position: int
    codes: np.ndarray  # (terms,), whether a code meets term k


class Terms:
    """The terms of one piece of a step.

    Parameters
    ----------
    step : Step
        The step, with its ranges.
    piece : Piece
        One of its contractions.
    """

    def __init__(self, step: Step, piece: Piece) -> None:
        self.step, self.piece = step, piece
        self.contraction: Contraction = piece.contraction
        self.codes = range_of(step, step.inputs[0])
        c = self.contraction
        self.x_low, self.x_high = (c.scale * code - c.offset for code in self.codes)

    @cached_property
    def w(self) -> np.ndarray:
        """Weights (channels, terms), wide enough for products."""
        c = self.contraction
        w = c.rows_of_weights
        largest = max((abs(int(v)) for v in (w.min(initial=0), w.max(initial=0))), default=0)
        reach = max(map(abs, (c.x_low, c.x_high, self.x_low, self.x_high)))
        return w.astype(np.int64 if (largest * reach).bit_length() < 60 else object)

    @cached_property
    def places(self) -> np.ndarray:
        """Which code of the step's input lies where in the packed input of one sample; −1: padding."""
        shape = self.step.shapes[self.step.inputs[0]]
        index = np.arange(int(np.prod(shape[1:])), dtype=np.int64).reshape(1, *shape[1:])
        rows = channels_last(self.piece.rows(index)[:1])
        return Operands(np.int64, 1, 0, -1).pack(rows, self.contraction.window).view(np.int64)

    def met(self, channel: int, position: int) -> np.ndarray:
        """Which code of the step's input meets every term of one output; −1: padding."""
        window = self.contraction.window
        base = window.offsets[position] + channel // window.outputs * window.channels
        return self.places[base + window.steps(self.contraction.order)]

    @cached_property
    def meetings(self) -> tuple[Meeting, ...]:
        """All ways in which windows overlap the padding, those left out that another one covers."""
        window = self.contraction.window
        channel, *taps = window.walk(self.contraction.order)
        first = np.flatnonzero(channel == 0)
        steps = window.steps(self.contraction.order)
        inside = self.places[window.offsets[:, None] + steps[first]] >= 0
        masks, positions = np.unique(inside, axis=0, return_index=True)
        tap = np.ravel_multi_index(taps, window.kernel)
        order = np.empty(first.size, np.int64)
        order[tap[first]] = np.arange(first.size)
        kept = [i for i, mask in enumerate(masks) if not self._covered(mask, masks)]
        return tuple(Meeting(int(positions[i]), masks[i][order[tap]]) for i in kept)

    def _covered(self, mask: np.ndarray, masks: np.ndarray) -> bool:
        """Whether another window meets all these codes and more, of which one may be what the padding contributes."""
        if not self.x_low <= self.contraction.padding <= self.x_high:
            return False
        return any((mask <= other).all() and (mask < other).any() for other in masks)

    def ends(self, meeting: Meeting) -> np.ndarray:
        """Smallest and largest of every term at such positions: (terms, 2, channels)."""
        if self.piece.weights_free:
            return self._free()
        if self.contraction.xnor:
            low, high = ((self.w == x).astype(np.int64) for x in (self.x_low, self.x_high))
            low, high = np.minimum(low, high), np.maximum(low, high)
        else:
            low, high = self.w * self.x_low, self.w * self.x_high
            low, high = np.minimum(low, high), np.maximum(low, high)
            padding = self.w * self.contraction.padding
            low, high = (np.where(meeting.codes, v, padding) for v in (low, high))
        return np.ascontiguousarray(np.stack([low, high]).transpose(2, 0, 1))

    def every_end(self) -> np.ndarray:
        """Smallest and largest of every term at any position."""
        if self.piece.weights_free:
            return self._free()
        parts = [self.ends(meeting) for meeting in self.meetings]
        low, high = (pick.reduce([e[:, i] for e in parts]) for i, pick in enumerate((np.minimum, np.maximum)))
        return np.stack([low, high], 1)

    @property
    def weight_codes(self) -> tuple[int, int]:
        """Smallest and largest code of the second operand, where that is a value."""
        return range_of(self.step, self.step.inputs[1])

    def product(self, x: int, w: int) -> int:
        """The term of two codes, where both operands are values."""
        ((a, _), (b, _)) = self._operands((x, x)), self._weights((w, w), *self.piece.layout.w_scales[0])
        return int(a == b) if self.contraction.xnor else a * b

    def _free(self) -> np.ndarray:
        corners = [self.product(x, w) for x in self.codes for w in self.weight_codes]
        return self._constant([min(corners)], [max(corners)])

    def _operands(self, codes: tuple[int, int]) -> tuple[int, int]:
        return tuple(self.contraction.scale * code - self.contraction.offset for code in codes)  # type: ignore[return-value]

    @staticmethod
    def _weights(codes: tuple[int, int], scale: Any, zero_point: Any) -> tuple[int, int]:
        operand = Operand.of(scale, zero_point)
        return tuple(operand.scale * code - operand.offset for code in codes)  # type: ignore[return-value]

    def _constant(self, low: list[int], high: list[int]) -> np.ndarray:
        """The same ends for every term, for all channels or for each."""
        kind = np.int64 if max(map(abs, (*low, *high))).bit_length() < 62 else object
        shape = self.contraction.window.terms, 2, self.contraction.outputs
        return np.broadcast_to(np.array([low, high], kind), shape)

    @cached_property
    def bias(self) -> np.ndarray | None:
        """The bias codes at hand (2, channels): both ends are the same."""
        bias = self.contraction.bias
        return np.array([bias, bias], object) if bias else None

    # -- by types alone ------------------------------------------------------------------------------------------------

    def _type_weights(self) -> list[tuple[int, int]]:
        layout = self.piece.layout
        if layout.w_format is None:
            return [(1, 1)]
        form = layout.w_format
        return [self._weights((form.low, form.high), *pair) for pair in layout.w_scales]

    def type_ends(self) -> np.ndarray:
        """Smallest and largest of every term if only the formats are known: (terms, 2, channels)."""
        if self.contraction.xnor:
            return self._constant([0], [1])
        form = self.step.in_format(0)
        x = list(self._operands((form.low, form.high)))
        if any(not meeting.codes.all() for meeting in self.meetings):
            x.append(self.contraction.padding)
        corners = [[a * b for a in x for b in pair] for pair in self._type_weights()]
        return self._constant([min(c) for c in corners], [max(c) for c in corners])

    def type_bias(self) -> np.ndarray | None:
        """Smallest and largest bias if only the formats are known, a folded zero point included: (2, channels)."""
        if not self.contraction.bias:
            return None
        datapath: SumOfProducts = self.step.datapath
        low, high = 0, 0
        if len(self.step.inputs) > 2 and datapath.bias != "scaler":
            form = self.step.in_format(2)
            low, high = form.low, form.high
        ends = np.array([[low], [high]], object)
        if datapath.zero_point == "folded":
            scale = self.contraction.padding * self.contraction.window.terms
            moved = [[-scale * w for w in pair] for pair in self._type_weights()]
            ends = ends + np.array([[min(m) for m in moved], [max(m) for m in moved]], object)
        return np.broadcast_to(ends, (2, self.contraction.outputs))
