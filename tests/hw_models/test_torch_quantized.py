"""torch's quantised linear on three engines against torch."""

from __future__ import annotations

import numpy as np
import pytest
from replay import load, replay, single

import fixqnn as fq
import hw_models

META, ARRAYS = load("torch_quantized.npz")
COUNTS = {"fbgemm": 410, "onednn": 525, "qnnpack": 355}


@pytest.mark.parametrize("engine", COUNTS)
def test_linear_gives_torch_s_codes(engine):
    machine, compared = hw_models.torch_quantized(engine), 0
    for key, case in META["cases"].items():
        if case.get("engine") != engine:
            continue
        x, w, scales, b, out = (ARRAYS[key][name] for name in ("x", "w", "w_scale", "b", "out"))
        x_format = fq.affine(8, case["x_scale"], case["x_zp"], signed=False)
        y_format = fq.affine(8, case["y_scale"], case["y_zp"], signed=False)
        scales = [float(s) for s in scales]
        w_format = fq.affine(8, scales, axis=0) if case["per_channel"] else fq.affine(8, scales[0])
        assert case["per_channel"] or len(set(scales)) == 1
        inputs = {"x": fq.Tensor(x, x_format)}
        # the bias is real: the machine's own rewrite decides what becomes of it
        graph = single("linear", inputs, {"w": fq.Tensor(w, w_format), "b": b}, y_format)
        compared += replay(machine, graph, inputs, out, key)
    assert compared == COUNTS[engine]


def test_a_bias_between_two_sums_is_added_as_it_is_or_rounded_first():
    x = fq.Tensor([[2]], fq.fixed(8, 0, signed=False))
    constants = {"w": fq.Tensor([[1]], fq.fixed(8, 0)), "b": np.array([0.75])}
    graph = single("linear", {"x": x}, constants, fq.fixed(8, -1, signed=False))
    for engine, want in (("fbgemm", 1), ("x86", 1), ("onednn", 1), ("qnnpack", 2)):  # 2.75 / 2 and 3 / 2
        for run in ("fast", "exact"):
            found = fq.run(fq.lower(graph, hw_models.torch_quantized(engine)), x, engine=run).output.codes.item()
            assert found == want, (engine, run)


def test_without_vnni_pairs_of_products_saturate():
    x = fq.Tensor([[255] * 4], fq.fixed(8, 0, signed=False))
    graph = single("linear", {"x": x}, {"w": fq.Tensor([[127, -128, 127, 127]], fq.fixed(8, 0))}, fq.fixed(32, 0))
    for engine, want in (("fbgemm", 255 * 253), ("fbgemm_pairs", -255 + 32767)):
        for run in ("fast", "exact"):
            assert fq.run(fq.lower(graph, hw_models.torch_quantized(engine)), x, engine=run).output.codes.item() == want


def test_unknown_engines_are_refused_with_the_list():
    with pytest.raises(fq.FormatError, match="fbgemm, x86, onednn, qnnpack"):
        hw_models.torch_quantized("mkl")
