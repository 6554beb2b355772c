"""Sums of products in ap_fixed and ac_fixed registers against the headers that define these types."""

from __future__ import annotations

import numpy as np
import pytest
from replay import load, replay, same_codes, single

import fixqnn as fq

FILES = {"ap_fixed_mac.npz": 6960, "ac_fixed_mac.npz": 6000}


def type_of(words: list) -> fq.Register:
    """A register from (W, I, signed, rounding, overflow, N)."""
    bits, whole, signed, rounding, overflow, kept = words
    if rounding.startswith("AC"):
        name = f"ac_fixed<{bits},{whole},{str(signed).lower()},{rounding},{overflow}>"
    else:
        name = f"ap_{'' if signed else 'u'}fixed<{bits},{whole},{rounding},{overflow},{kept}>"
    t = fq.parse_type(name)
    return fq.Register(bits, t.overflow, signed, t.rounding, frac=t.format.frac, kept=t.kept)


@pytest.mark.parametrize("form", ["full", "prod"])
@pytest.mark.parametrize("file", FILES)
def test_every_accumulator_type_adds_as_its_header_does(file, form):
    """`full`: one cast of the exact sum per step; `prod`: the product is cast first, then the sum."""
    meta, arrays = load(file)
    compared = 0
    for case in meta["cases"]:
        a, b = arrays[case["key"]]["a"], arrays[case["key"]]["b"]
        a_format, b_format = (fq.fixed(bits, bits - whole, signed) for bits, whole, signed in (case["a"], case["b"]))
        # one group per row, so that each row meets its own weights
        x, w = fq.Tensor(a[None], a_format), fq.Tensor(b[:, None], b_format)
        for words, want in zip(case["acc"], arrays[case["key"]][form], strict=True):
            register = type_of(words)
            record = fq.SumOfProducts(None, register if form == "prod" else None, (fq.Stage(register),))
            output = fq.fixed(register.bits, register.frac, register.signed)
            graph = single(
                "conv", {"x": x}, {"w": w}, output,
                stride=(1,), padding=((0, 0),), dilation=(1,), groups=len(a),
            )  # fmt: skip
            program = fq.lower(graph, fq.Accelerator("accumulator", {"conv": record}))
            slow = fq.run(program, x, engine="exact")
            same_codes(slow.output.codes[0, :, 0], want, f"{file} {words} {form}, exact engine")
            if register.overflow is fq.Overflow.wrap_sign_magnitude:
                with pytest.raises(fq.TooWide, match="engine='exact'"):
                    fq.run(program, x)
            else:
                fast = fq.run(program, x)
                same_codes(fast.output.codes[0, :, 0], want, f"{file} {words} {form}, fast engine")
                assert fast.events == slow.events
            compared += want.size
    assert compared == FILES[file] / 2


def test_a_product_rounded_before_it_is_added_is_another_sum():
    """1 + 1/2 into whole numbers, half to even: the half alone goes to 0, on top of 1 it goes to 2."""
    x, w = fq.Tensor([[2, 1]], fq.fixed(8, 1)), fq.Tensor([[1, 1]], fq.fixed(8, 0))
    register = fq.Register(8, "saturate", rounding="half_even", frac=0)
    for product, want in ((register, 1), (None, 2)):
        record = fq.SumOfProducts(None, product, (fq.Stage(register),))
        program = fq.lower(
            single("linear", {"x": x}, {"w": w}, fq.fixed(8, 0)), fq.Accelerator("word", {"linear": record})
        )
        for engine in ("fast", "exact"):
            assert fq.run(program, x, engine=engine).output.codes.item() == want


def test_the_headers_file_covers_wrapping_saturating_and_every_rounding():
    words = {tuple(w[3:]) for file in FILES for case in load(file)[0]["cases"] for w in case["acc"]}
    assert {w[1].partition("_")[2] for w in words} >= {"WRAP", "SAT", "SAT_SYM", "SAT_ZERO"}
    assert len({w[0].partition("_")[2] for w in words}) >= 7
    assert np.unique([w[2] for w in words]).tolist() == [0, 1]


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply"])
def test_operators_are_exact_in_the_type_that_the_header_gives_them(operation):
    meta, arrays = load("ap_fixed_ops.npz")
    word = {"add": "add", "subtract": "sub", "multiply": "mul"}[operation]
    compared = 0
    for case in meta["cases"]:
        forms = [fq.fixed(bits, bits - whole, signed) for bits, whole, signed in (case["a"], case["b"], case[word])]
        inputs = {
            name: fq.Tensor(arrays[case["key"]][name][None], form) for name, form in zip("ab", forms, strict=False)
        }
        # a result type holds every result, so nothing may be rounded and nothing may overflow
        graph = single(operation, inputs, {}, forms[2])
        record = fq.Elementwise(fq.Shift(overflow="forbid"), common=None if operation == "multiply" else "finest")
        machine, want = fq.Accelerator("operators", {operation: record}), arrays[case["key"]][word]
        compared += replay(machine, graph, inputs, want[None], case["key"])
    assert compared == 2000
