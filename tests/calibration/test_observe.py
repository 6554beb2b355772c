from __future__ import annotations

import doctest
import math
import pickle
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixqnn.calibration import Observation, Policy, calibrate, observe
from fixqnn.errors import BadInput
from tests.calibration.networks import chain, lenet, mlp, node, pictures, relu, rows

numbers = (
    st.floats(-1e6, 1e6) | st.floats(-1e-6, 1e-6) | st.just(0.0) | st.floats(allow_nan=False, allow_infinity=False)
)
vectors = arrays(np.float64, st.integers(1, 30), elements=numbers)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(observe).failed == 0


def test_an_observation_counts_by_hand():
    seen = Observation.of(np.array([-1.0, 0.0, 0.0, 0.3, 3.5]))
    assert (seen.low, seen.high, seen.zeros, seen.count, seen.step) == (-1.0, 3.5, 2, 5, -10)  # 3.5 < 4096·2^-10
    left, counts = seen.bins()
    assert left.tolist() == [-1024, 307, 3584]
    assert counts.tolist() == [1, 1, 1]


@settings(deadline=None)
@given(vectors, vectors, vectors)
def test_merging_is_the_same_as_seeing_all_at_once(a, b, c):
    whole = Observation.of(np.concatenate([a, b, c]))
    assert Observation.of(a).merged(Observation.of(b)).merged(Observation.of(c)) == whole
    assert Observation.of(c).merged(Observation.of(b).merged(Observation.of(a))) == whole
    assert whole.count == a.size + b.size + c.size


@settings(deadline=None)
@given(vectors)
def test_every_number_lies_in_the_bin_that_counts_it(x):
    seen = Observation.of(x)
    left, counts = seen.bins()
    bins = [math.floor(Fraction(number) / Fraction(2) ** seen.step) for number in x if number]
    assert dict(zip(left.tolist(), counts.tolist(), strict=True)) == Counter(bins)


@settings(deadline=None)
@given(vectors, st.floats(-10, 10), st.floats(0, 10))
def test_the_share_outside_is_zero_exactly_when_nothing_is(x, low, width):
    seen = Observation.of(x)
    share = seen.share_outside(low, low + width)
    truth = np.mean((x < low) | (x > low + width))
    bin_width = 2.0**seen.step
    near = np.mean((np.abs(x - low) <= bin_width) | (np.abs(x - low - width) <= bin_width))
    assert 0 <= share <= 1
    assert abs(share - truth) <= near + 1e-12  # as fine as a bin
    if low <= x.min() and x.max() <= low + width:
        assert share == 0


def test_a_percentile_leaves_out_the_outermost():
    x = np.concatenate([np.linspace(0.001, 1, 990), [100.0] * 8, [-50.0] * 2])
    seen = Observation.of(x)
    width = 2.0**seen.step
    low, high = seen.within(99.0, both_sides=False)  # ten of a thousand, whatever their sign
    assert 1 <= high <= 1 + width
    assert low == -high
    low, high = seen.within(99.0, both_sides=True)  # five at each end: the two below, and the eight above must stay
    assert high == 100.0
    assert low == 0
    assert seen.within(100, both_sides=False) == (-50.0, 100.0)


@settings(deadline=None)
@given(vectors, st.floats(51, 100), st.booleans())
def test_a_percentile_is_never_too_narrow(x, percentile, both_sides):
    seen = Observation.of(x)
    low, high = seen.within(percentile, both_sides)
    assert low <= 0 <= high
    assert min(x.min(), 0) <= low
    assert high <= max(x.max(), 0)
    outside = np.sum((x < low) | (x > high))
    assert outside <= x.size * (100 - percentile) / 100


# ------------------------------------------------------------------------------------------------------- calibrate
def test_calibrate_sees_inputs_and_nodes_but_no_constants():
    graph = mlp()
    found = calibrate(graph, rows())
    assert list(found.values) == ["x", "fc1", "relu1", "fc2"]
    assert found.samples == 20
    values = graph.evaluate(rows(), watch="all")
    for name, seen in found.values.items():
        assert (seen.low, seen.high) == (values[name].min(), values[name].max())
    assert found["relu1"].zeros == np.sum(values["relu1"] == 0) > 0


def test_batches_make_no_difference():
    whole = calibrate(lenet(), pictures(150))
    for sizes in ([7, 80], [1, 2, 3, 149], [64, 128]):
        parts = calibrate(lenet(), iter(np.split(pictures(150), sizes)))
        assert parts.values == whole.values
        assert parts.samples == 150


def test_a_calibration_prints_and_travels():
    found = calibrate(mlp(), rows())
    assert repr(found) == "<Calibration of 4 values on 20 samples>"
    lines = str(found).splitlines()
    assert lines[0].split() == ["value", "low", "high", "zeros"]
    assert lines[-1] == "20 samples"
    assert len(lines) == 6
    assert pickle.loads(pickle.dumps(found)).values == found.values
    with pytest.raises(BadInput, match="the calibration saw no value 'fc9', so it was made on another graph"):
        found["fc9"]


def test_progress_counts_samples():
    calls = []
    calibrate(mlp(), rows(130), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(64, 130), (128, 130), (130, 130)]


@pytest.mark.parametrize("samples", [np.zeros((0, 4)), [], iter(()), [np.zeros((0, 4))]])
def test_no_samples_are_an_error(samples):
    with pytest.raises(BadInput, match="samples are empty"):
        calibrate(mlp(), samples)


def test_a_misspelt_policy_fails_before_the_first_sample():
    def stream():
        raise AssertionError("a sample was read")
        yield

    with pytest.raises(BadInput, match="matches no node"):
        calibrate(mlp(), stream(), Policy(overrides={"fc7": {"weights": 4}}))


def test_a_value_that_leaves_the_real_numbers_is_named_with_its_sample():
    graph = chain(node("y", "lookup", "x", function="reciprocal"), relu("z", "y"))
    samples = np.ones((70, 4))
    samples[66, 3] = 0
    with pytest.raises(
        BadInput, match=r"value y\[66, 3\] becomes inf .* keep the samples inside the function's domain"
    ):
        calibrate(graph, samples)
