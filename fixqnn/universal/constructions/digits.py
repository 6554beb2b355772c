"""Output values as sums of what a few neurons show: which output weights, and which neuron shows what for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fixqnn.universal.constructions.runs import runs_of
from fixqnn.universal.grid import Setting

__all__ = ["Digits", "digit_systems"]

BEAM, MOST = 12, 10  # systems looked at together, and digits at most
NEVER = 1 << 30


@dataclass(frozen=True, eq=False)
class Digits:
    """A sum θ + Σ w_j·l_j that rounds to every wanted value, where l_j is what neuron j rises by.

    Attributes
    ----------
    weights : tuple of int
        w_j in units of 1/s, each what one weight may hold.
    theta : int
        In units of 1/s².
    levels : mapping of int to tuple of int
        For every value the l_j, differences of table entries to T(−M); as few as possible are not zero.
    """

    weights: tuple[int, ...]
    theta: int
    levels: Mapping[int, tuple[int, ...]]


def digit_systems(setting: Setting, table: Sequence[int], counts: Mapping[int, int], most: int = 3) -> list[Digits]:
    """Find systems of output weights that reach all values, those that need the fewest digits in use first.

    Parameters
    ----------
    setting : Setting
        Format, weights, biases, tie rule.
    table : sequence of int
        The activation.
    counts : mapping of int to int
        How often each value is wanted.
    most : int
        How many systems to give, at most.
    """
    rises = sorted({run.value - table[0] for run in runs_of(setting, table)} - {0})
    reach = (setting.largest + 1) * setting.s + setting.s
    largest = max(setting.weight_codes)
    candidates = _candidates(setting, rises, largest)
    found: list[tuple[float, Digits]] = []
    common = max(counts, key=lambda k: counts[k])
    for theta in dict.fromkeys((0, common * setting.s, -setting.largest * setting.s)):
        start = np.full(2 * reach + 1, NEVER, np.int64)
        start[theta + reach] = 0
        beam: list[tuple[tuple[int, ...], list[np.ndarray]]] = [((), [start])]
        for _ in range(MOST):
            extended = {}
            for weights, costs in beam:
                for w in candidates:
                    if not weights or w <= weights[-1]:
                        extended[(*weights, w)] = [*costs, _with_digit(costs[-1], w, rises)]
            scored = sorted(
                ((*_score(setting, costs[-1], counts, reach), weights) for weights, costs in extended.items()),
                key=lambda item: item[:2],
            )
            complete = [
                (cost + 0.05 * len(weights) * len(counts), weights) for missing, cost, weights in scored if not missing
            ]
            for cost, weights in complete[:most]:
                found.append((cost, _settled(setting, extended[weights], weights, theta, rises, counts, reach)))
            beam = [(weights, extended[weights]) for _, _, weights in scored[:BEAM]]
            if complete:
                break
    found.sort(key=lambda item: item[0])
    return [digits for _, digits in found[:most]]


def _candidates(setting: Setting, rises: Sequence[int], largest: int) -> list[int]:
    """Output weights worth trying: whole codes, what spans the range, powers of two times them, and the extremes."""
    if setting.weights != "full":
        return [largest, -largest]
    top, span = max(abs(r) for r in rises), setting.largest * setting.s
    seeds = {1, setting.s, largest, -(-span // top), -(-2 * span // top), max(setting.s // 2, 1)}
    sizes = {min(seed << i, largest) for seed in seeds for i in range(largest.bit_length())}
    return sorted({sign * size for size in sizes for sign in (1, -1)})


def _with_digit(cost: np.ndarray, w: int, rises: Sequence[int]) -> np.ndarray:
    """Fewest digits in use for every sum, once neuron w may join."""
    best = cost.copy()
    for rise in rises:
        shift = w * rise
        if abs(shift) >= len(cost):
            continue
        source, sink = (cost[:-shift], best[shift:]) if shift > 0 else (cost[-shift:], best[:shift])
        np.minimum(sink, source + 1, out=sink)
    return best


def _cell(setting: Setting, k: int, reach: int) -> slice:
    low, high = setting.cell(k)
    return slice(0 if low is None else low + reach, None if high is None else high + reach + 1)


def _score(setting: Setting, cost: np.ndarray, counts: Mapping[int, int], reach: int) -> tuple[int, int]:
    """Values that are not reached, and digits in use over all that are."""
    best = {k: int(cost[_cell(setting, k, reach)].min(initial=NEVER)) for k in counts}
    missing = sum(n >= NEVER for n in best.values())
    return missing, sum(counts[k] * n for k, n in best.items() if n < NEVER)


def _settled(
    setting: Setting, costs: list[np.ndarray], weights: tuple[int, ...], theta: int, rises: Sequence[int],
    counts: Mapping[int, int], reach: int,
) -> Digits:  # fmt: skip
    """Walk back from the cheapest sum of every value to the digits that make it."""
    levels = {}
    for k in counts:
        cell = _cell(setting, k, reach)
        part = costs[-1][cell]
        least = np.flatnonzero(part == part.min()) + (cell.start or 0)
        total = int(least[np.argmin(np.abs(least - reach - k * setting.s))])
        used = [0] * len(weights)
        for j in reversed(range(len(weights))):
            before, after = costs[j], costs[j + 1]
            if before[total] == after[total]:
                continue
            for rise in rises:
                earlier = total - weights[j] * rise
                if 0 <= earlier < len(before) and before[earlier] + 1 == after[total]:
                    used[j], total = rise, earlier
                    break
        levels[k] = tuple(used)
    return Digits(weights, theta, levels)
