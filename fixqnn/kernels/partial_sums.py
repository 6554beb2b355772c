"""What registers are asked to hold on the way to many sums: the smallest and the largest number per register and channel.

Lanes are rows here, so that depthwise windows fill them as well as dense ones; one channel follows the other. Every output
keeps its order of additions.
"""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import ADD, FLIP, IF_NEGATIVE, IF_ODD, LEFT, SHIFT, kernel, round_shift, store, storing


@kernel
def take_columns(packed, offsets, steps, order, columns):
    """columns[k, r] = packed[offsets[r] + steps[order[k]]]."""
    for k in range(columns.shape[0]):
        step, column = steps[order[k]], columns[k]
        for r in range(offsets.size):
            column[r] = packed[offsets[r] + step]


@kernel
def fold_columns(
    x, w, bias, places, used, last_level, bias_first, xnor, flush, acting, parts, low, high, plus, minus, totals
):
    """Fold columns of terms through the stages; registers store only if `acting`, else they hold whatever comes.

    x (terms, rows) and w (channels, terms) are operands; `places` holds one row of register constants per place: product,
    then register and out of every stage, then the bias's, in the type of the lanes; `used` says which places exist; flush[k]
    is how many stages hand on their total after term k. low, high (places, channels) are widened by what was asked; with
    `parts`, plus and minus (channels) by the sums of positive and of negative terms. totals (channels, rows) receives the
    last register.
    """
    terms, rows = x.shape
    kinds = places.shape[0]
    bias_place = kinds - 1
    total = np.zeros((last_level + 1, rows), x.dtype)
    carry = np.zeros(rows, x.dtype)
    lows, highs = np.zeros((kinds, rows), x.dtype), np.zeros((kinds, rows), x.dtype)
    positive, negative = np.zeros(rows, x.dtype), np.zeros(rows, x.dtype)
    fused = not used[0] and xnor == 0 and not acting and places[1, SHIFT] == 0 and places[1, LEFT] == 0
    for c in range(w.shape[0]):
        total[:, :] = 0
        lows[:, :] = 0
        highs[:, :] = 0
        positive[:] = 0
        negative[:] = 0
        if used[bias_place] and bias_first:
            carry[:] = bias[c]
            _enter(carry, total[last_level], places[bias_place], acting, lows[bias_place], highs[bias_place])
        for k in range(terms):
            column, weight = x[k], w[c, k]
            if fused:
                _fused(column, weight, total[0], lows[1], highs[1])
            else:
                for r in range(rows):
                    carry[r] = (column[r] * weight + xnor) >> xnor
                if used[0]:
                    _pass(carry, places[0], acting, lows[0], highs[0])
                if parts:
                    _part(carry, positive, negative)
                _enter(carry, total[0], places[1], acting, lows[1], highs[1])
            if parts and fused:
                for r in range(rows):
                    carry[r] = column[r] * weight
                _part(carry, positive, negative)
            for level in range(flush[k]):
                carry[:] = total[level]
                total[level, :] = 0
                if used[2 + 2 * level]:
                    _pass(carry, places[2 + 2 * level], acting, lows[2 + 2 * level], highs[2 + 2 * level])
                _enter(
                    carry, total[level + 1], places[3 + 2 * level], acting, lows[3 + 2 * level], highs[3 + 2 * level]
                )
        if used[bias_place] and not bias_first:
            carry[:] = bias[c]
            _enter(carry, total[last_level], places[bias_place], acting, lows[bias_place], highs[bias_place])
        carry[:] = total[last_level]
        if used[2 + 2 * last_level]:
            _pass(carry, places[2 + 2 * last_level], acting, lows[2 + 2 * last_level], highs[2 + 2 * last_level])
        for r in range(rows):
            totals[c, r] = carry[r]
            plus[c] = max(plus[c], np.int64(positive[r]))
            minus[c] = min(minus[c], np.int64(negative[r]))
        for place in range(kinds):
            if used[place]:
                for r in range(rows):
                    low[place, c] = min(low[place, c], np.int64(lows[place, r]))
                    high[place, c] = max(high[place, c], np.int64(highs[place, r]))


@kernel
def _fused(column, weight, total, low, high):
    for r in range(column.size):
        total[r] += column[r] * weight
        now = total[r]
        low[r] = now if now < low[r] else low[r]
        high[r] = now if now > high[r] else high[r]


@kernel
def _part(carry, positive, negative):
    zero = carry.dtype.type(0)
    for r in range(carry.size):
        term = carry[r]
        positive[r] += term if term > zero else zero
        negative[r] += term if term < zero else zero


@kernel
def _pass(carry, place, acting, low, high):
    """Keep every lane of `carry` in a register on its way."""
    shift, left = place[SHIFT], place[LEFT]
    add, neg, odd, flip = place[ADD], place[IF_NEGATIVE], place[IF_ODD], place[FLIP]
    for r in range(carry.size):
        carry[r] = round_shift(carry[r] << left, shift, add, neg, odd, flip)
    _note(carry, place, acting, low, high)


@kernel
def _enter(carry, total, place, acting, low, high):
    """Add every lane of `carry` to a running total and keep the sum."""
    shift, left = place[SHIFT], place[LEFT]
    add, neg, odd, flip = place[ADD], place[IF_NEGATIVE], place[IF_ODD], place[FLIP]
    for r in range(carry.size):
        total[r] = round_shift((total[r] << shift) + (carry[r] << left), shift, add, neg, odd, flip)
    _note(total, place, acting, low, high)


@kernel
def _note(asked, place, acting, low, high):
    for r in range(asked.size):
        now = asked[r]
        low[r] = now if now < low[r] else low[r]
        high[r] = now if now > high[r] else high[r]
    if acting:
        first, last, least, rest, up, down = storing(place)
        for r in range(asked.size):
            asked[r] = store(asked[r], first, last, least, rest, up, down)
