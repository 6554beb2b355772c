"""The library's int8 products: taken only where they are right, and then equal to every other path."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fixqnn.errors import BadInput
from fixqnn.kernels import library
from fixqnn.kernels.library import LibrarySum

ROOT = Path(__file__).parent.parent.parent
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="older x86 only")


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    monkeypatch.delenv("FIXQNN_INT8", raising=False)
    library.self_test.cache_clear()
    yield
    library.self_test.cache_clear()


def in_pairs(x, w):
    """What older x86 computes: (x + 128)·w, whose pairs are added in 16 bits with saturation."""
    u, w = x.astype(np.int64) + 128, w.astype(np.int64)
    products = u[:, :, None] * w[None]
    if products.shape[1] % 2:
        products = np.pad(products, ((0, 0), (0, 1), (0, 0)))
    pairs = (products[:, ::2] + products[:, 1::2]).clip(-(1 << 15), (1 << 15) - 1)
    return (pairs.sum(axis=1) - 128 * w.sum(axis=0)).astype(np.int32)


def right(x, w):
    return x.astype(np.int32) @ w.astype(np.int32)


WRONG = {
    "pairs saturate": in_pairs,
    "a float32 on the way": lambda x, w: (
        (x.astype(np.float32) @ w.astype(np.float32)).astype(np.float16).astype(np.int32)
    ),
    "terms past 64 are lost": lambda x, w: right(x[:, :64], w[:64]),
    "unsigned": lambda x, w: right(x.view(np.uint8), w),
}


def test_right_products_pass(monkeypatch):
    monkeypatch.setattr(library, "product", right)
    assert library.self_test()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_products_are_refused(name, monkeypatch):
    monkeypatch.setattr(library, "product", WRONG[name])
    with np.errstate(over="ignore", invalid="ignore"):
        assert not library.self_test()


def test_a_library_that_fails_is_not_taken_and_cannot_be_asked_for(monkeypatch):
    monkeypatch.setattr(library, "product", in_pairs)
    monkeypatch.setattr(library, "features", lambda: frozenset({"amx-int8"}))
    assert not library.usable()
    monkeypatch.setenv("FIXQNN_INT8", "library")
    with pytest.raises(BadInput, match="int8 products of this torch are wrong on this processor"):
        library.usable()


def test_tiles_of_the_processor_are_taken_unless_vectors_are_asked_for(monkeypatch):
    monkeypatch.setattr(library, "product", right)
    monkeypatch.setattr(library, "features", lambda: frozenset({"amx-int8"}))
    assert library.usable()
    monkeypatch.setenv("FIXQNN_INT8", "vectors")
    assert not library.usable()
    monkeypatch.setenv("FIXQNN_INT8", "fast")
    with pytest.raises(BadInput, match="FIXQNN_INT8 is library or vectors, not 'fast'"):
        library.usable()


def test_without_tiles_nobody_asks_torch(monkeypatch):
    monkeypatch.setattr(library, "product", None)
    monkeypatch.setattr(library, "features", lambda: frozenset({"avx512vnni"}))
    assert not library.usable()


def test_torch_has_its_threads_back_afterwards():
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with library.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


OLD = """
import json
import numpy as np
from fixqnn.kernels import library
x, w = np.full((4, 64), 127, np.int8), np.full((64, 16), 127, np.int8)
print(json.dumps([library.self_test(), int(library.product(x, w)[0, 0])]))
"""


@x86
def test_where_the_library_adds_pairs_in_16_bits_the_self_test_sees_it():
    done = subprocess.run(
        [sys.executable, "-c", OLD], cwd=ROOT, env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    passed, one = done.stdout.strip().strip("[]").split(", ")
    # 64·127·127 = 1032256; a torch whose fallback is right may pass
    assert (passed == "true") == (int(one) == 64 * 127 * 127)


LAYERS = """
from tests.emulated import layer, said
from fixqnn.kernels import library
used = 0
class Watch(library.LibrarySum):
    def __init__(self, contraction):
        global used
        used += 1
        super().__init__(contraction)
import fixqnn.kernels.ways as ways
ways.LibrarySum = Watch
for draw in range(200, 260):
    graph, machine, x = layer(draw)
    assert said(graph, machine, x, "sum/int8") in (None, said(graph, machine, x, "wide")), draw
print(used)
"""


def test_codes_are_those_of_the_widest_path():
    if not library.self_test():
        pytest.skip("int8 products of this torch are wrong on this processor")
    done = subprocess.run(
        [sys.executable, "-c", LAYERS], cwd=ROOT, env={**os.environ, "FIXQNN_INT8": "library"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 3


def test_operands_are_gathered_in_runs_of_neighbours():
    packed = np.arange(40, dtype=np.int8)
    rows = np.empty((2, 5), np.int8)
    places = np.array([0, 1, 2, 10, 11])
    library.take_runs(packed, np.array([0, 7]), places, np.array([0, 3]), np.array([3, 5]), rows)
    assert np.array_equal(rows, packed[np.array([[0], [7]]) + places])
    assert LibrarySum.dtype is np.int32
