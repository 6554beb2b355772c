"""Run a program on a batch: codes in, codes and register events out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fixqnn.errors import BadInput, RegisterOverflow, TooWide
from fixqnn.events import RegisterEvents, Run
from fixqnn.format import Format
from fixqnn.graph import Value, show_shape
from fixqnn.kernels import pool
from fixqnn.kernels.reals import encode_and_count
from fixqnn.ops import OPS
from fixqnn.ops.op import Step
from fixqnn.program import Program
from fixqnn.tensor import Tensor
from fixqnn.trace import Trace

ENGINES = ("fast", "exact")
CHUNK_BYTES = 1 << 25  # of codes that one pass may hold at once: bounds memory, whatever the batch


def run(
    program: Program,
    x: Any,
    engine: str = "fast",
    watch: str | tuple[str, ...] | list[str] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    threads: int | str | None = None,
) -> Trace:
    """Compute what the accelerator computes.

    Parameters
    ----------
    program : Program
        From `lower` or `Program.load`.
    x : array, torch tensor, Tensor, or a tuple or mapping of these
        The inputs, batch first. Floating-point arrays are real numbers, encoded by the input's format (half to even,
        saturating; clipped values are counted in ``trace.clipped``). Integer arrays and Tensors are codes.
    engine : {"fast", "exact"}
        Compiled loops, or the definition on Python integers.
    watch : "all", or names of values
        What to keep besides inputs and outputs.
    seed : int
        Seed of stochastic rounding; the same seed gives the same codes for any batching.
    progress : callable, optional
        ``progress(done, all)`` in samples, called after every pass.
    threads : int or "all", optional
        Threads of the fast engine; "all" or 0: every processor this process may use. By default the environment variable
        ``FIXQNN_THREADS``, else 1. Codes and events are the same for any number.

    Returns
    -------
    Trace
        Watched values as Tensors, and the events of every register.

    Raises
    ------
    BadInput
        For a wrong shape, NaN, codes out of range, an unknown name to watch or engine, no number of threads.
    TooWide
        When the fast engine cannot be trusted with a step.
    RegisterOverflow
        When a ``forbid`` register was asked to hold more than it can.
    """
    if not isinstance(program, Program):
        raise BadInput(f"run takes a Program, not {type(program).__name__}; lower(graph, accelerator) makes one")
    if engine not in ENGINES:
        raise BadInput(f"there is no engine {engine!r}; there are {', '.join(ENGINES)}")
    if engine == "fast":
        check_widths(program)
    workers = pool.threads(threads)
    names = _watched(program, watch)
    inputs, clipped = _encode(program, x, engine)
    samples = len(next(iter(inputs.values()))) if inputs else 0
    runs = {step.name: Run(seed, stream, threads=workers) for stream, step in enumerate(program.steps)}
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in names}
    chunk = _chunk(program)
    for start in range(0, samples, chunk):
        codes = {name: a[start : start + chunk] for name, a in inputs.items()}
        _pass(program, codes, engine, runs, start, pieces)
        if progress is not None:
            progress(min(start + chunk, samples), samples)
    # Parts go one value at a time: else everything watched would be in memory twice.
    values = {name: Tensor(_join(program, name, inputs, pieces.pop(name)), program.formats[name]) for name in names}
    events: dict[str, dict[str, RegisterEvents]] = {name: r.events for name, r in runs.items()}
    return Trace(program, values, events, clipped, samples)


def check_widths(program: Program) -> None:
    """Raise TooWide, with every step that the fast engine cannot be trusted with."""
    wide = [f"{s.name} ({s.op.name}): {s.reason}" for s in program.steps if s.path == "exact"]
    if wide:
        raise TooWide("the fast engine cannot be trusted with\n" + "\n".join(f"  - {w}" for w in wide))


def _watched(program: Program, watch: str | tuple[str, ...] | list[str]) -> list[str]:
    made = [v.name for v in program.inputs] + [s.output for s in program.steps]
    if watch == "all":
        return made
    if not isinstance(watch, str | tuple | list | set | frozenset):
        raise BadInput(f"watch takes 'all' or names of values, not {watch!r}")
    wanted = (watch,) if isinstance(watch, str) else tuple(watch)
    unknown = [name for name in wanted if name not in made]
    if unknown:
        raise BadInput(f"cannot watch {unknown}: the program has the values {', '.join(made)}")
    return [name for name in made if name in {*wanted, *program.outputs, *(v.name for v in program.inputs)}]


def _encode(program: Program, x: Any, engine: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    names = [v.name for v in program.inputs]
    given = (
        dict(x)
        if isinstance(x, Mapping)
        else dict(zip(names, x if isinstance(x, tuple | list) else (x,), strict=False))
    )
    many = len(x) if isinstance(x, tuple | list | Mapping) else 1
    if set(given) != set(names) or many != len(names):
        raise BadInput(
            f"the program takes the inputs {', '.join(names)}; given were {many}: {', '.join(given) or 'none'}"
        )
    codes, clipped = {}, {}
    for value in program.inputs:
        codes[value.name], clipped[value.name] = encode_input(value, given[value.name], engine)
    batches = {len(c) for c in codes.values()}
    if len(batches) > 1:
        raise BadInput(f"inputs {', '.join(names)} have different batch sizes: {sorted(batches)}")
    return codes, clipped


def encode_input(value: Value, x: Any, engine: str = "fast") -> tuple[np.ndarray, int]:
    """Check one input of a program, encode it where it is real, and count what was clipped; BadInput for what it cannot be."""
    form = value.format
    if isinstance(x, Tensor):
        if x.format != form:
            raise BadInput(f"input {value.name!r} came as {x.format}; the program takes {form}: cast it, or give reals")
        array = x.codes
    else:
        array = np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)
    shape = value.shape
    if array.ndim != len(shape) or any(w is not None and g != w for g, w in zip(array.shape, shape, strict=True)):
        raise BadInput(f"input {value.name!r} has shape {array.shape}; the program takes {show_shape(shape)}")
    if isinstance(x, Tensor) or array.dtype.kind in "iu" or (array.dtype == object and _all_integers(array)):
        form.check_codes(array, f"input {value.name!r}")
        return array.astype(form.narrow_dtype, copy=False), 0
    if array.dtype.kind == "b":
        raise BadInput(f"input {value.name!r} is boolean; give reals as floats, or codes as integers")
    encode = encode_and_count if engine == "fast" else Format.encode_and_count
    return encode(form, array, name=f"input {value.name!r}")


def _all_integers(array: np.ndarray) -> bool:
    return all(isinstance(v, int) for v in array.ravel())


def _chunk(program: Program) -> int:
    return max(1, CHUNK_BYTES // max(program.live_bytes, 1))


def _pass(
    program: Program,
    codes: dict[str, np.ndarray],
    engine: str,
    runs: Mapping[str, Run],
    start: int,
    pieces: dict[str, list[np.ndarray]],
) -> None:
    """Run all steps on one part of the batch; values are dropped after their last reader."""
    if engine == "exact":
        codes = {name: a.astype(object) for name, a in codes.items()}
    for name in codes:
        if name in pieces:
            pieces[name].append(codes[name])
    for step, gone in zip(program.steps, program.last_reads, strict=True):
        run = runs[step.name]
        run.first_sample = start
        operands = [codes[n] if n in codes else _constant(step, n, engine) for n in step.inputs]
        codes[step.output] = compute_step(step, run, engine, operands)
        check_forbidden(step, run)
        if step.output in pieces:
            pieces[step.output].append(codes[step.output])
        for name in gone:
            codes.pop(name, None)


def compute_step(step: Step, run: Run, engine: str, operands: list[np.ndarray]) -> np.ndarray:
    """Run one step. Operations of a user's own get wide codes, lest their arithmetic wrap in 8 bits."""
    if engine == "exact":
        return step.op.exact(step, run, *operands)
    if OPS.get(step.op.name) is not step.op:
        operands = [o.astype(step.in_format(i).code_dtype) for i, o in enumerate(operands)]
    return step.op.fast(step, run, *operands).astype(step.out_format.narrow_dtype, copy=False)


def _constant(step: Step, name: str, engine: str) -> np.ndarray:
    c = step.constants[name]
    return c.astype(object) if engine == "exact" else c


def check_forbidden(step: Step, run: Run) -> None:
    """Raise for the first register of a step that must not overflow and did."""
    forbidden = [(name, e) for name, e in run.events.items() if e.forbidden and e.any]
    if not forbidden:
        return
    name, e = forbidden[0]
    w = e.first
    where = "" if w is None else f" at sample {w.sample}, channel {w.channel}, position {w.position}, term {w.index}"
    value = "" if w is None else f" was asked to hold {w.value}"
    raise RegisterOverflow(
        f"{step.name} ({step.op.name}): register {name} forbids overflow and{value}{where}; "
        f"{e.count} times in all: {e.record}"
    )


def _join(program: Program, name: str, inputs: Mapping[str, np.ndarray], parts: list[np.ndarray]) -> np.ndarray:
    form = program.formats[name]
    if not parts:
        shape = next((s.shapes[name] for s in program.steps if name in s.shapes), (0,))
        return np.empty((0, *shape[1:]), form.code_dtype)
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return joined.astype(form.code_dtype, copy=False)
