"""apytypes: arrays of fixed-point numbers in C++, with a context that narrows accumulators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import version


class APyTypes:
    """``x @ w`` of APyFixedArray, inside an APyFixedAccumulatorContext where the work has a narrow register.

    Version 0.5.1 does not saturate inside that context (github.com/apytypes/apytypes/issues/857): sums that overflow come out
    whole, so that only works in which nothing overflows give equal codes.
    """

    name = "apytypes"
    multiplications = 3_000_000

    def available(self) -> str:
        """Say which version is there."""
        return version("apytypes")

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Convert the operands."""
        if work.kind == "network":
            return None
        import apytypes as apy

        x = apy.APyFixedArray.from_array(work.x, int_bits=8, frac_bits=0)
        w = apy.APyFixedArray.from_array(work.w, int_bits=8, frac_bits=0)
        if work.kind == "exact":
            return lambda: (x @ w, 0)
        quantization = apy.QuantizationMode.RND if work.drop else apy.QuantizationMode.TRN
        settings = {"bits": work.bits, "frac_bits": -work.drop, "quantization": quantization}

        def accumulate() -> Any:
            with apy.APyFixedAccumulatorContext(**settings, overflow=apy.OverflowMode.SAT):
                return x @ w, work.drop

        return accumulate

    def codes(self, result: Any) -> np.ndarray:
        """Give the register's codes."""
        array, drop = result
        return np.rint(array.to_numpy() / 2.0**drop).astype(np.int64)
