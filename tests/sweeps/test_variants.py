"""Variants of machines: by the parameters of what makes them, else in the record itself."""

from __future__ import annotations

import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.sweeps.variants import changed, changed_layers, expanded, machines_of, registers_of
from tests.sweeps.sweeping import network


def test_a_setting_goes_to_the_parameter_of_that_name():
    (machine,) = machines_of(hw.systolic)
    assert machine.make({"partial": 12}) == hw.systolic(partial=12)
    (machine,) = machines_of("systolic(partial=20, accumulator=24)")
    assert machine.make({"partial": 12}) == hw.systolic(partial=12, accumulator=24), "the point wins over the text"


@pytest.mark.parametrize("name", hw.CATALOG)
def test_every_machine_takes_the_general_settings_that_it_has_registers_for(name):
    machine = hw.CATALOG[name]()
    found = changed(machine, {"accumulator_bits": 21, "overflow": "wrap", "rounding": "floor"})
    for key, path in found.datapaths.items():
        if isinstance(path, fq.SumOfProducts):
            assert path.sum[-1].register.bits == 21, key
            assert {str(r.overflow) for r in registers_of((path.product, path.sum))} == {"wrap"}, key
        for scaler in (getattr(path, "scaler", None), getattr(path, "align", None)):
            for rounding in ("rounding", "first", "second"):
                assert getattr(scaler, rounding, None) in (None, "floor"), key
    assert machine == hw.CATALOG[name]() or machine.rewrites, "the machine itself stays"
    assert found.name.endswith("accumulator_bits=21, overflow=wrap, rounding=floor")


def test_partial_sums_are_the_innermost_of_several_stages():
    found = changed(hw.systolic(), {"partial_bits": 11})
    assert [stage.register.bits for stage in found.datapaths["conv"].sum] == [11, 32]
    assert found.datapaths["mean"] == hw.systolic().datapaths["mean"], "a sum with one stage has no partial sums"


def test_a_layer_of_its_own_gets_a_datapath_of_its_own():
    found = changed_layers(hw.ideal(), network(), {"fc2": {"accumulator_bits": 9}})
    assert found.datapaths["fc2"].sum[-1].register.bits == 9
    assert found.datapaths["linear"] == hw.ideal().datapaths["linear"]
    with pytest.raises(fq.BadInput, match=r"accumulator_bits\[fc3\] matches no layer; did you mean 'fc"):
        changed_layers(hw.ideal(), network(), {"fc3": {"accumulator_bits": 9}})


def test_texts_with_ranges_stand_for_several_machines():
    assert list(expanded("f(a=1..2, b='3..4', c=-1..0)")) == [
        f"f(a={a}, b='3..4', c={c})" for a in (1, 2) for c in (-1, 0)
    ]
    assert list(expanded("../mine.py:f")) == ["../mine.py:f"]
    found = machines_of(["hw_models:systolic(accumulator_bits=16..18)", hw.ideal(), hw.ideal])
    assert [machine.label for machine in found] == [
        *(f"hw_models:systolic(accumulator_bits={b})" for b in (16, 17, 18)), "ideal", "ideal",
    ]  # fmt: skip
    assert found[1].make({}).datapaths["conv"].sum[-1].register.bits == 17


@pytest.mark.parametrize(
    ("machine", "names", "message"),
    [
        ("systolic", ["partal"], "systolic has no setting 'partal'; did you mean 'partial'"),
        ("ideal", ["partial_bits"], "ideal has no setting 'partial_bits': it has no such register"),
        ("ideal", ["partial"], "ideal has no setting 'partial'"),
    ],
)
def test_a_setting_that_a_machine_does_not_know_is_refused_with_close_names(machine, names, message):
    (found,) = machines_of(machine)
    with pytest.raises(fq.BadInput, match=message):
        found.check(names)


@pytest.mark.parametrize(
    ("machines", "message"),
    [
        ([], "there are no machines"),
        ([3], "a machine is an Accelerator"),
        (3, "machines are Accelerators"),
        ("sistolic", "did you mean 'systolic'"),
        ("systolic(partial=9..8)", "range 9..8 in .* is empty"),
        ("systolic(partal=9..10)", "does not take these arguments: .*'partal'; it is systolic"),
        (lambda: 3, "not an Accelerator"),
    ],
)
def test_what_is_no_machine_is_refused(machines, message):
    with pytest.raises(fq.BadInput, match=message):
        machines_of(machines)[0].make({})
