"""From whatever a user calls samples to batches of one size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fixqnn.encoding import at
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.tensor import Tensor

MOST_ROWS = 64
MOST_NUMBERS = 2**23  # of all values of a batch together: 64 MiB as float64

Batch = dict[str, np.ndarray]


def chunks(graph: Graph, samples: Any) -> Iterator[tuple[Batch, int, int | None]]:
    """Cut and join samples into float64 batches of equal size, the last one excepted.

    Yields
    ------
    tuple
        A batch by input name, its number of samples, and the number of all samples where that is known.
    """
    rows = rows_per_batch(graph)
    waiting: list[Batch] = []
    size = done = 0
    total: int | None = None
    for batch, total in batches(graph, samples):
        length = len(next(iter(batch.values())))
        start = 0
        while start < length:
            stop = min(length, start + rows - size)
            # A copy: a generator may well use the same buffer for its next batch.
            part = {name: np.array(array[start:stop], np.float64) for name, array in batch.items()}
            _check_finite(part, done + size)
            waiting.append(part)
            size += stop - start
            start = stop
            if size == rows:
                yield _joined(waiting), size, total
                done, size, waiting = done + size, 0, []
    if size:
        yield _joined(waiting), size, total


def rows_per_batch(graph: Graph) -> int:
    """How many samples pass at once, so that all their values together stay in bounded memory."""
    numbers = sum(math.prod(v.shape[1:]) for v in graph.values.values() if v.shape and v.shape[0] is None)
    return max(1, min(MOST_ROWS, MOST_NUMBERS // max(numbers, 1)))


def batches(graph: Graph, samples: Any) -> Iterator[tuple[Batch, int | None]]:
    """Read samples batch by batch as they come, and bind each to the graph's inputs."""
    if _is_batch(samples):
        batch = _bound(graph, samples, "samples")
        yield batch, len(next(iter(batch.values())))
    elif isinstance(samples, Iterable) and not isinstance(samples, str | bytes):
        for number, item in enumerate(samples):
            if not (_is_batch(item) or isinstance(item, list)):
                raise BadInput(
                    f"batch {number} of the samples is {_brief(item)}, not an array, or a tuple or dict of arrays"
                )
            yield _bound(graph, item, f"batch {number} of the samples"), None
    else:
        raise BadInput(
            f"samples must be an array, a tuple or dict of arrays, or an iterable of batches, not {_brief(samples)}"
        )


def _is_batch(item: Any) -> bool:
    if isinstance(item, list):
        return _is_numbers(item)
    return isinstance(item, tuple | Mapping | Tensor) or (hasattr(item, "shape") and hasattr(item, "dtype"))


def _is_numbers(item: Any) -> bool:
    """Whether nested lists end in plain numbers."""
    while isinstance(item, list) and item:
        item = item[0]
    return isinstance(item, int | float)


def _bound(graph: Graph, batch: Any, what: str) -> Batch:
    """Match a batch to the graph's inputs; a DataLoader gives lists where others give tuples."""
    if isinstance(batch, Mapping):
        given: Any = ({name: _array(array) for name, array in batch.items()},)
    elif isinstance(batch, tuple | list) and not _is_numbers(batch):
        given = tuple(_array(array) for array in batch)
    else:
        given = (_array(batch),)
    remedy = ""
    if len(given) != len(graph.inputs) and not isinstance(batch, Mapping):
        remedy = (
            "; a tuple, or what a DataLoader gives, holds one array per input: leave out labels, (b[0] for b in loader)"
        )
    try:
        return graph.bind(*given)
    except BadInput as problem:
        raise BadInput(f"{what}: {problem}{remedy}") from None


def _array(values: Any) -> np.ndarray:
    """Make a numpy array, without copying one that is; torch tensors are read without importing torch."""
    if isinstance(values, Tensor):
        return values.real()
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            return values.numpy()
        except TypeError:
            return values.float().numpy()  # bfloat16 and smaller, which numpy has no types for
    try:
        array = np.asarray(values)
    except ValueError as problem:
        raise BadInput(f"samples cannot be made an array: {problem}") from None
    if array.dtype.kind not in "fiub":
        raise BadInput(f"samples have dtype {array.dtype}; they must be real numbers")
    return array


def _brief(value: Any) -> str:
    return text if len(text := repr(value)) < 60 else f"{text[:60]}…"


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_finite(batch: Batch, before: int) -> None:
    for name, array in batch.items():
        wrong = ~np.isfinite(array)
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            where = at("samples", (before + index[0], *index[1:]))
            raise BadInput(f"{where}, for input {name!r}, is {array[index]}; samples must be finite numbers")
