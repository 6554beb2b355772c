"""The record that an operation file fills, and the record of an operation bound to a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fixqnn.format import Format


@dataclass(frozen=True)
class Op:
    """One operation: its name and its five meanings.

    Attributes
    ----------
    name : str
        The name that graphs, accelerators and saved programs use.
    shape : callable
        ``shape(*input_shapes, **attributes) -> shape``. A batch axis of unknown size is ``None``.
        Raises BadInput with all shapes involved when they disagree.
    real : callable
        ``real(*arrays, **attributes) -> array``: the meaning in real numbers, float64 numpy.
    prepare : callable
        ``prepare(step) -> dict``: run once at lowering; the integer constants that both engines read.
    exact : callable
        ``exact(step, run, *codes) -> codes``: the meaning on Python integers (object arrays).
    fast : callable
        ``fast(step, run, *codes) -> codes``: the same codes and events, from compiled loops.
    plan : callable, optional
        ``plan(step) -> (path, reason)``: the kernel path of the fast engine and why it is exact, chosen at lowering;
        ``step.path`` holds a forced one. TooWide where no path can be trusted.
    """

    name: str
    shape: Callable[..., tuple[int | None, ...]]
    real: Callable[..., np.ndarray]
    prepare: Callable[..., dict[str, Any]]
    exact: Callable[..., np.ndarray]
    fast: Callable[..., np.ndarray]
    plan: Callable[..., tuple[str, str]] | None = None

    def __repr__(self) -> str:
        return f"OPS[{self.name!r}]"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle built-in operations by name: they are told from a user's by which object they are."""
        from fixqnn.ops import OPS

        if OPS.get(self.name) is self:
            return _built_in, (self.name,)
        return Op, (self.name, self.shape, self.real, self.prepare, self.exact, self.fast, self.plan)


@dataclass(frozen=True)
class Step:
    """An operation bound to a datapath: all that both engines need, integers only.

    Attributes
    ----------
    op : Op
        The operation.
    name : str
        The name of the node it came from; also the name of its output value.
    inputs : tuple of str
        Names of the values it reads, in order; a constant's codes stand in `constants` under its name.
    output : str
        Name of the value it writes.
    attributes : mapping
        The node's attributes.
    datapath : record or None
        How sums are formed and rescaled; None where codes only travel or are compared.
    formats : mapping of str to Format
        Format of every input and of the output, by value name.
    shapes : mapping of str to tuple
        Shape of every input and of the output, by value name; the batch axis is None.
    constants : mapping of str to ndarray
        Codes of constant inputs, by value name.
    prepared : mapping of str to Any
        What `prepare` made, by its own words: a constant may be called what it likes.
    path : str
        The kernel path chosen at lowering (``""`` where there is no choice).
    reason : str
        Why that path is exact, in words.
    ranges : mapping of str to (int, int)
        Smallest and largest code that a value can take, by its name, where that is known better than by the format.
    cache : dict
        What an engine derived from the rest (packed weights, chosen kernels); never saved.
    """

    op: Op
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    datapath: Any
    formats: Mapping[str, Format]
    shapes: Mapping[str, tuple[int | None, ...]]
    constants: Mapping[str, Any] = field(default_factory=dict)
    prepared: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    reason: str = ""
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def out_format(self) -> Format:
        """Format of the output."""
        return self.formats[self.output]

    def in_format(self, index: int) -> Format:
        """Format of input number `index`."""
        return self.formats[self.inputs[index]]


def _built_in(name: str) -> Op:
    from fixqnn.ops import OPS

    return OPS[name]
