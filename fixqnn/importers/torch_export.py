"""From a torch module to an exported program with a free batch and functional operators."""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

from fixqnn.errors import BadInput, ImportProblems

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

# operators that always return new memory, never a view of what they are given
FRESH = frozenset([
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul", "bmm",
    "batch_norm", "add", "sub", "mul", "cat", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
])  # fmt: skip


def export_module(module: torch.nn.Module, example_inputs: Any, dynamic_batch: bool) -> ExportedProgram:
    """Export a module, with its batch free where it lets it be, else at the batch of the example."""
    import torch

    training = [name or "the module itself" for name, part in module.named_modules() if part.training]
    if training:
        shown = ", ".join(training[:5]) + (f" and {len(training) - 5} more" if len(training) > 5 else "")
        raise BadInput(
            f"in training mode: {shown}; call module.eval() first, so that dropout and batch norms stand still"
        )
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
                return settled(program)
        except Exception as problem:  # whatever torch raises; told below if the plain way fails too
            refusal = problem
    try:
        return settled(_export(module, args, kwargs, free=False))
    except Exception as problem:
        raise ImportProblems(told(refusal or problem)) from problem


def functional(program: ExportedProgram, known: Container[str]) -> ExportedProgram:
    """Return a program without operators in place, with layers left whole.

    One that has none, and only operators that are `known`, is returned as it is. Else torch rewrites it, which takes it
    several times as long as the export; the empty table keeps it from taking layers apart.
    """
    targets = {
        node.target for node in program.graph.nodes if node.op == "call_function" and hasattr(node.target, "_schema")
    }
    tensor_targets = {target for target in targets if any("Tensor" in str(r.type) for r in target._schema.returns)}
    if all(packet_of(t) in known for t in tensor_targets) and not any(t._schema.is_mutable for t in targets):
        return program
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its own internals
            return program.run_decompositions({})
    except Exception as problem:
        raise ImportProblems(told(problem)) from problem


def settled(program: ExportedProgram) -> ExportedProgram:
    """Replace operators in place, in the program itself, where what they overwrite is read by nobody else.

    That is so where it was just made by an operator that returns new memory, and this is its only reader.
    """
    import torch

    fresh: set[torch.fx.Node] = set()
    for node in program.graph.nodes:
        word = packet_of(node.target).removeprefix("aten.")
        if word in FRESH:
            fresh.add(node)
        elif word.endswith("_") and node.args and node.args[0] in fresh and len(node.args[0].users) == 1:
            packet = getattr(torch.ops.aten, word[:-1], None)
            plain = getattr(packet, node.target._overloadname, None)
            if plain is not None and not plain._schema.is_mutable:
                node.target = plain
                fresh.add(node)
    return program


def packet_of(target: Any) -> str:
    """Return an operator's name without its variant: ``aten.conv2d`` for ``aten.conv2d.default``."""
    return str(target).rpartition(".")[0]


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
    if len(sizes) > 1 or sizes & {None, 0}:
        raise BadInput(
            f"example_inputs of shapes {shapes}: axis 0 of every input must be the batch, at least 1, the same in all"
        )
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
        "forward must not branch on values of tensors, call numpy, or change its own state; "
        "torch.export.draft_export(module, example_inputs) shows every such place"
    )
