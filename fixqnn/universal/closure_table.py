"""From one rounding to a rounding at every step: how verdicts change, settled by closure for tiny formats.

``python -m fixqnn.universal.closure_table`` prints the tables of the documentation; ``--p 2`` those that take longer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fixqnn.datapath import Register, Stage, SumOfProducts
from fixqnn.errors import BadInput
from fixqnn.format import symmetric
from fixqnn.scaler import Exact
from fixqnn.universal.closure import LIMIT, ClosureVerdict, decide_by_closure
from fixqnn.universal.decide import decide
from fixqnn.universal.table import activation_table
from fixqnn.universal.verdict import Verdict

__all__ = ["ACTIVATIONS", "DATAPATHS", "closure_table", "datapath"]

ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "silu", "mish", "gelu", "tanh", "hardtanh", "sigmoid", "softplus",
    "sign", "step", "abs",
)  # fmt: skip

# name: (products are rounded, bits of the sum's register more than those of the values or None, overflow, rounding)
DATAPATHS: Mapping[str, tuple[bool, int | None, str, str]] = MappingProxyType(
    {
        "once": (False, None, "forbid", "half_up"),
        "products": (True, None, "forbid", "half_up"),
        "every step": (True, 0, "saturate_symmetric", "half_up"),
        "floor": (True, 0, "saturate_symmetric", "floor"),
        "+1 bit": (True, 1, "saturate_symmetric", "half_up"),
        "+2 bits": (True, 2, "saturate_symmetric", "half_up"),
        "wrap": (True, 0, "wrap", "half_up"),
        "wrap +1 bit": (True, 1, "wrap", "half_up"),
    }
)


def datapath(name: str, p: int, s: int, weights: str = "full") -> SumOfProducts:
    """Make one of `DATAPATHS` for values k/s, |k| < 2**p; s a power of two where products are rounded to 1/s.

    Products by −1, 0 and 1 (weights ``"binary"`` and ``"ternary"``) are multiples of 1/s: nothing is rounded off.

    >>> datapath("every step", 1, 2).product
    Register(bits=2, overflow='saturate_symmetric', signed=True, rounding='half_up', drop=1, frac=None, kept=0)
    """
    if name not in DATAPATHS:
        raise BadInput(f"no datapath of the table is called {name!r}; there are {', '.join(DATAPATHS)}")
    rounded, more, overflow, rounding = DATAPATHS[name]
    drop = 0 if weights in ("binary", "ternary") else s.bit_length() - 1
    if rounded and drop and s & (s - 1):
        raise BadInput(f"products are rounded by dropping bits, so s must be a power of two, not {s}")
    product = Register(p + 1, "saturate_symmetric", rounding=rounding, drop=drop) if rounded else None
    register = Register(62 if more is None else p + 1 + more, overflow)
    return SumOfProducts(Exact(rounding), product=product, sum=(Stage(register),))


def closure_table(
    formats: Iterable[tuple[int, int]] = ((1, 1), (1, 2)),
    activations: Iterable[str] = ACTIVATIONS,
    datapaths: Iterable[str] = tuple(DATAPATHS),
    inputs: int = 1,
    weights: str = "full",
    limit: int = LIMIT,
) -> dict[tuple[int, int], dict[str, dict[str, Verdict | ClosureVerdict]]]:
    """Settle common activations on the datapaths of `DATAPATHS`.

    Parameters
    ----------
    formats : iterable of (int, int)
        p and s.
    activations : iterable of str
        Names; those with equal tables are settled once.
    datapaths : iterable of str
        Names of `DATAPATHS`. ``"once"`` is what `decide` is about and is left to it.
    inputs, weights, limit
        As for `decide_by_closure`.

    Returns
    -------
    dict
        ``table[p, s][activation][datapath]``, each a `ClosureVerdict`, or a `Verdict` for ``"once"``.

    Examples
    --------
    >>> table = closure_table([(1, 2)], ["relu"])
    >>> {name: verdict.universal for name, verdict in table[1, 2]["relu"].items() if name in ("once", "every step")}
    {'once': True, 'every step': False}
    """
    found: dict[tuple[Any, ...], Verdict | ClosureVerdict] = {}

    def settled(p: int, s: int, activation: str, name: str) -> Verdict | ClosureVerdict:
        table = activation_table(activation, symmetric(p, s))
        if (p, s, table, name) not in found:
            found[p, s, table, name] = (
                decide(table, symmetric(p, s), weights, inputs=inputs)
                if name == "once"
                else decide_by_closure(datapath(name, p, s, weights), p, s, table, weights, inputs=inputs, limit=limit)
            )
        return found[p, s, table, name]

    return {
        (p, s): {
            activation: {name: settled(p, s, activation, name) for name in datapaths} for activation in activations
        }
        for p, s in formats
    }


def as_markdown(rows: Mapping[str, Mapping[str, Verdict | ClosureVerdict]]) -> str:
    """Write the verdicts of one format: R every function; no; how many functions at most, or ``≥`` so many, not settled."""
    names = list(next(iter(rows.values())))
    lines = ["| activation | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    alike: dict[tuple[str, ...], list[str]] = {}
    for activation, verdicts in rows.items():
        alike.setdefault(tuple(_cell(verdict) for verdict in verdicts.values()), []).append(activation)
    return "\n".join([*lines, *(f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in alike.items())])


def _cell(verdict: Verdict | ClosureVerdict) -> str:
    if isinstance(verdict, Verdict):
        return verdict.letter
    if verdict.universal:
        return "R"
    return f"{verdict.reached}" if verdict.universal is False else f"≥ {verdict.reached}"


def main() -> None:
    """Print tables for p and every s that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--p", type=int, default=1)
    parser.add_argument("--s", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--inputs", type=int, default=1)
    parser.add_argument("--datapaths", nargs="*", default=list(DATAPATHS))
    parser.add_argument("--activations", nargs="*", default=list(ACTIVATIONS))
    parser.add_argument("--weights", default="full")
    parser.add_argument("--limit", type=int, default=LIMIT)
    chosen = parser.parse_args()
    for s in chosen.s:
        rows = closure_table(
            [(chosen.p, s)], chosen.activations, chosen.datapaths, chosen.inputs, chosen.weights, chosen.limit
        )
        points = (2 ** (chosen.p + 1) - 1) ** chosen.inputs
        weights = f", weights {chosen.weights}" if chosen.weights != "full" else ""
        print(f"\np={chosen.p}, s={s}, d={chosen.inputs}: {2 ** (chosen.p + 1) - 1}^{points} functions{weights}\n")
        print(as_markdown(rows[chosen.p, s]))


if __name__ == "__main__":
    main()
