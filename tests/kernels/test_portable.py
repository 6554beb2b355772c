"""Plain loops against the step-by-step path and against what vectors do, and the choice between the two forms."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.errors import BadInput
from fixqnn.kernels import portable
from fixqnn.kernels.portable import form_of_kernels

ROOT = Path(__file__).parent.parent.parent


def test_vectors_are_taken_where_they_are_known_to_be_wide():
    assert form_of_kernels(None, frozenset({"sse2", "avx", "avx2"})) == "vectors"
    assert form_of_kernels("", frozenset({"neon"})) == "vectors"
    assert form_of_kernels(None, frozenset({"sse2", "avx"})) == "portable"
    assert form_of_kernels("portable", frozenset({"avx2"})) == "portable"
    assert form_of_kernels("vectors", frozenset()) == "vectors"


def test_a_form_that_does_not_exist_is_refused():
    with pytest.raises(BadInput, match="FIXQNN_KERNELS is vectors or portable, not 'fast'"):
        form_of_kernels("fast", frozenset())


def saturating(x: np.ndarray, w: np.ndarray, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sums of one row in 16-bit lanes, and whether they stay to do."""
    lanes = -(-w.shape[1] // portable.UNIT) * portable.UNIT
    weights = np.zeros((len(x), lanes), np.int16)
    weights[:, : w.shape[1]] = w
    todo, out = np.ones((1, 1), np.uint8), np.zeros((1, 1, w.shape[1]), np.int32)
    places, ends, panels = np.arange(len(x)), np.array([0, len(x)]), np.array([[0, 0, 0, w.shape[1]]])
    x = np.append(x, np.zeros(64, np.int64)).astype(np.int16)
    portable.saturating(x, np.array([0]), places, ends, weights, panels, np.full(lanes, start, np.int16), 0, todo, out)
    return out[0, 0], todo[0, 0]


@settings(deadline=None)  # the first call compiles
@given(data=st.data(), terms=st.integers(1, 20), outputs=st.integers(1, 18))
def test_a_lane_that_was_clamped_is_seen_even_if_it_was_clamped_at_both_ends(data, terms, outputs):
    # few and large products: clamps at both ends in a row, whose sum of errors may be none
    factors = st.sampled_from([-181, -180, 1, 180, 181])
    x = np.array(data.draw(st.lists(factors, min_size=terms, max_size=terms)), np.int64)
    w = np.array(
        data.draw(st.lists(st.lists(factors, min_size=outputs, max_size=outputs), min_size=terms, max_size=terms))
    )
    found, left = saturating(x, w)
    want, acted = np.zeros(outputs, np.int64), False
    for k in range(terms):
        asked = want + x[k] * w[k]
        want = np.clip(asked, -(1 << 15), (1 << 15) - 1)
        acted |= bool((asked != want).any())
    assert np.array_equal(found, want)
    assert bool(left) == acted


def test_two_clamps_whose_errors_cancel_within_one_pass_are_seen():
    # 100 too many at the upper end and 100 too few at the lower one: after eight terms the sum is the unclamped one
    products = [32767, 100, -32768, -32767, -100, 0, 0, 0]
    assert sum(products) == -32768
    found, left = saturating(np.ones(8, np.int64), np.array(products)[:, None])
    assert (found[0], left) == (-32768, 1)


FORCED = """
import sys
import numpy as np
from tests.emulated import layer, said
from fixqnn.kernels.plan import PATHS
from fixqnn.kernels.portable import KERNELS
assert KERNELS == "portable"
count = 0
for draw in range(100, 140):
    graph, machine, x = layer(draw)
    want = said(graph, machine, x, "wide")
    for path in PATHS:
        got = None if "float" in path else said(graph, machine, x, path)
        count += got is not None
        assert got in (None, want), (draw, path)
print(count)
"""


def test_forced_paths_give_the_codes_and_events_of_the_widest_one():
    done = subprocess.run(
        [sys.executable, "-c", FORCED], cwd=ROOT, env={**os.environ, "FIXQNN_KERNELS": "portable"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 80


def test_a_wrong_form_is_refused_when_kernels_are_imported():
    done = subprocess.run(
        [sys.executable, "-c", "import fixqnn.kernels.portable"], cwd=ROOT,
        env={**os.environ, "FIXQNN_KERNELS": "fast"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "BadInput: FIXQNN_KERNELS is vectors or portable, not 'fast'" in done.stderr
