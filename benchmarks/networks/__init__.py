"""The networks that are measured, in plain torch with made-up weights.

Every file holds one network: ``build() -> nn.Module`` in evaluation mode, always with the same weights, and
``example(batch) -> tuple of tensors``. Nothing is imported, torch included, before a network is asked for.

>>> net = NETWORKS["lenet"]()
>>> tuple(net.build()(*net.example(batch=3)).shape)
(3, 10)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType

NETWORKS: dict[str, Callable[[], ModuleType]] = {
    name: partial(import_module, f"benchmarks.networks.{name}")
    for name in ("mlp", "lenet", "conv1d_net", "ds_cnn", "resnet8", "unet", "mobilenet_v2", "resnet18")
}
