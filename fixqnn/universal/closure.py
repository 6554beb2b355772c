"""Beyond one rounding: which functions a datapath computes, settled by exhaustion for tiny formats.

Theorems about sums that are formed whole and rounded once say nothing about registers that round every product, saturate
between two additions, or wrap. But where registers are narrow, what they can hold for all inputs of a grid at once is a
finite set, and all that networks of any width and depth compute can be listed, layer after layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.datapath import SumOfProducts
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.universal.closure_arithmetic import Arithmetic, machine_of
from fixqnn.universal.closure_listing import Listing, Progress, Setup, every_neuron_free, terms_in_common
from fixqnn.universal.closure_replay import network_of
from fixqnn.universal.closure_search import Budget
from fixqnn.universal.grid import Setting, integer
from fixqnn.universal.table import resolve_table

__all__ = ["ClosureVerdict", "decide_by_closure"]

MOST_P, MOST_INPUTS = 2, 2
LIMIT = 50_000_000


@dataclass(frozen=True, repr=False, eq=False)
class ClosureVerdict:
    """Which functions networks on a datapath compute, as far as the closure went.

    Attributes
    ----------
    universal : bool or None
        True: every function was reached. False: the closure is complete, and not every function is in it. None: the
        limit was hit first.
    reason : str
        In words.
    activation : str
        Its name; ``"table"`` for one given by its codes.
    table : tuple of int
        The activation's codes for k = −M … M.
    setting : Setting
        Format, weights, biases; the tie rule is the table's.
    datapath : SumOfProducts
        The arithmetic of every sum.
    inputs : int
        d.
    reached, functions : int
        How many functions were found to be computable, of how many there are.
    layers : tuple of int
        How many functions a network with 0, 1, 2 … hidden layers was found to compute.
    complete : bool
        Whether `reached` is exact: every layer was listed to the end, until the listing repeated itself.
    missing : ndarray of int or None
        For False: a function, codes of shape (2M+1,) * d, that no network computes. For None: one not reached yet.
    additions : int
        How many terms were added to states.
    """

    universal: bool | None
    reason: str
    activation: str
    table: tuple[int, ...]
    setting: Setting
    datapath: SumOfProducts
    inputs: int
    reached: int
    functions: int
    layers: tuple[int, ...]
    complete: bool
    missing: np.ndarray | None
    additions: int
    _listing: Listing
    _bound: Listing

    @property
    def machine(self) -> Accelerator:
        """A machine whose linear layers take this datapath, to run `network` on."""
        return machine_of(self.datapath, str(self.setting.rounding))

    def reaches(self, target: Any) -> bool | None:
        """Whether a network computes a function, codes of shape (2M+1,) * d; None where the closure is not complete.

        >>> import fixqnn as fq
        >>> word = fq.Register(2, "saturate_symmetric")
        >>> found = decide_by_closure(fq.SumOfProducts(fq.Shift(), product=word, sum=fq.Stage(word)), 1, 1, "step")
        >>> found.reaches([1, 0, 1])
        True
        """
        row = self._row(target)
        if self._listing.reached.has(row):
            return True
        return False if self.complete or (self._bound.complete and not self._bound.reached.has(row)) else None

    def network(self, target: Any) -> Graph:
        """Give a network that computes a function that was reached: linear and lookup nodes, to be run on `machine`.

        It is derived, not small. ``fq.universal.verify(graph, target, machine=result.machine)`` runs it on all inputs.

        Raises
        ------
        BadInput
            For a function that was not reached, or only as an integer combination of terms that was not listed.
        """
        row = self._row(target)
        for number, layer in enumerate(self._listing.layers):
            if layer.functions.has(row):
                return network_of(self._listing, number, row, self.setting, self.table, self.inputs).graph("closure")
        codes = (row.astype(int) - self.setting.largest).tolist()
        raise BadInput(f"the closure found no network for the codes {codes}: {self.reason}")

    def _row(self, target: Any) -> np.ndarray:
        from fixqnn.universal.functions import as_target

        codes = as_target(target, self.setting)
        if codes.ndim != self.inputs:
            raise BadInput(f"the closure is about {self.inputs} inputs, the function has {codes.ndim}")
        return (codes.reshape(-1) + self.setting.largest).astype(np.uint16)

    def __repr__(self) -> str:
        return (
            f"<ClosureVerdict {self.activation} {self.setting} inputs={self.inputs}: {self.universal}, {self.reason}>"
        )

    def __str__(self) -> str:
        setting = self.setting
        answer = {True: "YES, every function", False: "NO, not every function", None: "NOT SETTLED"}[self.universal]
        lines = [
            f"{self.activation} on k/{setting.s}, |k| ≤ {setting.largest} (p={setting.p}, s={setting.s}), "
            f"{self.inputs} input{'s' if self.inputs > 1 else ''}: {answer}",
            f"  weights {setting.weights}, biases {setting.bias}, datapath {self.datapath}",
            f"  {self.reason}",
            f"  with 0, 1, 2 … hidden layers: {', '.join(map(str, self.layers))}; in all {self.reached} of {self.functions}",
        ]
        if self.missing is not None:
            lines.append(f"  {'missing' if self.universal is False else 'not reached'}: {self.missing.tolist()}")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """The same as plain lists and numbers, for JSON."""
        return {
            "activation": self.activation, "table": list(self.table), "p": self.setting.p, "s": self.setting.s,
            "weights": self.setting.weights, "bias": str(self.setting.bias), "rounding": str(self.setting.rounding),
            "inputs": self.inputs, "datapath": repr(self.datapath), "universal": self.universal, "reason": self.reason,
            "reached": self.reached, "functions": self.functions, "layers": list(self.layers),
            "complete": self.complete, "additions": self.additions,
            "missing": None if self.missing is None else self.missing.tolist(),
        }  # fmt: skip


def decide_by_closure(
    datapath: SumOfProducts,
    p: int,
    s: int,
    activation: str | Callable[..., Any] | Sequence[int] = "identity",
    weights: str = "full",
    bias: str = "values",
    inputs: int = 1,
    rounding: str = "half_up",
    limit: int = LIMIT,
    progress: Progress | None = None,
    **parameters: Any,
) -> ClosureVerdict:
    """Decide by exhaustion whether networks on a datapath compute every function, whatever its registers do.

    The layers of a network are listed one after another. Layer 1 reads the inputs, each once and in order, with all
    weights and biases. A neuron of any later layer folds terms, function of the layer before times weight, into its
    registers: its states, contents of all registers for all inputs of the grid, are explored breadth-first, any term in any
    order any number of times (tiles, that is how full each run is, are part of a state). What the states become on their way
    out are the functions of networks that end there, and, through the activation, what the next layer reads. When a
    layer's functions are those of an earlier one, nothing new can come: the listing is complete, and what is not in it,
    no network of any width and depth computes.

    Registers too wide for their contents to be listed are followed in a window around zero. What is found there counts. Where
    sums are whole, the integer combinations of the terms are worked out as well, modulo a power of two or a determinant,
    and how many terms they take: if the register has room for so many, or wraps, they are what the layer computes, and
    they settle what no list could. Elsewhere a wide register may leave the answer None: one that saturates after
    billions of terms, for instance, where networks of that width could use its end.

    Without a zero weight a neuron reads *every* neuron of the layer before: the neurons of a layer share their terms and
    differ in signs and biases. Two listings then close in on the answer. One lets every neuron choose its terms; what it
    lacks, once complete, no network computes. The other follows, for each sequence of terms, the *set* of all states that
    neurons reading it can be in, and reads later layers off the functions that such a set offers at once; a sequence whose
    set lies within another's is dropped. What it reaches comes with a network, and it too is complete where it ends.

    Parameters
    ----------
    datapath : SumOfProducts
        Of every layer; any product register, stages, bias place and scaler, nothing drawn at random.
    p, s : int
        The values are k/s with |k| ≤ 2**p − 1; p at most 2.
    activation : str, callable or sequence of int
        As for `decide`: applied to codes through its correctly rounded table.
    weights, bias : str
        As for `decide`. Biases are written at the products' own step: 1/s², or 1/s for binary and ternary weights.
    inputs : int
        d, 1 or 2.
    rounding : str
        The tie rule of the activation's table; that of sums is the datapath's.
    limit : int
        How many terms may be added to states. 10⁷ take a second or less for one register, whose loop is compiled; with
        several stages an addition counts 16.
    progress : callable, optional
        ``progress(reached, functions)`` from time to time.
    **parameters
        Of a named activation, by torch's names.

    Returns
    -------
    ClosureVerdict
        ``universal`` True (all functions reached), False (the listing is complete; ``missing`` is not in it) or None;
        ``network(f)`` gives a network for a function that was reached one by one, to be run on ``machine``.

    Raises
    ------
    BadInput
        For what is no SumOfProducts, formats beyond p = 2 or d = 2, unknown names, and random rounding.
    DoesNotFit
        Where the datapath cannot carry the formats: a shift where s is no power of two, for instance.

    Examples
    --------
    Relu on the values −½, 0, ½ computes every function if sums are rounded once, but not if every product is: of 27
    functions 14 are left.

    >>> import fixqnn as fq
    >>> word = fq.Register(2, "saturate_symmetric", rounding="half_up", drop=1)
    >>> sums = fq.SumOfProducts(fq.Exact("half_up"), product=word, sum=fq.Stage(fq.Register(2, "saturate_symmetric")))
    >>> fq.universal.decide("relu", fq.symmetric(1, 2)).universal
    True
    >>> found = decide_by_closure(sums, 1, 2, "relu")
    >>> found.universal, found.reached, found.functions, found.missing.tolist()
    (False, 14, 27, [-1, 0, -1])
    >>> graph = found.network([1, 0, 1])
    >>> fq.universal.verify(graph, [1, 0, 1], machine=found.machine) is None
    True
    """
    setting, table, name = _question(p, s, activation, weights, bias, inputs, rounding, limit, parameters)
    arithmetic = Arithmetic(datapath, setting, len(setting.codes) ** inputs)
    codes, budget = np.array(table, np.int64) + setting.largest, Budget(limit)
    wider = arithmetic if all(level.whole for level in arithmetic.levels) else Arithmetic(datapath, setting, 1)
    setup = Setup(arithmetic, wider, codes, inputs, progress)
    if setting.has_zero:
        listing = bound = every_neuron_free(setup, budget)
    else:
        budget.left -= limit // 2
        share = Budget(limit // 2)
        bound = every_neuron_free(replace(setup, progress=None), share)
        budget.left += max(share.left, 0)
        listing = terms_in_common(setup, bound, budget)
    return _verdict(setup, listing, bound, name, table, limit - max(budget.left, 0))


def _question(
    p: int, s: int, activation: Any, weights: str, bias: str, inputs: int, rounding: str, limit: int,
    parameters: dict[str, Any],
) -> tuple[Setting, tuple[int, ...], str]:  # fmt: skip
    setting = Setting(p, s, weights, bias, rounding)
    for what, value, most in (("inputs", inputs, MOST_INPUTS), ("limit", limit, None)):
        number = integer(value, what)
        if number < 1 or (most is not None and number > most):
            raise BadInput(f"{what} must be {f'1 … {most}' if most else 'at least 1'}, not {number}")
    if setting.p > MOST_P:
        raise BadInput(f"a closure lists functions one by one: p must be 1 … {MOST_P}, not {setting.p}; see decide")
    name, table = resolve_table(activation, setting, parameters)
    return setting, table, name


def _verdict(
    setup: Setup, listing: Listing, bound: Listing, name: str, table: tuple[int, ...], additions: int
) -> ClosureVerdict:
    """Say what a listing shows, if nothing that is not in `bound`, once complete, can be reached."""
    setting, every = setup.arithmetic.setting, setup.functions
    narrower = bound.complete and bound.reached.size < every
    universal = True if listing.reached.size == every else False if listing.complete or narrower else None
    layers = listing.counts()
    missing = None
    if universal is not True:
        absent = (bound if narrower else listing).reached.absent()
        missing = (absent - setting.largest).reshape((len(setting.codes),) * setup.inputs)
    return ClosureVerdict(
        universal, _reason(universal, listing, bound, len(layers) - 1, every), name, table, setting, setup.arithmetic.datapath,
        setup.inputs, listing.reached.size, every, layers, listing.complete, missing, additions, listing, bound,
    )  # fmt: skip


def _reason(universal: bool | None, listing: Listing, bound: Listing, depth: int, every: int) -> str:
    size = listing.reached.size
    how = " (some as integer combinations of terms, and not one by one)" if listing.sums else ""
    if universal:
        return f"every function was reached, with at most {depth} hidden layers{how}"
    if listing.complete:
        return f"the listing is complete, and more than {depth} hidden layers bring nothing new{how}"
    if universal is False:
        return (
            f"even neurons that could choose their terms freely compute no more than {bound.reached.size} of {every} functions; "
            f"{size} were reached by neurons that share them"
        )
    if listing.cut:
        return f"the limit was hit: {size} of {every} functions were reached with at most {depth} hidden layers"
    return (
        f"{size} of {every} functions were reached within a window of a register that is too wide to be listed; "
        "no argument excludes the others (for sums that are rounded once, see decide)"
    )
