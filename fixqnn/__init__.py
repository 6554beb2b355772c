"""fixqnn: what an integer accelerator computes for a network trained in torch, bit for bit.

The journey is one line, and so are the names below::

    graph   = fq.from_torch(net, example)              # operations in real numbers, from a trained torch module
    graph   = fq.quantize(graph, samples, fq.Policy()) # every value gets a Format: what its integer codes mean
    program = fq.lower(graph, machine)                 # a machine is plain data; a program is integers, nothing else
    trace   = fq.run(program, images, watch="all")     # every code of every layer, and which registers overflowed

Machines come ready made from the package `hw_models` (``hw_models.systolic(partial=16)``) or from a file of your own.
Names are imported on first use: ``import fixqnn`` by itself loads neither torch nor numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives, in the order a newcomer meets them.
_HOMES = {
    "from_torch": "fixqnn.importers.torch",
    "load_weights": "fixqnn.importers.torch",
    "quantize": "fixqnn.calibration",
    "Policy": "fixqnn.calibration",
    "calibrate": "fixqnn.calibration",
    "choose": "fixqnn.calibration",
    "lower": "fixqnn.program",
    "run": "fixqnn.simulate",
    "warmup": "fixqnn.warm",
    "accumulators": "fixqnn.analysis.accumulators",
    "Graph": "fixqnn.graph",
    "Node": "fixqnn.graph",
    "Value": "fixqnn.graph",
    "OPS": "fixqnn.ops",
    "Op": "fixqnn.ops.op",
    "Step": "fixqnn.ops.op",
    "Format": "fixqnn.format",
    "fixed": "fixqnn.format",
    "affine": "fixqnn.format",
    "symmetric": "fixqnn.format",
    "binary": "fixqnn.format",
    "ternary": "fixqnn.format",
    "parse_type": "fixqnn.dialects",
    "format_name": "fixqnn.dialects",
    "Tensor": "fixqnn.tensor",
    "cast": "fixqnn.conversion",
    "Rounding": "fixqnn.modes",
    "Overflow": "fixqnn.modes",
    "Register": "fixqnn.datapath",
    "Stage": "fixqnn.datapath",
    "SumOfProducts": "fixqnn.datapath",
    "Elementwise": "fixqnn.datapath",
    "Lookup": "fixqnn.datapath",
    "Exact": "fixqnn.scaler",
    "Shift": "fixqnn.scaler",
    "Multiplier": "fixqnn.scaler",
    "TwoStepMultiplier": "fixqnn.scaler",
    "Float": "fixqnn.scaler",
    "Divide": "fixqnn.scaler",
    "Accelerator": "fixqnn.accelerator",
    "Ports": "fixqnn.accelerator",
    "Program": "fixqnn.program",
    "Trace": "fixqnn.trace",
    "first_difference": "fixqnn.trace",
    "sqnr": "fixqnn.metrics",
    "agreement": "fixqnn.metrics",
    "predictions_changed": "fixqnn.metrics",
    "worst_code_error": "fixqnn.metrics",
    "accuracy": "fixqnn.metrics",
    "paired_test": "fixqnn.metrics",
    "blame": "fixqnn.analysis.blame",
    "bisect": "fixqnn.analysis.bisection",
    "error_bound": "fixqnn.analysis.errors",
    "certified_agreement": "fixqnn.analysis.errors",
    "path_metric": "fixqnn.analysis.path_metric",
    "predict_rms": "fixqnn.analysis.prediction",
    "Prediction": "fixqnn.analysis.prediction",
    "allocate_bits": "fixqnn.analysis.allocation",
    "Allocation": "fixqnn.analysis.allocation",
    "param_lipschitz": "fixqnn.analysis.a_priori",
    "frac_bits_for": "fixqnn.analysis.a_priori",
    "BitPlan": "fixqnn.analysis.a_priori",
    "plot_pareto": "fixqnn.report.plots",
    "plot_accuracy_against_width": "fixqnn.report.plots",
    "plot_heat_map": "fixqnn.report.plots",
    "plot_sensitivity": "fixqnn.report.plots",
    "plot_register_events": "fixqnn.report.plots",
    "write_report": "fixqnn.report.sweep_page",
    "grid": "fixqnn.sweeps.points",
    "Point": "fixqnn.sweeps.points",
    "sweep": "fixqnn.sweeps.sweep",
    "space": "fixqnn.sweeps.space",
    "search": "fixqnn.sweeps.search",
    "Rows": "fixqnn.sweeps.rows",
    "FixqnnError": "fixqnn.errors",
    "FormatError": "fixqnn.errors",
    "BadInput": "fixqnn.errors",
    "BadFile": "fixqnn.errors",
    "ImportProblems": "fixqnn.errors",
    "DoesNotFit": "fixqnn.errors",
    "TooWide": "fixqnn.errors",
    "RegisterOverflow": "fixqnn.errors",
}

# Rooms with a door of their own: fq.universal.decide and the like.
_ROOMS = ("universal",)

__all__ = list(_HOMES)

if TYPE_CHECKING:
    from fixqnn.accelerator import Accelerator, Ports
    from fixqnn.analysis.a_priori import BitPlan, frac_bits_for, param_lipschitz
    from fixqnn.analysis.accumulators import accumulators
    from fixqnn.analysis.allocation import Allocation, allocate_bits
    from fixqnn.analysis.bisection import bisect
    from fixqnn.analysis.blame import blame
    from fixqnn.analysis.errors import certified_agreement, error_bound
    from fixqnn.analysis.path_metric import path_metric
    from fixqnn.analysis.prediction import Prediction, predict_rms
    from fixqnn.calibration import Policy, calibrate, choose, quantize
    from fixqnn.conversion import cast
    from fixqnn.datapath import Elementwise, Lookup, Register, Stage, SumOfProducts
    from fixqnn.dialects import format_name, parse_type
    from fixqnn.errors import (
        BadFile,
        BadInput,
        DoesNotFit,
        FixqnnError,
        FormatError,
        ImportProblems,
        RegisterOverflow,
        TooWide,
    )
    from fixqnn.format import Format, affine, binary, fixed, symmetric, ternary
    from fixqnn.graph import Graph, Node, Value
    from fixqnn.importers.torch import from_torch, load_weights
    from fixqnn.metrics import accuracy, agreement, paired_test, predictions_changed, sqnr, worst_code_error
    from fixqnn.modes import Overflow, Rounding
    from fixqnn.ops import OPS
    from fixqnn.ops.op import Op, Step
    from fixqnn.program import Program, lower
    from fixqnn.report.plots import (
        plot_accuracy_against_width,
        plot_heat_map,
        plot_pareto,
        plot_register_events,
        plot_sensitivity,
    )
    from fixqnn.report.sweep_page import write_report
    from fixqnn.scaler import Divide, Exact, Float, Multiplier, Shift, TwoStepMultiplier
    from fixqnn.simulate import run
    from fixqnn.sweeps.points import Point, grid
    from fixqnn.sweeps.rows import Rows
    from fixqnn.sweeps.search import search
    from fixqnn.sweeps.space import space
    from fixqnn.sweeps.sweep import sweep
    from fixqnn.tensor import Tensor
    from fixqnn.trace import Trace, first_difference
    from fixqnn.warm import warmup


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"fixqnn.{name}")
    home = _HOMES.get(name)
    if home is None:
        from difflib import get_close_matches

        close = get_close_matches(name, __all__)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise AttributeError(f"fixqnn has no name {name!r}{hint}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
