"""Small torch modules, and the comparison of their graphs with torch in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fixqnn.importers.torch import from_torch
from fixqnn.importers.torch_export import export_module, functional
from fixqnn.importers.torch_graph import read_program
from fixqnn.importers.torch_table import TABLE
from fixqnn.rewrite.fold_batch_norm import fold_batch_norm

SEED = 20240607


def tensors(*shapes):
    generator = torch.Generator().manual_seed(SEED)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def forward(function, *parts):
    """A module in evaluation mode around a function of its inputs; `parts` are its submodules p0, p1 …"""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for i, part in enumerate(parts):
                setattr(self, f"p{i}", part)

        def forward(self, *xs):
            return function(self, *xs)

    torch.manual_seed(SEED)
    net = Net()
    for part in net.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            for array in (part.weight, part.bias, part.running_mean, part.running_var):
                nn.init.uniform_(array, 0.5, 1.5)
    return net.eval()


def assert_agrees(net, *shapes, limit=1e-5):
    """The graph, made from one sample, computes for three what torch does in float64, to `limit` of the largest number.

    So does the graph of the same program after torch made it functional, in other operators.
    """
    graph = from_torch(net, tensors(*((1, *shape) for shape in shapes)))
    program = functional(export_module(net, tensors(*((2, *shape) for shape in shapes)), True), known=())
    rewritten = fold_batch_norm(read_program(program, TABLE))
    xs = tensors(*((3, *shape) for shape in shapes))
    with torch.no_grad():
        want = net.double()(*(x.double() for x in xs))
    net.float()
    want = [want] if isinstance(want, torch.Tensor) else list(want)
    for each in (graph, rewritten):
        got = each.evaluate(*(x.numpy() for x in xs))
        assert len(each.outputs) == len(want)
        for name, array in zip(each.outputs, want, strict=True):
            assert got[name].shape == tuple(array.shape)
            # float64 on both sides, but parameters went through float32 and torch may add in another order
            error, largest = np.abs(got[name] - array.numpy()).max(), array.abs().max().item()
            assert largest > 0, f"{name} is all zeros: nothing is compared"
            assert error <= limit * largest, f"{name} differs from torch by {error}, its largest number is {largest}"
    return graph
