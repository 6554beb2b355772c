"""A step's sums of products one by one: which contraction, and which of the step's codes it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fixqnn.datapath import SumOfProducts
from fixqnn.kernels.contract import Contraction
from fixqnn.ops import OPS, conv, linear, matmul, mean
from fixqnn.ops.op import Step
from fixqnn.ops.sums import Layout, build, cached


@dataclass(frozen=True)
class Piece:
    """One contraction of a step.

    Attributes
    ----------
    contraction : Contraction
        Weights, registers and the window.
    layout : Layout
        The same in formats.
    rows : callable
        ``rows(codes)``: from codes of the step's first input (samples, ...) to those that the contraction takes (samples,
        channels, depth, row, column); a choice of places, so that it may be applied to indices, too.
    position : tuple of int
        Where its outputs stand in the step's output, in front of the contraction's own positions.
    weights_free : bool
        Whether the weights are values as well: the contraction at hand has zeros in their place.
    """

    contraction: Contraction
    layout: Layout
    rows: Callable[[np.ndarray], np.ndarray]
    position: tuple[int, ...] = ()
    weights_free: bool = False


def pieces(step: Step) -> tuple[Piece, ...]:
    """All contractions of a prepared step; none for a step that sums no products, or for an operation of a user's own."""
    if not isinstance(step.datapath, SumOfProducts) or OPS.get(step.op.name) is not step.op:
        return ()
    return _MAKERS[step.op.name](step)


def _linear(step: Step) -> tuple[Piece, ...]:
    work = cached(step, linear.layout)
    between = work.contraction.window.out

    def rows(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, -1, 1).reshape(len(x), x.shape[-1], *between)

    return (Piece(work.contraction, linear.layout(step), rows),)


def _conv(step: Step) -> tuple[Piece, ...]:
    work = cached(step, conv.layout)
    size = work.contraction.window.size
    return (Piece(work.contraction, conv.layout(step), lambda x: x.reshape(*x.shape[:2], *size)),)


def _mean(step: Step) -> tuple[Piece, ...]:
    work = cached(step, mean.layout)
    size = work.contraction.window.size

    def rows(x: np.ndarray) -> np.ndarray:
        return (
            mean.in_order(step, x, step.attributes["axes"])
            if step.op.name == "mean"
            else x.reshape(*x.shape[:2], *size)
        )

    return (Piece(work.contraction, mean.layout(step), rows),)


def _adaptive(step: Step) -> tuple[Piece, ...]:
    def rows(where: tuple[slice, ...]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: mean.in_order(step, x[where], range(2, x.ndim))

    return tuple(
        Piece(
            work.contraction,
            mean.adaptive_layout(step, work.contraction.window.terms),
            rows(where),
            tuple(map(int, at)),
        )
        for at, where, work in mean.adaptive_works(step)
    )


def _matmul(step: Step) -> tuple[Piece, ...]:
    b = step.constants.get(step.inputs[1])
    settled = b is not None and b.ndim == 2
    layout = matmul.layout(step, b if settled else None)

    def rows(a: np.ndarray) -> np.ndarray:
        return a.reshape(-1, *a.shape[-2:]).swapaxes(1, 2)[:, :, None, None, :]

    return (Piece(build(step, layout).contraction, layout, rows, weights_free=not settled),)


_MAKERS: dict[str, Callable[[Step], tuple[Piece, ...]]] = {
    "linear": _linear,
    "conv": _conv,
    "conv_transpose": _conv,
    "matmul": _matmul,
    "average_pool": _mean,
    "mean": _mean,
    "adaptive_average_pool": _adaptive,
}
