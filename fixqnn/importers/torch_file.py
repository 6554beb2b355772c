"""Files from torch: exported programs and weights, read without executing what they hold.

``torch.export.load`` unpickles: the sample inputs (falling back to full pickle), any weight marked ``use_pickle``, and
custom objects. It also loads compiled libraries that lie in the archive, evaluates symbolic shapes as Python, and resolves
operators by attribute lookup (torch 2.13, torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py). So an
archive is first reduced to what a plain model needs, checked, and only this copy is handed to torch.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixqnn.errors import BadFile, BadInput

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

WANTED = "save one with torch.export.save(torch.export.export(module.eval(), example_inputs), 'model.pt2')"
OPERATOR = re.compile(r"torch\.sym_\w+|torch\.ops\.\w+\.\w+(\.\w+)?|_operator\.\w+|math\.\w+")
# sizes as torch writes them: integers, symbols such as s77 or Symbol('s77', integer=True), sums and products of them
SIZE = re.compile(
    r"(?:\s|[-+*/%(),<>=&|~]|'[suz][a-z]*\d+'|(?<![\w.])(?:\d+(?:\.\d+)?|[suz][a-z]*\d+|Symbol|Integer|Rational|Add|Mul|Pow|Eq|Ne"
    r"|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|And|Or|Not|oo|int_oo|True|False|integer|positive|nonnegative"
    r"|nonzero)(?![\w.]))*"
)
PLAIN = r"data/weights/weight_\d+|data/constants/tensor_\d+|\.data/\w+|archive_\w+|byteorder|version"
CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def load_program(path: str | os.PathLike[str]) -> ExportedProgram:
    """Load a file written by torch.export.save, or say what it is instead."""
    import torch

    path = Path(path)
    archive = io.BytesIO(_plain_copy(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its own internals
            return torch.export.load(archive)
    except Exception as problem:
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise BadFile(
            f"{path} cannot be read by torch {torch.__version__}: {said[0]}; {WANTED} with this version"
        ) from problem


def _plain_copy(path: Path) -> bytes:
    """Return the archive with nothing in it but a checked program and its tensors; refuse what is more."""
    if not path.is_file():
        raise BadFile(f"{path} is not there; give the path of a file written by torch.export.save")
    if not zipfile.is_zipfile(path):
        raise BadFile(f"{path} is not a model saved by torch.export.save; {_advice(path)}")
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        names = [name for name in old.namelist() if not name.endswith("/")]
        top = names[0].split("/")[0] if names else ""
        if len(set(names)) != len(names) or any(not name.startswith(f"{top}/") for name in names):
            raise BadFile(f"{path} is not a model saved by torch.export.save; {_advice(path)}")
        if f"{top}/archive_format" not in names or old.read(f"{top}/archive_format").strip() != b"pt2":
            raise BadFile(f"{path} is not a model saved by torch.export.save; {_advice(path, names)}")
        problems = []
        for name in names:
            inside = name[len(top) + 1 :]
            try:
                content = old.read(name)
            except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as problem:
                raise BadFile(f"{path} is damaged at {inside}: {problem}; copy or save it again") from problem
            if not inside.startswith("extra/"):
                problems += [f"{inside}: {found}" for found in _suspicious(inside, content)]
                new.writestr(zipfile.ZipInfo(f"model/{inside}"), content)
    if problems:
        raise BadFile(
            f"{path} holds more than tensors and operators, and will not be opened:\n  " + "\n  ".join(problems[:10])
            + "\nif you trust it, load it yourself with torch.export.load and give the program to from_torch"
        )  # fmt: skip
    return copy.getvalue()


def _advice(path: Path, names: list[str] | None = None) -> str:
    if any(name.endswith("constants.pkl") for name in names or ()):
        return f"it is TorchScript; build the module in Python, then {WANTED}"
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt") or any(name.endswith("data.pkl") for name in names or ()):
        return (
            "a file of weights holds no network: build the module, load them by load_weights(module, path) or by "
            "module.load_state_dict(torch.load(path, weights_only=True)), and give the module"
        )
    if path.suffix == ".safetensors":
        return "safetensors hold no network: build the module, use load_weights(module, path), and give the module"
    return WANTED


def _suspicious(name: str, content: bytes) -> Iterator[str]:
    """Yield every reason not to let torch open this part of an archive."""
    if re.fullmatch(r"models/.*\.json|data/\w+/.*_config\.json", name):
        try:
            record = json.loads(content)
        except ValueError as problem:
            yield f"is no JSON ({problem})"
            return
        yield from _suspicious_record(record)
    elif name.startswith("data/sample_inputs/"):
        if content and not _is_weights_only(content):
            yield "sample inputs that need full pickle"
    elif not re.fullmatch(PLAIN, name):
        yield "no part of a plain exported program"


def _suspicious_record(record: Any) -> Iterator[str]:
    if isinstance(record, list):
        for item in record:
            yield from _suspicious_record(item)
    if not isinstance(record, dict):
        return
    for key, value in record.items():
        if key == "use_pickle" and value:
            yield "a tensor stored as pickle"
        elif key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
            yield f"an object that is no tensor ({value})"
        elif key == "target" and isinstance(value, str) and "inputs" in record and not OPERATOR.fullmatch(value):
            yield f"an operator outside torch.ops ({value})"
        elif key == "expr_str" and not (isinstance(value, str) and SIZE.fullmatch(value)):
            yield f"a size that is not plain arithmetic ({value})"
        elif key in ("in_spec", "out_spec", "treespec", "spec") and isinstance(value, str) and value:
            yield from _suspicious_spec(value)
        else:
            yield from _suspicious_record(value)


def _suspicious_spec(text: str) -> Iterator[str]:
    """Look at how inputs and outputs are nested: only tuples, lists and dicts with plain keys."""
    try:
        pending = [json.loads(text)]
    except ValueError:
        yield "nested inputs or outputs that are no JSON"
        return
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            if "type" in item and item["type"] not in CONTAINERS:
                yield f"inputs or outputs nested in a {item['type']}"
            if "__enum__" in str(item.get("context")):
                yield "inputs or outputs named by an enum"
            pending += item.values()


def _is_weights_only(content: bytes) -> bool:
    import torch

    try:
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception:
        return False
    return True


def load_weights(module: torch.nn.Module, path: str | os.PathLike[str]) -> torch.nn.Module:
    """Load weights from a .safetensors, .pt or .pth file into a module, without executing what the file holds; return the module.

    Raises
    ------
    BadFile
        For a file that is missing, damaged, or holds more than tensors.
    BadInput
        For weights that do not belong to the module: each missing, unexpected or misshapen one is named.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"{path} is not there; give the path of a .pt, .pth or .safetensors file")
    weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_weights_only(path)
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as problem:
        raise BadInput(f"the weights in {path} are not those of this {type(module).__name__}: {problem}") from problem
    return module


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as problem:
        raise BadFile(f"reading {path} needs safetensors: pip install safetensors") from problem
    try:
        return load_file(path)
    except Exception as problem:
        raise BadFile(f"{path} is no safetensors file: {problem}") from problem


def _read_weights_only(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        first = str(problem).strip().splitlines() or [type(problem).__name__]
        raise BadFile(
            f"{path} is not a plain file of weights: {first[0]}; save one with torch.save(module.state_dict(), path)"
        ) from problem
    for key in (
        "state_dict",
        "model_state_dict",
        "model",
    ):  # weights beside other things, as training scripts save them
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            return loaded[key]
    if not isinstance(loaded, dict):
        raise BadFile(
            f"{path} holds a {type(loaded).__name__}; save the weights with torch.save(module.state_dict(), path)"
        )
    return loaded
