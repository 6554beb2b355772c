"""What a search may set: values by setting, for the whole network or for each layer, and the points that hold them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fixqnn.calibration.choose import WEIGHT_AXES
from fixqnn.calibration.policy import FOR_ACTIVATIONS, FOR_CONSTANTS
from fixqnn.calibration.sharing import MOVES, POOLS
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.sweeps.points import Point, grid, split, values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FOLLOWERS = (*MOVES, *POOLS, "clamp")  # their outputs have the settings of their inputs
WIDTHS = ("weights", "activations", "inputs", "outputs")
MACHINE = "machine"  # name of the axis of machines


@dataclass(frozen=True)
class Space:
    """All points that a search may try.

    Attributes
    ----------
    axes : mapping of str to tuple
        Values by setting, spelled as in ``Point.settings``: ``"weights"``, ``"weights[layer1.*]"``, ``"accumulator_bits"``.
    per_layer : tuple of str
        Axes that every layer has for itself; `for_graph` puts them in place.
    """

    axes: Mapping[str, tuple[Any, ...]]
    per_layer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", MappingProxyType(dict(self.axes)))

    @property
    def size(self) -> int:
        """How many points there are."""
        return math.prod(len(axis) for axis in self.axes.values())

    def __repr__(self) -> str:
        axes = ", ".join(f"{name!r}: {axis!r}" for name, axis in self.axes.items())
        return f"Space({{{axes}}}" + (f", per_layer={self.per_layer!r})" if self.per_layer else ")")

    def for_graph(self, graph: Graph) -> Space:
        """Give every layer its own axis in place of the `per_layer` ones, patterns being exact names.

        Settings of weights go to each layer that has weights; settings of values to each input of the graph and to each
        operation that computes values anew, not to clamps, moves and pools, which take over what their input has.
        """
        axes: dict[str, tuple[Any, ...]] = {n: axis for n, axis in self.axes.items() if n not in self.per_layer}
        for name in self.per_layer:
            layers = weight_layers(graph) if name in FOR_CONSTANTS else value_layers(graph)
            axes.update({f"{name}[{escaped(layer)}]": self.axes[name] for layer in layers})
        return Space(axes)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Axes as Optuna knows them: evenly spaced whole numbers in their order, everything else as labels."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for name, axis in self.axes.items():
            if (step := even_step(axis)) is not None:
                found[name] = IntDistribution(min(axis), max(axis), step=step)
            else:
                found[name] = CategoricalDistribution(labels(axis))
        return found

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """From what Optuna proposes to values."""
        return {name: dict(zip(labels(axis), axis, strict=True))[params[name]] for name, axis in self.axes.items()}

    def params(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """From values, one per axis, to what Optuna proposes."""
        places = {name: [repr(value) for value in axis].index(repr(settings[name])) for name, axis in self.axes.items()}
        return {name: labels(axis)[places[name]] for name, axis in self.axes.items()}

    def uniform(self) -> list[dict[str, Any]]:
        """Settings with one width everywhere, the widest first; machines and their settings at their most generous.

        That is the largest of whole numbers, and of anything else the first.

        Examples
        --------
        >>> found = space(weights=(2, 4), activations=(4, 8), accumulator_bits=(12, 16), rounding=("floor", "half_up"))
        >>> for settings in found.uniform():
        ...     print(settings)
        {'weights': 4, 'activations': 8, 'accumulator_bits': 16, 'rounding': 'floor'}
        {'weights': 4, 'activations': 4, 'accumulator_bits': 16, 'rounding': 'floor'}
        {'weights': 2, 'activations': 4, 'accumulator_bits': 16, 'rounding': 'floor'}
        """
        wide = {name: numbers(axis) for name, axis in self.axes.items() if split(name)[0] in WIDTHS}
        widths = sorted({bits for axis in wide.values() for bits in axis}, reverse=True)
        found = [
            {
                name: nearest(wide[name], bits) if wide.get(name) else max(numbers(axis), default=axis[0])
                for name, axis in self.axes.items()
            }
            for bits in widths or [0]
        ]
        return _distinct(found)

    def from_overrides(self, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Settings nearest above those given by layer, as the `overrides` of `fixqnn.allocate_bits` give them.

        An axis of several layers takes the widest of theirs; what is not given is as in the widest of `uniform`.

        Examples
        --------
        >>> space(overrides={"conv1": {"weights": (2, 4, 8)}}).from_overrides({"conv1": {"weights": 3}})
        {'weights[conv1]': 4}
        """
        found = dict(self.uniform()[0])
        for name, axis in self.axes.items():
            setting, pattern = split(name)
            wanted = [
                settings[setting]
                for layer, settings in overrides.items()
                if setting in settings and (pattern is None or layer == pattern or fnmatchcase(plain(layer), pattern))
            ]
            wanted = [bits for bits in wanted if isinstance(bits, int)]
            if wanted and numbers(axis):
                found[name] = min((n for n in numbers(axis) if n >= max(wanted)), default=max(numbers(axis)))
        return found


def space(
    *, per_layer: str | Iterable[str] = (), overrides: Mapping[str, Mapping[str, Any]] | None = None, **axes: Any
) -> Space:
    """Say what a search may set, in the words of `grid`.

    Parameters
    ----------
    per_layer : str or iterable of str
        Axes that each layer gets for itself: ``per_layer=("weights", "activations")``.
    overrides : mapping of str to (mapping of str to axis), optional
        Axes for some layers: ``{"layer1.*": {"weights": (4, 8)}}``; where several patterns match a layer, the later wins.
    **axes
        By name, a value or an iterable of values: fields of `Policy`, or settings of the machine.

    Returns
    -------
    Space

    Raises
    ------
    BadInput
        For a setting that cannot be one of single layers, or a value that the policy cannot have.

    Examples
    --------
    >>> space(weights=range(2, 5), accumulator_bits=(12, 16)).size
    6
    >>> space(weights=(2, 8), per_layer="weights")
    Space({'weights': (2, 8)}, per_layer=('weights',))
    """
    return _read(per_layer, overrides, axes)


def space_of(given: Any) -> Space:
    """Accept a Space, or a mapping of settings to values, which may hold ``overrides`` and ``per_layer``.

    >>> space_of({"weights": (4, 8), "weights[fc]": range(6, 9)}).size
    6
    """
    if isinstance(given, Space):
        return _checked(given)
    if not isinstance(given, Mapping):
        raise BadInput(f"a space maps settings to values, as in space(weights=range(2, 9)), not {given!r}")
    axes = {str(name): axis for name, axis in given.items()}
    return _read(axes.pop("per_layer", ()), axes.pop("overrides", None), axes)


def _read(per_layer: Any, overrides: Any, axes: Mapping[str, Any]) -> Space:
    per_layer = (per_layer,) if isinstance(per_layer, str) else tuple(per_layer)
    for name in per_layer:
        if name not in FOR_CONSTANTS and name not in FOR_ACTIVATIONS:
            allowed = ", ".join((*FOR_CONSTANTS, *FOR_ACTIVATIONS))
            raise BadInput(f"per_layer names {name!r}, which single layers cannot have; they can have {allowed}")
        if name not in axes:
            raise BadInput(f"per_layer names {name!r}, for which there are no values: give {name}=…")
    found = {name: values(axis, name) for name, axis in axes.items()}
    if overrides is not None and not isinstance(overrides, Mapping):
        raise BadInput(f"overrides must map patterns to settings, not {overrides!r}")
    for pattern, settings in (overrides or {}).items():
        if not isinstance(settings, Mapping):
            raise BadInput(f"overrides[{pattern!r}] must map settings to values, not {settings!r}")
        named = {f"{setting}[{pattern}]": axis for setting, axis in settings.items()}
        found.update({name: values(axis, name) for name, axis in named.items()})
    return _checked(Space(found, per_layer))


def _checked(found: Space) -> Space:
    if not found.axes:
        raise BadInput("the space has no axes; give at least one setting with values, such as weights=range(2, 9)")
    for name, axis in found.axes.items():
        setting, pattern = split(name)
        if setting == MACHINE:
            raise BadInput(f"{name!r} is no setting; machines are given as machines=[…]")
        if pattern is None:
            grid(**{setting: axis})
        else:
            grid(overrides={pattern: {setting: axis}})
    return found


def weight_layers(graph: Graph) -> tuple[str, ...]:
    """Layers that read weights: by name, or, where several read the same weights, by the name of these."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            weight = node.op.name == "matmul" or (node.op.name in WEIGHT_AXES and place == 1)
            if weight and name in graph.constants and name not in graph.formats:
                found.setdefault(name, []).append(node.name)
    return tuple(nodes[0] if len(nodes) == 1 else name for name, nodes in found.items())


def value_layers(graph: Graph) -> tuple[str, ...]:
    """Inputs, and the operations whose output has a format of its own."""
    inputs = [value.name for value in graph.inputs if value.name not in graph.formats]
    nodes = [n.name for n in graph.nodes if n.op.name not in FOLLOWERS and n.output not in graph.formats]
    return (*inputs, *nodes)


def escaped(name: str) -> str:
    """Give the pattern that matches this name alone.

    >>> escaped("layer1.0.conv"), escaped("x[0]")
    ('layer1.0.conv', 'x[[]0]')
    """
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def plain(pattern: str) -> str:
    """Give the name that `escaped` made a pattern of.

    >>> plain(escaped("x[0]*"))
    'x[0]*'
    """
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


def numbers(axis: Sequence[Any]) -> list[int]:
    """Whole numbers among the values."""
    return [value for value in axis if isinstance(value, int) and not isinstance(value, bool)]


def nearest(widths: Sequence[int], bits: int) -> int:
    """Value nearest to a width, of two the wider."""
    return min(widths, key=lambda width: (abs(width - bits), -width))


def even_step(axis: Sequence[Any]) -> int | None:
    """Step between neighbours, where values are whole numbers that grow evenly; None elsewhere.

    >>> even_step((2, 4, 6)), even_step((4, 8, 16)), even_step((4,))
    (2, None, None)
    """
    if len(axis) < 2 or len(numbers(axis)) < len(axis):
        return None
    steps = {b - a for a, b in pairwise(axis)}
    return min(steps) if len(steps) == 1 and min(steps) > 0 else None


def labels(axis: Sequence[Any]) -> tuple[Any, ...]:
    """Names of values that no two share: themselves, or as Python writes them.

    >>> labels((4, 8)), labels((1, True, None))
    ((4, 8), ('1', 'True', 'None'))
    """
    kinds = {type(value) for value in axis}
    return tuple(axis) if len(kinds) == 1 and kinds <= {int, float, str} else tuple(map(repr, axis))


def _distinct(settings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({repr(one): one for one in settings}.values())


def point(settings: Mapping[str, Any]) -> Point:
    """Make the point of settings; the axis of machines is none."""
    return Point({name: value for name, value in settings.items() if name != MACHINE})
