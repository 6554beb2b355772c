"""How far the partial sums of a sum of products can go.

With zero points removed, input operands lie in [lo, hi]. A partial sum over any terms, in any order, lies between
Σ min(0, w·lo, w·hi) and Σ max(0, w·lo, w·hi) over the terms of its run; where a stage hands on its total, a new run begins.
Registers that these intervals fit never act, and then order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fixqnn.arith.fast import WIDEST

BLOCK = 64  # terms between two looks at the running sums of a certified sum
CHUNK = 1 << 20  # weights that are looked at together, so that no wide copy of all of them is made

Channels = tuple[int, ...]


@dataclass(frozen=True)
class Extent:
    """How far the sums of each output channel can go, without the bias; Python integers.

    Attributes
    ----------
    low, high : tuple of int
        Smallest and largest partial sum of all terms, in any order, per channel.
    total_low, total_high : tuple of int
        Smallest and largest sum of all terms, per channel.
    term : int
        No product passes this magnitude.
    x_low, x_high, w_low, w_high : int
        Range of the operands.
    runs : tuple of (tuple of int, tuple of int)
        Per stage, the outermost last: smallest and largest partial sum within one run of the stage, per channel.
    block : int
        The most that `BLOCK` consecutive terms of one innermost run can add or take away.
    positive, negative : tuple of int
        Sum of the positive and of the negative weights, per channel.
    xnor : bool
        Whether terms are agreements of bits, and not products.
    """

    low: Channels
    high: Channels
    total_low: Channels
    total_high: Channels
    term: int
    x_low: int
    x_high: int
    w_low: int
    w_high: int
    runs: tuple[tuple[Channels, Channels], ...]
    block: int
    positive: Channels
    negative: Channels
    xnor: bool = False

    @property
    def size(self) -> int:
        """Largest magnitude of the partial sums of all channels."""
        return _size(self.low, self.high)

    def run(self, level: int, levels: int) -> tuple[Channels, Channels]:
        """Partial sums within one run of stage `level` of `levels`."""
        return self.runs[level] if len(self.runs) == levels else (self.low, self.high)

    def run_size(self, level: int, levels: int) -> int:
        """Largest magnitude of the partial sums within one run of a stage."""
        return _size(*self.run(level, levels))

    @property
    def products(self) -> tuple[int, int]:
        """Smallest and largest product; both operands' ranges are attained, and a product is largest at a corner."""
        corners = [x * w for x in (self.x_low, self.x_high) for w in (self.w_low, self.w_high)]
        return (0, 1) if self.xnor else (min(corners), max(corners))


def _size(low: Channels, high: Channels) -> int:
    return max(-min(low, default=0), max(high, default=0), 0)


def extent(w: np.ndarray, x_low: int, x_high: int, xnor: bool = False, flush: np.ndarray | None = None) -> Extent:
    """Intervals of all partial sums.

    Parameters
    ----------
    w : ndarray
        Weight operands (channels, terms), in the datapath's order.
    x_low, x_high : int
        Range of input operands, padding included.
    xnor : bool
        A term is 1 where operands agree, else 0.
    flush : ndarray, optional
        How many stages hand on their total after every term; None: there is one stage.
    """
    channels, terms = w.shape
    flush = np.zeros(terms, np.int64) if flush is None else np.asarray(flush)
    levels = int(flush.max(initial=0)) + 1
    cuts = _cuts(flush)
    if xnor:
        positive = np.broadcast_to(np.diff(np.append(cuts, terms)), (channels, cuts.size))
        negative, x_low, x_high, w_low, w_high, term = np.zeros_like(positive), 0, 1, 0, 1, 1
    else:
        w_low, w_high = int(w.min(initial=0)), int(w.max(initial=0))
        term = max(abs(x_low), abs(x_high)) * max(-w_low, w_high)
        kind = object if term * max(terms, 1) >= 1 << WIDEST else np.int64
        positive, negative = _signed_sums(w, cuts, kind)
    # a positive weight adds most at hi, a negative one at lo; a term may also be absent from a partial sum
    most = positive * max(x_high, 0) + negative * min(x_low, 0)
    least = positive * min(x_low, 0) + negative * max(x_high, 0)
    runs = []
    for level in range(levels):
        starts = np.append(0, np.flatnonzero(flush[:-1] > level) + 1) if terms else np.zeros(0, np.int64)
        at = np.searchsorted(cuts, starts)
        runs.append((_worst(least, at, np.minimum), _worst(most, at, np.maximum)))
    p, n = (v.sum(axis=1) for v in (positive, negative))
    lows, highs = (p * 0, p) if xnor else (p * x_low + n * x_high, p * x_high + n * x_low)
    low, high = runs[-1]
    block = max(int(most.max(initial=0)), -int(least.min(initial=0)))
    return Extent(
        low, high, _whole(lows), _whole(highs), term, x_low, x_high, w_low, w_high, tuple(runs), block,
        _whole(p), _whole(n), xnor,
    )  # fmt: skip


def _cuts(flush: np.ndarray) -> np.ndarray:
    """Where runs of the innermost stage begin, and every `BLOCK` terms after that."""
    terms = flush.size
    if not terms:
        return np.zeros(0, np.int64)
    begins = np.append(0, np.flatnonzero(flush[:-1] > 0) + 1)
    lengths = np.diff(np.append(begins, terms))
    since = np.arange(terms) - np.repeat(begins, lengths)
    return np.flatnonzero(since % BLOCK == 0)


def _signed_sums(w: np.ndarray, cuts: np.ndarray, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the positive and of the negative weights between cuts: (channels, cuts)."""
    channels, terms = w.shape
    positive, negative = (np.zeros((channels, cuts.size), kind) for _ in range(2))
    rows = max(1, CHUNK // max(terms, 1))
    for c in range(0, channels if cuts.size else 0, rows):
        part = w[c : c + rows].astype(kind)
        positive[c : c + rows] = np.add.reduceat(np.maximum(part, 0), cuts, axis=1)
        negative[c : c + rows] = np.add.reduceat(part, cuts, axis=1) - positive[c : c + rows]
    return positive, negative


def _worst(sums: np.ndarray, starts: np.ndarray, pick: np.ufunc) -> Channels:
    """Smallest or largest of the sums over runs, per channel."""
    return _whole(pick.reduce(np.add.reduceat(sums, starts, axis=1), axis=1)) if starts.size else (0,) * len(sums)


def _whole(values: np.ndarray) -> Channels:
    return tuple(int(v) for v in values)
