"""What was seen of every value while samples passed: its range, and a histogram of bounded size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.calibration.policy import Policy
from fixqnn.calibration.samples import chunks
from fixqnn.encoding import at
from fixqnn.errors import BadInput
from fixqnn.graph import Graph

SIDE = 12  # a histogram has 2**SIDE bins on each side of zero
BINS = 2 ** (SIDE + 1)
LEAST_STEP = -1000  # bins of 2**-1000 at the narrowest, so that no power of two leaves float64


@dataclass(frozen=True, eq=False, repr=False)
class Observation:
    """Numbers seen: how many, how far they reach, and a histogram.

    Bin i holds the numbers x ≠ 0 with floor(x / 2**step) = i − 4096; exact zeros, of which a ReLU makes many, are
    counted by themselves. The step is the least with which all fits, so it is a matter of the largest magnitude alone:
    however numbers are cut into batches, the merged histogram is the same.

    Attributes
    ----------
    low, high : float
        Smallest and largest number.
    zeros : int
        How many were exactly zero.
    step : int
        Bins are 2**step wide.
    counts : ndarray
        Numbers per bin, int64.
    """

    low: float
    high: float
    zeros: int
    step: int
    counts: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray) -> Observation:
        """Observe all numbers of an array, which must be finite and not empty.

        >>> Observation.of(np.array([-1.0, 0.0, 0.0, 3.5]))
        <Observation of 4 numbers from -1 to 3.5, 2 of them 0>
        """
        x = np.asarray(array, np.float64).ravel()
        low, high = float(x.min()), float(x.max())
        step = _step(max(-low, high))
        quotients = x * 2.0**-step
        bins = np.floor(quotients).astype(np.int64)
        bins += BINS // 2
        filled = int(np.count_nonzero(x))
        if np.count_nonzero(quotients) < filled:  # some underflowed, and the sign of a negative one got lost
            bins[(quotients == 0) & (x < 0)] = BINS // 2 - 1
        counts = np.bincount(bins, minlength=BINS)
        zeros = x.size - filled
        counts[BINS // 2] -= zeros
        return cls(low, high, zeros, step, counts)

    def merged(self, other: Observation) -> Observation:
        """Give the observation of both sets of numbers together."""
        step = max(self.step, other.step)
        counts = _coarser(self.counts, step - self.step) + _coarser(other.counts, step - other.step)
        return Observation(min(self.low, other.low), max(self.high, other.high), self.zeros + other.zeros, step, counts)

    @property
    def count(self) -> int:
        """How many numbers were seen."""
        return self.zeros + int(self.counts.sum())

    @property
    def dead(self) -> bool:
        """Whether nothing but zero was seen."""
        return self.low == 0 == self.high

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Left edges of the bins that are not empty, in widths of a bin, and their counts."""
        filled = np.flatnonzero(self.counts)
        return filled - BINS // 2, self.counts[filled]

    def share_outside(self, low: float, high: float) -> float:
        """Share of the numbers beyond [low, high]; 0 exactly if none is, else as fine as the bins are.

        >>> Observation.of(np.arange(1.0, 9.0)).share_outside(0.0, 6.5)
        0.25
        """
        if low <= self.low and self.high <= high:
            return 0.0
        left, counts = self.bins()
        below = np.clip(low * 2.0**-self.step - left, 0, 1)
        above = np.clip(left + 1 - high * 2.0**-self.step, 0, 1)
        outside = float((counts * np.maximum(below, above)).sum())
        if low > 0 or high < 0:
            outside += self.zeros
        return outside / self.count

    def within(self, percentile: float, both_sides: bool) -> tuple[float, float]:
        """Find the range that holds `percentile` percent of the numbers, with 0 inside.

        What is left out lies farthest from zero or, if `both_sides`, half of it at each end. The answer is the outer
        edge of a bin, hence never too narrow.
        """
        allowed = self.count * (100 - percentile) / 100
        width = 2.0**self.step
        below, above = self.counts[: BINS // 2][::-1], self.counts[BINS // 2 :]  # both from zero outward
        if both_sides:
            ends = [_outermost(side, allowed / 2) * width for side in (below, above)]
        else:
            ends = [_outermost(below + above, allowed) * width] * 2
        return max(min(self.low, 0.0), -ends[0]), min(max(self.high, 0.0), ends[1])

    def mean_size(self) -> float:
        """Mean magnitude, as fine as the bins are."""
        left, counts = self.bins()
        return float((np.abs(left + 0.5) * counts).sum()) / self.count * 2.0**self.step

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Observation):
            return NotImplemented
        mine, yours = ((o.low, o.high, o.zeros, o.step) for o in (self, other))
        return mine == yours and np.array_equal(self.counts, other.counts)

    __hash__ = None

    def __repr__(self) -> str:
        zeros = f", {self.zeros} of them 0" if self.zeros else ""
        return f"<Observation of {self.count} numbers from {self.low:.6g} to {self.high:.6g}{zeros}>"


@dataclass(frozen=True, repr=False)
class Calibration:
    """What was seen of every input and node output while samples passed; `choose` may use it many times.

    Attributes
    ----------
    values : mapping of str to Observation
        By value name.
    samples : int
        How many samples passed.
    """

    values: Mapping[str, Observation]
    samples: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def __getitem__(self, name: str) -> Observation:
        if name not in self.values:
            raise BadInput(
                f"the calibration saw no value {name!r}, so it was made on another graph; calibrate this one"
            )
        return self.values[name]

    def table(self) -> list[dict[str, Any]]:
        """One row per value: how far it reached, and how much of it was zero."""
        return [
            {"value": name, "low": o.low, "high": o.high, "zeros": o.zeros / o.count} for name, o in self.values.items()
        ]

    def __str__(self) -> str:
        width = max([5, *map(len, self.values)])
        lines = [f"{'value':{width}}  {'low':>12}  {'high':>12}  {'zeros':>7}"]
        lines += [f"{r['value']:{width}}  {r['low']:12.6g}  {r['high']:12.6g}  {r['zeros']:7.2%}" for r in self.table()]
        return "\n".join([*lines, f"{self.samples} samples"])

    def __repr__(self) -> str:
        return f"<Calibration of {len(self.values)} values on {self.samples} samples>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Calibration, (dict(self.values), self.samples)


def calibrate(
    graph: Graph,
    samples: Any,
    policy: Policy | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Calibration:
    """Pass samples through a graph in real numbers, once, and observe every value.

    The samples are regrouped into batches of a size that depends on the graph alone, so their own batches make no
    difference, and a set larger than memory is fine if it comes from a generator.

    Parameters
    ----------
    graph : Graph
        The network.
    samples : array, torch tensor, tuple or dict of these, or an iterable of batches
        An array's first axis is the batch. A tuple, or a dict by name, holds one array per graph input. A list, a
        generator, a DataLoader: batches, each of them one of the above.
    policy : Policy, optional
        Checked against the graph before the first sample is read, so that a misspelt name costs no time.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of samples; total is None where nobody knows.

    Returns
    -------
    Calibration
        To be given to `choose`.

    Raises
    ------
    BadInput
        For no samples, wrong shapes, NaN or infinity in the samples or in a value that they lead to.
    """
    if policy is not None:
        policy.check(graph)
    seen: dict[str, Observation] = {}
    done = 0
    for batch, size, total in chunks(graph, samples):
        with np.errstate(all="ignore"):
            values = graph.evaluate(batch, watch="all")
        for name, array in values.items():
            _check_finite(array, name, done)
            if array.size:
                new = Observation.of(array)
                seen[name] = seen[name].merged(new) if name in seen else new
        done += size
        if progress is not None:
            progress(done, total)
    if not done:
        raise BadInput(
            "samples are empty; ranges can only be chosen for values that were seen, so give at least one sample"
        )
    return Calibration({name: seen[name] for name in graph.values if name in seen}, done)


def _check_finite(array: np.ndarray, name: str, before: int) -> None:
    wrong = ~np.isfinite(array)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = at(name, (before + index[0], *index[1:])) if index else name
        raise BadInput(
            f"value {where} becomes {array[index]} in real numbers (its first index counts samples); no format holds "
            "that: keep the samples inside the function's domain"
        )


def _step(magnitude: float) -> int:
    """Find the least step with which every number up to this magnitude has a bin."""
    return max(math.frexp(magnitude)[1] - SIDE, LEAST_STEP) if magnitude else LEAST_STEP


def _coarser(counts: np.ndarray, times: int) -> np.ndarray:
    """Double the width of all bins some times; floor(x / 2w) is floor(floor(x / w) / 2), so no number changes sides."""
    if times == 0:
        return counts
    times = min(times, SIDE)  # by then everything is next to zero
    half = BINS // 2
    coarse = np.zeros_like(counts)
    merged = counts.reshape(-1, 2**times).sum(axis=1)
    first = half - (half >> times)
    coarse[first : first + merged.size] = merged
    return coarse


def _outermost(counts: np.ndarray, allowed: float) -> int:
    """Count the bins from zero outward that must stay so that at most `allowed` numbers lie beyond."""
    beyond = counts.sum() - np.cumsum(counts)
    if counts.sum() <= allowed:
        return 0
    return int(np.argmax(beyond <= allowed)) + 1
