"""The outer registers of a sum whose first stage ran in tiles: totals of its runs, folded in 64-bit lanes."""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import kernel
from fixqnn.kernels.wide import _enter, _pass, note_row


@kernel
def fold_runs(totals, bias, places, used, last_level, bias_first, flush, row0, acc, counts, first):
    """Fold totals (rows, runs, lanes) through the outer registers.

    flush[t] is how many stages hand on their total after run t; the others are the arguments of `fixqnn.kernels.wide.wide`.
    """
    rows, runs, lanes = totals.shape
    levels = np.zeros((last_level + 1, lanes), np.int64)
    carry = np.zeros(lanes, np.int64)
    kinds, last = places.shape[0], 2 * last_level + 2
    hits = np.zeros((2, kinds, lanes), np.int64)
    # nothing is drawn here; literal arguments would have the same steps compiled once more
    key, o, i = None, np.int64(0), np.int64(1)
    for r in range(rows):
        levels[:, :] = 0
        hits[:, :, :] = 0
        if bias_first and last_level > 0:
            carry[:] = bias
            _enter(carry, levels[last_level], places[kinds - 1], lanes, hits[:, kinds - 1], key, o, o, i, o, o, i, o)
        for t in range(runs):
            for c in range(lanes):
                levels[0, c] = totals[r, t, c]
            for level in range(flush[t]):
                for c in range(lanes):
                    carry[c] = levels[level, c]
                    levels[level, c] = 0
                out = 2 + 2 * level
                if used[out]:
                    _pass(carry, places[out], lanes, hits[:, out], key, o, o, i, o, o, i, o)
                _enter(carry, levels[level + 1], places[out + 1], lanes, hits[:, out + 1], key, o, o, i, o, o, i, o)
        if used[kinds - 1] and not bias_first:
            carry[:] = bias
            _enter(carry, levels[last_level], places[kinds - 1], lanes, hits[:, kinds - 1], key, o, o, i, o, o, i, o)
        carry[:] = levels[last_level]
        if used[last]:
            _pass(carry, places[last], lanes, hits[:, last], key, o, o, i, o, o, i, o)
        acc[r] = carry
        note_row(hits, row0 + r, counts, first)
