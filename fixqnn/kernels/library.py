"""Exact int8 sums by the matrix product of torch, where the processor has instructions for whole tiles of int8.

Such a product is exact on processors with dedicated int8 instructions. On older x86 the same call adds pairs of products in
16 bits, *with saturation*, and returns wrong sums without a word. So it is used only where the processor reports int8 tiles
and a self-test of the extremes passes, once per process. ``FIXQNN_INT8=library`` asks for it without such tiles, after the same
self-test; ``FIXQNN_INT8=vectors`` never takes it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.arith.fast import kernel
from fixqnn.errors import BadInput
from fixqnn.events import Run
from fixqnn.kernels.pack import Operands
from fixqnn.kernels.tally import Tally
from fixqnn.kernels.vectors import features
from fixqnn.kernels.way import Part, Way, outer_bias, wrapped

if TYPE_CHECKING:
    from fixqnn.kernels.contract import Contraction

VARIABLE = "FIXQNN_INT8"
BLOCK = 512  # rows that are gathered at once
TERMS = (1 << 17) - 1  # so many products of int8 fit 32 bits in every order, so that nobody can saturate on the way


@contextmanager
def one_thread() -> Iterator[Any]:
    """Run torch on the calling thread alone: rows are already shared out over threads.

    The number belongs to the calling thread, so that threads that do this at once do not disturb each other; a thread that
    meets torch for the first time meanwhile may begin with one, too.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        if threads != 1:
            torch.set_num_threads(1)
        yield torch
    finally:
        if threads != 1:
            torch.set_num_threads(threads)


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Multiply matrices of int8 to int32."""
    with one_thread() as torch:
        return torch._int_mm(torch.from_numpy(x), torch.from_numpy(w)).numpy()


@functools.cache
def self_test() -> bool:
    """Whether products are exact for the extremes of both operands, long sums, and sizes that fill no tile; asked once."""
    random = np.random.default_rng(7)
    for rows, terms, outputs in ((1, 1, 1), (1, 64, 16), (5, 65, 7), (17, 130, 33), (48, 576, 64), (33, 2101, 17)):
        ends = (random.choice([-128, 127], shape) for shape in ((rows, terms), (terms, outputs)))
        pairs = [(np.full((rows, terms), a), np.full((terms, outputs), b)) for a in (-128, 127) for b in (-128, 127)]
        pairs.append(tuple(ends))
        pairs.append((random.integers(-128, 128, (rows, terms)), random.integers(-128, 128, (terms, outputs))))
        if not all(np.array_equal(product(x.astype(np.int8), w.astype(np.int8)), x @ w) for x, w in pairs):
            return False
    return True


def usable() -> bool:
    """Whether int8 sums go to the library.

    Raises
    ------
    BadInput
        For a value of ``FIXQNN_INT8`` that does not exist, or where it asks for a library whose products are wrong.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "library", "vectors"):
        raise BadInput(f"{VARIABLE} is library or vectors, not {asked!r}")
    if asked == "library" and not self_test():
        raise BadInput(f"{VARIABLE}={asked}, but int8 products of this torch are wrong on this processor")
    return asked == "library" or (not asked and "amx-int8" in features() and self_test())


def takes(c: Contraction) -> bool:
    """Whether a sum of bytes goes to the library: no depthwise one, whose products fill no tile."""
    return c.plan.path == "sum/int8" and c.window.channels > 1 and 0 < c.window.terms <= TERMS and usable()


class LibrarySum(Way):
    """No register acts: sums of x − x_low − 128, in [−128, 127], by the library, and what that leaves out."""

    dtype = np.int32
    operand_size = 1

    def __init__(self, contraction: Contraction) -> None:
        super().__init__(contraction, in_lanes=False)
        c, window = contraction, contraction.window
        base = c.x_low + 128
        self.operands = Operands(np.int8, c.scale, c.offset + base, c.padding - base)
        steps = window.steps(c.order)
        order = np.argsort(steps)  # any order of terms will do: neighbours in memory are copied together
        self.places = steps[order]
        self.begins = np.flatnonzero(np.diff(self.places, prepend=-2) != 1)
        w = c.rows_of_weights[:, order].reshape(window.groups, window.outputs, -1)
        self.w = np.ascontiguousarray(w.swapaxes(1, 2), np.int8)
        self.start = wrapped(np.array(outer_bias(c), object) + c.rows_of_weights.sum(axis=1).astype(object) * base)

    def rows(self, part: Part, offsets: np.ndarray, row0: int, run: Run, acc: np.ndarray, tally: Tally) -> None:
        """Sum rows exactly."""
        packed, window = part.packed(self.operands).view(np.int8), self.window
        ends = np.append(self.begins[1:], self.places.size)
        for a in range(0, offsets.size, BLOCK):
            rows = np.empty((min(BLOCK, offsets.size - a), self.places.size), np.int8)
            for group in range(window.groups):
                take_runs(
                    packed, offsets[a : a + BLOCK] + group * window.channels, self.places, self.begins, ends, rows
                )
                lanes = slice(group * window.outputs, (group + 1) * window.outputs)
                np.add(product(rows, self.w[group]), self.start[lanes], out=acc[a : a + BLOCK, lanes])


@kernel
def take_runs(packed, offsets, places, begins, ends, rows):
    """rows[r, k] = packed[offsets[r] + places[k]], where terms begins[i] … ends[i] are neighbours in memory."""
    for r in range(rows.shape[0]):
        for i in range(begins.size):
            source = packed[offsets[r] + places[begins[i]] :]
            target = rows[r, begins[i] : ends[i]]
            for k in range(target.size):
                target[k] = source[k]
