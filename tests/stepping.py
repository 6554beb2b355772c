"""Steps made by hand, and the one question asked of every operation: do both engines say the same?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import event, reject

from fixqnn.errors import DoesNotFit, TooWide
from fixqnn.events import RegisterEvents, Run
from fixqnn.format import Format
from fixqnn.ops.op import Op, Step


def make_step(
    op: Op,
    in_formats: Sequence[Format],
    out_format: Format,
    in_shapes: Sequence[tuple[int | None, ...]],
    datapath: Any = None,
    constants: Mapping[int, np.ndarray] | None = None,
    **attributes: Any,
) -> Step:
    """Bind an operation to a datapath, as lowering does; inputs are x0, x1, …, the output is y.

    `constants` holds the codes of constant inputs, by their number.
    """
    names = tuple(f"x{i}" for i in range(len(in_formats)))
    step = Step(
        op,
        "step",
        names,
        "y",
        attributes,
        datapath,
        {**dict(zip(names, in_formats, strict=True)), "y": out_format},
        {**dict(zip(names, in_shapes, strict=True)), "y": op.shape(*in_shapes, **attributes)},
        {f"x{i}": codes for i, codes in (constants or {}).items()},
    )
    return replace(step, prepared=op.prepare(step))


def fitting_step(*arguments: Any, **attributes: Any) -> Step:
    """Make a step, or have hypothesis try another where the datapath does not fit the formats."""
    try:
        return make_step(*arguments, **attributes)
    except DoesNotFit:
        event("does not fit")
        reject()


def run_exact(step: Step, *codes: np.ndarray, seed: int = 0, first_sample: int = 0) -> tuple[np.ndarray, dict]:
    """Codes and events from the definition."""
    run = Run(seed, 3, first_sample)
    return step.op.exact(step, run, *(np.asarray(c).astype(object) for c in codes)), run.events


def run_fast(step: Step, *codes: np.ndarray, seed: int = 0, first_sample: int = 0) -> tuple[np.ndarray, dict]:
    """Codes and events from the compiled loops."""
    run = Run(seed, 3, first_sample)
    formats = [step.in_format(i) for i in range(len(codes))]
    operands = [np.asarray(c).astype(f.narrow_dtype) for c, f in zip(codes, formats, strict=True)]
    return step.op.fast(step, run, *operands), run.events


def twins(
    step: Step, *codes: np.ndarray, seed: int = 0, first_sample: int = 0
) -> tuple[np.ndarray, dict[str, RegisterEvents]]:
    """Run both engines, and fail at the first code or event in which they differ; returns what they agree on."""
    want, want_events = run_exact(step, *codes, seed=seed, first_sample=first_sample)
    got, got_events = run_fast(step, *codes, seed=seed, first_sample=first_sample)
    assert_same_codes(want, got, step)
    assert got.dtype == step.out_format.narrow_dtype, (
        f"{got.dtype} is not the type of codes of {step.out_format}\n{step}"
    )
    assert want_events == got_events, f"events differ: exact {want_events}, fast {got_events}\n{step}"
    if want.size:
        outside = (want.min() < step.out_format.low) or (want.max() > step.out_format.high)
        assert not outside, f"codes from {want.min()} to {want.max()} leave {step.out_format}\n{step}"
    return want, want_events


def twins_unless_too_wide(step: Step, *codes: np.ndarray, **settings: int) -> None:
    """Run both engines and compare them, or only the exact one where the fast one says that it cannot be trusted."""
    try:
        run_fast(step, *codes, **settings)
    except TooWide:
        event("too wide for the fast engine")
        run_exact(step, *codes, **settings)
    else:
        twins(step, *codes, **settings)


def assert_same_codes(want: np.ndarray, got: np.ndarray, step: Step) -> None:
    """Name the first index at which two arrays differ, both codes, and the step."""
    assert want.shape == got.shape, f"shapes differ: exact {want.shape}, fast {got.shape}\n{step}"
    differing = np.argwhere(want != got)
    if differing.size:
        index = tuple(int(i) for i in differing[0])
        raise AssertionError(
            f"{len(differing)} of {want.size} codes differ, first at {index}: "
            f"exact {want[index]}, fast {got[index]}\n{step}"
        )
