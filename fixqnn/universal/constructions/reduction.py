"""What a target really depends on: values of an input that never make a difference share a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Reduced", "occurrences", "reduce_axes"]


@dataclass(frozen=True, eq=False)
class Reduced:
    """A target over classes of values.

    Attributes
    ----------
    labels : tuple of ndarray
        Per input, the class of every value k = −M … M; classes are numbered in the order in which they first occur.
    table : ndarray of int
        The target, one entry per combination of classes.
    """

    labels: tuple[np.ndarray, ...]
    table: np.ndarray

    @property
    def axes(self) -> tuple[int, ...]:
        """Inputs that make a difference."""
        return tuple(i for i, length in enumerate(self.table.shape) if length > 1)

    def direction(self, axis: int) -> tuple[int, ...]:
        """The form that is this input by itself."""
        return tuple(int(i == axis) for i in range(self.table.ndim))


def reduce_axes(target: np.ndarray) -> Reduced:
    """Merge, input by input, the values on which all entries agree.

    >>> reduced = reduce_axes(np.array([[1, 1, 0], [1, 1, 0], [2, 2, 2]]))
    >>> [labels.tolist() for labels in reduced.labels], reduced.table.tolist()
    ([[0, 0, 1], [0, 0, 1]], [[1, 0], [2, 2]])
    """
    table, all_labels = np.asarray(target), []
    for axis in range(table.ndim):
        slices = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
        _, first, inverse = np.unique(slices, axis=0, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        all_labels.append(rank[inverse.reshape(-1)])
        table = np.take(table, np.sort(first), axis=axis)
    return Reduced(tuple(all_labels), table)


def occurrences(codes: np.ndarray) -> dict[int, int]:
    """How often each code occurs, in the order of the codes.

    >>> occurrences(np.array([[3, -1], [3, 3]]))
    {-1: 1, 3: 3}
    """
    return dict(zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True))
