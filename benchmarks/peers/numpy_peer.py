"""numpy: integer and float64 products, and the loop over terms that one writes by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import version


class NumpyInteger:
    """``x @ w`` on int32 arrays, for which numpy has no BLAS."""

    name = "numpy, int32 product"
    multiplications = 30_000_000

    def available(self) -> str:
        """Say which version is there."""
        return version("numpy")

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Convert the operands."""
        if work.kind != "exact":
            return None
        x, w = work.x.astype(np.int32), work.w.astype(np.int32)
        return lambda: x @ w

    def codes(self, result: Any) -> np.ndarray:
        """Give the sums."""
        return np.asarray(result).astype(np.int64)


class NumpyFloat(NumpyInteger):
    """``x @ w`` on float64 arrays: exact below 2^53, by BLAS."""

    name = "numpy, float64 product"
    multiplications = 1_000_000_000

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Convert the operands."""
        if work.kind != "exact":
            return None
        x, w = work.x.astype(np.float64), work.w.astype(np.float64)
        return lambda: x @ w


class NumpyLoop(NumpyInteger):
    """Term by term, all outputs at once: multiply, round, add, clip."""

    name = "numpy, loop over terms"
    multiplications = 60_000_000

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Convert the operands; the loop is the timed part."""
        if work.kind not in ("saturate", "rounded"):
            return None
        x, w = np.ascontiguousarray(work.x.T.astype(np.int32)[:, :, None]), work.w.astype(np.int32)
        low, high, half = -(1 << (work.bits - 1)), (1 << (work.bits - 1)) - 1, (1 << work.drop) >> 1

        def loop() -> np.ndarray:
            total = np.zeros((x.shape[1], w.shape[1]), np.int32)
            term = np.empty_like(total)
            for k in range(len(x)):
                np.multiply(x[k], w[k], out=term)
                if work.drop:
                    term += half
                    term >>= work.drop
                total += term
                np.clip(total, low, high, out=total)
            return total

        return loop
