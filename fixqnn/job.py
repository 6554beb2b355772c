"""One run from the command line: a model, a machine and data in; a trace, and how far it is from float, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.comparison import Comparison, compare_with_float
from fixqnn.errors import BadFile, BadInput
from fixqnn.graph import Graph
from fixqnn.machines import resolve
from fixqnn.models import Model, load_array, load_model
from fixqnn.program import Program, lower
from fixqnn.provenance import stamps
from fixqnn.report.facts import layer_rows, machine_row, register_rows
from fixqnn.report.pages import run_page
from fixqnn.report.tables import Table, jsonable
from fixqnn.simulate import run
from fixqnn.trace import Trace

if TYPE_CHECKING:
    from fixqnn.analysis.needs import Accumulators

Progress = Callable[[int, int | None], None]
MOST_BYTES = 2 << 30  # of codes kept; beyond, only outputs are


@dataclass(frozen=True)
class Job:
    """What a user asked for.

    Attributes
    ----------
    model, machine : str
        Names, as `load_model` and `resolve` take them; no machine is named for a saved program, which has one.
    data, calibration : sequence of Path
        One ``.npy`` file per input; without a calibration the data sets the ranges.
    labels : Path, optional
        True labels.
    policy : mapping
        Fields of `Policy`.
    engine, seed
        As for `run`.
    shapes : sequence of sequence of int
        Shapes of example inputs.
    threads : int or str, optional
        As for `run`.
    """

    model: str
    machine: str | None
    data: Sequence[Path]
    calibration: Sequence[Path] = ()
    labels: Path | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "fast"
    seed: int = 0
    shapes: Sequence[Sequence[int]] = ()
    threads: int | str | None = None


@dataclass(frozen=True)
class Done:
    """What came of it."""

    job: Job
    trace: Trace
    comparison: Comparison
    row: Mapping[str, Any]
    notes: tuple[str, ...]

    def in_words(self) -> str:
        """Clipped inputs and notes, one line each."""
        clipped = [
            f"input {name!r}: {count} of {self.trace[name].codes.size} values clipped"
            for name, count in self.trace.clipped.items()
        ]
        return "\n".join([*clipped, *(f"note: {note}" for note in self.notes)])


def perform(job: Job, calibrating: Progress | None = None, running: Progress | None = None) -> Done:
    """Load, quantize, lower, run and compare.

    Raises
    ------
    FixqnnError
        For anything that cannot be used.
    """
    model, arrays, program = _loaded(job, calibrating)
    labels = None if job.labels is None else load_array(job.labels)
    inputs = _named(program, arrays)
    notes, watch = list(program.notes), "all"
    if (held := _bytes(program, len(arrays[0]))) > MOST_BYTES:
        watch = ()
        notes.append(
            f"only outputs were kept: all codes would take {held / 2**30:.1f} GiB; give fewer samples to see layers"
        )
    trace = run(program, inputs, engine=job.engine, watch=watch, seed=job.seed, progress=running, threads=job.threads)
    comparison, reference = Comparison(trace), None
    if model.graph is not None:
        reals = {name: trace[name].real() if a.dtype.kind in "iu" else a for name, a in inputs.items()}
        comparison = compare_with_float(model.graph, {"": trace}, reals)[""]
        if len(program.outputs) == 1:
            reference = _reference(model.graph, reals)
    row = machine_row(job.machine or program.accelerator, comparison, reference, labels)
    return Done(job, trace, comparison, row, tuple(notes))


def register_needs(job: Job, calibrating: Progress | None = None, running: Progress | None = None) -> Accumulators:
    """Load, quantize, lower, and say how wide every register of a sum must be; a saved program needs no data.

    Raises
    ------
    FixqnnError
        For anything that cannot be used.
    """
    from fixqnn.analysis.accumulators import accumulators

    _, arrays, program = _loaded(job, calibrating)
    data = _named(program, arrays) if arrays else None
    return accumulators(program, data, engine=job.engine, seed=job.seed, progress=running)


def _loaded(job: Job, calibrating: Progress | None) -> tuple[Model, tuple[np.ndarray, ...], Program]:
    """The model, the data, and the program for the machine; a saved program is one already."""
    machine = resolve(job.machine or "ideal")
    model = load_model(job.model, job.shapes)
    arrays = tuple(load_array(path) for path in job.data)
    if model.program is not None:
        if job.policy or job.calibration or job.machine:
            raise BadInput(f"{job.model} is a program: its machine and formats are settled; leave these options out")
        return model, arrays, model.program
    if not arrays and not job.calibration:
        raise BadInput(f"{job.model} has no formats yet, and they are chosen from samples: give --data x.npy")
    return model, arrays, lower(_with_formats(model.graph, job, arrays, calibrating), machine)


def _named(program: Program, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by the name of the input."""
    if len(arrays) != len(program.inputs):
        names = ", ".join(v.name for v in program.inputs)
        raise BadInput(f"{len(arrays)} data files for {len(program.inputs)} inputs: {names}, in this order")
    return dict(zip((v.name for v in program.inputs), arrays, strict=True))


def _with_formats(graph: Graph, job: Job, arrays: Sequence[np.ndarray], progress: Progress | None) -> Graph:
    """Fill formats in from calibration samples."""
    from fixqnn.calibration import Policy, quantize

    samples = tuple(load_array(path) for path in job.calibration) or tuple(arrays)
    integers = [str(a.dtype) for a in (*arrays, *samples) if a.dtype.kind in "iu"]
    if integers and any(v.name not in graph.formats for v in graph.inputs):
        raise BadInput(
            f"the data are {integers[0]} codes, but {job.model} has no formats yet: give real numbers (floats)"
        )
    return quantize(graph, samples if len(samples) > 1 else samples[0], Policy(**job.policy), progress=progress)


def _bytes(program: Program, samples: int) -> int:
    shapes = [v.shape for v in program.inputs] + [step.shapes[step.output] for step in program.steps]
    return 4 * samples * sum(int(np.prod(shape[1:])) for shape in shapes)


def _reference(graph: Graph, reals: Mapping[str, np.ndarray]) -> np.ndarray:
    from fixqnn.comparison import batches

    parts = batches(graph, len(next(iter(reals.values()))))
    name = graph.outputs[0]
    return np.concatenate([graph.evaluate({k: a[part] for k, a in reals.items()})[name] for part in parts])


def write(done: Done, overview: Table, folder: Path, command: str) -> dict[str, str]:
    """Save trace, program, a JSON report and a page into a folder; the names of what was written."""
    try:
        done.trace.save(folder)
    except FileExistsError:
        raise BadFile(f"{folder} is a file; --save takes a folder") from None
    name = str(done.row["machine"])
    settings = {"machine": name, "engine": done.job.engine, "seed": done.job.seed, **done.job.policy}
    stamp = stamps(command, {**settings, "fingerprint": done.trace.program.fingerprint})
    lead = f"{done.job.model} on {name}: {done.trace.samples} samples."
    page = run_page(
        f"fixqnn: {Path(done.job.model).name}", lead, overview, {name: done.comparison}, name, stamp, done.notes
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    document = {
        "run": dict(done.row),
        "layers": layer_rows(done.comparison),
        "registers": register_rows(done.trace),
        "clipped inputs": dict(done.trace.clipped),
        "notes": done.notes,
        "stamps": stamp,
    }
    (folder / "report.json").write_text(json.dumps(jsonable(document), indent=1, ensure_ascii=False), encoding="utf-8")
    return {
        "page": str(folder / "report.html"),
        "report": str(folder / "report.json"),
        "program": str(folder / "program.npz"),
        "trace": str(folder / "trace.json"),
    }
