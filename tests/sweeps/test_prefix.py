"""Steps that points share: found again only where the result is the same, code by code and event by event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fixqnn as fq
import hw_models as hw
from fixqnn.sweeps.evaluate import Bench
from fixqnn.sweeps.prefix import Prefixes, identify
from tests.sweeps.sweeping import computed, data, network

X, LABELS = data()


def bench(**more):
    return Bench(network(), X, (X, LABELS), **more)


def accumulators(bits, overflow="saturate"):
    """A machine with one register for whole sums, whose output stage stays as it is."""
    return replace(hw.ideal(), name="one register", datapaths={
        **hw.ideal().datapaths, "linear": fq.SumOfProducts(fq.Shift("half_even"), sum=(fq.Stage(fq.Register(bits, overflow)),)),
    })  # fmt: skip


def test_steps_before_the_one_that_changed_are_not_computed_again():
    shared = bench()
    for done, bits in enumerate((2, 3, 4, 5)):
        shared.row({"weights[fc2]": bits}, "ideal")
        assert shared.prefixes.computed == 3 + done, "the first point runs three steps, every other one the last"
        assert shared.prefixes.reused == 2 * done


def test_a_register_that_cannot_act_may_have_any_width():
    shared = bench()
    first = shared.row({}, accumulators(30))
    for bits, overflow in ((24, "wrap"), (40, "saturate"), (31, "forbid")):
        row = shared.row({}, accumulators(bits, overflow))
        assert row["codes"] == first["codes"]
        assert row["fingerprint"] != first["fingerprint"]
    assert shared.prefixes.computed == 3


def test_a_register_that_did_not_act_on_these_data_may_be_wider():
    shared = bench()
    narrow = {"weights": 8, "activations": 8}
    acts = next(b for b in range(20, 4, -1) if shared.row(narrow, accumulators(b))["events"])
    shared = bench()
    assert shared.row(narrow, accumulators(acts + 1))["events"] == 0
    proved = shared.program(narrow, accumulators(acts + 1)).steps
    assert not all(step.path.startswith("sum/") for step in proved if step.path), (
        "types and weights alone do not settle it"
    )
    before = shared.prefixes.computed
    shared.row(narrow, accumulators(acts + 2, "wrap"))
    assert shared.prefixes.computed == before
    shared.row(narrow, accumulators(acts))
    assert shared.prefixes.computed > before, "one bit less acts, and is computed"


def test_a_register_that_acts_leaves_others_free():
    shared = bench()
    first = shared.row({"weights": 4}, hw.systolic(rows=4, partial=9, accumulator=24))
    assert first["layer_events"]["fc1"]["sum[0]"]
    computed = shared.prefixes.computed
    for accumulator in (25, 30):
        row = shared.row({"weights": 4}, hw.systolic(rows=4, partial=9, accumulator=accumulator))
        assert (row["codes"], row["layer_events"]) == (first["codes"], first["layer_events"])
    assert shared.prefixes.computed == computed
    shared.row({"weights": 4}, hw.systolic(rows=4, partial=10, accumulator=24))
    assert shared.prefixes.computed > computed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([2, 8]), st.sampled_from([3, 8]), st.integers(6, 18),
            st.sampled_from(["wrap", "saturate", "saturate_symmetric", "saturate_zero"]), st.sampled_from([None, 7, 10, 20]),
        ), min_size=2, max_size=8,
    ),
    st.integers(0, 6000),
)  # fmt: skip
def test_reuse_changes_no_code_no_event_and_no_figure(points, memory):
    alone, shared = bench(memory=0), bench(memory=memory)
    for weights, activations, bits, overflow, partial in points:
        settings = {"weights": weights, "activations": activations, "accumulator_bits": bits, "overflow": overflow}
        machine = accumulators(20) if partial is None else hw.systolic(rows=3, partial=partial)
        rows = computed([alone.row(settings, machine), shared.row(settings, machine)])
        assert rows[0] == rows[1]
    assert alone.prefixes.reused == 0


def test_random_rounding_is_told_apart_by_seed_and_by_step():
    machine = hw.ideal("stochastic")
    one, other = bench(seed=1), bench(seed=2)
    assert one.row({}, machine)["codes"] != other.row({}, machine)["codes"]
    program = one.program({}, machine)
    shapes = {name: identify(program, seed)[0].shape for name, seed in (("one", 1), ("other", 2), ("again", 1))}
    assert shapes["one"] == shapes["again"] != shapes["other"]
    want = fq.run(program, X, seed=1).output.codes
    assert np.array_equal(one.outputs(program)[0]["fc2"], want)
    assert np.array_equal(one.outputs(program)[0]["fc2"], want), "from what was kept, too"


def test_codes_that_are_kept_stay_within_the_limit_and_late_steps_stay_longest():
    kept = Prefixes(memory=100)
    for depth in range(5):
        kept.keep(bytes([depth]), np.zeros(30, np.int8), depth)
    assert kept._bytes <= 100
    assert kept.codes(bytes([4])) is not None
    assert kept.codes(bytes([0])) is None
    kept.keep(b"large", np.zeros(101, np.int8), 9)
    assert kept.codes(b"large") is None


def test_parts_of_the_test_set_add_up_to_the_whole():
    whole, parts = bench(), bench()
    parts.part = 7
    for machine in ("systolic(partial=9)", "ideal"):
        assert computed([whole.row({"weights": 4}, machine)]) == computed([parts.row({"weights": 4}, machine)])


@pytest.mark.parametrize("machine", ["systolic(partial=9)", "per_operation(bits=8, frac=3)", "tflite", "hls4ml"])
def test_events_and_codes_are_those_of_a_run(machine):
    mine = bench()
    program = mine.program({"weights": 5, "activations": 5}, machine)
    codes, events = mine.outputs(program)
    trace = fq.run(program, X)
    assert np.array_equal(codes["fc2"], trace.output.codes)
    assert events == {step: {name: e.count for name, e in found.items()} for step, found in trace.events.items()}
