"""Events of some rows of a sum, before they are reported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fixqnn.kernels.wide import NEVER

INNER = 1  # place of the first stage's register: product, then register and out of every stage, then the bias's


@dataclass
class Tally:
    """Events of some rows: counts (2, places, channels) below and above, and the first row with one, per place and channel.

    Both are made when there is a first event to note: most sums have none. `suspect` is the first of a few rows among which
    the register that is followed in lanes acted for the first time; which one is not known.
    """

    places: int
    channels: int
    suspect: int = NEVER
    touched: bool = False

    @cached_property
    def counts(self) -> np.ndarray:
        """Events below and above."""
        self.touched = True
        return np.zeros((2, self.places, self.channels), np.int64)

    @cached_property
    def first(self) -> np.ndarray:
        """First row with an event."""
        self.touched = True
        return np.full((self.places, self.channels), NEVER)

    def empty(self) -> Tally:
        """No events of as many places and channels."""
        return Tally(self.places, self.channels)

    def add(self, other: Tally) -> None:
        """Take in the events of other rows."""
        if other.touched:
            np.add(self.counts, other.counts, out=self.counts)
            np.minimum(self.first, other.first, out=self.first)
            self.suspect = min(self.suspect, other.suspect)
