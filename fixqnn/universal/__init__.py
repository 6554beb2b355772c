"""Which functions can networks of this arithmetic compute? Decided, proved, built and verified.

Values are k / s with |k| ≤ 2**p − 1, sums are formed exactly and rounded once, hidden neurons apply an activation.
The question: can such networks compute *every* function from vectors of values to values? ::

    verdict = fq.universal.decide("gelu", values=fq.symmetric(3, 4), weights="binary", bias="wide", inputs=2)
    print(verdict)                              # yes or no, the theorem that says so, and the integers behind it
    fq.universal.check_certificate(verdict)     # the same again, by means that share nothing with `decide`

Names are imported on first use, like those of `fixqnn` itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# Where each public name lives, in the order a newcomer meets them.
_HOMES = {
    "decide": "fixqnn.universal.decide",
    "decide_function": "fixqnn.universal.functions",
    "decide_by_closure": "fixqnn.universal.closure",
    "closure_table": "fixqnn.universal.closure_table",
    "map_formats": "fixqnn.universal.format_map",
    "check_certificate": "fixqnn.universal.certificate",
    "examine_certificate": "fixqnn.universal.certificate",
    "build": "fixqnn.universal.build",
    "plans": "fixqnn.universal.build",
    "narrowest": "fixqnn.universal.smallest",
    "size_of": "fixqnn.universal.build",
    "counting_bound": "fixqnn.universal.build",
    "verify": "fixqnn.universal.verify",
    "approximate": "fixqnn.universal.approximate",
    "round_once": "fixqnn.universal.verify",
    "Verdict": "fixqnn.universal.verdict",
    "Recipe": "fixqnn.universal.verdict",
    "BlindPair": "fixqnn.universal.verdict",
    "MissedCells": "fixqnn.universal.verdict",
    "ConstantTable": "fixqnn.universal.verdict",
    "Affine": "fixqnn.universal.affine",
    "FunctionVerdict": "fixqnn.universal.functions",
    "FormatMap": "fixqnn.universal.format_map",
    "ClosureVerdict": "fixqnn.universal.closure",
    "activation_table": "fixqnn.universal.table",
    "ACTIVATIONS": "fixqnn.universal.table",
    "Setting": "fixqnn.universal.grid",
}

__all__ = list(_HOMES)


class _Room(ModuleType):
    """A package where a function may be called as the file it lives in: the function wins the name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _HOMES:
            return  # python binds a file to its package when it is first imported
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        from difflib import get_close_matches

        close = get_close_matches(name, __all__)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise AttributeError(f"fixqnn.universal has no name {name!r}{hint}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
