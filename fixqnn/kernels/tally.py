"""Events of some rows of a sum, before they are reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fixqnn.kernels.wide import NEVER

INNER = 1  # place of the first stage's register: product, then register and out of every stage, then the bias's


@dataclass
class Tally:
    """Events of some rows: counts (2, places, channels) below and above, and the first row with one, per place and channel.

    `suspect` is the first of a few rows among which the inner register acted for the first time; which one is not known.
    """

    counts: np.ndarray
    first: np.ndarray
    suspect: int = NEVER

    @classmethod
    def none(cls, places: int, channels: int) -> Tally:
        """No events."""
        return cls(np.zeros((2, places, channels), np.int64), np.full((places, channels), NEVER))

    def add(self, other: Tally) -> None:
        """Take in the events of other rows."""
        self.counts += other.counts
        np.minimum(self.first, other.first, out=self.first)
        self.suspect = min(self.suspect, other.suspect)
