"""The compiled steps equal the definition: exhaustively on small widths, at random up to the edge of 62 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixqnn.arith import exact, fast
from fixqnn.arith.fast import CONSTANTS, kernel, register_constants, round_shift, store
from fixqnn.datapath import Register
from fixqnn.errors import TooWide
from fixqnn.modes import GOLDEN, Overflow, Rounding, draw64, mix64

ROUNDINGS = [r for r in Rounding if r is not Rounding.stochastic]
OVERFLOWS = [o for o in Overflow if o is not Overflow.wrap_sign_magnitude]


@kernel
def keep_all(x, constants, out):
    for i in range(x.size):
        value = round_shift(
            x[i] << constants[fast.LEFT], constants[0], constants[1], constants[2], constants[3], constants[4]
        )
        out[i] = store(value, constants[5], constants[6], constants[7], constants[8], constants[9], constants[10])


@kernel
def draw_all(key, out):
    for i in range(out.size):
        out[i] = fast.draw64(key, np.uint64(i))


def compiled(x: np.ndarray, register: Register, drop: int) -> list[int]:
    out = np.empty(x.size, np.int64)
    keep_all(x.astype(np.int64), register_constants(register, drop), out)
    return out.tolist()


def definition(x: np.ndarray, register: Register, drop: int) -> list[int]:
    return [exact.keep(int(v), drop, register)[0] for v in x]


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_keep_agrees_on_every_code_of_small_registers(rounding, overflow):
    x = np.arange(-140, 141)
    for bits in (1, 2, 3, 5):
        for signed in (True, False):
            for drop in (-1, 0, 1, 2, 5):
                kept_range = range(min(bits, 3)) if overflow is Overflow.wrap else (0,)
                for kept in kept_range:
                    register = Register(bits, overflow, signed, rounding, kept=kept)
                    assert compiled(x, register, drop) == definition(x, register, drop), (register, drop)


@settings(max_examples=150, deadline=None)
@given(
    bits=st.integers(1, 62),
    signed=st.booleans(),
    drop=st.integers(-4, 60),
    rounding=st.sampled_from(ROUNDINGS),
    overflow=st.sampled_from(OVERFLOWS),
    kept=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_keep_agrees_on_random_registers(bits, signed, drop, rounding, overflow, kept, seed):
    register = Register(bits, overflow, signed, rounding, kept=min(kept, bits - 1) if overflow is Overflow.wrap else 0)
    random = np.random.default_rng(seed)
    width = random.integers(1, 57, 6000)
    x = random.integers(-(1 << 56), 1 << 56, 6000) >> (56 - width)
    near = (
        random.integers(-50, 50, 500) << max(drop - 1, 0) if drop < 50 else np.zeros(500, np.int64)
    ) + random.integers(-1, 2, 500)
    edges = np.array([register.low, register.high, register.low - 1, register.high + 1])
    edges = edges[np.abs(edges) < 1 << 56]
    x = np.concatenate([x, near, edges])
    assert compiled(x, register, drop) == definition(x, register, drop)


def test_a_wrong_constant_is_seen():
    register = Register(5, rounding="half_even")
    constants = register_constants(register, 2)
    constants[fast.IF_ODD] = 0
    x, out = np.arange(-30, 31), np.empty(61, np.int64)
    keep_all(x, constants, out)
    assert out.tolist() != definition(x, register, 2)


def test_ties_as_data_sheets_print_them():
    tie = [-5, -3, -1, 1, 3, 5]  # halves
    expected = {
        "half_up": [-2, -1, 0, 1, 2, 3],
        "half_toward_zero": [-2, -1, 0, 0, 1, 2],
        "half_down": [-3, -2, -1, 0, 1, 2],
        "half_away": [-3, -2, -1, 1, 2, 3],
        "half_even": [-2, -2, 0, 0, 2, 2],
        "half_odd": [-3, -1, -1, 1, 1, 3],
        "floor": [-3, -2, -1, 0, 1, 2],
        "toward_zero": [-2, -1, 0, 0, 1, 2],
        "ceil": [-2, -1, 0, 1, 2, 3],
        "away_from_zero": [-3, -2, -1, 1, 2, 3],
    }
    for rounding, codes in expected.items():
        assert compiled(np.array(tie), Register(8, rounding=rounding), 1) == codes, rounding


def test_random_numbers_agree_and_are_spread():
    out = np.empty(20000, np.uint64)
    draw_all(fast.sequence_key(11, 3), out)
    assert out[:200].tolist() == [draw64(11, 3, i) for i in range(200)]
    assert abs(out.astype(np.float64).mean() / 2**64 - 0.5) < 0.01
    key = int(fast.sequence_key(11, 3))
    assert key == mix64((11 + GOLDEN * 4) % 2**64)


def test_stochastic_rounding_is_unbiased_and_between_its_neighbours():
    found = [exact.keep(5, 3, Register(8, rounding="stochastic"), draw64(1, 0, i))[0] for i in range(8000)]
    assert set(found) == {0, 1}
    assert abs(np.mean(found) - 5 / 8) < 0.03


def test_registers_past_62_bits_are_refused():
    with pytest.raises(TooWide, match="63"):
        register_constants(Register(63), 0)
    with pytest.raises(TooWide, match="deleted bit"):
        register_constants(Register(8, "wrap_sign_magnitude"), 0)


def test_a_row_of_constants_has_a_place_for_each():
    assert register_constants(Register(8), 3).shape == (CONSTANTS,)
