"""The scalar steps in compiled 64-bit integers, without branches: every mode is a choice of constants.

    round_shift(x) = (x + add + ((x >> 63) & if_negative) + (((x >> shift) ^ flip) & if_odd)) >> shift
    store(x)       = x if first <= x <= last else ((x - low) & rest) + (above if x > last else below)

So one compilation serves every width and mode. Nothing here may leave 62 bits; lowering proves that, or refuses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types, uint64
from numba.extending import intrinsic, overload

from fixqnn.arith.cache import KernelCache
from fixqnn.datapath import Register
from fixqnn.errors import TooWide
from fixqnn.modes import GOLDEN, Overflow, Rounding, mix64

WIDEST = 62

# Positions in the row of constants that stands for one register.
SHIFT, ADD, IF_NEGATIVE, IF_ODD, FLIP, FIRST, LAST, LOW, REST, ABOVE, BELOW, LEFT, RANDOM = range(13)
CONSTANTS = 13

KERNELS: list[Any] = []  # all that were decorated, in the order of import


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a module-level loop: lock released, kept on disk until a source of any kernel changes.

    Without a folder that can be written, it is compiled in every process that needs it.
    """
    compiled = njit(nogil=True, error_model="numpy", boundscheck=False)(function)
    if hasattr(compiled, "enable_caching"):  # not so where NUMBA_DISABLE_JIT leaves Python functions
        with contextlib.suppress(RuntimeError):
            compiled._cache = KernelCache(function)
        KERNELS.append(compiled)
    return compiled


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels that is written into each of them; literal arguments stay literal."""
    return njit(inline="always")(function)


def widest_vectors() -> None:
    """Let the compiler use whole registers of 512 bits, where there are any, in the kernel that calls this."""


@intrinsic
def _widest_vectors(_):
    def generate(context, builder, signature, arguments):
        # past the class's list of known names, which knows no pairs of name and value; targets without it do not read it
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


@overload(widest_vectors, inline="always")
def _compiled_widest_vectors():
    return lambda: _widest_vectors()


@njit(inline="always")
def round_shift(x, shift, add, if_negative, if_odd, flip):
    """X / 2^shift, rounded by the mode that the constants stand for."""
    return (x + add + ((x >> 63) & if_negative) + (((x >> shift) ^ flip) & if_odd)) >> shift


@njit(inline="always")
def store(x, first, last, low, rest, above, below):
    """What a register holds after it was asked to hold x."""
    inside = (x >= first) & (x <= last)
    return x if inside else ((x - low) & rest) + (above if x > last else below)


@njit(inline="always")
def storing(constants):
    """What `store` needs of a register's constants, in its order."""
    return constants[FIRST], constants[LAST], constants[LOW], constants[REST], constants[ABOVE], constants[BELOW]


@njit(inline="always")
def mix(z):
    """Finalise as splitmix64 does (Steele, Lea, Flood 2014)."""
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@njit(inline="always")
def draw64(key, counter):
    """Draw number `counter` of the sequence `key`: 64 random bits."""
    return mix(key + uint64(GOLDEN) * (counter + uint64(1)))


@njit(inline="always")
def round_up(rest, odd, negative, flags):
    """Whether a magnitude is rounded away from zero.

    `rest` is −1, 0, 1 as what was cut off compares to half (−2: nothing was cut off), `flags` from `mode_flags`.
    """
    nearest, tie_positive, tie_negative, tie_odd, tie_even, any_positive, any_negative = flags
    tie = (tie_negative if negative else tie_positive) | (tie_odd if odd else tie_even)
    any_rest = any_negative if negative else any_positive
    return ((rest == 1) & nearest) | ((rest == 0) & tie) | ((rest > -2) & any_rest)


@njit(inline="always")
def goes_up(v, if_positive, if_negative):
    """1 where a number that is no integer goes to the integer above it."""
    return 1 - if_negative if v < 0 else if_positive


@njit(inline="always")
def undecided(v, margin, nearest):
    """Whether the rounding of a number known up to `margin` is open."""
    distance = abs(v - np.rint(v))
    return (distance + margin >= 0.5) if nearest else (distance <= margin)


@njit(inline="always")
def decided(v, nearest, if_positive, if_negative):
    """Round a number that is no integer and no tie."""
    return np.rint(v) if nearest else np.floor(v) + goes_up(v, if_positive, if_negative)


def sequence_key(seed: int, stream: int) -> np.uint64:
    """Key of the sequence that one step draws from."""
    return np.uint64(mix64((seed + GOLDEN * (stream + 1)) % (1 << 64)))


def shift_constants(shift: int, rounding: Rounding) -> list[int]:
    """The five constants SHIFT … FLIP, then whether a random number is added.

    Derivation: with h = 2^(shift−1) and a = 2h − 1, adding h before the floor rounds halves up, h − 1 halves down, and
    the sign or the last kept bit decides between the two.
    """
    if shift <= 0:
        return [0, 0, 0, 0, 0, 0]
    h = 1 << (shift - 1)
    a = 2 * h - 1
    add, if_negative, if_odd, flip = {
        Rounding.floor: (0, 0, 0, 0),
        Rounding.ceil: (a, 0, 0, 0),
        Rounding.toward_zero: (0, a, 0, 0),
        Rounding.away_from_zero: (a, -a, 0, 0),
        Rounding.half_up: (h, 0, 0, 0),
        Rounding.half_down: (h - 1, 0, 0, 0),
        Rounding.half_away: (h, -1, 0, 0),
        Rounding.half_toward_zero: (h - 1, 1, 0, 0),
        Rounding.half_even: (h - 1, 0, 1, 0),
        Rounding.half_odd: (h - 1, 0, 1, 1),
        Rounding.stochastic: (0, 0, 0, 0),
    }[rounding]
    return [shift, add, if_negative, if_odd, flip, int(rounding is Rounding.stochastic)]


def store_constants(register: Register) -> list[int]:
    """The six constants FIRST … BELOW of a register's overflow mode."""
    low = -(1 << (register.bits - 1)) if register.signed else 0
    high = register.high
    first, rest, above, below = low, 0, high, low
    match register.overflow:
        case Overflow.saturate_symmetric:
            first = below = -high if register.signed else 0
        case Overflow.saturate_zero:
            above = below = 0
        case Overflow.wrap if register.kept:
            rest = (1 << (register.bits - register.kept)) - 1
            above, below = high - rest, low if register.signed else high - rest
        case Overflow.wrap:
            rest, above = (1 << register.bits) - 1, low
        case Overflow.wrap_sign_magnitude:
            raise TooWide(
                f"{register} asks for a deleted bit of the unrounded number at every step; use engine='exact'"
            )
    return [first, high, low, rest, above, below]


def register_constants(register: Register, drop: int) -> np.ndarray:
    """All constants of a register at a place where `drop` low bits go: one int64 row.

    Raises
    ------
    TooWide
        When the register or the drop passes what 62-bit steps can carry.
    """
    if register.bits > WIDEST or abs(drop) > WIDEST:
        raise TooWide(f"{register} with {drop} dropped bits passes {WIDEST} bits; use engine='exact'")
    *rounding, random = shift_constants(drop, register.rounding)
    return np.array([*rounding, *store_constants(register), max(-drop, 0), random], np.int64)


def mode_flags(rounding: Rounding) -> tuple[int, ...]:
    """(nearest, tie up if positive, if negative, if odd, if even, any rest up if positive, if negative), on magnitudes."""
    return {
        Rounding.floor: (0, 0, 0, 0, 0, 0, 1),
        Rounding.ceil: (0, 0, 0, 0, 0, 1, 0),
        Rounding.toward_zero: (0, 0, 0, 0, 0, 0, 0),
        Rounding.away_from_zero: (0, 0, 0, 0, 0, 1, 1),
        Rounding.half_up: (1, 1, 0, 0, 0, 0, 0),
        Rounding.half_down: (1, 0, 1, 0, 0, 0, 0),
        Rounding.half_away: (1, 1, 1, 0, 0, 0, 0),
        Rounding.half_toward_zero: (1, 0, 0, 0, 0, 0, 0),
        Rounding.half_even: (1, 0, 0, 1, 0, 0, 0),
        Rounding.half_odd: (1, 0, 0, 0, 1, 0, 0),
    }[rounding]
