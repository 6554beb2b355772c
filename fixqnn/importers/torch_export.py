"""From a torch module to an exported program with a free batch and functional operators."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fixqnn.errors import BadInput, ImportProblems

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def export_module(module: torch.nn.Module, example_inputs: Any, dynamic_batch: bool) -> ExportedProgram:
    """Export a module, with its batch free where it lets it be, else at the batch of the example."""
    import torch

    training = [name or "the module itself" for name, part in module.named_modules() if part.training]
    if training:
        shown = ", ".join(training[:5]) + (f" and {len(training) - 5} more" if len(training) > 5 else "")
        raise BadInput(f"in training mode: {shown}; call module.eval() first, so that dropout and batch norms stand still")
    args, kwargs = arranged(example_inputs)
    batch = batch_of(args, kwargs)
    refusal: Exception | None = None
    if dynamic_batch:
        freed = args, kwargs
        if batch == 1:  # torch.export takes a size of 1 as fixed; two samples show the same operators
            freed = torch.utils._pytree.tree_map_only(torch.Tensor, lambda x: torch.cat([x, x]), (args, kwargs))
        try:
            program = _export(module, *freed, free=True)
            if _is_free(program):
                return program
        except Exception as problem:  # whatever torch raises; told below if the plain way fails too
            refusal = problem
    try:
        return _export(module, args, kwargs, free=False)
    except Exception as problem:
        raise ImportProblems(told(refusal or problem)) from problem


def functional(program: ExportedProgram) -> ExportedProgram:
    """Make operators functional, and leave layers whole: an empty table decomposes nothing else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its own internals
            return program.run_decompositions({})
    except Exception as problem:
        raise ImportProblems(told(problem)) from problem


def arranged(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments from what was given: a tensor, a tuple or list, or a mapping by name."""
    import torch

    if example_inputs is None:
        raise BadInput("a module needs example_inputs: a tensor, a tuple of forward's arguments, or a mapping by name")
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    raise BadInput(f"example_inputs must be a tensor, a tuple or a mapping, not {type(example_inputs).__name__}")


def batch_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return the batch size, on which all tensors must agree."""
    import torch

    tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    if not tensors:
        raise BadInput("example_inputs holds no torch tensor; make one with torch.zeros or torch.from_numpy")
    shapes = [tuple(x.shape) for x in tensors]
    sizes = {shape[0] if shape else None for shape in shapes}
    if len(sizes) > 1 or not sizes <= set(range(1, max(sizes - {None}, default=0) + 1)):
        raise BadInput(f"example_inputs of shapes {shapes}: axis 0 of every input must be the batch, at least 1, the same in all")
    return sizes.pop()


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], free: bool) -> ExportedProgram:
    import torch

    shapes = torch.export.ShapesCollection()
    for tensor in torch.utils._pytree.tree_leaves((args, kwargs)) if free else ():
        if isinstance(tensor, torch.Tensor):
            shapes[tensor] = {0: torch.export.Dim.AUTO}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes if free else None)


def _is_free(program: ExportedProgram) -> bool:
    users = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"}
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in users]
    return all(not isinstance(value.shape[0], int) for value in values if hasattr(value, "shape"))


def told(problem: Exception) -> str:
    """Say what torch.export said, shortly, and what to do about it."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    said = "\n  ".join(lines[:4]) or type(problem).__name__
    return (
        f"torch.export cannot trace this module; it says\n  {type(problem).__name__}: {said}\n"
        "forward must not branch on values of tensors, call numpy, or change its own state; torch.export.draft_export(module, "
        "example_inputs) shows every such place"
    )
