"""Points of a sweep: which settings of the policy and of the machine are tried together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np

from fixqnn.calibration.policy import DEFAULT, SETTINGS, Policy
from fixqnn.errors import BadInput, FormatError
from fixqnn.format import Format
from fixqnn.storage import from_json, to_json

POLICY = tuple(f.name for f in fields(Policy) if f.name not in ("overrides", "kinds"))


@dataclass(frozen=True, repr=False)
class Point:
    """One combination of settings.

    Parameters
    ----------
    settings : mapping of str to value
        Flat and in order. A field of `Policy` by its name (``"weights"``); a setting of some layers as
        ``"weights[layer1.*]"``, the pattern as in ``Policy.overrides``; every other name is a setting of the machine
        (``"accumulator_bits"``), for some layers ``"accumulator_bits[layer1.*]"``. Values are numbers, texts, booleans, None,
        formats, and tuples of these.

    Raises
    ------
    BadInput
        For a name that cannot be read or a value of another type.

    Examples
    --------
    >>> point = Point({"weights": 4, "weights[layer1.*]": 8, "accumulator_bits": 16})
    >>> point.policy()
    Policy(weights=4, overrides={'layer1.*': {'weights': 8}})
    >>> dict(point.machine_settings), print(point)
    weights=4, weights[layer1.*]=8, accumulator_bits=16
    ({'accumulator_bits': 16}, None)
    """

    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            raise BadInput(f"a Point takes a mapping of settings, such as {{'weights': 4}}, not {self.settings!r}")
        plain = {}
        for name, value in self.settings.items():
            split(name)
            plain[name] = _plain(value, name)
        object.__setattr__(self, "settings", MappingProxyType(plain))

    def policy(self, base: Policy = DEFAULT) -> Policy:
        """Apply the settings that concern formats to a policy; those of the point win over all that `base` says by name."""
        whole, overrides = {}, {pattern: dict(s) for pattern, s in base.overrides.items()}
        for name, value in self.settings.items():
            setting, pattern = split(name)
            if pattern is None and setting in POLICY:
                whole[setting] = value
            elif pattern is not None and setting in SETTINGS:
                overrides[pattern] = {**overrides.pop(pattern, {}), setting: value}  # moved to the end: the later wins
        return replace(base, **whole, overrides=overrides)

    @property
    def machine_settings(self) -> Mapping[str, Any]:
        """Settings of the whole machine."""
        return {n: v for n, v in self.settings.items() if split(n)[1] is None and n not in POLICY}

    @property
    def layer_machine_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of the machine for some layers: {pattern: {setting: value}}."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.settings.items():
            setting, pattern = split(name)
            if pattern is not None and setting not in SETTINGS:
                found.setdefault(pattern, {})[setting] = value
        return found

    def to_json(self) -> str:
        """Write the settings as one line of JSON, in their order; `from_json` reads it.

        >>> Point({"weights": "ternary", "rounding": "floor"}).to_json()
        '{"weights": "ternary", "rounding": "floor"}'
        """
        return json.dumps({name: _document(value) for name, value in self.settings.items()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> Point:
        """Read what `to_json` wrote; BadInput for anything else."""
        try:
            document = json.loads(text) if isinstance(text, str) else dict(text)
            return cls({name: _value(value) for name, value in document.items()})
        except (ValueError, TypeError, AttributeError) as problem:
            if isinstance(problem, BadInput | FormatError):
                raise
            raise BadInput(f"{text!r} are no settings of a point: {problem}") from None

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, repr(value)) for name, value in self.settings.items())))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Point):
            return NotImplemented
        mine, yours = (sorted((n, repr(v)) for n, v in p.settings.items()) for p in (self, other))
        return mine == yours

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items()) or "default settings"

    def __repr__(self) -> str:
        return f"Point({dict(self.settings)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Point, (dict(self.settings),)  # a mapping proxy cannot be pickled


def grid(*, overrides: Mapping[str, Mapping[str, Any]] | None = None, **axes: Any) -> tuple[Point, ...]:
    """Make every combination of the values of all axes; the last axis runs fastest.

    Parameters
    ----------
    overrides : mapping of str to (mapping of str to axis), optional
        Axes by layer, in the shape of ``Policy.overrides``: ``{"layer1.*": {"weights": (4, 8)}}``. A setting that is none of a
        policy (``"accumulator_bits"``) is the machine's for these layers.
    **axes
        By name, a value or an iterable of values. Names of `Policy`'s fields go to the policy, every other name to the
        machine. A text is one value; equal values count once.

    Returns
    -------
    tuple of Point
        As many as the product of the axes' lengths.

    Raises
    ------
    BadInput
        For an axis without values, or a value that the policy cannot have.

    Examples
    --------
    >>> for point in grid(weights=(4, 8), accumulator_bits=(16, 24)):
    ...     print(point)
    weights=4, accumulator_bits=16
    weights=4, accumulator_bits=24
    weights=8, accumulator_bits=16
    weights=8, accumulator_bits=24
    >>> [str(point) for point in grid(overrides={"fc": {"weights": (3, 4)}})]
    ['weights[fc]=3', 'weights[fc]=4']
    """
    named = {name: values(axis, name) for name, axis in axes.items()}
    if overrides is not None and not isinstance(overrides, Mapping):
        raise BadInput(
            f"overrides must map patterns to settings, such as {{'fc': {{'weights': (4, 8)}}}}, not {overrides!r}"
        )
    for pattern, settings in (overrides or {}).items():
        if not isinstance(settings, Mapping):
            raise BadInput(
                f"overrides[{pattern!r}] must map settings to values, such as {{'weights': (4, 8)}}, not {settings!r}"
            )
        for setting, axis in settings.items():
            name = f"{setting}[{pattern}]"
            named[name] = values(axis, name)
    for name, axis in named.items():
        setting, pattern = split(name)
        if setting in (POLICY if pattern is None else SETTINGS):
            for value in axis:
                Point({name: value}).policy()  # a value that no policy takes is refused before anything runs
    return tuple(
        Point(dict(zip(named, combination, strict=True))) for combination in itertools.product(*named.values())
    )


def values(axis: Any, name: str) -> tuple[Any, ...]:
    """Give the values of an axis, in order and once each.

    >>> values(range(2, 5), "weights"), values("floor", "rounding")
    ((2, 3, 4), ('floor',))
    """
    if isinstance(axis, Mapping):
        raise BadInput(f"axis {name!r} is a mapping, not values; settings of single layers go to overrides")
    if isinstance(axis, str | bytes | Format) or not isinstance(axis, Iterable):
        axis = (axis,)
    if isinstance(axis, set | frozenset):
        axis = sorted(axis, key=repr)
    found = {repr(value): value for value in (_plain(value, name) for value in axis)}
    if not found:
        raise BadInput(f"axis {name!r} has no values; give at least one")
    return tuple(found.values())


def points_of(points: Any) -> tuple[Point, ...]:
    """Accept a point, or an iterable of points or mappings of settings; equal points count once.

    Raises
    ------
    BadInput
        For anything else, or no points at all.
    """
    if isinstance(points, Point | Mapping):
        points = (points,)
    if isinstance(points, str) or not isinstance(points, Iterable):
        raise BadInput(f"points must be Points, as grid(weights=(4, 8)) makes them, not {points!r}")
    found = tuple(dict.fromkeys(p if isinstance(p, Point) else Point(p) for p in points))
    if not found:
        raise BadInput("there are no points; grid(weights=(4, 8)) makes two")
    return found


def split(name: Any) -> tuple[str, str | None]:
    """Split the name of a setting from the pattern of layers it is for.

    >>> split("weights"), split("weights[layer[12].*]")
    (('weights', None), ('weights', 'layer[12].*'))
    """
    if isinstance(name, str):
        setting, bracket, pattern = name.partition("[")
        if setting.isidentifier() and (not bracket or (pattern.endswith("]") and len(pattern) > 1)):
            return setting, pattern[:-1] if bracket else None
    raise BadInput(
        f"a setting is called weights, accumulator_bits or, for some layers, weights[layer1.*], not {name!r}"
    )


def _plain(value: Any, name: str) -> Any:
    """Take numbers out of numpy and lists out of the way, so that equal settings are equal everywhere."""
    if isinstance(value, Enum):
        return str(value)
    if value is None or isinstance(value, bool | str | Format):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating) and np.isfinite(value):
        return float(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return tuple(_plain(item, name) for item in value)
    raise BadInput(f"setting {name!r} must be a number, text, boolean, None, Format or a tuple of these, not {value!r}")


def _document(value: Any) -> Any:
    if isinstance(value, Format):
        return to_json(value)
    if isinstance(value, tuple):
        return [_document(item) for item in value]
    return value


def _value(document: Any) -> Any:
    if isinstance(document, dict):
        return from_json(document)
    if isinstance(document, list):
        return tuple(_value(item) for item in document)
    return document
