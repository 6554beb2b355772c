"""Functions of narrow codes, read from memory: an entry for every bit pattern, so that no code needs a test or an offset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fixqnn.format import Format
from fixqnn.kernels import pool
from fixqnn.kernels.passes import alike, count_flags, first_flag, look_up, unsigned
from fixqnn.kernels.rows import rows_of

PIECE = 1 << 21  # codes worth a thread


@dataclass(frozen=True)
class Table:
    """Entries, and which of them were clipped (−1 below, +1 above), indexed by the low bits of a code.

    A code and its unsigned pattern of that many bits name each other, so reading by pattern is reading by code.
    """

    entries: np.ndarray
    flags: np.ndarray | None  # None: no entry was clipped
    mask: np.uint64

    @classmethod
    def of_codes(cls, form: Format, entries: np.ndarray, flags: np.ndarray) -> Table:
        """A table whose entries stand in the order of a format's codes, the lowest first."""
        mask = (1 << form.bits) - 1
        patterns = np.arange(form.low, form.high + 1) & mask
        placed = []
        for values in (entries, flags):
            placed.append(np.zeros(mask + 1, values.dtype))
            placed[-1][patterns] = values
        return cls(placed[0], placed[1] if flags.any() else None, np.uint64(mask))

    @classmethod
    def of_places(cls, entries: np.ndarray, flags: np.ndarray) -> Table:
        """A table that is read by place, from zero on, and never beyond its end."""
        return cls(entries.copy(), flags.copy() if flags.any() else None, np.uint64(2**63 - 1))

    def read(self, codes: np.ndarray, threads: int = 1) -> np.ndarray:
        """Entries of all codes, in the memory order of the codes."""
        x, y, memory = alike(codes, self.entries.dtype)
        x = unsigned(x)
        pool.split(
            lambda start, stop: look_up(x[start:stop], self.entries, self.mask, memory[start:stop]),
            x.size, PIECE, threads,
        )  # fmt: skip
        return y

    def clipped(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many clipped entries codes (samples, channels, …) read, per channel: below, and above."""
        channels = codes.shape[1] if codes.ndim > 1 else 1
        below, above = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
        if self.flags is not None:
            count_flags(unsigned(rows_of(codes)), self.flags, self.mask, below, above)
        return below, above

    def first(self, codes: np.ndarray) -> tuple[int, int, int]:
        """Row and channel of the first code, row by row, that reads a clipped entry, and the code; there must be one."""
        rows = rows_of(codes)
        row, channel = first_flag(unsigned(rows), self.flags, self.mask)
        return row, channel, int(rows[row, channel])
