"""An accelerator: datapaths by operation, accepted widths, and where all of it is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fixqnn.datapath import Datapath, Elementwise, Lookup, SumOfProducts
from fixqnn.errors import FormatError
from fixqnn.format import Format
from fixqnn.graph import Graph, Node
from fixqnn.scaler import is_scaler

SUMS = ("linear", "conv", "conv_transpose", "matmul", "average_pool", "adaptive_average_pool", "mean")
ELEMENTWISE = ("add", "subtract", "multiply")


@dataclass(frozen=True)
class Ports:
    """Widths that an accelerator takes; None: any.

    Parameters
    ----------
    weights, activations : collection of int, optional
        Accepted widths in bits.
    zero_points : bool
        Whether activations may have a zero point.
    """

    weights: Sequence[int] | None = None
    activations: Sequence[int] | None = None
    zero_points: bool = True

    def problem(self, form: Format, kind: str) -> str:
        """Why a format of that kind (``"weights"`` or ``"activations"``) is not taken; empty if it is."""
        widths = getattr(self, kind)
        if widths is not None and form.bits not in widths:
            return f"{form.bits}-bit {kind} do not pass the port, which takes {_show(widths)} bits"
        if kind == "activations" and not self.zero_points and any(z != 0 for z in form.zero_points):
            return f"zero point {form.zero_point} does not pass the port, which takes symmetric activations"
        return ""


def _show(widths: Sequence[int]) -> str:
    widths = sorted(widths)
    return (
        f"{widths[0]}…{widths[-1]}"
        if len(widths) > 2 and widths == list(range(widths[0], widths[-1] + 1))
        else ", ".join(map(str, widths))
    )


@dataclass(frozen=True)
class Accelerator:
    """A machine as plain data.

    Parameters
    ----------
    name : str
        What tables call it.
    datapaths : mapping of str to Datapath
        By node name, which wins; by function, for lookups (``"sigmoid"``); or by operation name (``"conv"``).
        An operation that only moves or compares codes needs none.
    ports : Ports
        Accepted widths.
    rewrites : tuple of callable
        ``rewrite(graph) -> graph``, applied before lowering.
    source : str
        Where this arithmetic is written down, and how far it was checked.
    timing : callable, optional
        Cycles and traffic from shapes; never touches a code.

    Raises
    ------
    FormatError
        For a datapath of a kind that the operation cannot use.
    """

    name: str
    datapaths: Mapping[str, Datapath]
    ports: Ports = Ports()
    rewrites: tuple[Callable[[Graph], Graph], ...] = ()
    source: str = ""
    timing: Callable[..., Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "datapaths", MappingProxyType(dict(self.datapaths)))
        object.__setattr__(self, "rewrites", tuple(self.rewrites))
        for key, record in self.datapaths.items():
            kinds = {**dict.fromkeys(SUMS, SumOfProducts), **dict.fromkeys(ELEMENTWISE, Elementwise)}.get(key)
            if kinds is not None and not isinstance(record, kinds):
                raise FormatError(f"accelerator {self.name!r}: {key} needs a {kinds.__name__}, not {record!r}")
            if not (isinstance(record, SumOfProducts | Elementwise | Lookup) or is_scaler(record)):
                raise FormatError(f"accelerator {self.name!r}: {key} needs a datapath, not {record!r}")

    def __repr__(self) -> str:
        rewrites = f", rewrites={self.rewrites!r}" if self.rewrites else ""
        return f"Accelerator({self.name!r}, {dict(self.datapaths)!r}, {self.ports!r}{rewrites}, source={self.source!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        plain = (self.name, dict(self.datapaths), self.ports, self.rewrites, self.source, self.timing)
        return Accelerator, plain  # a mapping proxy cannot be pickled, and sweeps send machines to processes

    def datapath(self, node: Node) -> Datapath | None:
        """Find the datapath of a node: by its name, its function, or its operation; None where there is none."""
        names = (node.name, node.attributes.get("function"), node.op.name)
        return next((self.datapaths[name] for name in names if name in self.datapaths), None)
