"""The innermost loop of a closure: every term added to every state of a single register, breadth-first."""

from __future__ import annotations

import numpy as np

from fixqnn.arith.fast import kernel

__all__ = ["explore"]


@kernel
def explore(enter, terms, rows, parents, letters, seen, weights, head, tail, additions):
    """Add all terms (terms, points) to states from number `head` on, until so many additions are spent.

    ``enter[content, term]`` is the next content; negative where there is none, −2 outside of the window. States are
    `rows` (states, points), filled up to `tail`; `seen` has a place for each, at the sum of contents times `weights`.
    Returns head, tail, additions made, and whether one led outside of the window.
    """
    points = rows.shape[1]
    made = np.empty(points, np.int64)
    spent, beyond = 0, False
    while head < tail and spent < additions:
        for letter in range(terms.shape[0]):
            key, alive = 0, True
            for x in range(points):
                content = enter[rows[head, x], terms[letter, x]]
                if content < 0:
                    alive = False
                    beyond |= content == -2
                    break
                made[x] = content
                key += content * weights[x]
            if alive and seen[key] == 0:
                if tail == rows.shape[0]:
                    return head, tail, spent, beyond
                seen[key] = 1
                for x in range(points):
                    rows[tail, x] = made[x]
                parents[tail] = head
                letters[tail] = letter
                tail += 1
            spent += 1
        head += 1
    return head, tail, spent, beyond
