"""fxpmath: numpy-backed fixed-point objects, one operation after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import version


class FxpmathLoop:
    """One Fxp register per output: ``register(register + product)``, scalar by scalar."""

    name = "fxpmath, scalars"
    multiplications = 4_000

    def available(self) -> str:
        """Say which version is there."""
        return version("fxpmath")

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Make the operands; the loop is the timed part."""
        if work.kind not in ("saturate", "rounded"):
            return None
        from fxpmath import Fxp

        rows = [[Fxp(int(v), True, 8, 0) for v in row] for row in work.x]
        columns = [[Fxp(int(v), True, 8, 0) for v in column] for column in work.w.T]
        return lambda: [[self.dot(work, row, column) for column in columns] for row in rows]

    def dot(self, work: Any, row: Any, column: Any) -> Any:
        """Add up one output, or all outputs of a row."""
        from fxpmath import Fxp

        zero = np.zeros_like(column[0].val).tolist()
        total = Fxp(zero, True, work.bits, -work.drop, overflow="saturate", rounding="floor")
        product = Fxp(zero, True, 16, -work.drop, rounding="floor")
        half = Fxp((1 << work.drop) >> 1, True, 16, 0)
        for a, b in zip(row, column, strict=True):
            term = a * b
            if work.drop:  # floor of the product plus one half is half up
                product(term + half)
                term = product
            total(total + term)
        return total

    def codes(self, result: Any) -> np.ndarray:
        """Give the registers' codes."""
        return np.array([[int(v.val) for v in row] for row in result], np.int64)


class FxpmathArrays(FxpmathLoop):
    """The same with one Fxp array per row: all outputs of a row at once."""

    name = "fxpmath, arrays"
    multiplications = 300_000

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Make the operands; the loop is the timed part."""
        if work.kind not in ("saturate", "rounded"):
            return None
        from fxpmath import Fxp

        rows = [[Fxp(int(v), True, 8, 0) for v in row] for row in work.x]
        terms = [Fxp(values, True, 8, 0) for values in work.w]
        return lambda: [self.dot(work, row, terms) for row in rows]

    def codes(self, result: Any) -> np.ndarray:
        """Give the registers' codes."""
        return np.array([row.val for row in result]).astype(np.int64)
