"""The compiled loops of `fixqnn.kernels.rescale`, over arrays (samples, channels, positions).

Every loop stores through the output register, `output`, and counts per channel how often it acted.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import decided, draw64, kernel, round_divide, round_shift, round_up, store, storing, undecided


@kernel
def fill_random(key, first_sample, places, place, terms, random):
    """Draw one 64-bit number for every output, by its counter."""
    samples, channels, positions = random.shape
    for n in range(samples):
        for c in range(channels):
            for p in range(positions):
                element = np.uint64(((first_sample + n) * positions + p) * channels + c)
                counter = (element * np.uint64(terms + 2) + np.uint64(terms + 1)) * np.uint64(places) + np.uint64(place)
                random[n, c, p] = draw64(key, counter)


@kernel
def rescale_multiply(acc, m, rows, offset, zero, output, random, y, below, above):
    """round((acc·m + offset) / 2^s) + zero, one shift and multiplier per channel."""
    first, last, low, rest, up, down = storing(output)
    samples, channels, positions = acc.shape
    for n in range(samples):
        for c in range(channels):
            i = c % m.size
            mc, s, add, neg, odd, flip, o = m[i], rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4], offset[i]
            under = np.int64(0)
            over = np.int64(0)
            source, target = acc[n, c], y[n, c]
            for p in range(positions):
                value = np.int64(source[p]) * mc + o
                if random is not None and s > 0:
                    value += np.int64(random[n, c, p] >> np.uint64(64 - s))
                value = round_shift(value, s, add, neg, odd, flip) + zero
                target[p] = store(value, first, last, low, rest, up, down)
                under += np.int64(value < first)
                over += np.int64(value > last)
            below[c] += under
            above[c] += over


@kernel
def rescale_split(acc, m, rows, zero, output, y, below, above):
    """The same where acc·m passes 62 bits: with acc = hi·2^24 + lo, the low 24 bits of lo·m only say "and a little more"."""
    first, last, low, rest, up, down = storing(output)
    samples, channels, positions = acc.shape
    for n in range(samples):
        for c in range(channels):
            i = c % m.size
            mc, s, add, neg, odd, flip = m[i], rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4]
            for p in range(positions):
                a = np.int64(acc[n, c, p])
                hi = a >> 24
                product = (a - (hi << 24)) * mc
                value = 2 * (hi * mc + (product >> 24)) + np.int64((product & 0xFFFFFF) != 0)
                value = round_shift(value, s, add, neg, odd, flip) + zero
                y[n, c, p] = store(value, first, last, low, rest, up, down)
                below[c] += np.int64(value < first)
                above[c] += np.int64(value > last)


@kernel
def rescale_two_step(acc, bits, step, m, left, rows, zero, output, y, below, above):
    """Gemmlowp's two roundings: a doubling high multiply, then a shift."""
    first, last, low, rest, up, down = storing(output)
    half = np.int64(1) << (bits - 1)
    mask = (np.int64(1) << bits) - 1
    samples, channels, positions = acc.shape
    for n in range(samples):
        for c in range(channels):
            i = c % m.size
            mc, lift, s, add, neg, odd, flip = m[i], left[i], rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4]
            under = np.int64(0)
            over = np.int64(0)
            source, target = acc[n, c], y[n, c]
            for p in range(positions):
                wrapped = ((np.int64(source[p]) + half) & mask) - half
                wrapped = (((wrapped << lift) + half) & mask) - half
                high = round_shift(wrapped * mc, step[0], step[1], step[2], step[3], step[4])
                high = min(max(high, -half), half - 1)
                value = round_shift(high, s, add, neg, odd, flip) + zero
                target[p] = store(value, first, last, low, rest, up, down)
                under += np.int64(value < first)
                over += np.int64(value > last)
            below[c] += under
            above[c] += over


@kernel
def rescale_float(acc, bias, factor, divide, before, flags, zero, output, y, below, above):
    """fl(acc)·c or fl(acc) / c on the processor's own floats, then one rounding."""
    first, last, low, rest, up, down = storing(output)
    modes = (flags[0], flags[1], flags[2], flags[3], flags[4], flags[5], flags[6])
    fl = factor.dtype.type
    samples, channels, positions = acc.shape
    for n in range(samples):
        for c in range(channels):
            f, b = factor[c % factor.size], bias[c % bias.size]
            for p in range(positions):
                v = fl(acc[n, c, p])
                if b != 0:
                    v = fl(v + b)
                v = fl(v / f) if divide else fl(v * f)
                if before != 0:
                    v = fl(v + before)
                size = abs(np.float64(v))
                if size < 2.0**61:
                    whole = np.floor(size)
                    part = size - whole  # exact: a float's fraction is no finer than the float
                    k = np.int64(whole)
                    cut = -2 if part == 0.0 else (1 if part > 0.5 else (0 if part == 0.5 else -1))
                    k += round_up(cut, k & 1, v < 0, modes)
                else:
                    k = np.int64(2) ** 61 if size == size else np.int64(0)
                value = (-k if v < 0 else k) + zero
                y[n, c, p] = store(value, first, last, low, rest, up, down)
                below[c] += np.int64(value < first)
                above[c] += np.int64(value > last)


@kernel
def rescale_ratio(acc, top, bottom, offset, flags, zero, output, y, below, above):
    """round((acc·top + offset) / bottom) + zero, by integer division."""
    first, last, low, rest, up, down = storing(output)
    modes = (flags[0], flags[1], flags[2], flags[3], flags[4], flags[5], flags[6])
    samples, channels, positions = acc.shape
    for n in range(samples):
        for c in range(channels):
            i = c % top.size
            t, q, o = top[i], bottom[i], offset[i]
            for p in range(positions):
                product = np.int64(acc[n, c, p]) * t + o
                value = round_divide(product, q, modes) + zero
                y[n, c, p] = store(value, first, last, low, rest, up, down)
                below[c] += np.int64(value < first)
                above[c] += np.int64(value > last)


@kernel
def rescale_estimate(acc, factor, part, flags, zero, output, y, below, above, doubtful):
    """round(acc·R + part) + zero for any real R: decided in float64 where that is certain; the rest is listed in `doubtful`."""
    # float64 carries acc·R + part with a relative error of at most three roundings, 2^-51: an output is decided when
    # every number at which its rounding changes lies farther than 2^-50 of the magnitude; the rest is listed, to be done
    # exactly. Decided outputs are on no tie, so that all modes to the nearest agree on them.
    first, last, low, rest, up, down = storing(output)
    nearest, if_positive, if_negative = flags[0], flags[5], flags[6]
    found = 0
    samples, channels, positions = acc.shape
    size = abs(part)
    for n in range(samples):
        for c in range(channels):
            f = factor[c % factor.size]
            source, target = acc[n, c], y[n, c]
            under = np.int64(0)
            over = np.int64(0)
            doubts = np.int64(0)
            for p in range(positions):
                scaled = np.float64(source[p]) * f
                v = scaled + part
                doubts += np.int64(undecided(v, (abs(scaled) + size) * 2.0**-50, nearest))
                value = np.int64(decided(v, nearest, if_positive, if_negative)) + zero
                target[p] = store(value, first, last, low, rest, up, down)
                under += np.int64(value < first)
                over += np.int64(value > last)
            below[c] += under
            above[c] += over
            if doubts == 0:
                continue
            for p in range(positions):
                scaled = np.float64(source[p]) * f
                v = scaled + part
                if undecided(v, (abs(scaled) + size) * 2.0**-50, nearest):
                    value = np.int64(decided(v, nearest, if_positive, if_negative)) + zero
                    below[c] -= np.int64(value < first)  # what the redo will count
                    above[c] -= np.int64(value > last)
                    if found < doubtful.size:
                        doubtful[found] = (n * channels + c) * positions + p
                    found += 1
    return found


@kernel
def divide_round(acc, divisors, flags, mean):
    """round(acc / divisor)."""
    modes = (flags[0], flags[1], flags[2], flags[3], flags[4], flags[5], flags[6])
    samples, channels, positions = acc.shape
    for n in range(samples):
        for c in range(channels):
            q = divisors[c % divisors.size]
            for p in range(positions):
                mean[n, c, p] = round_divide(np.int64(acc[n, c, p]), q, modes)
