"""How far an integer network is from its reference, and how sure one can be of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from fixqnn.encoding import as_codes, as_reals, at
from fixqnn.errors import BadInput
from fixqnn.tensor import Tensor


def sqnr(reference: Any, found: Any) -> float:
    """Signal to quantization noise in decibels: 10·log₁₀(Σ reference² / Σ (reference − found)²), over all elements.

    Infinite where nothing differs, also if the reference is zero; minus infinite where a reference of zeros is missed.

    >>> sqnr([10.0, -10.0], [9.0, -9.0])
    20.0
    """
    reference, found = _pair(_reals(reference, "reference"), _reals(found, "found"))
    if np.array_equal(reference, found):
        return math.inf
    largest = max(float(np.abs(reference).max()), float(np.abs(found).max()))
    unit = 2.0 ** (math.frexp(largest)[1] - 1)  # squares of numbers near 1 neither overflow nor vanish
    signal = float(np.sum((reference / unit) ** 2))
    noise = float(np.sum((reference / unit - found / unit) ** 2))
    if not noise or not signal:
        return math.inf if not noise else -math.inf
    return 10 * math.log10(signal / noise)


def agreement(reference: Any, found: Any) -> float:
    """Share of predictions that are equal; a prediction is the index of the largest number along axis 1.

    Arrays of more than two axes predict at every position. Of equal numbers the first wins.

    >>> agreement([[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.5], [0.3, 0.6]])
    0.5
    """
    one, other = _predictions(reference, found)
    return float(np.mean(one == other))


def predictions_changed(reference: Any, found: Any) -> int:
    """How many predictions differ; see `agreement`.

    >>> predictions_changed([[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.5], [0.3, 0.6]])
    1
    """
    one, other = _predictions(reference, found)
    return int(np.count_nonzero(one != other))


def worst_code_error(one: Any, other: Any) -> int:
    """Largest difference between codes of the same place.

    Tensors must have one format: codes of different formats cannot be compared.

    >>> worst_code_error([3, -7, 12], [3, -5, 11])
    2
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor) and one.format != other.format:
        raise BadInput(f"codes of {one.format} and of {other.format} cannot be compared; compare .real() of both")
    one, other = (as_codes(a.codes if isinstance(a, Tensor) else a, n) for a, n in ((one, "one"), (other, "other")))
    one, other = _pair(one, other, ("one", "other"))
    fits = all(int(a.min()) >= -(2**62) and int(a.max()) < 2**62 for a in (one, other))
    wide = np.int64 if fits else object  # a difference of wider codes leaves 64 bits
    return int(np.abs(one.astype(wide) - other.astype(wide)).max())


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers and the interval that holds the true share, with the confidence asked for.

    Attributes
    ----------
    value : float
        Share of right answers.
    low, high : float
        Ends of the interval.
    right, total : int
        Right answers, and all.
    """

    value: float
    low: float
    high: float
    right: int
    total: int

    def __str__(self) -> str:
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}] ({self.right} of {self.total})"


def accuracy(outputs: Any, labels: Any, confidence: float = 0.95) -> Accuracy:
    """Count right predictions, and bound the accuracy that the samples stand for.

    The interval is Wilson's: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927). Unlike value ± error it stays within [0, 1], and it is sound at 0
    and 100 %.

    Parameters
    ----------
    outputs : array, torch tensor or Tensor
        Scores, whose largest along axis 1 is the prediction; or predictions, in the shape of `labels`.
    labels : array of integers
        The right answers.
    confidence : float
        Between 0 and 1.

    Examples
    --------
    >>> print(accuracy([[0.2, 0.8], [0.9, 0.1], [0.4, 0.6], [0.7, 0.3]], [1, 0, 0, 0]))
    75.00% [30.06%, 95.44%] (3 of 4)
    """
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise BadInput(f"confidence must lie between 0 and 1, not {confidence!r}")
    labels = as_codes(labels, "labels")
    scores = _reals(outputs, "outputs")
    if scores.ndim == labels.ndim + 1:
        scores = _classes(scores, "outputs")
    predictions, labels = _pair(scores, labels, ("predictions", "labels"))
    right, total = int(np.count_nonzero(predictions == labels)), labels.size
    share, z = right / total, NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if right == 0 else centre - half
    high = 1.0 if right == total else centre + half
    return Accuracy(share, low, high, right, total)


def paired_test(right_a: Any, right_b: Any) -> float:
    """Tell by chance alone how likely two models with equal accuracy differ as much as these two, or more.

    McNemar's test in its exact form: of the samples that only one model gets right, a fair coin decides which
    (Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", Psychometrika 12,
    1947). Two-sided.

    Parameters
    ----------
    right_a, right_b : arrays of bool
        Whether each model was right, sample by sample.

    Examples
    --------
    >>> paired_test([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    0.0625
    """
    one, other = _pair(_flags(right_a, "right_a"), _flags(right_b, "right_b"), ("right_a", "right_b"))
    only_one, only_other = int(np.sum(one & ~other)), int(np.sum(~one & other))
    tosses = only_one + only_other
    ways = total = 1
    for heads in range(min(only_one, only_other)):
        ways = ways * (tosses - heads) // (heads + 1)
        total += ways
    return min(1.0, 2 * total / 2**tosses)


def _reals(values: Any, name: str) -> np.ndarray:
    return values.real() if isinstance(values, Tensor) else np.asarray(as_reals(values, name), np.float64)


def _pair(
    one: np.ndarray, other: np.ndarray, names: tuple[str, str] = ("reference", "found")
) -> tuple[np.ndarray, np.ndarray]:
    """Refuse arrays that differ in shape, or are empty."""
    if one.shape != other.shape:
        raise BadInput(
            f"{names[0]} has shape {one.shape} and {names[1]} {other.shape}; they are compared place by place"
        )
    if not one.size:
        raise BadInput(f"{names[0]} and {names[1]} are empty, of shape {one.shape}; there is nothing to compare")
    return one, other


def _predictions(reference: Any, found: Any) -> tuple[np.ndarray, np.ndarray]:
    one, other = _pair(_reals(reference, "reference"), _reals(found, "found"))
    return _classes(one, "reference"), _classes(other, "found")


def _classes(scores: np.ndarray, name: str) -> np.ndarray:
    if scores.ndim < 2:
        raise BadInput(f"{name} has shape {scores.shape}; predictions need samples on axis 0 and classes on axis 1")
    if not scores.size:
        raise BadInput(f"{name} is empty, of shape {scores.shape}")
    return scores.argmax(axis=1)


def _flags(values: Any, name: str) -> np.ndarray:
    codes = as_codes(values, name)
    wrong = (codes != 0) & (codes != 1)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise BadInput(f"{at(name, index)} is {codes[index]}; right or wrong is True or False")
    return codes == 1
