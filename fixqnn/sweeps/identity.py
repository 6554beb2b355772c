"""Hashes that say whether two graphs, data sets or points are the same, in any process and on any machine."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from types import CodeType, MethodType, ModuleType
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.calibration.observe import Calibration
from fixqnn.calibration.policy import Policy
from fixqnn.graph import Graph
from fixqnn.ops import OPS
from fixqnn.storage import to_json
from fixqnn.sweeps.points import Point
from fixqnn.tensor import Tensor


def of_graph(graph: Graph) -> str:
    """SHA-256 of a graph: its nodes, real constants, codes and formats; notes do not count, a user's own operations do.

    Parameters
    ----------
    graph : Graph
        Any.
    """
    digest = sha256()
    inputs = [[v.name, to_json(v.shape)] for v in graph.inputs]
    formats = {name: to_json(graph.formats[name]) for name in sorted(graph.formats)}
    _add(digest, "graph", [inputs, list(graph.outputs), formats])
    for node in graph.nodes:
        attributes = {name: _plain(value) for name, value in sorted(node.attributes.items())}
        own = [] if OPS.get(node.op.name) is node.op else [_function(f) for f in _functions_in(node.op)]
        _add(digest, node.name, [node.op.name, list(node.inputs), node.output, attributes, *own])
    for name in sorted(graph.constants):
        constant = graph.constants[name]
        _add_array(digest, name, constant.codes if isinstance(constant, Tensor) else constant)
    return digest.hexdigest()


def of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays by name: their values and shapes; whether in float32 or float64 does not count where that is exact.

    >>> of_arrays({"x": np.float32([0.5])}) == of_arrays({"x": np.float64([0.5])})
    True
    """
    digest = sha256()
    for name in sorted(arrays):
        array = arrays[name]
        kind = np.float64 if array.dtype.kind == "f" else np.int64 if array.dtype.kind in "iub" else array.dtype
        digest.update(f"{name} {array.shape}".encode())
        for start in range(0, len(array), 1024):  # a large set is not copied whole
            digest.update(np.ascontiguousarray(array[start : start + 1024], np.dtype(kind).newbyteorder("<")).data)
    return digest.hexdigest()


def of_calibration(calibration: Calibration) -> str:
    """SHA-256 of what calibration samples showed: all that formats depend on."""
    digest = sha256()
    for name, seen in sorted(calibration.values.items()):
        _add(digest, name, [float(seen.low).hex(), float(seen.high).hex(), seen.zeros, seen.step])
        _add_array(digest, name, seen.counts)
    return digest.hexdigest()


def of_machine(machine: Accelerator) -> str:
    """SHA-256 of a machine's record; of functions in it, their names, their compiled code and what they hold."""
    document = {
        "name": machine.name, "ports": repr(machine.ports), "rewrites": [_function(f) for f in machine.rewrites],
        "datapaths": {key: to_json(path) for key, path in sorted(machine.datapaths.items())},
        "functions": {
            key: [_function(f) for f in functions]
            for key, path in sorted(machine.datapaths.items()) if (functions := list(_functions_in(path)))
        },
    }  # fmt: skip
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def of_point(point: Point, policy: Policy, machine: str, seed: int, subset: int | None = None) -> str:
    """Key of a row: SHA-256 of a point's settings, the policy that they are applied to, the machine, the seed.

    Parameters
    ----------
    point : Point
        Settings, in any order.
    policy : Policy
        What holds where the point says nothing.
    machine : str
        Hash of its record, or what the user called it where it cannot exist.
    seed : int
        Of stochastic rounding.
    subset : int, optional
        Samples used, if not all.
    """
    settings = json.loads(point.to_json())
    document = [sorted(settings.items()), repr(policy), machine, seed, *([] if subset is None else [subset])]
    return sha256(json.dumps(document, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _add(digest: Any, name: str, document: Any) -> None:
    digest.update(json.dumps([name, document], sort_keys=True, default=str).encode())


def _add_array(digest: Any, name: str, array: np.ndarray) -> None:
    if array.dtype.hasobject:
        _add(digest, name, [str(v) for v in array.ravel()])
        return
    kind = np.float64 if array.dtype.kind == "f" else np.int64 if array.dtype.kind in "iu" else array.dtype
    digest.update(f"{name} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).data)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    try:
        return to_json(value)
    except TypeError:
        return repr(value)


def _functions_in(record: Any) -> Iterator[Callable[..., Any]]:
    """All functions inside a datapath or an operation, in the order of its fields."""
    if isinstance(record, tuple | list):
        for part in record:
            yield from _functions_in(part)
    elif is_dataclass(record):
        for field in fields(record):
            yield from _functions_in(getattr(record, field.name))
    elif callable(record):
        yield record


def _function(function: Callable[..., Any], inside: tuple[int, ...] = ()) -> Any:
    """A function in words: its name, its code, and all that it holds, as far as that can be written down."""
    if id(function) in inside:
        return "itself"
    inside = (*inside, id(function))
    if isinstance(function, functools.partial):
        return ["partial", *(_held(part, inside) for part in (function.func, function.args, function.keywords))]
    if isinstance(function, MethodType):
        return ["method", _function(function.__func__, inside), _held(function.__self__, inside)]
    function = inspect.unwrap(
        getattr(function, "py_func", function)
    )  # of a compiled function, the one that was written
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    code = getattr(function, "__code__", None)
    if code is None:  # built in, a class, or an object that can be called
        return [name, *([] if isinstance(function, type) else [_held(getattr(function, "__dict__", {}), inside)])]
    closure = [_content(cell) for cell in function.__closure__ or ()]
    return [name, _code(code), *(_held(v, inside) for v in (closure, function.__defaults__, function.__kwdefaults__))]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _code(code: CodeType) -> Any:
    """Compiled code without where it was written."""
    constants = [
        _code(c) if isinstance(c, CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
        for c in code.co_consts
    ]  # fmt: skip
    return [code.co_code.hex(), constants, list(code.co_names)]


def _held(value: Any, inside: tuple[int, ...]) -> Any:
    """What a function holds, such that equal contents are equal in every process."""
    value = value.detach().cpu().numpy() if hasattr(value, "cpu") else value  # a torch tensor
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return [str(value.dtype), value.shape, sha256(np.ascontiguousarray(value).data).hexdigest()]
    if isinstance(value, Mapping):
        return [[str(k), _held(v, inside)] for k, v in value.items()]
    if isinstance(value, tuple | list):
        return [_held(v, inside) for v in value]
    if callable(value):
        return _function(value, inside)
    if isinstance(value, ModuleType):
        return value.__name__
    try:
        return to_json(value)
    except TypeError:
        state = getattr(value, "__dict__", None)
    if state is None:
        return repr(value)
    return "itself" if id(value) in inside else [type(value).__qualname__, _held(state, (*inside, id(value)))]
