"""One call of a torch operator, as the functions of the importer's table see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from fixqnn.graph import Node, Shape
from fixqnn.ops import OPS
from fixqnn.ops.op import Op
from fixqnn.rewrite.fold_batch_norm import free_name


@dataclass(frozen=True)
class Activation:
    """An array that depends on the model's inputs: the value of that name. Axis 0 is the batch."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        """How many axes it has, the batch included."""
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that does not depend on the inputs: float64, or integers. `name` is the name it gets if it is used.

    `samples`: it stands for one such array per sample (axis 0 is 1).
    """

    name: str
    array: np.ndarray
    samples: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape


class RunTimeNumber:
    """Stands where an argument is a number that is only known when the model runs, such as the batch size."""

    def __repr__(self) -> str:
        return "known only at run time"


class Unsupported(Exception):
    """Raised by a table function that cannot translate a call: why, and the nearest form that it can."""

    def __init__(self, reason: str, nearest: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nearest = nearest


@dataclass
class Draft:
    """A graph while it grows: nodes and constants so far, and names that are taken."""

    nodes: dict[str, Node] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    _kept: dict[int, str] = field(default_factory=dict)
    _turned: dict[int, tuple[Constant, Constant]] = field(default_factory=dict)

    def name(self, wish: str) -> str:
        """Reserve the wished name, or the name with the first free suffix."""
        name = free_name(wish, self.taken)
        self.taken.add(name)
        return name

    def keep(self, constant: Constant) -> str:
        """Take a constant into the graph, once however often it is read, and return its name there."""
        key = id(constant.array)  # the array lives on in `constants`, so its id stays its own
        if key not in self._kept:
            self._kept[key] = self.name(constant.name)
            self.constants[self._kept[key]] = constant.array
        return self._kept[key]

    def turned(self, matrix: Constant) -> Constant:
        """Return the transpose of a constant matrix, always the same; the transpose of that is the matrix itself."""
        if id(matrix.array) not in self._turned:
            other = Constant(f"{matrix.name}.transposed", np.ascontiguousarray(matrix.array.T))
            self._turned[id(matrix.array)] = (matrix, other)
            self._turned[id(other.array)] = (other, matrix)
        return self._turned[id(matrix.array)][1]


class Call:
    """One call of a torch operator: its arguments by their names, and the means to answer it with nodes.

    A table function takes a Call and returns what the operator returns: an Activation (often the one that `emit` just
    made), or a tuple where the operator returns several. ``call["input"]`` is an argument under the name that the
    operator's own schema gives it, defaults filled in: an Activation, a Constant, a number, a list. `shapes` are those of
    the results, None for the batch; `dtype` is the type of the first, as in ``"torch.float32"``.
    """

    def __init__(
        self,
        operator: str,
        wish: str,
        arguments: Mapping[str, Any],
        shapes: Sequence[Shape | None],
        dtype: str,
        draft: Draft,
    ) -> None:
        self.operator = operator
        self.arguments = dict(arguments)
        self.shapes = tuple(shapes)
        self.dtype = dtype
        self._wish = wish
        self._name: str | None = None
        self._draft = draft
        self._final = False

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def get(self, argument: str, default: Any = None) -> Any:
        """Return an argument that only some variants of the operator have."""
        return self.arguments.get(argument, default)

    @property
    def name(self) -> str:
        """Name of the node that this call becomes; reserved when first asked for."""
        if self._name is None:
            self._name = self._draft.name(self._wish)
        return self._name

    @property
    def shape(self) -> Shape:
        """Shape of the (first) result, with None for the batch."""
        shape = self.shapes[0]
        if shape is None:
            raise Unsupported("its result is no array", "an operator on arrays")
        return shape

    def activation(self, argument: str) -> Activation:
        """Return an argument that must depend on the model's inputs."""
        value = self.arguments[argument]
        if not isinstance(value, Activation):
            raise Unsupported(f"its {argument} is no array computed from the inputs", "an operator on such an array")
        return value

    def parameter(self, argument: str) -> Constant | None:
        """Return an argument that must be constant, or None where it is left out or the variant has none."""
        value = self.arguments.get(argument)
        if value is None or isinstance(value, Constant):
            return value
        raise Unsupported(
            f"its {argument} is computed from the inputs", f"a {argument} that is a parameter or a buffer"
        )

    def constant(self, array: Any, role: str) -> Constant:
        """Make a new constant, named after this call and its role in it."""
        array = np.asarray(array, dtype=np.float64)
        if not np.isfinite(array).all():
            raise Unsupported(f"its {role} holds infinities or NaN", "finite numbers")
        return Constant(f"{self.name}.{role}", array)

    def transposed(self, matrix: Constant) -> Constant:
        """Return the transpose of a constant matrix."""
        return self._draft.turned(matrix)

    def emit(
        self, op: str | Op, *inputs: Activation | Constant | None, part: str = "", **attributes: Any
    ) -> Activation:
        """Add a node and return its value.

        Parameters
        ----------
        op : str or Op
            An operation of `fixqnn.ops.OPS` by name, or one of your own.
        *inputs : Activation, Constant or None
            What it reads; None stands for an operand left out at the end and is skipped.
        part : str
            Empty for the node that gives the call's result; a word for an auxiliary node, as a suffix to its name.
        **attributes
            The node's attributes: plain numbers, strings, tuples.
        """
        record = OPS[op] if isinstance(op, str) else op
        given = [x for x in inputs if x is not None]
        shape = tuple(record.shape(*(x.shape for x in given), **attributes))
        if part:
            name = self._draft.name(f"{self.name}.{part}")
        else:
            name = self._draft.name(self._wish) if self._final else self.name
            self._final = True
        names = tuple(self._draft.keep(x) if isinstance(x, Constant) else x.name for x in given)
        self._draft.nodes[name] = Node(name, record, names, attributes=attributes)
        return Activation(name, shape)


Rule = Callable[[Call], Any]


def number(value: Any, what: str) -> float:
    """Return a finite number, also one that stands in a constant of size 1, or refuse."""
    if isinstance(value, Constant) and value.array.size == 1:
        value = value.array.item()
    if isinstance(value, (int, float)) and isfinite(value):
        return float(value)
    raise Unsupported(f"its {what} is {_told(value)}", f"a fixed, finite number as {what}")


def whole(value: Any, what: str) -> int:
    """Return a Python integer, or refuse."""
    if isinstance(value, int):
        return value
    raise Unsupported(f"its {what} is {_told(value)}", f"a fixed integer as {what}")


def _told(value: Any) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, (Activation, Constant)) else repr(value)
