"""First-layer neurons, and small combinations of them that tell points apart.

A first-layer neuron reads the inputs once, with single weights. Every construction begins with a *code*: an integer
combination of such neurons that has a value of its own for every point that must be told from others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from fixqnn.universal.constructions.layers import nearest
from fixqnn.universal.grid import Setting

__all__ = ["Code", "Neurons", "classes", "code_of", "first_rows"]

MOST_ROWS = 1 << 22  # entries of a dictionary of rows


@dataclass(frozen=True, eq=False)
class Neurons:
    """Distinct first-layer neurons over some points: weights (rows, inputs), biases (rows,), values (rows, points)."""

    weights: np.ndarray
    biases: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Code:
    """v = Σ k_r h_r over chosen rows.

    Attributes
    ----------
    rows : Neurons
        The rows, each used.
    multiples : ndarray of int
        k_r.
    """

    rows: Neurons
    multiples: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """What v is at every point."""
        return self.multiples @ self.rows.values


def biases_of(setting: Setting, reach: int) -> np.ndarray:
    """All biases that can matter to a neuron whose weighted inputs reach ±`reach` (units of 1/s²)."""
    unit = setting.bias_unit
    limit = setting.bias_limit
    if limit is None:
        limit = reach + (setting.largest + 1) * setting.s
    size = limit // unit
    return np.arange(-size, size + 1, dtype=np.int64) * unit


def first_rows(
    setting: Setting, table: Sequence[int], points: np.ndarray, lone: bool = True, constants: bool = False,
    few: bool = False,
) -> Neurons:  # fmt: skip
    """All distinct rows over points (points, inputs).

    With a zero among the weights (and `lone`) only neurons that read a single input; where these tell all inputs apart no
    others are needed. Else all neurons: without a zero all sign patterns. Rows that are constant are left out unless
    `constants`. With `few`, only some weights and biases of whole codes are looked at.
    """
    points = np.asarray(points, np.int64)
    inputs = points.shape[1]
    codes = [w for w in setting.weight_codes if w]
    if few:
        sizes = {setting.largest, setting.largest // 2, setting.s, setting.s // 2, setting.s // 2 - 1, 1}
        codes = [w for w in codes if abs(w) in sizes or setting.weights != "full"]
    if setting.has_zero and lone:
        weights = np.vstack([w * np.eye(inputs, dtype=np.int64)[i] for i in range(inputs) for w in codes])
    else:
        weights = np.array(list(product([*codes, 0] if setting.has_zero else codes, repeat=inputs)), np.int64)
    entries, m = np.array(table, np.int64), setting.largest
    # inputs that a neuron does not read make its rows alike: look at the distinct sums first
    kept: dict[bytes, tuple[np.ndarray, int, np.ndarray]] = {}
    for weight in weights:
        sums = points @ weight
        biases = biases_of(setting, int(np.abs(sums).max(initial=0)))
        biases = biases[biases % setting.s == 0] if few else biases
        values = entries[nearest(setting, sums[None, :] + biases[:, None]) + m]
        order = np.argsort(np.abs(biases), kind="stable")
        for b in order[constants | (values != values[:, :1]).any(axis=1)[order]]:
            kept.setdefault(values[b].tobytes(), (weight, int(biases[b]), values[b]))
    if not kept:
        empty = np.zeros((0, len(points)), np.int64)
        return Neurons(np.zeros((0, inputs), np.int64), np.zeros(0, np.int64), empty)
    rows = list(kept.values())
    return Neurons(np.stack([r[0] for r in rows]), np.array([r[1] for r in rows]), np.stack([r[2] for r in rows]))


def classes(rows: Neurons) -> np.ndarray:
    """Number of the class of every point: points that all rows treat alike share one."""
    if not len(rows.values):
        return np.zeros(rows.values.shape[1], np.int64)
    return np.unique(rows.values.T, axis=0, return_inverse=True)[1].reshape(-1)


def code_of(rows: Neurons, labels: np.ndarray, seed: int = 0, largest: int = 4) -> Code | None:
    """Choose rows and multiples greedily so that v never takes points of different labels to the same value.

    Each round adds the row and multiple that leave the fewest pairs together, then the one that keeps v short. Points of
    the same label may share a value. None where rows do not tell all labels apart.

    Parameters
    ----------
    rows : Neurons
        The dictionary.
    labels : ndarray of int
        One per point.
    seed : int
        Decides among rows of equal merit, and which rows are looked at when there are many.
    largest : int
        Largest multiple tried.
    """
    generator = np.random.default_rng(seed)
    v = np.zeros(rows.values.shape[1], np.int64)
    chosen: list[int] = []
    multiples: list[int] = []
    together = _together(v[None, :], labels)[0]
    while together:
        look = np.arange(len(rows.values))
        if len(look) * len(v) * largest * 2 > MOST_ROWS:
            look = generator.choice(look, max(MOST_ROWS // (len(v) * largest * 2), 1), replace=False)
        best = None
        for k in [sign * k for k in range(1, largest + 1) for sign in (1, -1)]:
            tried = v[None, :] + k * rows.values[look]
            left = _together(tried, labels)
            width = np.ptp(tried, axis=1) + len(chosen) * 0
            pick = int(np.lexsort((width, left))[0])
            merit = (int(left[pick]), abs(k), int(width[pick]))
            if best is None or merit < best[0]:
                best = (merit, int(look[pick]), k)
        (left, _, _), row, k = best
        if left >= together:
            largest *= 2
            if largest > 4 * max(int(np.abs(rows.values).max(initial=1)), 1) * len(v):
                return None
            continue
        together = left
        chosen.append(row)
        multiples.append(k)
        v = v + k * rows.values[row]
    where = np.array(chosen, np.int64)
    kept = Neurons(rows.weights[where], rows.biases[where], rows.values[where])
    return Code(kept, np.array(multiples, np.int64))


def _together(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pairs of neighbours in sorted order that share a value but not a label, per row."""
    order = np.lexsort((np.broadcast_to(labels, values.shape), values), axis=1)
    v = np.take_along_axis(values, order, axis=1)
    label = labels[order]
    return ((v[:, 1:] == v[:, :-1]) & (label[:, 1:] != label[:, :-1])).sum(axis=1)
