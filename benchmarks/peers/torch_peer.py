"""torch: the int8 product of its quantized linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import version


class TorchInt8:
    """``torch._int_mm``: int8 operands, int32 sums."""

    name = "torch._int_mm"
    multiplications = 1_000_000_000

    def available(self) -> str:
        """Say which version is there."""
        return version("torch")

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Convert the operands."""
        import torch

        if work.kind != "exact":
            return None
        x, w = torch.from_numpy(work.x.astype(np.int8)), torch.from_numpy(np.ascontiguousarray(work.w.astype(np.int8)))
        return lambda: torch._int_mm(x, w)

    def codes(self, result: Any) -> np.ndarray:
        """Give the sums."""
        return result.numpy().astype(np.int64)
