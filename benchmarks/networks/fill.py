"""Made-up weights that behave like trained ones: values keep their size from layer to layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def filled(make: Callable[[], nn.Module], example: tuple[torch.Tensor, ...], seed: int) -> nn.Module:
    """Make a module, give it weights drawn from `seed` and statistics seen on noise shaped like `example`.

    Weights are drawn with variance 2 / fan-in, the size that relu keeps (He et al., "Delving deep into rectifiers",
    2015, section 2.2). Batch norms get factors around 1, small offsets, and the mean and variance of what reaches them,
    each a little off, as after training. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        module = make()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            _draw(part, generator)
        _observe(module, example, generator)
    return module.eval()


def _draw(part: nn.Module, generator: torch.Generator) -> None:
    if isinstance(part, BATCH_NORMS):
        part.weight.uniform_(0.6, 1.4, generator=generator)
        part.bias.normal_(0, 0.2, generator=generator)
    elif isinstance(getattr(part, "weight", None), nn.Parameter):
        weight = part.weight
        if isinstance(part, nn.ConvTranspose2d):  # weight is (in, out / groups, *kernel): each input meets `out` sums
            strides = part.stride[0] * part.stride[1]
            fan_in = part.in_channels // part.groups * weight[0, 0].numel() / strides
        else:
            fan_in = weight[0].numel()
        weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if part.bias is not None:
            part.bias.normal_(0, 0.1, generator=generator)


def _observe(module: nn.Module, example: tuple[torch.Tensor, ...], generator: torch.Generator) -> None:
    norms = [part for part in module.modules() if isinstance(part, BATCH_NORMS)]
    momenta = [part.momentum for part in norms]
    module.eval()  # dropout stays off; only the batch norms learn
    for part in norms:
        part.train()
        part.momentum = 1.0  # keep exactly what this one batch shows
    module(*(torch.randn(x.shape, generator=generator) for x in example))
    for part, momentum in zip(norms, momenta, strict=True):
        part.momentum = momentum
        spread = part.running_var.sqrt()
        part.running_mean += spread * torch.randn(spread.shape, generator=generator) * 0.1
        part.running_var *= torch.rand(spread.shape, generator=generator) * 0.5 + 0.8
        part.num_batches_tracked.fill_(1)
