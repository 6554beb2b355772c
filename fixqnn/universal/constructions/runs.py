"""Where an activation's table is constant, and how a sum is moved so that given values fall into given places."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fixqnn.universal.grid import Setting

__all__ = ["FAR", "Run", "ends", "offset_between", "runs_of"]

FAR = 1 << 52  # stands for no end of a cell: beyond every sum that is formed here


@dataclass(frozen=True)
class Run:
    """Neighbouring codes to which the table gives the same value, and the sums that round to them.

    Attributes
    ----------
    value : int
        What the table says there.
    first, last : int
        The codes.
    low, high : int
        The sums in units of 1/s²; ±`FAR` where there is no end.
    """

    value: int
    first: int
    last: int
    low: int
    high: int


def runs_of(setting: Setting, table: Sequence[int]) -> tuple[Run, ...]:
    """Split −M … M where the table changes.

    >>> [(run.value, run.first, run.last) for run in runs_of(Setting(2, 4), (0, 0, 0, 0, 1, 2, 3))]
    [(0, -3, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)]
    """
    m, runs, first = setting.largest, [], -setting.largest
    for k in setting.codes:
        if k == m or table[k + m] != table[k + 1 + m]:
            low, high = setting.cell(first)[0], setting.cell(k)[1]
            runs.append(Run(table[k + m], first, k, -FAR if low is None else low, FAR if high is None else high))
            first = k + 1
    return tuple(runs)


def ends(setting: Setting, table: Sequence[int]) -> tuple[Run, Run]:
    """The runs of −M and of M."""
    runs = runs_of(setting, table)
    return runs[0], runs[-1]


def offset_between(low: int, high: int, unit: int) -> int | None:
    """The multiple of `unit` in [low, high] nearest to zero; None where there is none.

    >>> offset_between(5, 11, 4), offset_between(-3, 9, 4), offset_between(5, 7, 4)
    (8, 0, None)
    """
    if low > high:
        return None
    if low <= 0 <= high:
        return 0
    best = -(-low // unit) * unit if low > 0 else high // unit * unit
    return best if low <= best <= high else None


def steepness(setting: Setting, low: Run, high: Run, gaps: Iterable[tuple[int, int]], unit: int) -> int | None:
    """The smallest multiplier t, a multiple of `unit`, that takes every lower value into `low` and every upper into `high`.

    For each pair (below, above) there is an offset K with t·below + K in `low` and t·above + K in `high`; both runs have
    no end outward.
    """
    pairs = list(gaps)
    narrowest = min(above - below for below, above in pairs)
    start = max(-(-(high.low - low.high) // narrowest), 1)
    for t in range(-(-start // unit) * unit, start + 4 * setting.s * unit + 1, unit):
        if all(
            offset_between(high.low - t * above, low.high - t * below, setting.bias_unit) is not None
            for below, above in pairs
        ):
            return t
    return None
