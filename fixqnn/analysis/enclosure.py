"""What is known of one value of a network and of its integer twin: where both lie, and how far apart they are at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Errors are sums of non-negative float64 numbers: n additions and products lose at most (n + 2)·2⁻⁵³ of them. This takes
# back what four million of them can lose, and is beneath anything that one looks at.
UP = 1 + 1e-9
UNIT = 2.0**-52


@dataclass(frozen=True)
class Enclosure:
    """Bounds that hold element by element.

    Attributes
    ----------
    real_low, real_high : ndarray
        Where the float network's value lies; one and the same array where the value is known.
    low, high : ndarray
        Where the real number lies that the integer network's code stands for.
    error : ndarray
        The two are at most so far apart.
    """

    real_low: np.ndarray
    real_high: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray

    @classmethod
    def of(
        cls, real_low: np.ndarray, real_high: np.ndarray, low: np.ndarray, high: np.ndarray, error: np.ndarray
    ) -> Enclosure:
        """Let each bound draw the others in."""
        error = np.minimum(error * UP, np.maximum(high - real_low, real_high - low) * UP)
        error = np.maximum(error, 0.0)
        slack = UNIT * (np.abs(real_low) + np.abs(real_high) + error)
        return cls(
            real_low, real_high, np.maximum(low, real_low - error - slack), np.minimum(high, real_high + error + slack),
            error,
        )  # fmt: skip

    @classmethod
    def near(cls, real_low: np.ndarray, real_high: np.ndarray, error: np.ndarray) -> Enclosure:
        """The integer value is known by its distance from the real one alone."""
        error = error * UP
        slack = UNIT * (np.abs(real_low) + np.abs(real_high) + error)
        return cls(real_low, real_high, real_low - error - slack, real_high + error + slack, error)

    @classmethod
    def known(cls, real: np.ndarray, integer: np.ndarray) -> Enclosure:
        """Both are known."""
        return cls(real, real, integer, integer, np.abs(integer - real))

    @property
    def point(self) -> bool:
        """Whether the float network's value is known."""
        return self.real_low is self.real_high

    @property
    def magnitude(self) -> np.ndarray:
        """Largest magnitude of the float network's value."""
        return np.abs(self.real_low) if self.point else np.maximum(np.abs(self.real_low), np.abs(self.real_high))

    @property
    def reach(self) -> np.ndarray:
        """Largest magnitude of the integer network's value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def moved(self, move: Callable[[np.ndarray], np.ndarray], error: Callable[[np.ndarray], np.ndarray]) -> Enclosure:
        """Apply what never reverses an order, such as a move or a maximum, to the bounds, and `error` to the error."""
        real_low = move(self.real_low)
        real_high = real_low if self.point else move(self.real_high)
        return Enclosure.of(real_low, real_high, move(self.low), move(self.high), error(self.error))
