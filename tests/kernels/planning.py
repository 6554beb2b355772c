"""Plans made by hand, for tests: a datapath, weights and a range of inputs, and what is planned for them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fixqnn.arith.bind import BoundSum, bind_sum
from fixqnn.arith.exact import _runs
from fixqnn.datapath import Register, Stage, SumOfProducts
from fixqnn.errors import BadInput
from fixqnn.kernels.extent import Extent, extent
from fixqnn.kernels.plan import Plan, choose
from fixqnn.modes import Overflow, fit

Channels = tuple[int, ...]


def bound_of(stages: Any, terms: int, at: str = "first", product: Register | None = None, ratio: int = 0) -> BoundSum:
    stages = stages if isinstance(stages, tuple) else (Stage(stages),)
    datapath = SumOfProducts(product=product, sum=stages, bias=at)
    return bind_sum(datapath, Fraction(1), {"channel": terms}, Fraction(2) ** ratio)


def runs_of(bound: BoundSum, terms: int) -> list[list[list[int]]]:
    """Terms of every run of every stage, by the definition."""
    levels, numbers = [], [(k, k) for k in range(terms)]
    groups: dict[int, list[int]] = {k: [k] for k in range(terms)}
    for level, stage in enumerate(bound.stages):
        runs = _runs(numbers, bound.ends[level], stage.size)
        joined = [[t for number, _ in run for t in groups[number]] for run in runs]
        levels.append(joined)
        groups = dict(enumerate(joined))
        numbers = [(i, run[-1]) for i, run in enumerate(joined)]
    return levels


def flush_of(bound: BoundSum, terms: int) -> np.ndarray:
    flush = np.zeros(terms, np.int64)
    for runs in runs_of(bound, terms)[:-1]:
        for run in runs:
            flush[run[-1]] += 1
    return flush


def reach_of(w: Any, low: int, high: int, bound: BoundSum) -> Extent:
    w = np.atleast_2d(np.array(w))
    return extent(w, low, high, False, flush_of(bound, w.shape[1]))


def chosen(
    w: Any, low: int, high: int, stages: Any, forced: str | None = None, bias: Channels = (), **more: Any
) -> Plan:
    w = np.atleast_2d(np.array(w))
    bound = bound_of(stages, w.shape[1], **more)
    return choose(reach_of(w, low, high, bound), bound, bias, w.shape[1], forced)


def refusal(*arguments: Any, **more: Any) -> str:
    with pytest.raises(BadInput) as problem:
        chosen(*arguments, **more)
    return str(problem.value)


def wrapped(value: int, bits: int) -> int:
    """What `bits` bits deliver of a number."""
    return fit(value, bits, True, Overflow.wrap)
