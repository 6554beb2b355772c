"""What a run shows, as plain rows: per layer, per register, per machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from fixqnn.comparison import Comparison
from fixqnn.errors import BadInput
from fixqnn.format import Format
from fixqnn.graph import Node
from fixqnn.metrics import accuracy, paired_test, predictions_changed
from fixqnn.ops.op import Step
from fixqnn.trace import Trace


def brief(form: Format | None) -> str:
    """Write a format in one word: sign, width, then fraction bits, or the step and zero point.

    >>> from fixqnn.format import affine, fixed
    >>> brief(fixed(8, 6)), brief(fixed(8, 7, signed=False)), brief(affine(8, 0.0123, -5))
    ('s8/6', 'u8/7', 's8·0.0123-5')
    """
    if form is None:
        return ""
    head = f"{'s' if form.signed else 'u'}{form.bits}"
    if form.frac is not None:
        return f"{head}/{form.frac}"
    scales = [float(s) for s in form.scales]
    step = f"{min(scales):.3g}" + (f"…{max(scales):.3g}" if max(scales) > min(scales) else "")
    zeros = {float(z) for z in form.zero_points}
    return f"{head}·{step}" + ("" if zeros == {0.0} else f"{zeros.pop():+g}" if len(zeros) == 1 else "±…")


def operation(step: Step | Node) -> str:
    """Name of what a step computes: a lookup is called by its function."""
    return step.attributes.get("function") or step.op.name


def formats_of(step: Step) -> str:
    """Write the formats of a step's inputs and output on one line."""
    return f"{', '.join(brief(step.formats[name]) for name in step.inputs)} → {brief(step.out_format)}"


def layer_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per step: formats, kernel path, distance from float, ranges, events."""
    rows = []
    for step in comparison.trace.program.steps:
        deviation = comparison.deviations.get(step.output)
        events = comparison.trace.events.get(step.name, {})
        form = step.out_format
        rows.append({
            "layer": step.name,
            "op": operation(step),
            "formats": formats_of(step),
            "path": step.path,
            "sqnr": None if deviation is None else deviation.decibels,
            "low": None if deviation is None else deviation.low,
            "high": None if deviation is None else deviation.high,
            "representable_low": float(form.real_low),
            "representable_high": float(form.real_high),
            "beyond": None if deviation is None else deviation.beyond,
            "events": sum(e.count for name, e in events.items() if name != "output"),
            "clips": events["output"].count if "output" in events else 0,
        })  # fmt: skip
    return rows


def register_rows(trace: Trace) -> list[dict[str, Any]]:
    """One row per register that acted: how often, on which side, in how many channels, and the first number."""
    rows = []
    for step, registers in trace.events.items():
        for name, e in registers.items():
            if not e.count:
                continue
            first = e.first
            place = (
                None
                if first is None
                else (
                    f"sample {first.sample}, channel {first.channel}"
                    + (f", at {', '.join(map(str, first.position))}" if first.position else "")
                    + (f", term {first.index}" if first.index >= 0 else "")
                )
            )
            rows.append({
                "layer": step,
                "register": name,
                "record": e.record,
                "events": e.count,
                "below": int(e.below.sum()),
                "above": int(e.above.sum()),
                "channels": int(np.count_nonzero(e.per_channel)),
                "of_channels": len(e.below),
                "first": place,
                "value": None if first is None else first.value,
            })  # fmt: skip
    return rows


def machine_row(
    name: str,
    comparison: Comparison | None,
    reference: np.ndarray | None,
    labels: np.ndarray | None = None,
    seconds: float | None = None,
    torch_seconds: float | None = None,
) -> dict[str, Any]:
    """Sum one machine up in one row.

    Parameters
    ----------
    name : str
        What the table calls it.
    comparison : Comparison or None
        Of its run with float64; None for the float network itself.
    reference : ndarray or None
        The float network's output, classes along axis 1, where there is one.
    labels : ndarray, optional
        True labels; without them nothing is said of accuracy.
    seconds, torch_seconds : float, optional
        Time for all samples: this machine's, and that of torch's float network.
    """
    outputs, row = reference, {"machine": name}
    if comparison is not None:
        trace = comparison.trace
        row["sqnr"] = comparison.at_outputs()
        row["events"], row["clips"] = trace.total_events(), trace.total_events(output=True)
        outputs = trace.output.real() if len(trace.program.outputs) == 1 else None
        if reference is not None and outputs is not None and outputs.ndim == 2:
            row["changed"] = predictions_changed(reference, outputs)
    if labels is not None:
        if outputs is None:
            raise BadInput("labels need a network with one output")
        found = accuracy(outputs, labels)
        row.update(accuracy=found.value, accuracy_low=found.low, accuracy_high=found.high)
        row.update(right=found.right, total=found.total)
        if comparison is not None and reference is not None:
            right = ((scores.argmax(1) == labels).ravel() for scores in (reference, outputs))
            row["p"] = paired_test(*right)
    if seconds is not None and outputs is not None:
        row["seconds"], row["per_second"] = seconds, round(len(outputs) / seconds)
        if torch_seconds is not None:
            row["times_torch"] = seconds / torch_seconds
    return row
