"""The door for torch: a module, an exported program, or a file of one, becomes a Graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.importers.torch_call import Activation, Call, Constant, Rule, Unsupported
from fixqnn.importers.torch_export import export_module, functional
from fixqnn.importers.torch_file import load_program, load_weights
from fixqnn.importers.torch_graph import read_program
from fixqnn.importers.torch_table import TABLE
from fixqnn.rewrite.fold_batch_norm import fold_batch_norm

if TYPE_CHECKING:
    import torch

__all__ = ["Activation", "Call", "Constant", "Unsupported", "from_torch", "load_weights"]


def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    dynamic_batch: bool = True,
    ops: Mapping[str, Rule] | Iterable[tuple[str, Rule]] = (),
) -> Graph:
    """Read a torch model, in evaluation mode, as a graph in real numbers.

    Nodes are named after the modules that make them (``layer1.0.conv1``); an operator called in a forward written by hand
    is named after the module and itself (``layer1.0.add``, or ``add`` at the root), with ``_1``, ``_2`` at further calls.
    Constants are named after parameters. Batch norms are folded; dropout and the like vanish; what depends on no input
    is computed in float64.

    Parameters
    ----------
    module : torch.nn.Module, torch.export.ExportedProgram, or path
        The model; a path leads to a file written by ``torch.export.save``.
    example_inputs : tensor, tuple or mapping
        Arguments of forward, to trace a module with; only their shapes and types matter. Axis 0 of every tensor is the
        batch. Not needed for a program or a file.
    dynamic_batch : bool
        False traces a module at the example's batch size, as is done anyway for one that fixes its batch. The graph takes
        any batch in both cases, since an operator that would mix samples is refused; but a number that forward computes
        from the batch size is then the example's.
    ops : mapping of str to callable, or pairs of them
        Your own translations, which win over those that there are: operator name (``"aten.softmax.int"``, or
        ``"aten.softmax"`` for all variants) to a function of a `Call` that emits nodes and returns the result.

    Returns
    -------
    Graph
        Without formats; `quantize` adds them.

    Raises
    ------
    ImportProblems
        All operators that have no translation, listed together with their place in the source and the nearest form that
        has one; or why torch.export cannot trace the module.
    BadInput
        For a module in training mode, or example inputs that do not agree on the batch.
    BadFile
        For a file that is not an exported program, or that holds more than tensors and operators.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    >>> [(node.name, node.op.name) for node in from_torch(net, torch.zeros(1, 4)).nodes]
    [('0', 'linear'), ('1', 'clamp')]

    A translation of your own: the scores stand in for their softmax, halved.

    >>> def halved(call):
    ...     return call.emit("multiply", call.activation("self"), call.constant(0.5, "half"))
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1)).eval()
    >>> [(node.name, node.inputs) for node in from_torch(net, torch.zeros(1, 4), ops={"aten.softmax": halved}).nodes]
    [('0', ('input', '0.weight', '0.bias')), ('1', ('0', '1.half'))]
    """
    import torch

    rules = {**TABLE, **dict(ops)}
    if isinstance(module, (str, os.PathLike)):
        program = load_program(module)
    elif isinstance(module, torch.export.ExportedProgram):
        program = module
    elif isinstance(module, torch.nn.Module):
        program = export_module(module, example_inputs, dynamic_batch)
    else:
        raise BadInput(
            f"from_torch takes a torch.nn.Module, an ExportedProgram or the path of a .pt2 file, not {type(module).__name__}"
        )
    return fold_batch_norm(read_program(functional(program, rules), rules))
