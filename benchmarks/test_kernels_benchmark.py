"""A few kernels under pytest-benchmark, to compare two commits: ``pytest benchmarks/ --benchmark-enable``."""

from __future__ import annotations

import pytest

import fixqnn as fq
from benchmarks.kernels import BY_NAME, conv, matrix, our_case

SHAPES = (matrix(196, 1152, 256), conv(64, 64, 56))
NAMES = ("exact 8×8", "saturate 16, nothing overflows", "saturate 20, nothing overflows", "any, by wide")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", NAMES)
def test_one_layer(benchmark, name, shape):
    try:
        case, about = our_case(BY_NAME[name], shape, "+ rescale")
    except fq.BadInput as refused:
        pytest.skip(str(refused))
    benchmark.extra_info.update(about)
    benchmark(case)
