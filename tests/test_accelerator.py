"""An accelerator checks its datapaths and prints as the call that makes it."""

from __future__ import annotations

import pytest

import fixqnn as fq


def test_it_prints_as_the_call_that_makes_it():
    machine = fq.Accelerator("mine", {"linear": fq.SumOfProducts(fq.Shift("half_up")), "lookup": fq.Lookup()},
                             fq.Ports(weights=(4, 8)), source="page 3")  # fmt: skip
    assert eval(repr(machine), {**{name: getattr(fq, name) for name in dir(fq)}}) == machine


@pytest.mark.parametrize(
    ("datapaths", "message"),
    [
        ({"conv": fq.Lookup()}, "'mine': conv needs a SumOfProducts, not Lookup"),
        ({"add": fq.Shift()}, "'mine': add needs a Elementwise, not Shift"),
        ({"conv1": 3}, "conv1 needs a datapath, not 3"),
    ],
)
def test_a_datapath_of_the_wrong_kind_is_refused(datapaths, message):
    with pytest.raises(fq.FormatError, match=message):
        fq.Accelerator("mine", datapaths)


def test_ports_say_what_they_take():
    ports = fq.Ports(weights=range(2, 9), activations=(8, 16), zero_points=False)
    assert ports.problem(fq.fixed(8, 3), "weights") == ""
    assert "12-bit weights" in ports.problem(fq.fixed(12, 3), "weights")
    assert "takes 2…8 bits" in ports.problem(fq.fixed(12, 3), "weights")
    assert "zero point 3" in ports.problem(fq.affine(8, 0.1, 3), "activations")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fq.Register(0), r"Register.bits must be a whole number of at least 1, not 0"),
        (lambda: fq.Register(8, "clip"), "'clip' is no overflow mode; there are wrap, saturate"),
        (lambda: fq.Register(8, rounding="nearest"), "'nearest' is no rounding mode"),
        (lambda: fq.Register(8, drop=1, frac=2), "drop or frac, not both"),
        (lambda: fq.Register(8, kept=2), "only when the register wraps"),
        (lambda: fq.Register(8, "wrap", kept=8), "at most 7"),
        (lambda: fq.Register(8, "wrap_sign_magnitude", signed=False), "signed"),
        (lambda: fq.Stage(fq.Register(8), 0), "Stage.size"),
        (lambda: fq.Stage(fq.Register(8), within="width"), "'width'"),
        (lambda: fq.SumOfProducts(sum=()), "at least one Stage"),
        (lambda: fq.SumOfProducts(sum=(fq.Stage(fq.Register(8), 4),)), "gathers all that remains"),
        (lambda: fq.SumOfProducts(sum=(fq.Stage(fq.Register(8)), fq.Stage(fq.Register(8)))), "nothing is left"),
        (lambda: fq.SumOfProducts(order=("row", "row")), "names an axis twice"),
        (lambda: fq.SumOfProducts(zero_point="gone"), "'gone'"),
        (lambda: fq.Elementwise(common="best"), "'best'"),
        (lambda: fq.Lookup(size=16), "low < high"),
        (lambda: fq.Lookup(entry=fq.Register(8)), "needs frac"),
        (lambda: fq.Divide(then=fq.Divide()), "another scaler"),
        (lambda: fq.Multiplier(1), "at least 2"),
        (lambda: fq.Float("float16"), "'float16'"),
    ],
)
def test_a_record_that_cannot_exist_says_why(make, message):
    with pytest.raises(fq.FormatError, match=message):
        make()
