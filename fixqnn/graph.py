"""A network in real numbers whose values may carry formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.ops.op import Op
from fixqnn.tensor import Tensor

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Value:
    """A named array: its shape (axis 0 of an activation is the batch: None) and, once chosen, its format."""

    name: str
    shape: Shape
    format: Format | None = None


@dataclass(frozen=True)
class Node:
    """One operation in a graph. `output` is the name of the value it makes; by default the node's own name."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "output", self.output or self.name)
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self.name, self.op, self.inputs, self.output, dict(self.attributes))  # a proxy cannot be pickled


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, each value written once; checked on construction.

    Parameters
    ----------
    inputs : tuple of Value
        The inputs; axis 0 is the batch (None).
    outputs : tuple of str
        Names of the values that leave the graph.
    nodes : tuple of Node
        The operations, each after those whose values it reads.
    constants : mapping of str to ndarray or Tensor
        Weights and the like: real arrays, or Tensors whose codes are fixed and never re-rounded.
    formats : mapping of str to Format
        Formats by value name, for inputs, constants and node outputs.
    notes : mapping of str to mapping
        What is known of a value beside its format, by value name: the range that was seen (``low``, ``high``), the share
        that the format clips (``clipped``), and the reason for the format in words (``why``). Nothing is computed from it.

    Raises
    ------
    BadInput
        For a value read before it is written, written twice, an unknown name, or shapes that disagree.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray | Tensor] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)
    values: Mapping[str, Value] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "nodes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        constants = {
            name: c if isinstance(c, Tensor) else np.asarray(c, dtype=np.float64) for name, c in self.constants.items()
        }
        formats = dict(self.formats)
        formats.update({name: c.format for name, c in constants.items() if isinstance(c, Tensor)})
        formats.update({v.name: v.format for v in self.inputs if v.format is not None and v.name not in formats})
        object.__setattr__(self, "constants", MappingProxyType(constants))
        object.__setattr__(self, "formats", MappingProxyType(formats))
        object.__setattr__(self, "values", MappingProxyType(self._check()))
        notes = {name: MappingProxyType(dict(note)) for name, note in self.notes.items() if name in self.values}
        object.__setattr__(self, "notes", MappingProxyType(notes))

    def __reduce__(self) -> tuple[Any, ...]:
        notes = {name: dict(note) for name, note in self.notes.items()}
        return Graph, (self.inputs, self.outputs, self.nodes, dict(self.constants), dict(self.formats), notes)

    def _check(self) -> dict[str, Value]:
        values: dict[str, Value] = {}

        def write(name: str, shape: Shape, what: str) -> None:
            if name in values:
                raise BadInput(f"{what} writes value {name!r}, which is already written; every name is written once")
            values[name] = Value(name, tuple(shape), self.formats.get(name))

        for v in self.inputs:
            write(v.name, v.shape, f"input {v.name!r}")
        for name, c in self.constants.items():
            write(name, c.codes.shape if isinstance(c, Tensor) else c.shape, f"constant {name!r}")
        for node in self.nodes:
            missing = [n for n in node.inputs if n not in values]
            if missing:
                raise BadInput(
                    f"node {node.name!r} ({node.op.name}) reads {', '.join(map(repr, missing))}, "
                    "which no input, constant or earlier node writes"
                )
            shapes = [values[n].shape for n in node.inputs]
            try:
                shape = node.op.shape(*shapes, **node.attributes)
            except BadInput as problem:
                raise BadInput(f"node {node.name!r} ({node.op.name}): {problem}") from None
            write(node.output, shape, f"node {node.name!r}")
        fixed = [name for name in self.outputs if name in self.constants]
        if fixed:
            raise BadInput(f"outputs {fixed} are constants; only inputs and what nodes make can leave a graph")
        for name, form in self.formats.items():
            if not isinstance(form, Format):
                raise BadInput(f"the format of {name!r} must be a Format such as fixed(8, 4), not {form!r}")
        for name in (*self.outputs, *self.formats):
            if name not in values:
                raise BadInput(f"graph has no value named {name!r}; it has {', '.join(values)}")
        return values

    def node(self, name: str) -> Node:
        """Find the node of that name; BadInput lists the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadInput(f"graph has no node named {name!r}; it has {', '.join(n.name for n in self.nodes)}")

    def readers(self, value: str) -> tuple[Node, ...]:
        """Nodes that read the value of that name."""
        return tuple(node for node in self.nodes if value in node.inputs)

    def with_formats(self, formats: Mapping[str, Format]) -> Graph:
        """Give values their formats (by value name); everything else is shared."""
        return replace(self, formats={**self.formats, **formats})

    def with_constants(self, constants: Mapping[str, np.ndarray | Tensor]) -> Graph:
        """Replace constants by name; a Tensor brings its own format along."""
        unknown = [name for name in constants if name not in self.constants]
        if unknown:
            raise BadInput(f"graph has no constants named {unknown}; it has {', '.join(self.constants)}")
        return replace(self, constants={**self.constants, **constants})

    def real_constant(self, name: str) -> np.ndarray:
        """Real value of a constant, float64."""
        c = self.constants[name]
        return c.real() if isinstance(c, Tensor) else c

    def bind(self, *inputs: Any, **named: Any) -> dict[str, np.ndarray]:
        """Match arrays to the graph's inputs, by position or by name, and check their shapes.

        Raises
        ------
        BadInput
            For a missing or unknown input, or a shape that differs from the graph's in any axis but the batch.
        """
        names = [v.name for v in self.inputs]
        if len(inputs) == 1 and not named and isinstance(inputs[0], Mapping):
            inputs, named = (), dict(inputs[0])
        elif len(inputs) == 1 and not named and isinstance(inputs[0], tuple):
            inputs = inputs[0]
        if len(inputs) > len(names):
            raise BadInput(f"graph takes {len(names)} inputs ({', '.join(names)}), not {len(inputs)}")
        given = {**dict(zip(names, inputs, strict=False)), **named}
        if set(given) != set(names):
            raise BadInput(f"graph takes the inputs {', '.join(names)}; given were {', '.join(given) or 'none'}")
        arrays = {name: np.asarray(given[name]) for name in names}
        for v in self.inputs:
            got = arrays[v.name].shape
            if len(got) != len(v.shape) or any(w is not None and g != w for g, w in zip(got, v.shape, strict=False)):
                raise BadInput(f"input {v.name!r} has shape {got}; the graph wants {show_shape(v.shape)}")
        batches = {arrays[v.name].shape[0] for v in self.inputs if v.shape and v.shape[0] is None}
        if len(batches) > 1:
            raise BadInput(f"inputs {', '.join(names)} have different batch sizes: {sorted(batches)}")
        return arrays

    def evaluate(self, *inputs: Any, watch: tuple[str, ...] | str = (), **named: Any) -> dict[str, np.ndarray]:
        """Compute the graph in real numbers (float64); formats are ignored, fixed codes count as their reals.

        Parameters
        ----------
        *inputs, **named
            Arrays for the graph's inputs, by position or by name.
        watch : tuple of str or "all"
            Values to return besides the outputs.

        Returns
        -------
        dict of str to ndarray
            Outputs, and what was watched, by value name.
        """
        arrays: dict[str, np.ndarray] = {
            name: np.asarray(a, dtype=np.float64) for name, a in self.bind(*inputs, **named).items()
        }
        names = (watch,) if isinstance(watch, str) else tuple(watch)
        unknown = [name for name in names if name not in self.values and watch != "all"]
        if unknown:
            raise BadInput(f"cannot watch {unknown}: the graph has the values {', '.join(self.values)}")
        wanted = set(self.values) if watch == "all" else {*self.outputs, *names}
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        kept = {name: arrays[name] for name in arrays if name in wanted}
        for i, node in enumerate(self.nodes):
            operands = [arrays[n] if n in arrays else self.real_constant(n) for n in node.inputs]
            arrays[node.output] = node.op.real(*operands, **node.attributes)
            if node.output in wanted:
                kept[node.output] = arrays[node.output]
            for name in {*node.inputs, node.output}:
                if last.get(name, -1) <= i:
                    arrays.pop(name, None)
        return kept

    def table(self) -> list[dict[str, Any]]:
        """One row per value: name, operation, shape, format, note; what `print(graph)` shows."""
        makers = {node.output: node.op.name for node in self.nodes}
        kinds = {**{v.name: "input" for v in self.inputs}, **dict.fromkeys(self.constants, "constant"), **makers}
        return [
            {
                "value": v.name,
                "kind": kinds[v.name],
                "shape": show_shape(v.shape),
                "format": "" if v.format is None else str(v.format),
                "note": show_note(self.notes.get(v.name, {})),
            }
            for v in self.values.values()
        ]

    def __str__(self) -> str:
        rows = [("value", "kind", "shape", "format", "note"), *(tuple(r.values()) for r in self.table())]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows
        )


def show_note(note: Mapping[str, Any]) -> str:
    """Write a note as text.

    >>> show_note({"low": -1.25, "high": 2.0, "clipped": 0.001, "why": "shares the format of 'conv1'"})
    "-1.25 to 2, clips 0.1%; shares the format of 'conv1'"
    """
    parts = [f"{note['low']:.4g} to {note['high']:.4g}"] if "low" in note else []
    if note.get("clipped"):
        parts.append(f"clips {100 * note['clipped']:.2g}%")
    return "; ".join(part for part in (", ".join(parts), note.get("why", "")) if part)


def show_shape(shape: Shape) -> str:
    """Write a shape as text; the batch axis is N.

    >>> show_shape((None, 3, 8, 8))
    '(N, 3, 8, 8)'
    """
    axes = ["N" if a is None else str(a) for a in shape]
    return "(" + ", ".join(axes) + (",)" if len(axes) == 1 else ")")
