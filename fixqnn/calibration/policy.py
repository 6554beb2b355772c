"""Which widths, scales and ranges a user wants: by kind of number, by operation, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.format import Format, fixed

if TYPE_CHECKING:
    from fixqnn.graph import Graph

CHOICES = {
    "ranges": ("min_max", "percentile", "mse"),
    "scales": ("power_of_two", "free"),
    "style": ("symmetric", "affine"),
    "signed": ("auto", True, False),
    "weight_ranges": ("max", "mse"),
    "per_channel": (True, False),
    "narrow_weights": (True, False),
    "fuse_relu": (True, False),
    "share": (True, False),
}
# What may differ from value to value; only inputs and outputs are about the whole graph.
FOR_ACTIVATIONS = ("activations", "ranges", "percentile", "scales", "style", "signed")
FOR_CONSTANTS = ("weights", "bias", "per_channel", "weight_ranges", "narrow_weights")
FOR_NODES = ("share", "fuse_relu")
SETTINGS = (*FOR_ACTIVATIONS, *FOR_CONSTANTS, *FOR_NODES, "format")


@dataclass(frozen=True, repr=False)
class Policy:
    """How `quantize` chooses the formats that a graph does not have yet.

    Parameters
    ----------
    weights : int, "binary" or "ternary"
        Bits of weights, which are signed and symmetric. ``"binary"`` (or 1) is ±s, ``"ternary"`` −s, 0 and s, both
        with the s of least squared error, whatever `weight_ranges` says.
    activations, bias : int
        Bits of values, and of biases. A bias has the scale of the products it is added to. One bit means 0 and s for
        a value that is never negative, else ±s: zero is no code then.
    inputs, outputs : int, optional
        Bits of the graph's inputs and outputs; None: as `activations`.
    overrides : mapping of str to mapping
        Settings by name: ``{"layer1.*": {"weights": 4, "activations": 6}}``. The pattern (as in `fnmatch`, case
        counts) is held against names of nodes, which then speak for their constants and their output, and of values;
        where several match, the later wins. A pattern that matches nothing is an error. Settings are all parameters
        of a policy but these four, and ``"format"``: the very format that an input or a node's output is to have.
    kinds : mapping of str to mapping
        Settings by operation or function: ``{"add": {...}, "input": {...}, "tanh": {"format": fixed(8, 7)}}``. Names
        win over kinds.
    ranges : "min_max", "percentile" or "mse"
        From samples to the range of a value: everything seen; all but the outermost 100 − `percentile` percent; or the
        range whose squared quantization error, over the samples, is least.
    percentile : float
        Percentage of numbers that stay inside the range.
    scales : "power_of_two" or "free"
        ``"power_of_two"`` works on every machine, since rescaling is a shift. ``"free"`` scales fit the range exactly;
        they are rounded to float32, which is what quantized models store, and machines need a multiplier for them.
    style : "symmetric" or "affine"
        Whether values get a zero point of 0, or one that makes the codes span the range. Affine codes are signed
        unless ``signed=False``.
    signed : "auto", True or False
        Whether codes of values are signed; ``"auto"``: only where a value was seen to be negative.
    per_channel : bool
        Whether each output channel's weights have their own scale. False by default: a machine that has one shift per
        layer, or registers at a fixed binary point, cannot follow.
    weight_ranges : "max" or "mse"
        Whether the largest weight still has a code, or the squared error is least.
    narrow_weights : bool
        Whether weights leave out the lowest code, so that the codes are symmetric.
    fuse_relu : bool
        Whether a value that only a clamp reads takes the clamp's format: the saturation of the output register then
        *is* the ReLU, as in LiteRT and in most accelerators, and no code is spent on what would be clamped. Right
        where output registers saturate; say False for a machine whose registers wrap.
    share : bool
        Whether what only moves, compares or pools codes keeps the format of its input, so that codes travel as they
        are; a concat and all its inputs then have one format.

    Raises
    ------
    BadInput
        For a setting that does not exist or a value it cannot have.

    Examples
    --------
    >>> Policy(weights=4, overrides={"head.*": {"weights": 8}})
    Policy(weights=4, overrides={'head.*': {'weights': 8}})
    """

    weights: int | str = 8
    activations: int = 8
    bias: int = 32
    inputs: int | None = None
    outputs: int | None = None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    ranges: str = "min_max"
    percentile: float = 99.99
    scales: str = "power_of_two"
    style: str = "symmetric"
    signed: bool | str = "auto"
    per_channel: bool = False
    weight_ranges: str = "max"
    narrow_weights: bool = False
    fuse_relu: bool = True
    share: bool = True

    def __post_init__(self) -> None:
        for name in ("weights", "activations", "bias", "inputs", "outputs"):
            object.__setattr__(self, name, _bits(name, getattr(self, name)))
        for name, choices in CHOICES.items():
            object.__setattr__(self, name, _choice(name, getattr(self, name), choices))
        percentile = self.percentile
        if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 50 < percentile <= 100:
            raise BadInput(f"percentile must be above 50 and at most 100, not {percentile!r}")
        for name in ("overrides", "kinds"):
            object.__setattr__(self, name, _table(name, getattr(self, name)))

    def explicit(self, names: Iterable[str], kinds: Iterable[str | None], bits: int | None = None) -> dict[str, Any]:
        """Settings that the user gave for something of these names and kinds, the later winning.

        `bits` is the width that `inputs` or `outputs` gives it: stronger than a kind, weaker than a name.
        """
        names, found = tuple(names), {}
        for kind in kinds:
            found.update(self.kinds.get(kind, {}))
        if bits is not None:
            found["activations"] = bits
        for pattern, settings in self.overrides.items():
            if any(fnmatchcase(name, pattern) for name in names):
                found.update(settings)
        return found

    def having(self, settings: Mapping[str, Any]) -> Policy:
        """Apply settings; the result speaks of one value, and has no overrides or kinds."""
        return replace(self, **{**settings, "overrides": {}, "kinds": {}})

    def check(self, graph: Graph) -> None:
        """Refuse patterns and kinds that fit nothing in the graph (BadInput, with close names)."""
        from fixqnn.arith.functions import FUNCTIONS
        from fixqnn.ops import OPS

        names = list(dict.fromkeys([*(node.name for node in graph.nodes), *graph.values]))
        for pattern in self.overrides:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise BadInput(
                    f"overrides[{pattern!r}] matches no node and no value of the graph{_close(pattern, names)}"
                )
        kinds = {"input", *OPS, *FUNCTIONS, *(node.op.name for node in graph.nodes)}
        for kind in self.kinds:
            if kind not in kinds:
                raise BadInput(f"kinds[{kind!r}] is no operation or function{_close(kind, sorted(kinds))}")

    def __repr__(self) -> str:
        parts = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("overrides", "kinds"):
                value = {name: dict(settings) for name, settings in value.items()}
            if value != (f.default if f.name not in ("overrides", "kinds") else {}):
                parts.append(f"{f.name}={value!r}")
        return f"Policy({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("overrides", "kinds"):  # a mapping proxy cannot be pickled, and sweeps send policies to processes
            plain[name] = {key: dict(settings) for key, settings in plain[name].items()}
        return _restore, (plain,)


def _restore(plain: dict[str, Any]) -> Policy:
    return Policy(**plain)


def _bits(name: str, value: Any) -> Any:
    if name == "weights" and value in ("binary", "ternary"):
        return value
    if name in ("inputs", "outputs") and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        words = ", 'binary' or 'ternary'" if name == "weights" else ""
        raise BadInput(f"{name} must be a number of bits, at least 1{words}, not {value!r}")
    return int(value)


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if type(choice) is bool and isinstance(value, bool | np.bool_) and choice == value:
            return choice
        if isinstance(choice, str) and isinstance(value, str) and choice == value:
            return choice
    raise BadInput(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def _table(name: str, table: Any) -> Mapping[str, Mapping[str, Any]]:
    """Check overrides or kinds, setting by setting, and freeze them."""
    if not isinstance(table, Mapping):
        raise BadInput(f"{name} must map names to settings, such as {{'conv1': {{'weights': 4}}}}, not {table!r}")
    checked = {}
    for key, settings in table.items():
        if not isinstance(key, str) or not isinstance(settings, Mapping):
            raise BadInput(f"{name}[{key!r}] must be a mapping of settings, such as {{'weights': 4}}, not {settings!r}")
        for setting in settings:
            if setting not in SETTINGS:
                raise BadInput(f"{name}[{key!r}] has no setting {setting!r}{_close(str(setting), SETTINGS)}")
        if not isinstance(settings.get("format", fixed(8, 0)), Format):
            raise BadInput(f"{name}[{key!r}]: format must be a Format, such as fixed(8, 4), not {settings['format']!r}")
        try:
            Policy(**{setting: value for setting, value in settings.items() if setting != "format"})
        except BadInput as problem:
            raise BadInput(f"{name}[{key!r}]: {problem}") from None
        checked[key] = MappingProxyType(dict(settings))
    return MappingProxyType(checked)


def _close(word: str, names: Iterable[str]) -> str:
    """Name what was perhaps meant, or what there is."""
    names = list(names)
    close = get_close_matches(word, names, 3, 0.5)
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; there are {', '.join(names[:12])}" + (" …" if len(names) > 12 else "")


DEFAULT = Policy()
