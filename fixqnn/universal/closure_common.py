"""Weights without a zero: what the neurons of one layer can be at once, since all of them read the same terms.

A neuron that has no zero weight reads the whole layer before it, in an order that it shares with its neighbours; its own
are the signs and the bias alone. So what a layer chooses is a *word*, a sequence of functions of the layer before. Read
letter by letter, it takes the set of all states that neurons can be in (all biases, all signs so far) to the next set. The
functions of the last set are those that the layer offers at once, each to as many neurons as are wanted. A word whose set
lies within another word's is no better than that one, now and after any letters that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappop, heappush

import numpy as np

from fixqnn.universal.closure_arithmetic import Arithmetic
from fixqnn.universal.closure_search import SLOWER, Budget, Layer

__all__ = ["Offer", "offers"]

MOST_STATES = 1 << 17  # that are told apart in one search
MOST_SETS = 1024  # that are kept
NOT_YET, NEVER = -2, -1  # what comes after a state

Neuron = tuple[list[int], int]


@dataclass(frozen=True, eq=False)
class Offer:
    """Functions that one hidden layer offers at once.

    Attributes
    ----------
    functions : ndarray of int
        What the activation makes of its neurons, as code + M, (functions, points).
    below : Offer or None
        The layer that it reads; None for the inputs.
    word : tuple of int
        Which functions of `below` it reads, in order.
    """

    functions: np.ndarray
    below: Offer | None = None
    word: tuple[int, ...] = ()
    _search: _Words | None = field(default=None, repr=False)

    @property
    def depth(self) -> int:
        """Hidden layers up to this one."""
        return 1 + (self.below.depth if self.below else 0)

    @cached_property
    def _keys(self) -> frozenset[bytes]:
        return frozenset(row.tobytes() for row in self.functions)

    def within(self, other: Offer) -> bool:
        """Whether the other offers all of these functions too."""
        return self._keys <= other._keys

    def neurons(self, functions: Sequence[int]) -> list[Neuron]:
        """For each of these functions the numbers of the weights, letter by letter, and the bias in units of 1/s²."""
        return self._search.neurons(self.word, self.functions[list(functions)])


def offers(arithmetic: Arithmetic, below: Offer, table: np.ndarray, budget: Budget) -> tuple[list[Offer], bool]:
    """Search the words over a layer's functions for those that offer most.

    Parameters
    ----------
    arithmetic : Arithmetic
        Of the datapath.
    below : Offer
        The layer that is read.
    table : ndarray of int
        The activation: a code + M for every code + M.
    budget : Budget
        Spent by one for every sign of a letter at every state.

    Returns
    -------
    list of Offer
        None within another; most functions first.
    bool
        Whether every word offers no more than one of these.
    """
    words = _Words(arithmetic, below.functions, table)
    kept: list[tuple[int, tuple[int, ...]]] = []
    for functions, word in sorted(words.explore(budget), key=lambda pair: -pair[0].bit_count()):
        if functions and not any(functions | other == other for other, _ in kept):
            kept.append((functions, word))
    return [Offer(words.functions(bits), below, word, words) for bits, word in kept], words.complete


class _Words:
    """States and functions numbered as they are met, so that a set of them is the bits of one number."""

    def __init__(self, arithmetic: Arithmetic, letters: np.ndarray, table: np.ndarray) -> None:
        self.table, self.ways = table, arithmetic.ways_out
        self.layer = Layer(arithmetic, letters.shape[1], 2)
        codes = letters.astype(np.int64) - arithmetic.setting.largest
        self.terms = np.stack([arithmetic.terms(codes, w) for w in range(len(arithmetic.weight_operands))], axis=1)
        self.most = len(np.unique(table)) ** letters.shape[1]  # no layer has more functions
        self.left_out = False  # whether a state or a set found no room, or the budget ended
        self.all_found = False  # whether one word offers all functions that there are
        self._numbers: dict[int | bytes, int] = {}
        self._rows = np.empty((0, len(self.layer.states.bases)), np.uint16)
        self._next: dict[int, np.ndarray] = {}  # by letter: (state, weight) to state
        self._made = np.empty((0, len(self.ways)), np.int64)  # (state, way out) to function
        self._function_numbers: dict[bytes, int] = {}
        self.layer.start()
        self.start = self._number(self.layer.states.array)
        self.start_numbers = (-1 - self.layer.parents[0]).tolist()

    @property
    def complete(self) -> bool:
        """Whether no word offers what was not found."""
        return self.all_found or (self.layer.complete and not self.left_out)

    def explore(self, budget: Budget) -> list[tuple[int, tuple[int, ...]]]:
        """Functions (as bits) and word of sets of states none of which is within another, those with most first tried."""
        kept: dict[int, tuple[int, tuple[int, ...]]] = {}
        waiting: list[tuple[int, int, int]] = []

        def visit(states: np.ndarray, word: tuple[int, ...]) -> None:
            bits = _bits(states)
            if not bits or any(bits | other == other for other in kept):
                return
            for other in [other for other in kept if bits | other == bits]:
                del kept[other]
            made = self._made[states]
            kept[bits] = _bits(np.unique(made[made >= 0])), word
            heappush(waiting, (-kept[bits][0].bit_count(), -len(states), bits))

        def spread(states: np.ndarray, word: tuple[int, ...]) -> bool:
            for letter in range(len(self.terms)):
                if budget.left <= 0 or len(kept) >= MOST_SETS:
                    self.left_out = True
                    return False
                visit(self.after(states, letter, budget), (*word, letter))
            return True

        going = spread(self.start, ())
        while going and waiting:
            *_, bits = heappop(waiting)
            if bits not in kept:
                continue
            functions, word = kept[bits]
            if functions.bit_count() == self.most:
                self.all_found = True
                return [(functions, word)]
            going = spread(_places(bits), word)
        return list(kept.values())

    def after(self, states: np.ndarray, letter: int, budget: Budget | None = None) -> np.ndarray:
        """All states that a letter leads to from some, with any sign."""
        following = self._following(states, letter, budget)
        return np.unique(following[following >= 0])

    def _following(self, states: np.ndarray, letter: int, budget: Budget | None) -> np.ndarray:
        """(state, weight) to state."""
        terms = self.terms[letter]
        if letter not in self._next:
            self._next[letter] = np.empty((0, len(terms)), np.int32)
        known = self._next[letter]
        if len(known) < len(self._rows):
            more = np.full((len(self._rows) - len(known), len(terms)), NOT_YET, np.int32)
            known = self._next[letter] = np.concatenate([known, more])
        fresh = states[known[states, 0] == NOT_YET]
        if budget is not None:
            budget.left -= len(terms) * (len(states) + SLOWER * len(fresh))
        known[fresh] = NEVER
        for weight, term in enumerate(terms):
            if len(fresh) and (term >= 0).all():
                rows, alive = self.layer.push(self._rows[fresh], np.tile(term, (len(fresh), 1)))
                known[fresh[alive], weight] = self._number(rows[alive])
        return known[states]

    def _number(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of states, new ones after the others; `NEVER` where there is no room for more."""
        numbers, new = np.empty(len(rows), np.int64), []
        for place, key in enumerate(self.layer.states.keys(rows).tolist()):
            number = self._numbers.get(key)
            if number is None and len(self._numbers) < MOST_STATES:
                number = self._numbers[key] = len(self._numbers)
                new.append(place)
            numbers[place] = NEVER if number is None else number
        self.left_out |= bool((numbers < 0).any())
        self._rows = np.concatenate([self._rows, rows[new].astype(np.uint16)])
        self._made = np.concatenate([self._made, self._functions_of(rows[new])])
        return numbers

    def _functions_of(self, rows: np.ndarray) -> np.ndarray:
        """(state, way out) to the number of the function that it becomes; −1 for none."""
        contents, alive = self.layer.flushed(rows)
        made = np.full((len(rows), len(self.ways)), NEVER, np.int64)
        for way, (codes, _) in enumerate(self.ways):
            read = codes[contents]
            for place in np.flatnonzero(alive & (read >= 0).all(axis=1)).tolist():
                function = self.table[read[place]].astype(np.uint16).tobytes()
                made[place, way] = self._function_numbers.setdefault(function, len(self._function_numbers))
        return made

    def functions(self, bits: int) -> np.ndarray:
        """Rows of functions."""
        every = list(self._function_numbers)
        chosen = b"".join(every[place] for place in _places(bits).tolist())
        return np.frombuffer(chosen, np.uint16).reshape(-1, self.layer.points)

    def neurons(self, word: tuple[int, ...], functions: np.ndarray) -> list[Neuron]:
        """Signs and bias that make each of these functions of a word."""
        sets = [self.start]
        for letter in word:
            sets.append(self.after(sets[-1], letter))
        return [self._neuron(word, sets, self._function_numbers[row.tobytes()]) for row in functions]

    def _neuron(self, word: tuple[int, ...], sets: list[np.ndarray], function: int) -> Neuron:
        place, way = np.argwhere(self._made[sets[-1]] == function)[0].tolist()
        state, weights = int(sets[-1][place]), []
        for letter, before in zip(reversed(word), reversed(sets[:-1]), strict=True):
            place, weight = np.argwhere(self._following(before, letter, None) == state)[0].tolist()
            state = int(before[place])
            weights.append(weight)
        bias = self.ways[way][1]
        if bias < 0:
            start = self.start_numbers[self.start.tolist().index(state)]
            bias = self.layer.arithmetic.starts[start][1]
        return weights[::-1], self.layer.arithmetic.biases[bias]


def _bits(places: np.ndarray) -> int:
    if not len(places):
        return 0
    marks = np.zeros(int(places.max()) + 1, bool)
    marks[places] = True
    return int.from_bytes(np.packbits(marks, bitorder="little").tobytes(), "little")


def _places(bits: int) -> np.ndarray:
    octets = bits.to_bytes(-(-bits.bit_length() // 8) or 1, "little")
    return np.flatnonzero(np.unpackbits(np.frombuffer(octets, np.uint8), bitorder="little"))
