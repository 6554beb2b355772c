"""What peers are asked to compute, and what an adapter has to offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class MatrixWork:
    """A product of 8-bit codes x (rows, terms) and w (terms, outputs), summed in one register.

    Attributes
    ----------
    kind : str
        ``"exact"``: the whole sum. ``"saturate"``: a register of `bits` bits that saturates at every addition, in the order
        of the terms. ``"rounded"``: the same, and every product loses `drop` bits first, rounded half up.
    """

    name: str
    kind: str
    x: np.ndarray
    w: np.ndarray
    bits: int = 32
    drop: int = 0

    @property
    def terms(self) -> int:
        """Products per output."""
        return self.x.shape[1]

    def part(self, multiplications: int) -> MatrixWork:
        """The first rows, and of one row the first outputs, that take about so many multiplications."""
        rows = min(self.x.shape[0], max(1, multiplications // (self.terms * self.w.shape[1])))
        outputs = self.w.shape[1] if rows > 1 else min(self.w.shape[1], max(1, multiplications // self.terms))
        return MatrixWork(self.name, self.kind, self.x[:rows], self.w[:, :outputs], self.bits, self.drop)

    @property
    def multiplications(self) -> int:
        """How many multiplications it takes."""
        return self.x.shape[0] * self.terms * self.w.shape[1]


@dataclass(frozen=True)
class NetworkWork:
    """A quantized network as a fixqnn graph, and a batch of input codes."""

    name: str
    graph: Any
    codes: np.ndarray
    kind: str = "network"
    multiplications: int = 0


class Peer(Protocol):
    """One narrow adapter.

    Attributes
    ----------
    name : str
        How the table calls it.
    multiplications : int
        How much of a work it is given: slow ones get the first rows only, and times are per multiplication.
    """

    name: str
    multiplications: int

    def available(self) -> str:
        """Say which version is there; empty where it is missing."""

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Convert the operands, outside the clock; None where it cannot express this work."""

    def codes(self, result: Any) -> np.ndarray:
        """Turn what the prepared call gave into integer codes, outside the clock."""


def version(package: str) -> str:
    """Find the installed version of a package; empty where it is missing or cannot be imported."""
    from importlib import import_module, metadata

    try:
        import_module(package)
        return metadata.version(package)
    except (ImportError, metadata.PackageNotFoundError):
        return ""
