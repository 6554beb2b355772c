from __future__ import annotations

import doctest
import pickle

import numpy as np
import pytest

from fixqnn.calibration import Policy, policy
from fixqnn.errors import BadInput
from fixqnn.format import affine, fixed
from tests.calibration.networks import mlp


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(policy).failed == 0


def test_a_policy_prints_as_the_call_that_makes_it():
    made = Policy(4, inputs=8, overrides={"a.*": {"bias": 16}}, kinds={"tanh": {"format": fixed(8, 7)}}, signed=True)
    text = "Policy(weights=4, inputs=8, overrides={'a.*': {'bias': 16}}, kinds={'tanh': {'format': fixed(8, 7)}}, signed=True)"
    assert repr(made) == text
    assert eval(text) == made
    assert repr(Policy()) == "Policy()"


def test_a_policy_cannot_change_after_it_was_made():
    settings = {"weights": 4}
    made = Policy(overrides={"fc1": settings})
    settings["weights"] = 2
    assert made.overrides["fc1"]["weights"] == 4
    with pytest.raises(TypeError):
        made.overrides["fc1"]["weights"] = 3


def test_a_policy_travels_to_another_process_and_has_a_hash():
    made = Policy(
        weights="ternary", overrides={"fc1": {"activations": 4}}, kinds={"add": {"format": affine(8, 0.1, 3)}}
    )
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert hash(again) == hash(made)


def test_numpy_numbers_serve_as_bits():
    assert repr(Policy(weights=np.int64(5))) == "Policy(weights=5)"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": 0}, "weights must be a number of bits, at least 1, 'binary' or 'ternary', not 0"),
        ({"activations": 7.5}, "activations must be a number of bits, at least 1, not 7.5"),
        ({"bias": True}, "bias must be a number of bits, at least 1, not True"),
        ({"bias": None}, "bias must be a number of bits, at least 1, not None"),
        ({"ranges": "max"}, "ranges must be 'min_max' or 'percentile' or 'mse', not 'max'"),
        ({"signed": 1}, "signed must be 'auto' or True or False, not 1"),
        ({"per_channel": "yes"}, "per_channel must be True or False, not 'yes'"),
        ({"percentile": 0.9999}, "percentile must be above 50 and at most 100, not 0.9999"),
        (
            {"overrides": {"fc1": {"wieghts": 4}}},
            r"overrides\['fc1'\] has no setting 'wieghts'; did you mean 'weights'",
        ),
        ({"overrides": {"fc1": {"inputs": 4}}}, r"overrides\['fc1'\] has no setting 'inputs'"),
        (
            {"overrides": {"fc1": 4}},
            r"overrides\['fc1'\] must be a mapping of settings, such as \{'weights': 4\}, not 4",
        ),
        ({"overrides": ["fc1"]}, r"overrides must map names to settings"),
        ({"kinds": {"add": {"activations": -1}}}, r"kinds\['add'\]: activations must be a number of bits"),
        ({"kinds": {"add": {"format": 8}}}, r"kinds\['add'\]: format must be a Format, such as fixed\(8, 4\), not 8"),
    ],
)
def test_a_setting_that_cannot_be_is_named(wrong, message):
    with pytest.raises(BadInput, match=message):
        Policy(**wrong)


def test_a_pattern_that_matches_nothing_is_an_error_with_close_names():
    with pytest.raises(
        BadInput, match=r"overrides\['fc3'\] matches no node and no value .*; did you mean 'fc2' or 'fc1'"
    ):
        Policy(overrides={"fc3": {"weights": 4}}).check(mlp())
    with pytest.raises(BadInput, match=r"kinds\['liner'\] is no operation or function; did you mean 'linear'"):
        Policy(kinds={"liner": {"weights": 4}}).check(mlp())
    Policy(overrides={"*.weight": {}, "fc?": {}, "x": {}}, kinds={"tanh": {}, "input": {}, "conv": {}}).check(mlp())


def test_case_counts_in_patterns():
    with pytest.raises(BadInput, match="matches no node"):
        Policy(overrides={"FC1": {"weights": 4}}).check(mlp())


def test_the_later_override_wins_and_names_win_over_kinds():
    overrides = {"fc*": {"weights": 4, "bias": 16}, "fc1": {"weights": 6}}
    made = Policy(overrides=overrides, kinds={"linear": {"weights": 3, "activations": 5}})
    assert made.explicit(("fc1",), ("linear",)) == {"weights": 6, "bias": 16, "activations": 5}
    assert made.explicit(("fc2",), ("linear",)) == {"weights": 4, "bias": 16, "activations": 5}
    assert made.explicit(("other",), ("conv",)) == {}
    assert made.explicit(("other",), ("linear",), 12) == {"weights": 3, "activations": 12}
