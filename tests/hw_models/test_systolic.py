"""The systolic array against a Verilog array, one tile at a time, and against itself over several tiles."""

from __future__ import annotations

import numpy as np
import pytest
from replay import load, replay, same_codes, single

import fixqnn as fq
import hw_models
from hw_models.systolic import cycles

META, ARRAYS = load("systolic_rtl.npz")


def tile(case: dict) -> tuple[fq.Accelerator, dict[str, fq.Tensor], dict[str, fq.Tensor]]:
    arrays = ARRAYS[case["key"]]
    machine = hw_models.systolic(
        rows=case["R"], columns=case["C"], partial=case["acc_bits"], overflow="saturate" if case["saturating"] else "wrap",
        rounding=case["round"], scaler="shift",
    )  # fmt: skip
    x = {"x": fq.Tensor(arrays["a"], fq.fixed(8, 0))}
    return machine, x, {"w": fq.Tensor(np.ascontiguousarray(arrays["w"].T), fq.fixed(8, 0))}


def test_accumulators_are_those_of_the_verilog_array():
    compared = 0
    for case in META["cases"]:
        machine, x, w = tile(case)
        # a wide output on the products' step shows the accumulator as it is
        graph = single("linear", x, w, fq.fixed(32, 0))
        compared += replay(machine, graph, x, ARRAYS[case["key"]]["acc"], f"case {case['key']}")
    assert compared == 3723


def test_output_codes_are_those_of_the_verilog_array():
    compared, roundings = 0, set()
    for case in META["cases"]:
        machine, x, w = tile(case)
        graph = single("linear", x, w, fq.affine(8, 2 ** case["shift"], case["zero_point"]))
        compared += replay(machine, graph, x, ARRAYS[case["key"]]["out"], f"case {case['key']}")
        roundings.add(case["round"])
    assert compared == 3723
    assert roundings == {"floor", "half_up", "half_away", "half_even", "toward_zero"}


def test_a_tile_takes_the_cycles_of_the_verilog_array():
    for case in META["cases"]:
        assert cycles(case["M"], case["R"], case["C"], rows=case["R"], columns=case["C"]) == case["cycles"]


def test_edge_tiles_take_their_own_height_and_width():
    # 17 terms and 3 outputs on 16 x 2: tiles of 16x2, 16x1, 1x2, 1x1
    assert cycles(10, 17, 3, rows=16, columns=2) == (32 + 10) + (32 + 9) + (2 + 10) + (2 + 9)


def test_what_a_partial_sum_clipped_is_not_won_back():
    x = fq.Tensor([[-128, -128, -128]], fq.fixed(8, 0))
    graph = single("linear", {"x": x}, {"w": fq.Tensor([[-128, -128, 127]], fq.fixed(8, 0))}, fq.fixed(32, 0))
    trace = fq.run(fq.lower(graph, hw_models.systolic(partial=16)), x)
    assert trace.output.codes.item() == 16511  # 16384, 32767 (not 32768), 32767 - 16256
    assert trace.events["op"]["sum[0]"].first.value == 32768


@pytest.mark.parametrize("scaler", ["shift", "multiplier"])
def test_sixteen_bit_partial_sums_and_thirty_two_bit_totals(scaler):
    rng = np.random.default_rng(3)
    x, w = rng.integers(-128, 128, (9, 70)), rng.integers(-128, 128, (11, 70))
    want = np.zeros((9, 11), int)
    for start in range(0, 70, 16):
        partial = np.zeros((9, 11), int)
        for k in range(start, min(start + 16, 70)):
            partial = np.clip(partial + x[:, k, None] * w[None, :, k], -32768, 32767)
        want += partial
    assert (want != x @ w.T).any()  # some partial sum was clipped
    x = {"x": fq.Tensor(x, fq.fixed(8, 0))}
    graph = single("linear", x, {"w": fq.Tensor(w, fq.fixed(8, 0))}, fq.fixed(32, 0))
    replay(hw_models.systolic(partial=16, accumulator=32, scaler=scaler), graph, x, want, "tiles")


def test_tiles_within_a_channel_run_stop_at_every_kernel_position():
    rng = np.random.default_rng(4)
    x, w = rng.integers(-128, 128, (2, 3, 6)), rng.integers(-128, 128, (4, 3, 2))
    want = {}
    for within in (None, "channel"):
        totals = np.zeros((2, 4, 5), int)
        for n, o, p in np.ndindex(*totals.shape):
            terms = [(k, int(x[n, c, p + k]) * int(w[o, c, k])) for k in range(2) for c in range(3)]
            runs = [[t for j, t in terms if j == k] for k in range(2)] if within else [[t for _, t in terms]]
            for run in runs:
                partial = 0
                for t in run:
                    partial = max(-32768, min(32767, partial + t))
                totals[n, o, p] += partial
        want[within] = totals
    assert (want[None] != want["channel"]).any()
    inputs = {"x": fq.Tensor(x, fq.fixed(8, 0))}
    graph = single(
        "conv", inputs, {"w": fq.Tensor(w, fq.fixed(8, 0))}, fq.fixed(32, 0),
        stride=(1,), padding=((0, 0),), dilation=(1,), groups=1,
    )  # fmt: skip
    for within, codes in want.items():
        replay(hw_models.systolic(within=within), graph, inputs, codes, f"within {within}")


@pytest.mark.parametrize("rounding", ["floor", "half_up", "half_even", "half_away", "toward_zero"])
def test_the_multiplier_is_exact_where_a_shift_would_do(rounding):
    rng = np.random.default_rng(5)
    x = {"x": fq.Tensor(rng.integers(-128, 128, (50, 20)), fq.fixed(8, 4))}
    w = {"w": fq.Tensor(rng.integers(-128, 128, (10, 20)), fq.fixed(8, 6))}
    graph = single("linear", x, w, fq.fixed(8, 2))
    shift, multiplier = (
        fq.run(fq.lower(graph, hw_models.systolic(rounding=rounding, scaler=s)), x).output.codes
        for s in ("shift", "multiplier")
    )
    same_codes(multiplier, shift, rounding)


def test_a_shift_machine_refuses_a_scale_that_is_no_power_of_two():
    x = fq.Tensor([[1]], fq.affine(8, 0.1))
    graph = single("linear", {"x": x}, {"w": fq.Tensor([[1]], fq.fixed(8, 0))}, fq.fixed(8, 0))
    with pytest.raises(fq.DoesNotFit, match=r"nearest is 2\^-3"):
        fq.lower(graph, hw_models.systolic(scaler="shift"))
    fq.lower(graph, hw_models.systolic())


def test_unknown_scalers_are_refused():
    with pytest.raises(fq.FormatError, match="'multiplier' or 'shift'"):
        hw_models.systolic(scaler="float")
