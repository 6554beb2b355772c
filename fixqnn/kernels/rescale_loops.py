"""The compiled loops of `fixqnn.kernels.rescale`, over rows of accumulators (rows, channels), one row after another.

Channel constants are vectors along the inner loop, which takes a whole number of rows, so that it has no branch and
vectorises; the last pass takes what is left. An argument that is None takes
its part of the formula away at compilation. Every loop stores through the output register, which holds `first` to `last`:
`other` is None where it clamps, or else the last four arguments of `store`, a tuple. `counts` (2, channels) counts the
numbers that were below and above, in 32 bits, lest it widen lanes that are narrow.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import decided, draw64, kernel, round_up, store, undecided, widest_vectors


@kernel
def fill_random(key, first, places, place, terms, random):
    """Draw one 64-bit number for every output, by its counter; outputs are numbered from `first`."""
    for i in range(random.size):
        counter = (np.uint64(first + i) * np.uint64(terms + 2) + np.uint64(terms + 1)) * np.uint64(places)
        random[i] = draw64(key, counter + np.uint64(place))


@kernel
def shifted(value, word, shift, add, if_negative, if_odd, flip):
    """`round_shift`, in the type of `word`, without the terms that a mode does not have."""
    total = word(value + add)
    if if_negative is not None:
        total = word(total + (if_negative if value < 0 else word(0)))
    if if_odd is not None:
        total = word(total + ((word(value >> shift) ^ flip) & if_odd))
    return word(total >> shift)


@kernel
def kept(value, first, last, other):
    """`store`, as a clamp where the register clamps."""
    if other is None:
        return min(max(value, first), last)
    return store(value, first, last, other[0], other[1], other[2], other[3])


@kernel
def rescale_multiply(
    acc, m, shift, add, if_negative, if_odd, flip, offset, zero, first, last, other, random, y, counts
):
    """round((acc·m + offset) / 2^shift) + zero, in the type of `add`."""
    widest_vectors()
    word, below, above = add.dtype.type, counts[0], counts[1]
    lanes = np.int64(np.iinfo(add.dtype).bits - 1)  # known when compiled, unlike `itemsize`
    for start in range(0, acc.size, m.size):
        source, target = acc[start : start + m.size], y[start : start + m.size]
        for c in range(source.size):
            value = word(np.int64(source[c]) * np.int64(m[c]))
            if offset is not None:
                value = word(value + offset[c])
            s = shift[c] & lanes  # says that it is no wider than the word
            if random is not None:
                value = word(value + np.int64((random[start + c] >> np.uint64(1)) >> np.uint64(63 - s)))
            negative = None if if_negative is None else if_negative[c]
            odd = None if if_odd is None else if_odd[c]
            value = word(shifted(value, word, s, add[c], negative, odd, flip) + zero)
            below[c] += value < first
            above[c] += value > last
            target[c] = kept(value, first, last, other)


@kernel
def first_edge(codes, start, first, last):
    """Index of the first of flat codes, from `start` on, that lies on an edge; their number where there is none."""
    for i in range(start, codes.size):
        if (codes[i] == first) | (codes[i] == last):
            return i
    return codes.size


@kernel
def rescale_split(acc, m, shift, add, if_negative, if_odd, flip, zero, first, last, other, y, counts):
    """The same where acc·m passes 62 bits: with acc = hi·2^24 + lo, the low 24 bits of lo·m only say "and a little more"."""
    below, above = counts[0], counts[1]
    for start in range(0, acc.size, m.size):
        source, target = acc[start : start + m.size], y[start : start + m.size]
        for c in range(source.size):
            a = np.int64(source[c])
            hi = a >> 24
            product = (a - (hi << 24)) * m[c]
            value = 2 * (hi * m[c] + (product >> 24)) + np.int64((product & 0xFFFFFF) != 0)
            value = shifted(value, np.int64, shift[c], add[c], if_negative[c], if_odd[c], flip) + zero
            below[c] += value < first
            above[c] += value > last
            target[c] = kept(value, first, last, other)


@kernel
def rescale_two_step(
    acc, wraps, step, step_add, step_negative, step_odd, step_flip,
    left, m, shift, add, if_negative, if_odd, flip, zero, first, last, other, y, counts,
):  # fmt: skip
    """Gemmlowp's two roundings: a doubling high multiply, then a shift; `wraps` (half, mask) is None if nothing can wrap."""
    # |first factor| <= 2^(bits-1) and 0 <= m < 2^(bits-1), so that the high half needs no clamp
    below, above = counts[0], counts[1]
    for start in range(0, acc.size, m.size):
        source, target = acc[start : start + m.size], y[start : start + m.size]
        for c in range(source.size):
            value = np.int64(source[c])
            if wraps is not None:
                value = ((value + wraps[0]) & wraps[1]) - wraps[0]
            if left is not None:
                value <<= left[c]
                if wraps is not None:
                    value = ((value + wraps[0]) & wraps[1]) - wraps[0]
            value = shifted(value * np.int64(m[c]), np.int64, step, step_add, step_negative, step_odd, step_flip)
            negative = None if if_negative is None else if_negative[c]
            odd = None if if_odd is None else if_odd[c]
            value = shifted(value, np.int64, shift[c], add[c], negative, odd, flip) + zero
            below[c] += value < first
            above[c] += value > last
            target[c] = kept(value, first, last, other)


@kernel
def rescale_float(acc, bias, factor, divide, before, up, zero, first, last, y, counts):
    """fl(acc)·c or fl(acc) / c on the processor's own floats, rounded and clamped as a float, then plus a whole zero.

    `first` and `last` are the register's limits less zero, whole numbers that the float holds. A magnitude is rounded away
    from zero where what is cut off passes a part, or equals it and ties go up; `up` has part and tie for numbers from zero
    on, and below. It is None for half_even, which has an instruction of its own.
    """
    fl, below, above = factor.dtype.type, counts[0], counts[1]
    for start in range(0, acc.size, factor.size):
        source, target = acc[start : start + factor.size], y[start : start + factor.size]
        for c in range(source.size):
            v = fl(source[c])
            if bias is not None:
                v = fl(v + bias[c])
            v = fl(v * factor[c]) if divide is None else fl(v / factor[c])
            if before is not None:
                v = fl(v + before)
            if up is None:
                v = np.rint(v)
            else:
                size = abs(v)
                whole = np.floor(size)
                part = size - whole  # exact: a float's fraction is no finer than the float
                limit, tie = (up[2], up[3]) if v < 0 else (up[0], up[1])
                size = whole + (fl(1) if (part > limit) | ((part == limit) & (tie > 0)) else fl(0))
                v = -size if v < 0 else size
            v = v if v == v else fl(0)
            below[c] += v < first
            above[c] += v > last
            target[c] = np.int32(min(max(v, first), last)) + zero


@kernel
def rescale_float_any(acc, bias, factor, divide, before, modes, zero, first, last, other, y, counts):
    """The same for every register, and for constants that may make infinities."""
    fl, below, above = factor.dtype.type, counts[0], counts[1]
    for start in range(0, acc.size, factor.size):
        source, target = acc[start : start + factor.size], y[start : start + factor.size]
        for c in range(source.size):
            v = fl(source[c])
            if bias is not None:
                v = fl(v + bias[c])
            v = fl(v * factor[c]) if divide is None else fl(v / factor[c])
            if before is not None:
                v = fl(v + before)
            size = abs(np.float64(v))
            if size < 2.0**61:
                whole = np.floor(size)
                part = size - whole
                k = np.int64(whole)
                cut = -2 if part == 0.0 else (1 if part > 0.5 else (0 if part == 0.5 else -1))
                k += round_up(cut, k & 1, v < 0, modes)
            else:
                k = np.int64(2) ** 61 if size == size else np.int64(0)
            value = (-k if v < 0 else k) + zero
            below[c] += value < first
            above[c] += value > last
            target[c] = kept(value, first, last, other)


@kernel
def divided(number, divisor, inverse, modes):
    """Number / divisor, rounded, where it stays below 2^50: a float's quotient is off by one at most, the remainder tells."""
    size = abs(number)
    k = np.int64(np.float64(size) * inverse)
    part = size - k * divisor
    k += np.int64(part >= divisor) - np.int64(part < 0)
    part = size - k * divisor
    cut = -2 if part == 0 else (1 if 2 * part > divisor else (0 if 2 * part == divisor else -1))
    k += round_up(cut, k & 1, number < 0, modes)
    return -k if number < 0 else k


@kernel
def rescale_ratio(acc, top, bottom, inverse, offset, modes, zero, first, last, other, y, counts):
    """round((acc·top + offset) / bottom) + zero, in whole numbers."""
    below, above = counts[0], counts[1]
    for start in range(0, acc.size, top.size):
        source, target = acc[start : start + top.size], y[start : start + top.size]
        for c in range(source.size):
            number = np.int64(source[c]) * top[c] + offset[c]
            value = divided(number, bottom[c], inverse[c], modes) + zero
            below[c] += value < first
            above[c] += value > last
            target[c] = kept(value, first, last, other)


@kernel
def rescale_estimate(acc, factor, part, modes, zero, first, last, other, y, counts, doubtful):
    """round(acc·R + part) + zero for any real R: decided in float64 where that is certain; the rest is listed in `doubtful`."""
    # float64 carries acc·R + part with a relative error of at most three roundings, 2^-51: an output is decided when
    # every number at which its rounding changes lies farther than 2^-50 of the magnitude; the rest is listed, to be done
    # exactly. Decided outputs are on no tie, so that all modes to the nearest agree on them.
    nearest, if_positive, if_negative = modes[0], modes[5], modes[6]
    below, above = counts[0], counts[1]
    found = 0
    size = abs(part)
    for start in range(0, acc.size, factor.size):
        source, target = acc[start : start + factor.size], y[start : start + factor.size]
        doubts = np.int64(0)
        for c in range(source.size):
            scaled = np.float64(source[c]) * factor[c]
            v = scaled + part
            doubts += np.int64(undecided(v, (abs(scaled) + size) * 2.0**-50, nearest))
            value = np.int64(decided(v, nearest, if_positive, if_negative)) + zero
            below[c] += value < first
            above[c] += value > last
            target[c] = kept(value, first, last, other)
        if doubts == 0:
            continue
        for c in range(source.size):
            scaled = np.float64(source[c]) * factor[c]
            v = scaled + part
            if undecided(v, (abs(scaled) + size) * 2.0**-50, nearest):
                value = np.int64(decided(v, nearest, if_positive, if_negative)) + zero
                below[c] -= value < first  # what the redo will count
                above[c] -= value > last
                if found < doubtful.size:
                    doubtful[found] = start + c
                found += 1
    return found
