"""Models and arrays by name, as the command line takes them: a program, a torch file, a function that makes a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fixqnn.errors import BadFile, BadInput
from fixqnn.graph import Graph
from fixqnn.machines import Reference, call, find, open_module, parse_reference
from fixqnn.program import Program

KINDS = (
    "a .pt2 file (torch.export.save), a program (.npz, Program.save), "
    "or a function that returns a torch module (my_file.py:build)"
)


@dataclass(frozen=True)
class Model:
    """What a name led to: a graph, or a program; and for a graph made from a torch module, that module."""

    text: str
    graph: Graph | None = None
    program: Program | None = None
    module: Callable[..., Any] | None = None


def load_model(text: str, shapes: Sequence[Sequence[int]] = ()) -> Model:
    """Load the model that a text names.

    Parameters
    ----------
    text : str
        A ``.pt2`` file, a program file, ``my_file.py:build(classes=10)`` or ``package.module:build``.
    shapes : sequence of sequence of int
        Shapes of example inputs, batch first, for a torch module; without them, ``example()`` beside it is asked.

    Raises
    ------
    BadInput, BadFile
        For a name that leads nowhere.
    """
    path = Path(text)
    if path.suffix == ".npz":
        return Model(text, program=Program.load(path))
    if path.suffix in (".pt2", ".pt", ".pth"):
        from fixqnn.importers.torch import from_torch

        return Model(text, graph=from_torch(path))
    if ":" not in text:
        raise BadInput(f"{text!r} is no model; a model is {KINDS}")
    reference = parse_reference(text)
    home = open_module(reference.where)
    made = find(home, reference, "model")
    module = call(reference, made) if callable(made) and not _is_torch_module(made) else made
    if isinstance(module, Graph):
        return Model(text, graph=module)
    if isinstance(module, Program):
        return Model(text, program=module)
    if not _is_torch_module(module):
        raise BadInput(
            f"{text!r} gives an object of type {type(module).__name__}, which is no torch module; a model is {KINDS}"
        )
    from fixqnn.importers.torch import from_torch

    return Model(text, graph=from_torch(module, _example(home, reference, shapes)), module=module)


def _is_torch_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _example(home: ModuleType, reference: Reference, shapes: Sequence[Sequence[int]]) -> Any:
    """Inputs to trace a module with: of the given shapes, or what ``example()`` beside the model gives."""
    if shapes:
        import torch

        return tuple(torch.zeros(*shape) for shape in shapes)
    if not callable(getattr(home, "example", None)):
        raise BadInput(
            f"{reference.where} has no function example(); say the input's shape, batch first: --shape 1,3,32,32"
        )
    return call(Reference(reference.where, "example"), home.example)


def load_array(path: Path) -> np.ndarray:
    """Read a ``.npy`` file of numbers; BadFile says what else it is."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadFile(f"there is no file {path}") from None
    except (ValueError, OSError, EOFError):
        raise BadFile(f"{path} is no .npy file of numbers, or is truncated; np.save(path, array) writes one") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise BadFile(f"{path} does not hold one array of numbers; np.save(path, array) writes one")
    return array


def parse_shapes(texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Read shapes such as ``1,3,32,32``.

    >>> parse_shapes(["1,3,32,32"])
    ((1, 3, 32, 32),)
    """
    try:
        shapes = tuple(tuple(int(axis) for axis in text.replace("x", ",").split(",")) for text in texts)
    except ValueError:
        raise BadInput(f"a shape is whole numbers with commas, such as 1,3,32,32, not {' '.join(texts)}") from None
    if any(axis < 1 for shape in shapes for axis in shape):
        raise BadInput(f"every axis of a shape has at least one element, not {' '.join(texts)}")
    return shapes
