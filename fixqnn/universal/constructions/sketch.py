"""Networks with coefficients of any size, and how weights of bounded size realise them.

A construction says which multiple of which neuron it needs, whatever a single weight may hold. Here neurons are doubled
until weights suffice, and offsets beyond the range of biases are made of neurons that are constant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, lcm

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.universal.constructions.layers import Layer, Network, Size
from fixqnn.universal.grid import Bias, Setting

__all__ = ["Sketch", "Unrealisable"]


class Unrealisable(BadInput):
    """No weights and biases of the setting give the coefficients and offsets that a construction wants."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """Layers of effective coefficients, to be realised with the weights and biases of a setting.

    Attributes
    ----------
    setting : Setting
        Format, weights, biases and tie rule.
    table : tuple of int
        The activation's code for k = −M … M.
    layers : tuple of Layer
        Coefficients (neurons, sources) in units of 1/s and offsets in units of 1/s², of any size. Those of the first
        layer are weights and biases already, since inputs cannot be doubled.
    name : str
        The construction it comes from.
    """

    setting: Setting
    table: tuple[int, ...]
    layers: tuple[Layer, ...]
    name: str = ""

    @cached_property
    def _needs(self) -> tuple[_Need, ...]:
        """What each layer needs of the one before, from the second layer on."""
        return tuple(_Need.of(self.setting, self.table, layer) for layer in self.layers[1:])

    @cached_property
    def size(self) -> Size:
        """Size of the realised network, from its formula: nothing is built.

        With copies n_i = max_t ⌈|C_ti| / w⌉ of source i, a neuron costs Σ_i ⌈|C_ti| / w⌉ weights, w the largest weight
        (Σ_i n_i where weights have no zero), its own bias and its share of constant neurons; a neuron counts once per
        copy that the next layer wants.
        """
        widths, weights, biases = [], 0, 0
        own_first = np.count_nonzero(self.layers[0].weights, axis=1)
        costs = [own_first, *(need.weights_per_neuron for need in self._needs)]
        own_biases = [self.layers[0].biases, *(need.biases for need in self._needs)]
        for i, (cost, bias) in enumerate(zip(costs, own_biases, strict=True)):
            copies = np.ones(len(cost), np.int64) if i == len(self._needs) else self._needs[i].copies
            constants = () if i == len(self._needs) else self._needs[i].constants
            extra = sum(count for _, count in constants)
            widths.append(int(copies.sum()) + extra)
            weights += int((cost * copies).sum())
            if extra and not self.setting.has_zero:
                _check_cancelling(self._needs[i - 1] if i else None)
                weights += extra * widths[i - 1]
            biases += int(copies[bias != 0].sum()) + sum(count for code, count in constants if code)
        return Size(tuple(widths), weights, biases)

    @property
    def realisable(self) -> bool:
        """Whether weights and biases of the setting give these coefficients and offsets."""
        try:
            return bool(self.size.widths)
        except Unrealisable:
            return False

    def network(self) -> Network:
        """Realise it."""
        made = []
        for i, layer in enumerate(self.layers):
            need = None if i == 0 else self._needs[i - 1]
            rows = layer.weights if need is None else need.expand(self.setting, layer)
            biases = layer.biases if need is None else need.biases
            if i + 1 < len(self.layers):
                above = self._needs[i]
                rows, biases = np.repeat(rows, above.copies, axis=0), np.repeat(biases, above.copies)
                rows, biases = _with_constants(self.setting, rows, biases, above, need)
            made.append(Layer(rows, biases))
        return Network(self.setting, self.table, tuple(made))


def _with_constants(
    setting: Setting, rows: np.ndarray, biases: np.ndarray, need: _Need, sources: _Need | None
) -> tuple[np.ndarray, np.ndarray]:
    """Append the neurons that are constant: no weights but zeros, or weights that cancel in pairs."""
    extra = [code for code, count in need.constants for _ in range(count)]
    if not extra:
        return rows, biases
    zero = np.zeros((len(extra), rows.shape[1]), np.int64)
    if not setting.has_zero:
        _check_cancelling(sources)
        zero += setting.weight_unit * np.where(np.arange(rows.shape[1]) % 2, -1, 1)
    return np.vstack([rows, zero]), np.append(biases, np.array(extra, np.int64) * setting.s)


def _check_cancelling(sources: _Need | None) -> None:
    """Refuse a constant neuron whose sources do not come in equal pairs, which weights of both signs cancel."""
    counts = [1] if sources is None else [*sources.copies.tolist(), *(count for _, count in sources.constants)]
    if any(count % 2 for count in counts):
        raise Unrealisable(
            "a constant neuron needs an even number of copies of every source where weights have no zero"
        )


@dataclass(frozen=True, eq=False)
class _Need:
    """Copies of every source, constant neurons (bias code, count), and for every neuron its bias and its constants."""

    copies: np.ndarray
    constants: tuple[tuple[int, int], ...]
    biases: np.ndarray
    coefficients_of_constants: np.ndarray  # (neurons, kinds of constants)
    weights_per_neuron: np.ndarray

    @classmethod
    def of(cls, setting: Setting, table: Sequence[int], layer: Layer) -> _Need:
        unit, most = setting.weight_unit, max(setting.weight_codes)
        if np.any(layer.weights % unit):
            raise Unrealisable(f"a coefficient is no multiple of the weights' unit {unit}/{setting.s}")
        needed = -(-np.abs(layer.weights) // most)
        copies = needed.max(axis=0, initial=0)
        if not setting.has_zero and np.any((needed - copies) % 2):
            copies = copies + copies % 2
            if np.any(needed % 2):
                raise Unrealisable("coefficients of both parities, which weights without a zero cannot give")
        biases, parts, codes = _offsets(setting, table, layer.biases)
        of_constants = -(-np.abs(parts) // most)
        counts = of_constants.max(axis=0, initial=0)
        if not setting.has_zero:
            counts = np.where(((of_constants - counts) % 2).any(axis=0), counts + counts % 2, counts)
        per_neuron = (needed.sum(axis=1) + of_constants.sum(axis=1)) if setting.has_zero else np.full(
            len(layer.biases), copies.sum() + counts.sum()
        )  # fmt: skip
        constants = tuple((code, int(n)) for code, n in zip(codes, counts, strict=True))
        return cls(copies, constants, biases, parts, per_neuron)

    def expand(self, setting: Setting, layer: Layer) -> np.ndarray:
        """Weights over all copies and constants."""
        counts = np.array([count for _, count in self.constants], np.int64)
        blocks = [_spread(setting, layer.weights, self.copies)]
        if counts.sum():
            blocks.append(_spread(setting, self.coefficients_of_constants, counts))
        return np.hstack(blocks)


def _spread(setting: Setting, coefficients: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Share each coefficient among the copies of its source, with the fewest weights."""
    most = max(setting.weight_codes)
    source = np.repeat(np.arange(len(copies)), copies)
    number = np.arange(len(source)) - np.repeat(np.cumsum(copies) - copies, copies)
    wanted = coefficients[:, source]
    if setting.has_zero:
        return np.sign(wanted) * np.clip(np.abs(wanted) - number * most, 0, most)
    positive = (copies[source] + wanted // most) // 2  # so many copies with a plus, the others with a minus
    return np.where(number < positive, most, -most)


def _offsets(
    setting: Setting, table: Sequence[int], offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Write offsets as a bias of the setting and multiples of constant neurons.

    Returns the biases, the multiples (neurons, constants), and the bias codes that make the constant neurons.
    """
    limit, unit = setting.bias_limit, setting.bias_unit
    fits = (offsets % unit == 0) & ((np.abs(offsets) <= limit) if limit is not None else True)
    biases = offsets.copy()
    if np.all(fits):
        return biases, np.zeros((len(offsets), 0), np.int64), ()
    if setting.bias == Bias.fine:
        raise Unrealisable("an offset is no whole number of the bias's unit")
    m = setting.largest
    value, code = max((abs(table[k + m]), -abs(k), k) for k in setting.codes)[::2]
    if not value:
        raise Unrealisable("the activation is zero everywhere: there are no constants")
    main = table[code + m]
    step = lcm(setting.weight_unit, setting.s // gcd(setting.s, main))  # multiples of the constant that keep residues
    codes, columns = [code], [np.zeros(len(offsets), np.int64)]
    for i in np.flatnonzero(~fits):
        rest = int(offsets[i])
        for extra, multiple in _residue(setting, table, rest % setting.s):
            if extra not in codes:
                codes.append(extra)
                columns.append(np.zeros(len(offsets), np.int64))
            columns[codes.index(extra)][i] += multiple
            rest -= multiple * table[extra + m]
        if limit is not None and abs(rest) > limit:
            sign = 1 if rest * main > 0 else -1
            times = -(-(abs(rest) - limit) // (step * abs(main)))
            columns[0][i] += sign * times * step
            rest -= sign * times * step * main
        if limit is not None and abs(rest) > limit:
            raise Unrealisable(f"no bias and no constants give the offset {int(offsets[i])}")
        biases[i] = rest
    return biases, np.stack(columns, axis=1), tuple(codes)


def _residue(setting: Setting, table: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Fewest constants (bias code, multiple) whose sum is `wanted` modulo s."""
    s, m, unit = setting.s, setting.largest, setting.weight_unit
    if not wanted:
        return []
    steps = {}
    for k in setting.codes:
        for sign in (unit, -unit):
            steps.setdefault(sign * table[k + m] % s, (k, sign))
    came: dict[int, tuple[int, tuple[int, int]] | None] = {0: None}
    queue = deque([0])
    while queue:
        here = queue.popleft()
        for step, what in steps.items():
            there = (here + step) % s
            if there not in came:
                came[there] = (here, what)
                queue.append(there)
    if wanted not in came:
        raise Unrealisable(f"biases and constants give no sum that leaves {wanted} modulo {s}")
    path: dict[int, int] = {}
    here = wanted
    while came[here] is not None:
        here, (code, multiple) = came[here]
        path[code] = path.get(code, 0) + multiple
    return list(path.items())
