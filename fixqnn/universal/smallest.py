"""The narrowest network with one hidden layer, by exhaustive search in tiny formats.

With one hidden layer the last sums are b·1 + Σ wᵣhᵣ: a bias and one vector w·h per hidden neuron, where h runs over the
distinct first-layer neurons as functions of all inputs. So the question is how few such vectors add up, with a bias, to
a sum in the right cell at every input. All sums of n vectors are listed, for n = 0, 1, 2 …; while none is left out, the
first n that reaches the target is proved to be the least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Graph
from fixqnn.universal.constructions.code import first_rows
from fixqnn.universal.constructions.layers import Layer, Network, grid
from fixqnn.universal.constructions.runs import FAR
from fixqnn.universal.functions import FunctionVerdict
from fixqnn.universal.grid import Setting
from fixqnn.universal.question import resolve
from fixqnn.universal.verdict import Verdict

__all__ = ["Narrowest", "narrowest"]

MOST_SUMS = 400_000  # that are kept per number of neurons; beyond, the most promising ones
BEAM = 4_000
AT_ONCE = 1 << 21


@dataclass(frozen=True, eq=False)
class Narrowest:
    """What the search found.

    Attributes
    ----------
    width : int or None
        Hidden neurons; None where none was found.
    proved : bool
        Whether no narrower network with one hidden layer exists: every sum of fewer vectors was looked at.
    excluded : int
        So many hidden neurons, or fewer, are proved not to be enough; −1: nothing is proved.
    network : Network or None
        The network.
    """

    width: int | None
    proved: bool
    excluded: int
    network: Network | None

    def graph(self) -> Graph:
        """The network as a graph; BadInput where none was found."""
        if self.network is None:
            raise BadInput(f"there is no network to be written as a graph: {self}")
        return self.network.graph("one layer")

    @property
    def status(self) -> str:
        """``"minimal"``, ``"best found"``, or ``"none found"``."""
        return "none found" if self.width is None else "minimal" if self.proved else "best found"

    def __str__(self) -> str:
        proof = "" if self.proved or self.excluded < 0 else f"; {self.excluded} are proved not to be enough"
        found = "no network" if self.width is None else f"{self.width} hidden neurons"
        return f"{found} ({self.status}{proof})"


@dataclass(frozen=True, eq=False)
class _Level:
    """Sums of n vectors: (sums, points), and how each came about: the sum before it and the vector added."""

    sums: np.ndarray
    before: np.ndarray
    added: np.ndarray


def narrowest(
    target: Any,
    activation: str | Callable[..., Any] | Sequence[int] | Verdict | FunctionVerdict,
    values: Format | None = None,
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    *,
    seconds: float = 10.0,
    most: int = 12,
    **parameters: Any,
) -> Narrowest:
    """Search for the network with one hidden layer of the fewest neurons.

    Exhaustive for p = 1 and one input; for two inputs, or p = 2, the answer may be ``"best found"`` or ``"none found"``.

    Parameters
    ----------
    target, activation, values, weights, bias, rounding, **parameters
        As for `build`.
    seconds : float
        When this has passed, the search ends with what it has.
    most : int
        Hidden neurons at most.

    Returns
    -------
    Narrowest
        The network, and whether it is proved to be the narrowest. Some functions have none: one hidden layer is not
        always enough.

    Raises
    ------
    BadInput
        As `build`.

    Examples
    --------
    >>> from fixqnn.format import symmetric
    >>> found = narrowest([1, -1, 1], "relu", symmetric(1, 2))
    >>> print(found)
    6 hidden neurons (minimal)
    >>> print(narrowest([1, -1, 1], "identity", symmetric(1, 1), "binary", most=6))
    no network (none found; 6 are proved not to be enough)
    """
    setting, table, codes = resolve(target, activation, values, weights, bias, rounding, parameters)
    return search(setting, table, codes, seconds, most)


def search(setting: Setting, table: Sequence[int], target: np.ndarray, seconds: float, most: int) -> Narrowest:
    """Do the search of `narrowest` for a setting, an activation's table and output codes."""
    points = grid(setting, target.ndim)
    low, high = _cells(setting, target.reshape(-1))
    rows = first_rows(setting, table, points, lone=False, constants=True)
    steps, makers = _steps(setting, rows.values)
    levels = [_Level(np.zeros((1, len(points)), np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64))]
    complete, excluded, started = True, -1, time.monotonic()
    for width in range(most + 1):
        if width:
            level, whole = _next(levels[-1], steps, low, high, complete, started + seconds)
            if level is None:
                break
            complete &= whole
            levels.append(level)
        biases = _biases(setting, levels[-1].sums, low, high)
        hits = np.flatnonzero(biases < FAR)
        if not width and not setting.has_zero:
            hits = hits[:0]  # a neuron that reads nothing is none of this arithmetic
        if hits.size:
            network = _network(setting, table, rows, makers, levels, int(hits[0]), int(biases[hits[0]]))
            return Narrowest(width, excluded == width - 1, excluded, network)
        if complete:
            excluded = width
    return Narrowest(None, False, excluded, None)


def _cells(setting: Setting, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last sum that rounds to each output code."""
    cells = [setting.cell(int(k)) for k in target]
    return (
        np.array([-FAR if first is None else first for first, _ in cells]),
        np.array([FAR if last is None else last for _, last in cells]),
    )


def _steps(setting: Setting, values: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Distinct vectors w·h, and (row, weight) of each; zero only where it lets a neuron that must read something read it."""
    found: dict[bytes, tuple[np.ndarray, tuple[int, int]]] = {}
    for row, h in enumerate(values):
        for w in setting.weight_codes:
            if w and (h.any() or not setting.has_zero):
                found.setdefault((w * h).tobytes(), (w * h, (row, w)))
    if not found:
        return np.zeros((0, values.shape[1]), np.int64), []
    return np.stack([v for v, _ in found.values()]), [maker for _, maker in found.values()]


def _next(
    level: _Level, steps: np.ndarray, low: np.ndarray, high: np.ndarray, complete: bool, deadline: float
) -> tuple[_Level | None, bool]:
    """Sums of one vector more, each once; and whether all were kept."""
    if not len(steps):
        return None, False
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    whole, limit = True, MOST_SUMS if complete else BEAM
    chunk = max(AT_ONCE // (len(steps) * steps.shape[1]), 1)
    for start in range(0, len(level.sums), chunk):
        if time.monotonic() > deadline:
            return None, False
        part = level.sums[start : start + chunk]
        sums = (part[:, None, :] + steps[None, :, :]).reshape(-1, steps.shape[1])
        before = np.repeat(np.arange(start, start + len(part)), len(steps))
        added = np.tile(np.arange(len(steps)), len(part))
        kept.append((sums, before, added))
        if sum(len(k[0]) for k in kept) > 2 * limit:
            made, all_of_them = _distinct(kept, low, high, limit)
            kept, whole = [made], whole and all_of_them
    made, all_of_them = _distinct(kept, low, high, limit)
    return _Level(*made), whole and all_of_them


def _distinct(
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]], low: np.ndarray, high: np.ndarray, limit: int
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], bool]:
    """Each sum once, and only the most promising ones if there are more than `limit`."""
    sums, before, added = (np.concatenate(arrays) for arrays in zip(*kept, strict=True))
    _, first = np.unique(_keys(sums), axis=0, return_index=True)
    sums, before, added = sums[first], before[first], added[first]
    if len(sums) <= limit:
        return (sums, before, added), True
    best = np.argsort(_miss(sums, low, high), kind="stable")[:limit]
    return (sums[best], before[best], added[best]), False


def _miss(sums: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far sums are from their cells, all inputs together, with a bias between the extremes."""
    bias = ((low - sums).max(axis=1) + (high - sums).min(axis=1)) // 2
    moved = sums + bias[:, None]
    return np.maximum(low - moved, 0).sum(axis=1) + np.maximum(moved - high, 0).sum(axis=1)


def _keys(sums: np.ndarray) -> np.ndarray:
    """One number per vector where 63 bits hold it, since those are sorted quickly; else the vectors themselves."""
    least, span = int(sums.min()), int(np.ptp(sums)) + 1
    if span ** sums.shape[1] >= 1 << 62:
        return sums
    keys = np.zeros(len(sums), np.int64)
    for column in sums.T:
        keys = keys * span + (column - least)
    return keys


def _biases(setting: Setting, sums: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A bias that takes every sum into its cell; `FAR` where there is none."""
    least, most = (low - sums).max(axis=1), (high - sums).min(axis=1)
    limit, unit = setting.bias_limit, setting.bias_unit
    if limit is not None:
        least, most = np.maximum(least, -limit), np.minimum(most, limit)
    bias = np.clip(0, least, np.maximum(most, least))
    bias = np.where(bias > 0, -(-bias // unit), bias // unit) * unit
    return np.where((least <= bias) & (bias <= most), bias, FAR)


def _network(
    setting: Setting, table: Sequence[int], rows: Any, makers: Sequence[tuple[int, int]], levels: Sequence[_Level],
    hit: int, bias: int,
) -> Network:  # fmt: skip
    """Walk back from a sum to the neurons that make it."""
    used = []
    for level in reversed(levels[1:]):
        used.append(makers[int(level.added[hit])])
        hit = int(level.before[hit])
    if not used:
        return Network(setting, tuple(table), (Layer(np.zeros((1, rows.weights.shape[1])), np.array([bias])),))
    index = np.array([row for row, _ in used], np.int64)
    hidden = Layer(rows.weights[index], rows.biases[index])
    return Network(
        setting, tuple(table),
        (hidden, Layer(np.array([[w for _, w in used]]), np.array([bias]))),
    )  # fmt: skip
