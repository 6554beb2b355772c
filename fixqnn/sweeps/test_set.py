"""A test set as users give it: arrays by input, and labels; and what the float network makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fixqnn.comparison import batches
from fixqnn.encoding import as_codes
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.simulate import CHUNK_BYTES
from fixqnn.tensor import Tensor


def bound(graph: Graph, test_set: Any) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Take a test set apart: arrays by input, and labels if there are any; BadInput says what does not fit."""
    x, labels = test_set, None
    if isinstance(test_set, tuple | list) and not (len(graph.inputs) > 1 and _is_inputs(graph, test_set)):
        if len(test_set) not in (1, 2):
            raise BadInput(f"a test set is (x, labels), or x alone, not {len(test_set)} things")
        x, labels = test_set[0], test_set[1] if len(test_set) == 2 else None
    arrays = {name: _array(a) for name, a in x.items()} if isinstance(x, Mapping) else None
    if arrays is None:
        arrays = tuple(map(_array, x)) if isinstance(x, tuple) else (_array(x),)
    inputs = graph.bind(arrays) if isinstance(arrays, dict) else graph.bind(*arrays)
    samples = len(next(iter(inputs.values())))
    if not samples:
        raise BadInput("the test set is empty; give at least one sample")
    for name, array in inputs.items():
        if array.dtype.kind in "iub" and name not in graph.formats:
            raise BadInput(
                f"input {name!r} of the test set holds {array.dtype} numbers; give reals (floats): codes have no meaning yet"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise BadInput(f"input {name!r} of the test set is {array[index]} at {list(index)}; it must be finite")
    if labels is not None:
        labels = _labels(labels)
        if len(graph.outputs) != 1:
            raise BadInput(f"labels need a network with one output; this one has {', '.join(graph.outputs)}")
        shape = graph.values[graph.outputs[0]].shape
        if labels.shape != (samples, *shape[2:]):
            raise BadInput(f"labels have shape {labels.shape}; {samples} samples need {(samples, *shape[2:])}")
    return inputs, labels


def _is_inputs(graph: Graph, test_set: Any) -> bool:
    """Whether a tuple holds one array per input, rather than inputs and labels."""
    return len(test_set) == len(graph.inputs) and not isinstance(test_set[0], tuple | list | Mapping)


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.codes
    try:
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
    except ValueError:  # rows of different lengths
        array = np.empty((), object)
    if array.dtype.kind == "O" and not array.ndim:
        raise BadInput(
            f"a test set is arrays, (x, labels) or x alone; a {type(values).__name__} is none: stack its samples into one array"
        )
    return array


def _labels(values: Any) -> np.ndarray:
    """Labels as integers; whole numbers in floats, as text files are read, count too."""
    array = _array(values)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.rint(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise BadInput(
            f"labels are the numbers of the right classes, whole and from 0, one per sample; these have dtype {array.dtype} "
            f"and shape {array.shape}"
        )
    return as_codes(array, "labels")


def float_outputs(graph: Graph, reals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the float network on a test set, part by part, in float64."""
    samples = len(next(iter(reals.values())))
    parts = [graph.evaluate({n: x[part] for n, x in reals.items()}) for part in batches(graph, samples)]
    return {name: np.concatenate([part[name] for part in parts]) for name in graph.outputs}


def samples_per_part(graph: Graph) -> int:
    """Samples that pass at once: the same for all points, so that what they share can be found again."""
    sizes = {v.name: math.prod(v.shape[1:]) for v in graph.values.values() if v.shape and v.shape[0] is None}
    most = max((sum(sizes.get(name, 0) for name in (*node.inputs, node.output)) for node in graph.nodes), default=1)
    return max(1, CHUNK_BYTES // max(1, 2 * most))
