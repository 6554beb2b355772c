"""Checking a verdict by means that share nothing with `decide`: plain loops over neurons, residues and cells.

Rounding, greatest common divisors and rows are written again here, from the definitions. Nothing of the theorems is
used to refute: a blind pair is evaluated on every neuron, a missed cell searched for every residue. To confirm, the
three conditions are looked at one by one; that they suffice is the theorem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from random import Random

from fixqnn.errors import BadInput
from fixqnn.universal.affine import Affine
from fixqnn.universal.functions import FunctionVerdict
from fixqnn.universal.neurons import SAMPLE, Neurons, divisor
from fixqnn.universal.table import ACTIVATIONS
from fixqnn.universal.verdict import BlindPair, ConstantTable, MissedCells, Recipe, Verdict

__all__ = ["Examination", "check_certificate", "examine_certificate"]

MOST_OUTPUTS = 3 * 10**6  # neuron outputs that are listed; beyond, inputs are sampled


@dataclass(frozen=True)
class Examination:
    """What checking a certificate found.

    Attributes
    ----------
    problems : tuple of str
        Everything that does not hold; empty: the certificate is good.
    checked : tuple of str
        What was looked at, in words; it says where inputs were sampled because there are too many.
    """

    problems: tuple[str, ...]
    checked: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def __str__(self) -> str:
        lines = [*(f"checked: {line}" for line in self.checked), *(f"PROBLEM: {line}" for line in self.problems)]
        return "\n".join([*lines, "the certificate holds" if self.holds else "the certificate does not hold"])


def check_certificate(verdict: Verdict | FunctionVerdict) -> bool:
    """Check a verdict's certificate without the means that found it; `examine_certificate` says what is wrong.

    Parameters
    ----------
    verdict : Verdict or FunctionVerdict
        Of `decide` or `decide_function`.

    Returns
    -------
    bool
        Whether everything in it holds. An undecided verdict has no certificate: False.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from fixqnn.format import symmetric
    >>> from fixqnn.universal.decide import decide
    >>> verdict = decide("tanh", symmetric(3, 2), weights="binary", inputs=2)
    >>> verdict.certificate, check_certificate(verdict)
    (BlindPair(x=(-7, -7), y=(-6, -6)), True)
    >>> check_certificate(replace(verdict, certificate=BlindPair((-7, -7), (-4, -4))))
    False
    """
    return examine_certificate(verdict).holds


def examine_certificate(verdict: Verdict | FunctionVerdict) -> Examination:
    """Check a verdict's certificate and say what was checked and what does not hold.

    Examples
    --------
    >>> from fixqnn.format import symmetric
    >>> from fixqnn.universal.decide import decide
    >>> print(examine_certificate(decide("sign", symmetric(2, 1))))
    checked: 7 table entries against float64
    checked: g, γ, ω and the value set, from the table
    checked: 2 offsets modulo 2, each with the cell that it misses
    the certificate holds
    """
    if not isinstance(verdict, Verdict | FunctionVerdict):
        raise BadInput(f"a verdict of decide or decide_function is needed, not {verdict!r}")
    checker = _Checker(verdict)
    try:
        checker.run()
    except (IndexError, KeyError, TypeError, ValueError) as problem:  # a tampered record need not even fit together
        checker.problems.append(f"the record does not fit together: {problem}")
    return Examination(tuple(checker.problems), tuple(checker.checked))


class _Checker(Neurons):
    def __init__(self, verdict: Verdict | FunctionVerdict) -> None:
        super().__init__(verdict.setting, verdict.table)
        self.verdict = verdict
        self.problems: list[str] = []
        self.checked: list[str] = []

    def demand(self, holds: bool, words: str) -> None:
        if not holds:
            self.problems.append(words)

    def run(self) -> None:
        verdict, found = self.verdict, self.verdict.certificate
        self.check_table()
        g = divisor(code - self.table[0] for code in self.table)
        if isinstance(verdict, Verdict):
            integers = (sorted(set(self.table)), g, divisor(self.table), self.unit)
            self.demand(
                (list(verdict.value_set), verdict.g, verdict.gamma, verdict.omega) == integers,
                f"value set, g, γ, ω are {integers}",
            )
            self.checked.append("g, γ, ω and the value set, from the table")
        kinds = {True: Recipe | Affine, False: ConstantTable | MissedCells | BlindPair}
        if verdict.universal not in kinds:
            self.problems.append("the verdict is open: there is no certificate")
        elif not isinstance(found, kinds[verdict.universal]):
            self.problems.append(f"{type(found).__name__} is no certificate for universal={verdict.universal}")
        elif isinstance(found, ConstantTable):
            self.demand(set(self.table) == {found.code}, f"the table is not constantly {found.code}")
            self.checked.append("every entry of the table is the same")
        elif isinstance(found, MissedCells):
            self.check_missed(found, self.unit * g)
        elif isinstance(found, BlindPair):
            self.check_pair(found)
        elif isinstance(found, Affine):
            self.check_affine(found)
        else:
            self.check_recipe(found, self.unit * g)

    def check_table(self) -> None:
        codes = range(-self.largest, self.largest + 1)
        self.demand(len(self.table) == len(codes), f"the table has {len(self.table)} entries, not {len(codes)}")
        self.demand(all(abs(code) <= self.largest for code in self.table), "the table has codes beyond ±M")
        function = ACTIVATIONS.get(self.verdict.activation)
        if function is None or function.parameters:
            return
        for k, code in zip(codes, self.table, strict=True):
            value = float(function.real(k / self.s)) * self.s
            near = abs(min(max(value, -self.largest), self.largest) - code) <= 0.5 + 1e-9 * (1 + abs(value))
            self.demand(near, f"T({k}) = {code}, but {function.name} gives {value}")
        self.checked.append(f"{len(codes)} table entries against float64")

    # -- refutations ---------------------------------------------------------------------------------------------------

    def check_missed(self, found: MissedCells, step: int) -> None:
        self.demand(found.step == step and step > 0, f"sums of the last layer differ by multiples of {step}")
        if not found.offsets:
            first, last = self.end_of_cells(-1), self.end_of_cells(1)
            self.demand((found.first, found.last) == (first, last), f"interior cells span {first} … {last}")
            self.demand((2 * self.largest - 2) * step > last - first, "the span does not rule every offset out")
            self.checked.append("2M - 1 interior cells are too short together for steps of ωg")
            return
        listed = dict(found.offsets)
        free = {"values": 0, "wide": self.s, "fine": 1}[self.bias]  # what biases without a bound are multiples of
        apart = divisor((self.unit * self.table[0], free, step))
        self.demand(
            step // apart <= len(listed), f"{step // apart} offsets are possible at least, {len(listed)} listed"
        )
        if self.problems:
            return
        shifts = self.biases(0) if self.bias == "values" else (0,)
        every = {(offset + shift) % step for offset in range(0, step, apart) for shift in shifts}
        self.demand(every <= set(listed), f"offsets {sorted(every - set(listed))[:5]} are possible and not listed")
        targets = set(getattr(self.verdict, "target", range(-self.largest, self.largest + 1)))
        for theta, k in listed.items():
            self.demand(abs(k) < self.largest and k in targets, f"{k} is no interior code that must be reached")
            hit = next((n for n in range((k - 1) * self.s, (k + 1) * self.s + 1)
                        if self.round(n) == k and (n - theta) % step == 0), None)  # fmt: skip
            self.demand(hit is None, f"offset {theta} reaches code {k} by the sum {hit}")
        self.checked.append(f"{len(listed)} offsets modulo {step}, each with the cell that it misses")
        if isinstance(self.verdict, FunctionVerdict):
            self.checked.append("not checked: that no rounded affine map is the function")

    def check_pair(self, found: BlindPair) -> None:
        x, y = tuple(found.x), tuple(found.y)
        self.demand(x != y and len(x) == len(y) == self.verdict.inputs, f"{x} and {y} are no two inputs")
        self.demand(all(abs(code) <= self.largest for code in x + y), "the inputs have codes beyond ±M")
        if isinstance(self.verdict, FunctionVerdict):
            left, right = (self.verdict.target[self.index(point)] for point in (x, y))
            self.demand(left != right, "the function does not differ on the pair")
        if self.problems:
            return
        live = [i for i in range(len(x)) if x[i] or y[i]]  # a weight on two zeros does nothing
        sums = {
            (sum(w * x[i] for w, i in zip(weights, live, strict=True)),
             sum(w * y[i] for w, i in zip(weights, live, strict=True)))
            for weights in product(self.weights, repeat=len(live))
        }  # fmt: skip
        biases = self.biases(max(abs(n) for pair in sums for n in pair))
        split = next(
            (
                (left, right, b)
                for left, right in sums
                for b in biases
                if self.output(left + b) != self.output(right + b)
            ),
            None,
        )
        self.demand(
            split is None, f"a neuron tells the pair apart: sums {split and split[:2]}, bias {split and split[2]}"
        )
        self.checked.append(
            f"{len(sums)} pairs of sums under {len(biases)} biases each: every neuron of the first layer"
        )

    # -- confirmations -------------------------------------------------------------------------------------------------

    def check_affine(self, found: Affine) -> None:
        self.demand(set(found.weights) <= set(self.weights), f"{found.weights} are no weights here")
        self.demand(found.bias in self.biases(abs(found.bias)), f"{found.bias} is no bias here")
        codes = range(-self.largest, self.largest + 1)
        for wanted, point in zip(self.verdict.target, product(codes, repeat=self.verdict.inputs), strict=True):
            n = sum(w * code for w, code in zip(found.weights, point, strict=True)) + found.bias
            if self.round(n) != wanted:
                self.problems.append(f"at {point} the map gives {self.round(n)}, not {wanted}")
                break
        self.checked.append("the affine map at every input")

    def check_recipe(self, found: Recipe, step: int) -> None:
        self.demand(found.step == step, f"sums of the last layer differ by multiples of {step}")
        single = isinstance(self.verdict, FunctionVerdict)
        self.check_words_of_recipe(found, single)
        image = set(self.verdict.target) if single else set(range(-self.largest, self.largest + 1))
        for k in sorted(k for k in image if abs(k) < self.largest or not step):
            self.demand(self.reaches(k, found.offset, step), f"no sum {found.offset} + {step}·j rounds to {k}")
        self.checked.append("the last layer's sums reach every code that is wanted")
        if not step:
            return
        bounded = self.bias == "values" and 0 not in self.weights
        inputs = 1 if 0 in self.weights and not single else self.verdict.inputs
        codes = range(-self.largest, self.largest + 1)
        biases = self.biases(max(self.weights) * self.largest * inputs)
        neurons, count = len(self.weights) ** inputs * len(biases), len(codes) ** inputs
        places = list(product(codes, repeat=inputs)) if count * neurons <= MOST_OUTPUTS else self.sample(inputs)
        if len(places) == count or (bounded and neurons * len(places) <= MOST_OUTPUTS):
            self.check_rows(places, biases, found, bounded)
        else:
            self.check_some(places)

    def check_words_of_recipe(self, found: Recipe, single: bool) -> None:
        """What a recipe says beside its sums: a construction of this arithmetic, its layers, whether thresholds do."""
        bounded, step = self.bias == "values" and 0 not in self.weights, found.step
        names = {"generic", *(["cubes"] if 0 in self.weights else [] if bounded else ["binary cubes"])}
        layers = {1} if not step else {2, 3} if bounded else {2}
        self.demand(found.construction in (names if step else {"constant"}), f"no {found.construction} network here")
        self.demand(found.hidden_layers in layers, f"{found.hidden_layers} hidden layers are not what the theorem says")
        jump = 0 if single else self.unit * abs(self.table[-1] - self.table[0])
        does = jump > 0 and all(self.reaches(k, 0, jump) for k in range(1 - self.largest, self.largest))
        self.demand(found.threshold == does, f"thresholds of step {jump} {'reach' if does else 'miss'} cells")

    def reaches(self, k: int, offset: int, step: int) -> bool:
        """Whether some sum offset + step·j rounds to `k`: the ones beside k first, then all near it."""
        if not step:
            return self.round(offset) == k
        below = offset + (k * self.s - offset) // step * step
        sums = range(below - self.s // step * step, below + self.s + step, step)
        return any(self.round(n) == k for n in (below, below + step, *sums))

    def check_rows(self, places: Sequence[tuple[int, ...]], biases: range, found: Recipe, bounded: bool) -> None:
        """List what every neuron of the first layer gives on these inputs."""
        rows: dict[tuple[int, ...], tuple[int, ...]] = {}
        seen: dict[tuple[int, ...], tuple[int, ...]] = {}
        forms = list(product(self.weights, repeat=len(places[0])))
        for x in places:
            sums = [sum(w * code for w, code in zip(weights, x, strict=True)) for weights in forms]
            row = tuple(self.output(n + bias) for n in sums for bias in biases)
            twin = seen.setdefault(row, x)
            self.demand(twin == x or self.wants_the_same(x, twin), f"no neuron tells {twin} and {x} apart")
            if twin == x:
                rows[x] = row
        whole = len(places) == (2 * self.largest + 1) ** len(places[0])
        which = f"all {len(places)} inputs" if whole else f"a SAMPLE of {len(places)} inputs"
        self.checked.append(f"all {len(forms) * len(biases)} neurons of the first layer, on {which}")
        if bounded and not self.problems:
            self.check_multiples(rows, found.hidden_layers, whole)

    def check_some(self, places: Sequence[tuple[int, ...]]) -> None:
        """Find a neuron that tells a pair apart, for some pairs; likely biases first."""
        draw, open_pairs = Random(1), 0
        pairs = [*pairwise(places), *(draw.sample(places, 2) for _ in range(SAMPLE))]
        for x, y in pairs:
            if not self.wants_the_same(x, y):
                open_pairs += not self.tells_apart(x, y, draw)
        found = f"a neuron found that tells them apart for {len(pairs) - open_pairs}"
        self.checked.append(f"a SAMPLE of {len(pairs)} pairs of inputs: {found}")

    def wants_the_same(self, x: tuple[int, ...], y: tuple[int, ...]) -> bool:
        """Whether a single function has one value on both; a universal network must tell all inputs apart."""
        if isinstance(self.verdict, Verdict):
            return x == y
        return self.verdict.target[self.index(x)] == self.verdict.target[self.index(y)]

    def check_multiples(self, rows: dict[tuple[int, ...], tuple[int, ...]], layers: int, whole: bool) -> None:
        """Theorem C: no rows are multiples of each other, or the second layer tells such inputs apart."""
        primitive: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for x, row in rows.items():
            size = divisor(row) * (-1 if next((code for code in row if code), 0) < 0 else 1)
            key = tuple(code // size for code in row) if size else ()
            primitive.setdefault(key, []).append((size, x))
        zeros = primitive.pop((), [])
        pairs = {(a, b): (x, y) for group in primitive.values() for a, x in group for b, y in group if a != b}
        pairs |= {(0, b): (zeros[0][1], y) for group in primitive.values() for b, y in group if zeros}
        self.demand(layers == (3 if pairs else 2) or not whole, f"{layers} hidden layers are not what theorem C says")
        for (alpha, beta), (x, y) in pairs.items():
            turns = (2 * self.largest + 2) * self.s // self.unit + 2
            told = any(
                self.output(2 * self.unit * t * alpha + bias) != self.output(2 * self.unit * t * beta + bias)
                for t in range(-turns, turns + 1)
                for bias in self.biases(0)
            )
            self.demand(told, f"the second layer does not tell {x} and {y} apart")
        self.checked.append(f"theorem C on these inputs: {len(pairs)} proportional pairs")
