"""Programs as files: one ``.npz`` with a JSON document beside the integer arrays, and no pickle anywhere."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fixqnn import datapath as datapaths
from fixqnn import scaler as scalers
from fixqnn.errors import BadFile, FixqnnError
from fixqnn.format import Format
from fixqnn.graph import Value
from fixqnn.ops import OPS
from fixqnn.ops.op import Op, Step
from fixqnn.program import Program, planned

DOCUMENT = "program.json"
KIND = "fixqnn program 1"
RECORDS = {
    record.__name__: record
    for record in (
        datapaths.Register, datapaths.Stage, datapaths.SumOfProducts, datapaths.Elementwise, datapaths.Lookup,
        scalers.Exact, scalers.Shift, scalers.Multiplier, scalers.TwoStepMultiplier, scalers.Float, scalers.Divide,
    )
}  # fmt: skip


class CallableName(str):
    """A callable of a saved datapath: only its name is kept, since what it made is among the prepared constants."""


def describe(program: Program) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Turn a program into a JSON document and its arrays, by name; kernel paths are not part of it."""
    arrays: dict[str, np.ndarray] = {}

    def pack(name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                return {"integers": [str(v) for v in value.ravel()], "shape": list(value.shape)}
            arrays[name] = value
            return {"array": name}
        return to_json(value)

    constants = {name: pack(f"constant/{name}", c) for name, c in program.constants.items()}
    steps = []
    for index, step in enumerate(program.steps):
        own = {name: pack(f"step{index}/{name}", c) for name, c in step.prepared.items()}
        steps.append({
            "op": step.op.name, "name": step.name, "inputs": list(step.inputs), "output": step.output,
            "attributes": to_json(dict(step.attributes)), "datapath": to_json(step.datapath),
            "formats": to_json(dict(step.formats)), "shapes": to_json(dict(step.shapes)), "prepared": own,
        })  # fmt: skip
    document = {
        "kind": KIND, "accelerator": program.accelerator, "source": program.source,
        "inputs": [[v.name, to_json(v.shape), to_json(v.format)] for v in program.inputs],
        "outputs": list(program.outputs), "notes": list(program.notes), "constants": constants, "steps": steps,
    }  # fmt: skip
    return document, arrays


def save(program: Program, path: Path) -> None:
    """Write a program to `path`."""
    document, arrays = describe(program)
    document = {**document, "fingerprint": program.fingerprint}
    text = np.frombuffer(json.dumps(document, sort_keys=True, ensure_ascii=True).encode(), np.uint8)
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, **{DOCUMENT: text}, **arrays)
    except OSError as problem:
        raise BadFile(f"cannot write {path}: {problem.strerror}") from None


def load(path: Path, ops: tuple[Op, ...] = ()) -> Program:
    """Read a program from `path`; BadFile says what is wrong with it."""
    document, arrays = _read(path)
    known = {**OPS, **{op.name: op for op in ops}}
    try:
        program = _program(document, arrays, known)
    except FixqnnError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as problem:
        raise BadFile(f"{path} is damaged: {type(problem).__name__} {problem}; save the program again") from None
    if program.fingerprint != document.get("fingerprint"):
        raise BadFile(
            f"{path} was changed after it was saved: its fingerprint is {program.fingerprint[:16]}…, the file says "
            f"{str(document.get('fingerprint'))[:16]}…; lower the graph again"
        )
    return dataclasses.replace(program, steps=planned(program.steps))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise BadFile(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files") or DOCUMENT not in archive.files:
                raise BadFile(f"{path} is no saved program; Program.save(path) writes one")
            document = json.loads(archive[DOCUMENT].tobytes())
            arrays = {name: archive[name] for name in archive.files if name != DOCUMENT}
    except BadFile:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, AttributeError, zipfile.error) as problem:
        raise BadFile(
            f"{path} is no saved program, or is truncated ({problem}); Program.save(path) writes one"
        ) from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise BadFile(f"{path} is no {KIND!r} file")
    return document, arrays


def _program(document: dict[str, Any], arrays: Mapping[str, np.ndarray], known: Mapping[str, Op]) -> Program:
    def unpack(value: Any) -> Any:
        if isinstance(value, dict) and "array" in value:
            return arrays[value["array"]]
        if isinstance(value, dict) and "integers" in value:
            array = np.empty(len(value["integers"]), object)
            array[:] = [int(v) for v in value["integers"]]
            return array.reshape(value["shape"])
        return from_json(value)

    constants = {name: unpack(c) for name, c in document["constants"].items()}
    steps = []
    for row in document["steps"]:
        if row["op"] not in known:
            raise BadFile(
                f"step {row['name']!r} uses the operation {row['op']!r}, which is not built in; pass it: load(path, ops=(MY_OP,))"
            )
        own = {name: constants[name] for name in row["inputs"] if name in constants}
        prepared = {name: unpack(c) for name, c in row["prepared"].items()}
        steps.append(Step(
            known[row["op"]], row["name"], tuple(row["inputs"]), row["output"], from_json(row["attributes"]),
            from_json(row["datapath"]), from_json(row["formats"]), from_json(row["shapes"]), own, prepared,
        ))  # fmt: skip
    inputs = tuple(Value(name, from_json(shape), from_json(form)) for name, shape, form in document["inputs"])
    return Program(
        tuple(steps), inputs, tuple(document["outputs"]), document["accelerator"], document["source"],
        tuple(document["notes"]), constants,
    )  # fmt: skip


def to_json(value: Any) -> Any:
    """Write records, formats, rationals and floats as plain JSON, without losing a bit."""
    kind = type(value)
    if kind is int or kind is str or kind is bool or value is None:  # most of what there is
        return value
    if kind is tuple or kind is list:
        return [to_json(v) for v in value]
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, CallableName):
        return {"callable": str(value)}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return {"float": float(value).hex()}
    if isinstance(value, Fraction):
        return {"fraction": f"{value.numerator}/{value.denominator}"}
    if isinstance(value, Format):
        fields = (value.bits, value.signed, value.scale, value.zero_point, value.axis, value.narrow_range)
        return {"format": [to_json(f) for f in fields]}
    if kind.__name__ in RECORDS:
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"record": kind.__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"map": {str(k): to_json(v) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, Callable):
        return {"callable": f"{value.__module__}:{getattr(value, '__qualname__', type(value).__name__)}"}
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written to a program file")


def from_json(value: Any) -> Any:
    """Read what `to_json` wrote; a callable comes back as its name, since what it made is in the constants."""
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if not isinstance(value, dict):
        return value
    match value:
        case {"float": text}:
            return float.fromhex(text)
        case {"fraction": text}:
            return Fraction(text)
        case {"format": fields}:
            return Format(*(from_json(f) for f in fields))
        case {"record": name, "fields": fields}:
            return RECORDS[name](**{k: from_json(v) for k, v in fields.items()})
        case {"map": items}:
            return {k: from_json(v) for k, v in items.items()}
        case {"callable": name}:
            return CallableName(name)
    raise ValueError(f"unknown JSON {list(value)}")
