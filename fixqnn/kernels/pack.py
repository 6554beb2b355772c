"""Operands and weights as the tiles of `fixqnn.kernels.vectors` read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fixqnn.arith.fast import inlined, kernel
from fixqnn.kernels.vectors import HALF, LANES, MOST, VECTORS, WIDTH
from fixqnn.kernels.window import Window

PLAIN, TWICE, LOW_LIMB, HIGH_LIMB = range(4)
SLACK = 2 * WIDTH  # bytes behind the operands that the last vector load may touch


@dataclass(frozen=True)
class Operands:
    """How a code becomes the packed operand: (scale·code − offset) · 2^shift, whole, twice in a word, or one limb of 8 bits."""

    dtype: type
    scale: int
    offset: int
    fill: int  # what padding contributes, before the shift
    shift: int = 0
    how: int = PLAIN
    behind: int = 0  # the operand that stands behind the last one

    def pack(self, x: np.ndarray, window: Window, zeros: int = 0, whole_words: bool = False) -> np.ndarray:
        """Lay out codes (samples, depth, row, column, channel), channels of all groups: bytes, with `zeros` more behind.

        The operand at ``(sample, *padded place, channel)`` follows as in a C-contiguous array. With `whole_words`,
        words of four bytes are all that is read: then codes that are operands already stay where they are.
        """
        as_it_is = self.how == PLAIN and (self.scale, self.offset, self.shift, zeros) == (1, 0, 0, 0)
        if as_it_is and window.bare and x.dtype == self.dtype and whole_words and x.shape[-1] * x.itemsize % 4 == 0:
            return x.reshape(-1).view(np.uint8)
        samples, size = len(x), np.dtype(self.dtype).itemsize
        count = samples * window.volume
        packed = np.empty(count + -(-(SLACK + zeros) // size), self.dtype)
        packed[count:] = self.one(self.behind)
        body = packed[:count].reshape(samples, *window.padded, x.shape[-1])
        if not window.bare:
            body[:] = self.one(self.fill)
        pack = (pack_plain, pack_twice, pack_low_limb, pack_high_limb)[self.how]
        if self.how == PLAIN and (self.scale, self.shift) == (1, 0):
            pack = pack_less
        x, body = (a.reshape(*a.shape[:3], a.shape[3] * a.shape[4]) for a in (x, body))
        pack(x, self.scale, self.offset, self.shift, window.geometry, body)
        return packed.view(np.uint8)

    def one(self, operand: int) -> int:
        """The packed form of one operand."""
        match self.how:
            case 2:
                operand = (operand + 128) % 256 - 128
            case 3:
                operand = (operand + 128) >> 8
        operand <<= self.shift
        if self.how != TWICE:
            return operand
        word = (operand & 0xFFFF) * 0x10001
        return word - (1 << 32) if word >> 31 else word


@kernel
def pack_plain(x, scale, offset, shift, geometry, y):
    """Pack operands as they are."""
    _pack(0, x, scale, offset, shift, geometry, y)


@kernel
def pack_less(x, scale, offset, shift, geometry, y):
    """Pack codes less the offset: nothing is multiplied, so that lanes are as narrow as what is packed."""
    _pack(4, x, scale, offset, shift, geometry, y)


@kernel
def pack_twice(x, scale, offset, shift, geometry, y):
    """Pack operands of 16 bits twice into a word."""
    _pack(1, x, scale, offset, shift, geometry, y)


@kernel
def pack_low_limb(x, scale, offset, shift, geometry, y):
    """Pack l of operand = 256·h + l, with l in [−128, 127]."""
    _pack(2, x, scale, offset, shift, geometry, y)


@kernel
def pack_high_limb(x, scale, offset, shift, geometry, y):
    """Pack h of operand = 256·h + l."""
    _pack(3, x, scale, offset, shift, geometry, y)


@inlined
def _pack(how, x, scale, offset, shift, geometry, y):
    """Lay out lines of columns and channels: x and y are (samples, depth, row, column·channel)."""
    lead, apart, channels = geometry[2], geometry[5], geometry[6]
    first, last = max(0, -lead), min(x.shape[3], y.shape[3] - lead)
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            to_d = d * geometry[3] + geometry[0]
            for h in range(x.shape[2]):
                to_h = h * geometry[4] + geometry[1]
                if to_d < 0 or to_d >= y.shape[1] or to_h < 0 or to_h >= y.shape[2]:
                    continue
                line, target = x[n, d, h], y[n, to_d, to_h]
                if apart == 1:  # a whole line at a time
                    source, place = line[first:last], target[first + lead : last + lead]
                    for i in range(source.size):
                        place[i] = _packed(how, source[i], scale, offset, shift)
                    continue
                for w in range(0, line.size, channels):
                    to_w = w * apart + lead
                    if 0 <= to_w < target.size:
                        source, place = line[w : w + channels], target[to_w : to_w + channels]
                        for c in range(channels):
                            place[c] = _packed(how, source[c], scale, offset, shift)


@inlined
def _packed(how, code, scale, offset, shift):
    if how == 4:
        return code - offset
    operand = code * scale - offset
    if how == 2:
        operand = ((operand + 128) & 255) - 128
    if how == 3:
        operand = (operand + 128) >> 8
    value = operand << shift
    return (value & 0xFFFF) | (value << 16) if how == 1 else value


@kernel
def take_rows(packed, offsets, steps, rows):
    """rows[r, k] = packed[offsets[r] + steps[k]]."""
    for r in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            rows[r, k] = packed[offsets[r] + steps[k]]


# -- terms and weights -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """Terms gathered into words of `group` neighbours in memory; a word never crosses the end of a run.

    `steps` is the place of every word; term k stands in slot[k] of word[k]; run t has words ends[t] … ends[t + 1].
    """

    steps: np.ndarray
    word: np.ndarray
    slot: np.ndarray
    ends: np.ndarray


def words_of(steps: np.ndarray, run: np.ndarray, group: int) -> Words:
    """Cover the places of all terms, run by run, with words of `group` places; with one, the order of terms is kept.

    >>> words_of(np.array([0, 1, 2, 3, 4, 20, 21]), np.zeros(7, int), 4).steps
    array([ 0,  4, 20])
    """
    runs = int(run[-1]) + 1 if run.size else 0
    if group == 1:
        every = np.arange(steps.size)
        return Words(steps, every, np.zeros_like(every), np.searchsorted(run, np.arange(runs + 1)))
    order = np.lexsort((steps, run))
    place, owner, index = steps[order], run[order], np.arange(steps.size)
    breaks = np.ones(steps.size, bool)
    breaks[1:] = (np.diff(place) != 1) | (np.diff(owner) != 0)
    along = index - np.maximum.accumulate(np.where(breaks, index, 0))
    begins = along % group == 0
    word, slot = np.empty_like(index), np.empty_like(index)
    word[order], slot[order] = np.cumsum(begins) - 1, along % group
    return Words(place[begins], word, slot, np.searchsorted(owner[begins], np.arange(runs + 1)))


def panels_of(window: Window, size: int, words: int, per_lane: int, by_channel: bool) -> np.ndarray:
    """The table of panels (see `fixqnn.kernels.tiles`) for operands of `size` bytes; a vector has LANES·per_lane channels."""
    rows, lane, w_at = [], 0, 0
    groups = 1 if by_channel else window.groups
    outputs = window.outputs * (window.groups if by_channel else 1)
    for group in range(groups):
        for first in range(0, outputs, MOST):
            width = min(MOST, outputs - first)
            vectors = next(v for v in (1, HALF, VECTORS) if v * LANES >= width)
            vectors = max(1, vectors // per_lane)
            x_at = (first if by_channel else group * window.channels) * size
            rows.append((x_at, w_at, vectors, lane, group * outputs + first, width))
            w_at += words * vectors * WIDTH // 8
            lane += vectors * LANES * per_lane
    return np.array(rows, np.int64).reshape(-1, 6)


def lanes_of(panels: np.ndarray, per_channel: np.ndarray, lanes: int) -> np.ndarray:
    """Spread rows (…, channels) over the lanes of all panels; lanes without a channel get 0."""
    spread = np.zeros((*per_channel.shape[:-1], lanes), per_channel.dtype)
    for _, _, _, lane, channel, width in panels.tolist():
        spread[..., lane : lane + width] = per_channel[..., channel : channel + width]
    return spread


def lane_count(panels: np.ndarray, per_lane: int) -> int:
    """Lanes of all panels."""
    return int(panels[:, 2].sum()) * LANES * per_lane


def pack_weights(w: np.ndarray, panels: np.ndarray, words: Words, slots: int, dtype: type, per_lane: int) -> np.ndarray:
    """Weights (channels, terms) as bytes: panel by panel, word by word, channel by channel, `slots` operands each."""
    parts = []
    for _, _, vectors, _, channel, width in panels.tolist():
        part = np.zeros((len(words.steps), vectors * LANES * per_lane, slots), dtype)
        part[words.word[:, None], np.arange(width)[None, :], words.slot[:, None]] = w[channel : channel + width].T
        parts.append(part.reshape(-1).view(np.uint8))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)
