"""Points and grids: which combinations there are, and whom their settings reach."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.sweeps.points import points_of


def test_the_last_axis_runs_fastest_and_single_values_need_no_list():
    points = fq.grid(weights=range(2, 4), ranges="mse", accumulator_bits=(16, 24))
    assert [tuple(point.settings.values()) for point in points] == [
        (2, "mse", 16), (2, "mse", 24), (3, "mse", 16), (3, "mse", 24),
    ]  # fmt: skip
    assert len(fq.grid()) == 1
    assert str(fq.grid()[0]) == "default settings"


def test_axes_of_layers_have_the_shape_of_overrides_and_come_after_the_others():
    points = fq.grid(weights=8, overrides={"layer1.*": {"weights": (4, 6), "activations": 5}, "fc": {"weights": 3}})
    assert [dict(point.settings) for point in points] == [
        {"weights": 8, "weights[layer1.*]": w, "activations[layer1.*]": 5, "weights[fc]": 3} for w in (4, 6)
    ]
    assert points[0].policy() == fq.Policy(
        weights=8, overrides={"layer1.*": {"weights": 4, "activations": 5}, "fc": {"weights": 3}}
    )


def test_a_points_settings_win_over_those_of_the_base_policy():
    base = fq.Policy(weights=8, ranges="mse", overrides={"*": {"weights": 5, "scales": "free"}, "fc": {"weights": 7}})
    policy = fq.Point({"weights": 4, "weights[*]": 3}).policy(base)
    assert policy.weights == 4
    assert policy.ranges == "mse"
    assert list(policy.overrides) == ["fc", "*"], "what comes later wins"
    assert dict(policy.overrides["*"]) == {"weights": 3, "scales": "free"}


def test_what_is_no_setting_of_formats_goes_to_the_machine():
    point = fq.Point({"weights": 4, "overflow": "wrap", "accumulator_bits[fc]": 12, "share": False})
    assert dict(point.machine_settings) == {"overflow": "wrap"}
    assert point.layer_machine_settings == {"fc": {"accumulator_bits": 12}}
    assert point.policy() == fq.Policy(weights=4, share=False)


def test_equal_points_are_equal_whatever_the_order_and_the_kind_of_number():
    one, other = (
        fq.Point({"weights": np.int64(4), "rounding": fq.Rounding.floor}),
        fq.Point({"rounding": "floor", "weights": 4}),
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one != fq.Point({"weights": 4.5, "rounding": "floor"})
    assert points_of([one, other]) == (one,)


def test_the_text_of_a_point_is_stable_and_leads_back():
    point = fq.Point({"format[fc]": fq.fixed(8, 4), "order": ("row", "column"), "weights": "ternary", "rows": None})
    for again in (fq.Point.from_json(point.to_json()), pickle.loads(pickle.dumps(point))):
        assert again == point
        assert again.to_json() == point.to_json()
    assert fq.Point({"weights": 4}).to_json() == '{"weights": 4}'


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fq.grid(weights=()), "axis 'weights' has no values"),
        (lambda: fq.grid(weights=0), "weights must be a number of bits"),
        (lambda: fq.grid(ranges=("mse", "max")), "ranges must be 'min_max' or"),
        (lambda: fq.grid(weights={"fc": 4}), "settings of single layers go to overrides"),
        (lambda: fq.grid(overrides={"fc": 4}), r"overrides\['fc'\] must map settings to values"),
        (lambda: fq.grid(overrides={"fc": {"scales": "fre"}}), "scales must be"),
        (lambda: fq.Point({"weights": object()}), "must be a number, text"),
        (lambda: fq.Point({"weights[": 4}), "a setting is called"),
        (lambda: fq.Point([4]), "takes a mapping"),
        (lambda: fq.Point.from_json("[1]"), "are no settings"),
        (lambda: points_of([]), "there are no points"),
        (lambda: points_of("weights"), "points must be Points"),
    ],
)
def test_what_makes_no_point_is_refused_and_named(make, message):
    with pytest.raises(fq.BadInput, match=message):
        make()
