"""All contents that registers can reach on all inputs at once: breadth-first, one term after another.

A state is what the registers of one neuron hold for every input of the grid. A term, a function of the layer before
times a weight, takes a state to the next; the functions of a layer are what the states become on their way out.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod

import numpy as np

from fixqnn.universal.closure_arithmetic import BEYOND, MOST_STATES, Arithmetic
from fixqnn.universal.closure_loop import explore

__all__ = ["Budget", "Layer", "Rows", "first_layer", "next_layer", "set_terms"]

BITMAP = MOST_STATES
MOST_ROWS = 4_000_000  # states that are kept per layer
BLOCK = 1 << 16  # additions that are made together
SLOWER = 16  # what an addition costs where it is not compiled
FIRST_PART, MOST_PART = 1 << 14, 1 << 24  # additions after which new functions are looked at


class Budget:
    """Additions that may still be made; counted and not timed, so that an answer does not depend on the hour."""

    def __init__(self, limit: int) -> None:
        self.left = limit


class Rows:
    """A growing set of rows of small whole numbers, numbered in the order in which they came."""

    def __init__(self, bases: tuple[int, ...]) -> None:
        self.size, self.total, self.bases = 0, prod(bases), bases
        self._parts: list[np.ndarray] = []
        self._seen: dict[int | bytes, None] = {}
        self._bitmap: np.ndarray | None = None
        self._mapped = self.total <= BITMAP
        self.weights = None
        if self.total < 1 << 62:
            self.weights = np.cumprod([1, *bases[:-1]], dtype=object).astype(np.int64)

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """One hashable value per row, different for different rows."""
        if self.weights is not None:
            return rows.astype(np.int64) @ self.weights
        wide = np.ascontiguousarray(rows, np.uint16)
        return wide.view(np.dtype((np.void, wide.shape[1] * 2)))[:, 0]

    @property
    def _map(self) -> np.ndarray:
        if self._bitmap is None:  # made when it is needed, for it may be large
            self._bitmap = np.zeros(self.total, bool)
        return self._bitmap

    def add(self, rows: np.ndarray) -> np.ndarray:
        """Add what is new; the places in `rows` of the new ones, in order."""
        keys = self.keys(rows)
        if self._mapped:
            fresh = np.flatnonzero(~self._map[keys])
            _, first = np.unique(keys[fresh], return_index=True)
            new = fresh[np.sort(first)]
            self._map[keys[new]] = True
        else:
            places = []
            for place, key in enumerate(keys.tolist()):
                if key not in self._seen:
                    self._seen[key] = None
                    places.append(place)
            new = np.array(places, np.intp)
        if len(new):
            self._parts.append(rows[new])
            self.size += len(new)
        return new

    def forget(self) -> None:
        """Tell later rows apart from each other only, not from earlier ones; numbers go on."""
        self._seen, self._bitmap = {}, None

    def has(self, row: np.ndarray) -> bool:
        """Whether a row is in the set."""
        (key,) = self.keys(row[None]).tolist()
        return bool(self._map[key]) if self._mapped else key in self._seen

    @property
    def array(self) -> np.ndarray:
        """All rows, by number."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0] if self._parts else np.empty((0, len(self.bases)), np.uint16)

    def absent(self) -> np.ndarray | None:
        """A row that is not in the set; None where all are."""
        if self.size == self.total:
            return None
        if not self._mapped:
            rows = product(*(range(base) for base in reversed(self.bases)))
            return next(np.array(row[::-1]) for row in rows if not self.has(np.array(row[::-1], np.uint16)))
        key, digits = int(np.argmin(self._map)), []
        for base in self.bases:
            key, digit = divmod(key, base)
            digits.append(digit)
        return np.array(digits)

    def same_as(self, other: Rows) -> bool:
        """Whether both hold the same rows."""
        if self.size != other.size:
            return False
        return bool(np.array_equal(self._map, other._map)) if self._mapped else self._seen.keys() == other._seen.keys()


class Layer:
    """What the neurons of one layer can be, as functions of all inputs, and how each came about.

    Parameters
    ----------
    arithmetic : Arithmetic
        Tables of the datapath.
    points : int
        Inputs of the grid.
    number : int
        1 for the layer that reads the inputs.
    """

    def __init__(self, arithmetic: Arithmetic, points: int, number: int) -> None:
        self.arithmetic, self.points, self.number = arithmetic, points, number
        levels, codes = arithmetic.levels, len(arithmetic.setting.codes)
        self.sizes = [level.size for level in levels[:-1]]
        bases = [level.high - level.low + 1 for level in levels for _ in range(points)]
        self.states = Rows((*bases, *(size or 1 for size in self.sizes)))
        self.parents: list[np.ndarray] = []  # number of the state before, or -1 - (number of the start)
        self.letters: list[np.ndarray] = []  # the term that was added
        self.functions = Rows((codes,) * points)  # as code + M
        self.sources: list[np.ndarray] = []  # per function: state, way out
        self.terms = np.empty((0, points), np.int64)
        self.origins = np.empty((0, 2), np.int64)  # per term: function of the layer before, weight
        # in the layer that reads the inputs, a bias beyond the window does what one at its end does
        self.cut = False  # whether the limit ended it
        self._window_matters = number > 1 or not (arithmetic.clamps and arithmetic.stays)
        self.complete = arithmetic.all_biases or not self._window_matters

    @property
    def listed(self) -> int:
        """How many of the functions, the first ones, come with a sum that makes them."""
        return sum(map(len, self.sources))

    def start(self) -> np.ndarray:
        """Put in the contents before the first term; their numbers."""
        levels, rows = self.arithmetic.levels, []
        for content, _ in self.arithmetic.starts:
            if content == BEYOND:
                continue
            inner = [value for level in levels[:-1] for value in (-level.low,) * self.points]
            rows.append([*inner, *(content,) * self.points, *(0 for _ in self.sizes)])
        kept = [n for n, (content, _) in enumerate(self.arithmetic.starts) if content >= 0]
        new = self.states.add(np.array(rows, np.uint16))
        self.note(-1 - np.array(kept)[new], np.full(len(new), -1))
        self.states.forget()  # an empty sum is none: the same contents count when a term leaves them
        return np.arange(len(new))

    def note(self, parents: np.ndarray, letters: np.ndarray) -> None:
        """Keep where states came from."""
        self.parents.append(np.asarray(parents, np.int64))
        self.letters.append(np.asarray(letters, np.int32))

    def push(self, rows: np.ndarray, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add one term to each row; (rows, which are alive)."""
        levels, n, rows = self.arithmetic.levels, self.points, rows.copy()
        alive = np.ones(len(rows), bool)
        moving, numbers = np.arange(len(rows)), terms
        for index, level in enumerate(levels):
            columns = slice(index * n, (index + 1) * n)
            content = level.enter[rows[moving, columns], numbers]
            self._bury(content, moving, alive)
            rows[moving, columns] = np.maximum(content, 0)
            if index == len(levels) - 1:
                break
            count = len(levels) * n + index
            if level.size is None:
                break
            rows[moving, count] += 1
            full = rows[moving, count] == level.size
            moving, content = moving[full], np.maximum(content[full], 0)
            rows[moving, count], rows[moving, columns] = 0, -level.low
            alive[moving] &= ~level.dead[content].any(axis=1)
            numbers = level.leave[content] - levels[index + 1].first
        return rows, alive

    def _bury(self, content: np.ndarray, moving: np.ndarray, alive: np.ndarray) -> None:
        lowest = content.min(axis=1, initial=0)
        alive[moving] &= lowest >= 0
        if self._window_matters and (lowest == BEYOND).any():
            self.complete = False

    def flushed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hand on all unfinished runs; (contents of the outermost register, which are alive)."""
        levels, n = self.arithmetic.levels, self.points
        alive, rows = np.ones(len(rows), bool), rows.copy()
        for index, level in enumerate(levels[:-1]):
            begun = np.arange(len(rows))
            if level.size is not None:
                begun = np.flatnonzero(rows[:, len(levels) * n + index])
            content = rows[begun, index * n : (index + 1) * n]
            alive[begun] &= ~level.dead[content].any(axis=1)
            above = slice((index + 1) * n, (index + 2) * n)
            entered = levels[index + 1].enter[rows[begun, above], level.leave[content] - levels[index + 1].first]
            self._bury(entered, begun, alive)
            rows[begun, above] = np.maximum(entered, 0)
            if index + 1 < len(levels) - 1 and levels[index + 1].size is not None:
                rows[begun, len(levels) * n + index + 1] += 1  # it is begun now, be it full or not
        return rows[:, (len(levels) - 1) * n : len(levels) * n], alive

    def read(self, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Take the functions of states; new functions as codes + M."""
        contents, alive = self.flushed(rows)
        fresh = []
        for way, (codes, _) in enumerate(self.arithmetic.ways_out):
            made = codes[contents]
            valid = np.flatnonzero(alive & (made >= 0).all(axis=1))
            new = self.functions.add(made[valid].astype(np.uint16))
            if len(new):
                self.sources.append(np.stack([numbers[valid[new]], np.full(len(new), way)], axis=1))
                fresh.append(made[valid[new]])
        return np.concatenate(fresh) if fresh else np.empty((0, self.points), np.int32)

    def grow(self, numbers: np.ndarray, rows: np.ndarray, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add every one of the terms to every row; numbers and rows of the states that are new."""
        pairs = len(rows) * len(letters)
        made, alive = self.push(np.repeat(rows, len(letters), axis=0), np.tile(self.terms[letters], (len(rows), 1)))
        which = np.flatnonzero(alive) if not alive.all() else np.arange(pairs)
        new = which[self.states.add(made[which])]
        self.note(numbers[new // len(letters)], letters[new % len(letters)])
        return np.arange(self.states.size - len(new), self.states.size), made[new]


def first_layer(layer: Layer, inputs: np.ndarray) -> np.ndarray:
    """Fill the layer that reads the inputs, codes (inputs, points): each once, in order, by any weight."""
    set_terms(layer, inputs)
    numbers = layer.start()
    rows = layer.states.array
    for axis in range(len(inputs)):
        letters = np.flatnonzero(layer.origins[:, 0] == axis)
        # states of one depth are told apart from those of others, which have the same contents
        layer.states.forget()
        numbers, rows = layer.grow(numbers, rows, letters)
    return layer.read(numbers, rows)


def next_layer(layer: Layer, letters: np.ndarray, budget: Budget, news: Callable[[np.ndarray], bool]) -> None:
    """Fill a layer that reads hidden functions, any of them any number of times, in any order.

    Parameters
    ----------
    layer : Layer
        With its terms set.
    letters : ndarray of int
        Which of its terms suffice.
    budget : Budget
        Spent by one for every term added to a state; where it ends, the layer is not complete.
    news : callable
        Is told the new functions and says whether to stop.
    """
    if not layer.arithmetic.tiled and layer.states.total <= BITMAP:
        _single(layer, letters, budget, news)
        return
    queue = [(layer.start(), layer.states.array)]
    step = max(BLOCK // max(len(letters), 1), 1)
    while queue:
        waiting, queue = queue, []
        for numbers, rows in waiting:
            for i in range(0, len(rows), step):
                for j in range(0, len(letters), BLOCK):
                    some = letters[j : j + BLOCK]
                    budget.left -= min(step, len(rows) - i) * len(some) * SLOWER
                    if budget.left < 0 or layer.states.size > MOST_ROWS:
                        layer.complete, layer.cut = False, True
                        return
                    found, made = layer.grow(numbers[i : i + step], rows[i : i + step], some)
                    if len(found):
                        queue.append((found, made))
                        if news(layer.read(found, made)):
                            return


def _single(layer: Layer, letters: np.ndarray, budget: Budget, news: Callable[[np.ndarray], bool]) -> None:
    """The same for one register, compiled."""
    layer.start()
    starts = layer.states.array
    head, tail, total = 0, len(starts), layer.states.total
    rows = np.empty((len(starts) + min(total, MOST_ROWS), layer.points), np.uint16)
    rows[:tail] = starts
    parents, added = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    terms = np.ascontiguousarray(layer.terms[letters], np.int64)
    seen, part, enter = np.zeros(total, np.uint8), FIRST_PART, layer.arithmetic.levels[0].enter
    if _runs_one_way(layer, terms):
        # beyond the window there is no way back, and the code is that at its end: as if the register ended there
        numbers = np.arange(enter.shape[1]) + layer.arithmetic.levels[0].first
        enter = np.where(enter == BEYOND, np.where(numbers > 0, len(enter) - 1, 0), enter).astype(np.int32)
    while head < tail and tail - len(starts) < total:
        before = tail
        head, tail, spent, beyond = explore(
            enter, terms, rows, parents, added, seen, layer.states.weights, head, tail,
            min(part, budget.left),
        )  # fmt: skip
        part = min(2 * part, MOST_PART)
        budget.left -= spent
        layer.complete &= not beyond
        new = np.arange(before, tail)
        layer.note(parents[new], letters[added[new]])
        if len(new) and news(layer.read(new, rows[new])):
            return
        if budget.left <= 0 or (tail == len(rows) and tail - len(starts) < total):
            layer.cut = head < tail
            layer.complete &= not layer.cut
            return


def _runs_one_way(layer: Layer, terms: np.ndarray) -> bool:
    """Whether, at every input, all terms have one sign, in a wide register that has the codes ±M outside of its window."""
    arithmetic = layer.arithmetic
    numbers = terms + arithmetic.levels[0].first
    one_way = ((numbers >= 0).all(axis=0) | (numbers <= 0).all(axis=0)).all()
    wide = not arithmetic.levels[0].whole and arithmetic.all_biases and arithmetic.levels[0].place.drop <= 0
    return bool(one_way) and wide and arithmetic.clamps and arithmetic.stays


def set_terms(layer: Layer, functions: np.ndarray) -> None:
    """Make the terms: every function by every weight, each different one once."""
    arithmetic = layer.arithmetic
    seen = Rows((len(arithmetic.levels[0].enter[0]),) * layer.points)
    terms, origins = [], []
    order = sorted(range(len(arithmetic.weight_operands)), key=lambda w: (abs(arithmetic.weight_operands[w]), w))
    first = layer.number == 1
    for weight in order:
        made = arithmetic.terms(functions, weight)
        legal = np.flatnonzero((made >= 0).all(axis=1))
        new = legal if first else legal[seen.add(made[legal].astype(np.uint16))]
        terms.append(made[new])
        origins.append(np.stack([new, np.full(len(new), weight)], axis=1))
    layer.terms, layer.origins = np.concatenate(terms), np.concatenate(origins)
