"""What a user asks of a target: the setting, the activation's table, and the target's codes, all checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.universal.functions import FunctionVerdict, as_target
from fixqnn.universal.grid import Setting
from fixqnn.universal.table import resolve_table
from fixqnn.universal.verdict import Verdict

__all__ = ["resolve"]


def resolve(
    target: Any, activation: Any, values: Any, weights: str, bias: str, rounding: str, parameters: Mapping[str, Any]
) -> tuple[Setting, tuple[int, ...], np.ndarray]:
    """Take the arguments of `build` apart: setting, table, target.

    Raises
    ------
    BadInput
        For what none of them can be, as `decide` and `decide_function` do.
    """
    if isinstance(activation, Verdict | FunctionVerdict):
        if values is not None or parameters:
            raise BadInput("a verdict brings format and activation with it; give it alone")
        codes = as_target(target, activation.setting)
        if codes.ndim != activation.inputs:
            raise BadInput(f"the verdict is about {activation.inputs} inputs, the target has {codes.ndim}")
        return activation.setting, activation.table, codes
    if values is None:
        raise BadInput(
            "the format of the values is missing: give fq.symmetric(p, s), or a verdict in place of the activation"
        )
    setting = values if isinstance(values, Setting) else Setting.of(values, weights, bias, rounding)
    _, table = resolve_table(activation, setting, parameters)
    return setting, table, as_target(target, setting)
