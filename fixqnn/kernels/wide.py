"""Every datapath, in 64-bit lanes, modes as data: the path that is always right.

Lanes are output channels; the reduction is time, so that each output keeps its order of additions.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import (
    ADD,
    FLIP,
    IF_NEGATIVE,
    IF_ODD,
    LEFT,
    RANDOM,
    SHIFT,
    draw64,
    kernel,
    round_shift,
    store,
    storing,
)

LANES = 128
NEVER = np.iinfo(np.int64).max


@kernel
def wide(
    x, w, bias, places, used, last_level, bias_first, xnor, flush, key, row0, channel0, channels, acc, counts, first
):
    """Fold rows of terms through the stages.

    x (rows, terms) and w (terms, lanes) are operands; `places` holds one row of register constants per place: product,
    then register and out of every stage, then the bias's; `used` says which places exist. flush[k] is how many stages hand on
    their total after term k. acc (rows, lanes) receives the last register; counts (2, places, lanes) grows by the events
    below and above; first (places, lanes) keeps the first row with an event (`NEVER`: none).
    """
    rows, terms = x.shape
    lanes = w.shape[1]
    levels = last_level + 1
    totals = np.zeros((levels, LANES), np.int64)
    carry = np.zeros(LANES, np.int64)
    kinds = places.shape[0]
    hits = np.zeros((2, kinds, LANES), np.int64)
    bias_place = kinds - 1
    zero, one = np.int64(0), np.int64(1)  # literal arguments would have the same steps compiled once more
    for r in range(rows):
        for c0 in range(0, lanes, LANES):
            width = min(LANES, lanes - c0)
            totals[:, :] = 0
            hits[:, :, :] = 0
            if bias_first:
                for c in range(width):
                    carry[c] = bias[c0 + c]
                element = row0 + r
                _enter(carry, totals[last_level], places[bias_place], width, hits[:, bias_place], key, element,
                       channel0 + c0, channels, terms, zero, kinds, 1 + 2 * last_level)  # fmt: skip
            for k in range(terms):
                value = x[r, k]
                for c in range(width):
                    carry[c] = (value * w[k, c0 + c] + xnor) >> xnor
                if used[0]:
                    _pass(carry, places[0], width, hits[:, 0], key, row0 + r, channel0 + c0, channels, terms, k + 1, kinds,
                          zero)  # fmt: skip
                _enter(carry, totals[0], places[1], width, hits[:, 1], key, row0 + r, channel0 + c0, channels, terms,
                       k + 1, kinds, one)  # fmt: skip
                for level in range(flush[k]):
                    for c in range(width):
                        carry[c] = totals[level, c]
                        totals[level, c] = 0
                    if used[2 + 2 * level]:
                        _pass(carry, places[2 + 2 * level], width, hits[:, 2 + 2 * level], key, row0 + r, channel0 + c0,
                              channels, terms, k + 1, kinds, 2 + 2 * level)  # fmt: skip
                    _enter(carry, totals[level + 1], places[3 + 2 * level], width, hits[:, 3 + 2 * level], key, row0 + r,
                           channel0 + c0, channels, terms, k + 1, kinds, 3 + 2 * level)  # fmt: skip
            for c in range(width):
                carry[c] = bias[c0 + c]
            if used[bias_place] and not bias_first:
                _enter(carry, totals[last_level], places[bias_place], width, hits[:, bias_place], key, row0 + r,
                       channel0 + c0, channels, terms, terms + 1, kinds, 1 + 2 * last_level)  # fmt: skip
            for c in range(width):
                carry[c] = totals[last_level, c]
            if used[2 + 2 * last_level]:
                _pass(carry, places[2 + 2 * last_level], width, hits[:, 2 + 2 * last_level], key, row0 + r, channel0 + c0,
                      channels, terms, terms, kinds, 2 + 2 * last_level)  # fmt: skip
            for c in range(width):
                acc[r, c0 + c] = carry[c]
            note_row(hits, row0 + r, counts[:, :, c0:], first[:, c0:])


@kernel
def note_row(hits, row, counts, first):
    """Add the events (2, places, lanes) of one row to `counts`; `first` keeps the first row with one, per place and lane."""
    for place in range(first.shape[0]):
        for c in range(min(first.shape[1], hits.shape[2])):
            events = hits[0, place, c] + hits[1, place, c]
            if events > 0:
                counts[0, place, c] += hits[0, place, c]
                counts[1, place, c] += hits[1, place, c]
                first[place, c] = min(first[place, c], row)


@kernel
def _pass(carry, place, width, hits, key, row, channel0, channels, terms, index, places, number):
    """Keep every lane of `carry` in a register on its way."""
    shift, add, neg, odd, flip, left = (
        place[SHIFT],
        place[ADD],
        place[IF_NEGATIVE],
        place[IF_ODD],
        place[FLIP],
        place[LEFT],
    )
    first, last, low, rest, up, down = storing(place)
    for c in range(width):
        value = carry[c] << left
        if key is not None and place[RANDOM] and shift > 0:
            value += random_part(key, row * channels + channel0 + c, terms, index, places, number, shift)
        value = round_shift(value, shift, add, neg, odd, flip)
        carry[c] = store(value, first, last, low, rest, up, down)
        hits[0, c] += np.int64(value < first)
        hits[1, c] += np.int64(value > last)


@kernel
def _enter(carry, total, place, width, hits, key, row, channel0, channels, terms, index, places, number):
    """Add every lane of `carry` to a running total and keep the sum."""
    shift, add, neg, odd, flip, left = (
        place[SHIFT],
        place[ADD],
        place[IF_NEGATIVE],
        place[IF_ODD],
        place[FLIP],
        place[LEFT],
    )
    first, last, low, rest, up, down = storing(place)
    for c in range(width):
        value = (total[c] << shift) + (carry[c] << left)
        if key is not None and place[RANDOM] and shift > 0:
            value += random_part(key, row * channels + channel0 + c, terms, index, places, number, shift)
        value = round_shift(value, shift, add, neg, odd, flip)
        total[c] = store(value, first, last, low, rest, up, down)
        hits[0, c] += np.int64(value < first)
        hits[1, c] += np.int64(value > last)


@kernel
def random_part(key, element, terms, index, places, number, shift):
    """A random number below 2^shift, by its counter."""
    counter = (np.uint64(element) * np.uint64(terms + 2) + np.uint64(index)) * np.uint64(places) + np.uint64(number)
    return np.int64(draw64(key, counter) >> np.uint64(64 - shift))
