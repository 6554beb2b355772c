"""Exact sums of products in register tiles: no register acts, so that only the finished sums matter.

They are right modulo 2^32 (see `fixqnn.kernels.vectors`), and plan has proved that they fit 32 bits.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fixqnn.arith.fast import inlined, kernel
from fixqnn.kernels.register_tiles import address, pointers, write
from fixqnn.kernels.vectors import (
    DOT8,
    DOT16,
    FORMS,
    HALF,
    I8,
    I16,
    I32,
    I64,
    LANES,
    MOST,
    ROWS,
    VECTORS,
    WIDTH,
    at,
    load,
    loop,
    splat,
    vector,
)

SIZE = WIDTH // 8


@intrinsic(prefer_literal=True)
def dot_tile(context, form, vectors, bits, x, offsets, steps, w, words, start, total, pitch):
    """Sum ROWS × `vectors` lanes over all words of terms, into rows of 32-bit totals that lie `pitch` bytes apart.

    `form`, `vectors`, `bits` are literals: with 0 bits all channels share a word of operands; else every channel has operands
    of its own, that wide, which meet weights with an empty upper half. The others are addresses.
    """
    step, count, own = FORMS[form.literal_value], vectors.literal_value, bits.literal_value

    def emit(context, b, signature, arguments):
        x, offsets, steps, w, words, start, total, pitch = arguments[3:]
        x, offsets, steps, w, start, total = pointers(
            b, (x, I8), (offsets, I64), (steps, I64), (w, I8), (start, I8), (total, I8)
        )
        sources = [at(b, x, b.load(at(b, offsets, r))) for r in range(ROWS)]
        kind = vector(I32)

        def operand(source: ir.Value, v: int) -> ir.Value:
            narrow = vector({8: I8, 16: I16}[own], LANES * own)
            return b.zext(load(b, at(b, source, v * LANES * own // 8), narrow), kind)

        def term(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            place, panel = b.load(at(b, steps, k)), at(b, w, b.mul(k, ir.Constant(I64, count * SIZE)))
            weights = [load(b, at(b, panel, v * SIZE), kind) for v in range(count)]
            made = []
            for r in range(ROWS):
                source = at(b, sources[r], place)
                common = None if own else splat(b, load(b, source, I32), kind)
                for v in range(count):
                    value = operand(source, v) if own else common
                    made.append(step.step(b, sums[r * count + v], value, weights[v]))
            return made

        first = [load(b, at(b, start, v * SIZE), kind) for v in range(count)]
        sums = loop(b, ir.Constant(I64, 0), words, first * ROWS, term)
        rows = [at(b, total, b.mul(pitch, ir.Constant(I64, r))) for r in range(ROWS)]
        write(b, sums, [at(b, row, v * SIZE) for row in rows for v in range(count)])
        return ir.Constant(I64, 0)

    return types.int64(form, vectors, bits, *[types.int64] * 8), emit


# Arguments as in `fixqnn.kernels.tiles`, without runs: `steps` are the places of all words, out is (rows, channels).


@kernel
def run_dot8(x, offsets, steps, w, panels, start, out):
    """Sums of bytes, four terms a word."""
    _drive(DOT8, 0, x, offsets, steps, w, panels, start, out)


@kernel
def run_dot16(x, offsets, steps, w, panels, start, out):
    """Sums of 16-bit operands, two terms a word."""
    _drive(DOT16, 0, x, offsets, steps, w, panels, start, out)


@kernel
def run_dot8_channels(x, offsets, steps, w, panels, start, out):
    """Sums where every channel has operands of its own, unsigned bytes."""
    _drive(DOT16, 8, x, offsets, steps, w, panels, start, out)


@kernel
def run_dot16_channels(x, offsets, steps, w, panels, start, out):
    """The same for operands of 16 bits."""
    _drive(DOT16, 16, x, offsets, steps, w, panels, start, out)


@inlined
def _drive(form, bits, x, offsets, steps, w, panels, start, out):
    rows, words, pitch = offsets.size, steps.size, out.strides[0]
    local = np.empty(ROWS, np.int64)
    total = np.empty((ROWS, MOST), np.int32)
    for j in range(panels.shape[0]):
        x_at, w_at, vectors, lane, channel, width = panels[j]
        lanes = vectors * LANES
        a, o, s, b, f = address(x), address(local), address(steps), address(w) + w_at, address(start) + lane * 4
        for row in range(0, rows, ROWS):
            for r in range(ROWS):
                local[r] = offsets[min(row + r, rows - 1)] + x_at
            whole = row + ROWS <= rows and width == lanes  # then sums go straight to their place
            c, p = (address(out) + row * pitch + channel * 4, pitch) if whole else (address(total), MOST * 4)
            if vectors == VECTORS:
                dot_tile(form, VECTORS, bits, a, o, s, b, words, f, c, p)
            elif vectors == HALF:
                dot_tile(form, HALF, bits, a, o, s, b, words, f, c, p)
            else:
                dot_tile(form, 1, bits, a, o, s, b, words, f, c, p)
            if not whole:
                for r in range(min(ROWS, rows - row)):
                    target, source = out[row + r, channel : channel + width], total[r]
                    for n in range(width):
                        target[n] = source[n]
