"""What the first layer can tell apart: for a sum before its bias, the outputs of one neuron under every bias.

A *row* is ``b ↦ T(round(n + b))`` over the range of biases. Biases in units of 1/s shift the rounded sum by whole codes,
so a row is a window of one of two sequences: the table continued at both ends by its end values, or, where `n` stands
on a tie and the tie rule is not the same for all codes, the same seen through ties. Rows get labels: equal rows have
equal labels, and labels that differ prove that rows differ. Where rows with one label must agree, `Rows.same` looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from fixqnn.modes import Rounding
from fixqnn.universal.grid import Bias, Setting, check_sums

__all__ = ["PRIMES", "Rows"]

# A label is a polynomial in a fixed base, modulo two primes below 2³¹, so that products fit 64 bits.
PRIMES = (2**31 - 1, 2**31 - 19)
BASES = (1_103_515_245, 742_938_285)
SHIFTED_ALIKE = (Rounding.half_up, Rounding.half_down)


class Rows:
    """The rows of a table in a setting.

    Parameters
    ----------
    setting : Setting
        Format, biases, tie rule.
    table : sequence of int
        The activation's codes for k = −M … M, not all the same.

    Raises
    ------
    BadInput
        For sums that 64 bits do not hold.

    Examples
    --------
    >>> rows = Rows(Setting(2, 1, "binary"), (0, 1, 0, 0, 0, 1, 0))
    >>> rows.row(-2), rows.row(2)
    ((0, 0, 0, 1, 0, 0, 0), (0, 0, 0, 1, 0, 0, 0))
    >>> first, second, third = rows.labels(np.array([-2, 2, 0])).tolist()
    >>> first == second, first == third
    (True, False)
    """

    def __init__(self, setting: Setting, table: Sequence[int]) -> None:
        check_sums(setting)
        self.setting = setting
        self.largest = setting.largest
        self.reach = 2 * self.largest + 2  # a window centred further out holds the end value only
        self.table = np.asarray(table, np.int64)
        self.ties_differ = setting.s % 2 == 0 and setting.rounding not in SHIFTED_ALIKE

    def places(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For sums of unit 1/s² without bias: which sequence (1: through ties), and where its window is centred."""
        s, rounding = self.setting.s, self.setting.rounding
        below, rest = np.divmod(np.asarray(sums, np.int64), s)
        if self.ties_differ:
            return (2 * rest == s).astype(np.int64), below + (2 * rest > s)
        up = 2 * rest > s if rounding is Rounding.half_down else 2 * rest >= s
        return np.zeros_like(below), below + up

    @cached_property
    def sequences(self) -> np.ndarray:
        """The table continued at both ends, then seen through ties: entry j stands at index j + reach + M."""
        span, s, largest = self.reach + self.largest, self.setting.s, self.largest
        codes = np.arange(-span, span + 1)
        seen = [codes]
        if self.ties_differ:  # whether the tie above a code goes up is decided by the code's sign and parity
            up = np.array([self.setting.nearest(j * s + s // 2) - j for j in (-2, -1, 0, 1)])
            seen.append(codes + up[2 * (codes >= 0) + codes % 2])
        return self.table[np.clip(seen, -largest, largest) + largest]

    def windows(self, sums: np.ndarray) -> np.ndarray:
        """The outputs of each sum for bias codes −M … M, one row per sum."""
        windows = np.lib.stride_tricks.sliding_window_view(self.sequences, 2 * self.largest + 1, axis=1)
        return windows[self._at(sums)]

    def row(self, n: int) -> tuple[int, ...]:
        """The outputs for bias codes −M … M added to the sum `n`."""
        return tuple(self.windows(np.array([n]))[0].tolist())

    def labels(self, sums: np.ndarray) -> np.ndarray:
        """Give equal rows equal labels. Labels of bounded biases are hashes: two rows in 2⁶⁰ may share one by chance."""
        sums = np.asarray(sums, np.int64)
        if self.setting.bias == Bias.fine:
            return sums  # every shift is a bias, and a sequence that is not constant differs from its shifts
        if self.setting.bias == Bias.wide:
            which, centre = self.places(sums)
            return self._where_it_starts[which] - np.where(self._is_flat[which], 0, 4 * centre)
        return self.hashes(sums, PRIMES[0]) << 31 | self.hashes(sums, PRIMES[1])

    def hashes(self, sums: np.ndarray, prime: int) -> np.ndarray:
        """Sums of entry · baseⁱ modulo one prime: linear in the row, so multiples of a row have multiples of its hash."""
        return self._window_hashes[prime][self._at(sums)]

    def first_nonzero(self, sums: np.ndarray) -> np.ndarray:
        """The first entry of each row that is not zero; 0 where all are."""
        width, found = 2 * self.largest + 1, []
        for sequence in self.sequences:
            index = np.where(sequence != 0, np.arange(len(sequence)), len(sequence))
            next_one = np.minimum.accumulate(index[::-1])[::-1][: len(sequence) - width + 1]
            inside = next_one < np.arange(len(next_one)) + width
            found.append(np.where(inside, sequence[np.minimum(next_one, len(sequence) - 1)], 0))
        return np.stack(found)[self._at(sums)]

    def sizes(self, sums: np.ndarray) -> np.ndarray:
        """The greatest common divisor of each row: of the entries from its start on, for what follows repeats T(M).

        For windows centred below 0 it is that of the entries up to its end.
        """
        start, width = len(self.sequences[0]) // 2 - self.largest, 2 * self.largest + 1
        up_to = np.gcd.accumulate(self.sequences, axis=1)[:, width - 1 :]
        onward = np.gcd.accumulate(self.sequences[:, ::-1], axis=1)[:, ::-1]
        return np.concatenate([up_to[:, :start], onward[:, start : up_to.shape[1]]], axis=1)[self._at(sums)]

    def same(self, n: int, other: int) -> bool:
        """Compare the rows of two sums themselves; labels of unlimited biases are no hashes and suffice."""
        if self.setting.bias == Bias.values:
            return self.row(n) == self.row(other)
        left, right = self.labels(np.array([n, other])).tolist()
        return left == right

    def _at(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which, centre = self.places(sums)
        return which, np.clip(centre, -self.reach, self.reach) + self.reach

    @cached_property
    def _window_hashes(self) -> dict[int, np.ndarray]:
        """The hash of every window, as differences of running sums."""
        found, width = {}, 2 * self.largest + 1
        for prime, base in zip(PRIMES, BASES, strict=True):
            length = self.sequences.shape[1]
            powers, inverses = _powers(base, length, prime), _powers(pow(base, -1, prime), length, prime)
            running = np.pad(np.cumsum(self.sequences % prime * powers % prime, axis=1), ((0, 0), (1, 0)))
            windows = (running[:, width:] - running[:, :-width]) % prime
            found[prime] = windows * inverses[: windows.shape[1]] % prime
        return found

    # Unlimited biases: a row is a whole sequence and where it stands. Sequences with the same entries from their first
    # change on are the same sequence elsewhere.

    @cached_property
    def _is_flat(self) -> np.ndarray:
        return (self.sequences == self.sequences[:, :1]).all(axis=1)

    @cached_property
    def _where_it_starts(self) -> np.ndarray:
        """Four times the place of the first change, plus a number for the shape; of a flat one, a mark of its own."""
        shapes: list[tuple[int, ...]] = []
        starts = []
        for sequence, flat in zip(self.sequences.tolist(), self._is_flat, strict=True):
            if flat:
                starts.append(2)
                continue
            first = next(i for i, code in enumerate(sequence) if code != sequence[0])
            last = max(i for i, code in enumerate(sequence) if code != sequence[-1])
            shape = (sequence[0], *sequence[first : last + 2])
            if shape not in shapes:
                shapes.append(shape)
            starts.append(4 * first + shapes.index(shape))
        return np.array(starts, np.int64)


def _powers(base: int, length: int, prime: int) -> np.ndarray:
    powers = np.ones(1, np.int64)
    while len(powers) < length:
        powers = np.concatenate([powers, powers * pow(base, len(powers), prime) % prime])
    return powers[:length]
