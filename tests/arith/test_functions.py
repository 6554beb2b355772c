"""The functions themselves: float64 values and exact values, against textbook formulas and torch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fixqnn.arith.functions import FUNCTIONS
from fixqnn.errors import BadInput
from tests.arith.textbook import POSITIVE, reference

CASES = {
    "gelu": [{}, {"approximate": "tanh"}],
    "softplus": [{}, {"beta": 2.0, "threshold": 5.0}],
    "elu": [{}, {"alpha": 0.3}],
    "celu": [{}, {"alpha": 0.3}],
    "leaky_relu": [{}, {"negative_slope": 0.2}],
    "hardtanh": [{}, {"min_val": -2.0, "max_val": 0.5}],
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_real_values_are_those_of_the_textbook(name):
    x = np.concatenate([np.linspace(-30, 30, 151), [1e-9, -1e-9, 0.0]])
    x = np.abs(x[x != 0]) if name in POSITIVE else x
    for parameters in CASES.get(name, [{}]):
        got = FUNCTIONS[name].real(x, **parameters)
        assert got.dtype == np.float64
        want = [float(reference(name, Fraction(point), **parameters)) for point in x.tolist()]
        # float64 it is: exp(-x**3) magnifies the rounding of x**3 by up to 3000 here, and tanhshrink cancels near 0.
        assert np.allclose(got, want, rtol=1e-12, atol=1e-15 if name in ("sin", "cos", "tanhshrink") else 0), parameters


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_names_defaults_and_thresholds_are_torchs(name):
    torch = pytest.importorskip("torch")
    theirs = {"gaussian": lambda x: torch.exp(-x * x), "identity": lambda x: x}.get(name)
    theirs = theirs or getattr(torch, name, None) or getattr(torch.nn.functional, name)
    x = np.linspace(-30, 30, 1001)
    x = np.abs(x[x != 0]) if name in POSITIVE else x
    for parameters in CASES.get(name, [{}]):
        want = theirs(torch.from_numpy(x), **parameters).numpy()
        # Loose, as only the definition is asked for: torch's float64 cos was seen off by 7e-9 on its first call.
        assert np.allclose(FUNCTIONS[name].real(x, **parameters), want, rtol=1e-7, atol=1e-7), parameters
    points = np.array([9.9, 10.1]) / 4  # on both sides of a threshold, where softplus jumps by 4e-5
    if name == "softplus":
        want = theirs(torch.from_numpy(points), beta=4.0, threshold=10.0).numpy()
        assert np.allclose(FUNCTIONS[name].real(points, beta=4.0, threshold=10.0), want, rtol=1e-9, atol=0)


def test_real_keeps_the_shape_and_shows_undefined_points():
    assert FUNCTIONS["gelu"].real(np.zeros((2, 3, 1))).shape == (2, 3, 1)
    assert FUNCTIONS["erf"].real(0.0).shape == FUNCTIONS["silu"].real(0.0).shape == ()
    assert FUNCTIONS["sigmoid"].real([-np.inf, np.inf]).tolist() == [0.0, 1.0]
    assert FUNCTIONS["reciprocal"].real([0.0]).tolist() == [np.inf]
    assert np.isnan(FUNCTIONS["sqrt"].real([-1.0])).all()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_exact_values_are_those_of_the_textbook(name):
    for x in (Fraction(-7, 2), Fraction(-1), Fraction(0), Fraction(1), Fraction(9, 4), Fraction(25)):
        value = FUNCTIONS[name].exact(x)
        if value is not None:
            assert abs(value - reference(name, x)) < Fraction(1, 10**400), x
        elif FUNCTIONS[name].split is None:
            assert name == "reciprocal"
            assert x == 0


def test_the_exact_value_is_none_where_it_is_irrational_or_missing():
    assert FUNCTIONS["sqrt"].exact(Fraction(9, 4)) == Fraction(3, 2)
    assert FUNCTIONS["softplus"].exact(21) == 21
    for name, x in (
        ("sqrt", 2),
        ("sqrt", -4),
        ("log", 0),
        ("reciprocal", 0),
        ("softplus", 20),
        ("elu", -1),
        ("exp", 1),
    ):
        assert FUNCTIONS[name].exact(x) is None, (name, x)
    assert FUNCTIONS["elu"].exact(-1, alpha=0) == 0


def test_parameters_are_taken_exactly_or_refused():
    assert FUNCTIONS["leaky_relu"].exact(-1) == -Fraction(0.01)
    assert FUNCTIONS["leaky_relu"].exact(-1, negative_slope=Fraction(1, 100)) == Fraction(-1, 100)
    with pytest.raises(BadInput, match="elu has no parameter beta; its parameters: alpha"):
        FUNCTIONS["elu"].exact(1, beta=1)
    with pytest.raises(BadInput, match="exp has no parameter base; its parameters: none"):
        FUNCTIONS["exp"].real(1, base=2)
    with pytest.raises(BadInput, match='gelu needs approximate="none" or'):
        FUNCTIONS["gelu"].exact(1, approximate="erf")
    with pytest.raises(BadInput, match="elu: alpha must be finite"):
        FUNCTIONS["elu"].real([1.0], alpha=float("nan"))
    with pytest.raises(BadInput, match="hardtanh needs min_val at most max_val, not min_val=2, max_val=1"):
        FUNCTIONS["hardtanh"].exact(1, min_val=2)
