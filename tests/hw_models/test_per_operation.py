"""The pessimist against additions and products of ap_fixed numbers, one after another."""

from __future__ import annotations

import numpy as np
import pytest
from replay import replay, single

import fixqnn as fq
import hw_models


def stored(value: int, drop: int, word: tuple[int, str, str]) -> int:
    """One store into the word, by `cast`, whose answers are those of the ap_fixed headers."""
    bits, rounding, overflow = word
    wide = fq.Tensor(np.array(value, object), fq.fixed(64, max(drop, 0)))
    return (
        int(fq.cast(wide, fq.fixed(bits, 0), rounding, overflow).codes)
        if drop >= 0
        else stored(value << -drop, 0, word)
    )


@pytest.mark.parametrize("word", [(10, "half_even", "saturate"), (10, "floor", "wrap"), (12, "half_away", "saturate")])
def test_every_product_and_every_sum_is_stored(word):
    bits, rounding, overflow = word
    rng = np.random.default_rng(7)
    x, w = rng.integers(-128, 128, (6, 9)), rng.integers(-128, 128, (4, 9))
    b = rng.integers(-2000, 2000, 4)
    want = np.zeros((6, 4), int)
    for n, o in np.ndindex(6, 4):
        total = stored(int(b[o]), 11 - 5, word)
        for k in range(9):
            total = stored(total + stored(int(x[n, k] * w[o, k]), 11 - 5, word), 0, word)
        want[n, o] = stored(total, 2, (8, rounding, "saturate"))
    inputs = {"x": fq.Tensor(x, fq.fixed(8, 4))}
    constants = {"w": fq.Tensor(w, fq.fixed(8, 7)), "b": fq.Tensor(b, fq.fixed(16, 11))}
    graph = single("linear", inputs, constants, fq.fixed(8, 3))
    replay(hw_models.per_operation(bits, 5, rounding, overflow), graph, inputs, want, f"{word}")


def test_a_sum_and_a_product_of_two_values_are_stored_too():
    a, b = fq.Tensor([[100, -3]], fq.fixed(8, 2)), fq.Tensor([[100, 1]], fq.fixed(8, 2))
    machine = hw_models.per_operation(6, 1, "half_even", "saturate")  # halves up to 15.5
    for operation, want in (("add", [[31, -1]]), ("multiply", [[31, 0]])):  # 50 and 625; -1/2 and -3/16
        graph = single(operation, {"a": a, "b": b}, {}, fq.fixed(8, 1))
        replay(machine, graph, {"a": a, "b": b}, np.array(want), operation)


def test_a_division_is_an_operation_with_a_rounding_of_its_own():
    x = fq.Tensor([[[1, 1, 0]]], fq.fixed(8, 0))
    graph = single("mean", {"x": x}, {}, fq.fixed(8, 0), axes=(2,), keepdims=False)
    # 2/3 in quarters is 3/4 (2.67 → 3) and then 1; 0.666 in halves is 1/2 (1.33 → 1), which goes to even, 0
    for frac, want in ((2, 1), (1, 0)):
        replay(hw_models.per_operation(16, frac), graph, {"x": x}, np.array([[want]]), f"frac={frac}")


def test_scales_that_differ_from_channel_to_channel_are_refused():
    x, w = fq.Tensor([[1]], fq.fixed(8, 0)), fq.Tensor([[1], [1]], fq.affine(8, [1, 0.5], axis=0))
    with pytest.raises(fq.DoesNotFit, match="use one scale per tensor"):
        fq.lower(single("linear", {"x": x}, {"w": w}, fq.fixed(8, 0)), hw_models.per_operation())
