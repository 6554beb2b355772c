"""Which layer, and which cause in it, the error at the output comes from: each made exact, one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fixqnn.analysis.hybrid import NOTHING, Exactness, Hybrid, is_real
from fixqnn.analysis.shares import CAUSES, Blame, Error, Share
from fixqnn.comparison import batches
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.kernels.reals import encode_and_count
from fixqnn.program import Program
from fixqnn.tensor import Tensor

FULL: Exactness = frozenset(CAUSES)
PARTS = 4  # a batch is held as codes and as reals, as it is and switched


@dataclass
class _Sums:
    """An error as sums that grow batch by batch."""

    noise: float = 0.0
    signal: float = 0.0
    count: int = 0
    changed: int | None = None

    def add(self, reference: np.ndarray, found: np.ndarray) -> None:
        self.noise += float(np.square(reference - found).sum())
        self.signal += float(np.square(reference).sum())
        self.count += reference.size
        if reference.ndim >= 2 and reference.shape[1] > 1:
            self.changed = (self.changed or 0) + int(np.count_nonzero(reference.argmax(1) != found.argmax(1)))

    def error(self) -> Error:
        ratio = self.signal / self.noise if self.noise else math.inf
        decibels = 10 * math.log10(ratio) if ratio > 0 else -math.inf
        return Error(math.sqrt(self.noise / self.count), decibels, self.changed)


@dataclass
class _Switch:
    """Something to be made exact, or left as the only thing that is not."""

    layer: str
    op: str
    cause: str
    steps: Mapping[int, Exactness]
    inputs: frozenset[str] = frozenset()
    without: _Sums = field(default_factory=_Sums)
    alone: _Sums = field(default_factory=_Sums)


def blame(
    graph: Graph,
    program: Program,
    data: Any,
    *,
    output: str | None = None,
    alone: bool = True,
    seed: int = 0,
    threads: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Blame:
    """Split the error at the output by layer and cause, by making each exact, one at a time.

    The causes in a layer:

    - ``weights``: constants, biases included, as real numbers in place of codes;
    - ``values``: the result is not rounded to its format and not cut off by it: a real number travels on;
    - ``register``: sums are formed whole, products and partial sums are neither rounded nor overflow;
    - ``scaler``: the exact ratio, rounded half to even, in place of the machine's multiplier, shift and rounding; of a
      rounding that only goes one way, half a step is the scaler's, the scatter around it the values';
    - ``table``: a correctly rounded entry for every code in place of the machine's table.

    Inputs have ``values`` only. Values that only travel have no cause, clamps have one if their bounds are no codes.

    Each cause is looked at in two ways: made exact while all else stays as the machine has it (`Share.without`, and
    `Share.share`, the part of the mean square error that is gone), and as the only thing that is not exact
    (`Share.alone`). Shares need not add up to one, as errors meet: they cancel, or only together tip a rounding. What is
    left is `Blame.interaction`.

    While everything is codes, all of it is the machine's arithmetic, bit for bit. Where a real number meets a step whose
    arithmetic is not exact, the step gives its real result plus what its arithmetic would have added at the nearest codes.

    Parameters
    ----------
    graph : Graph
        The network in real numbers.
    program : Program
        Made from it by `lower`.
    data : array, torch tensor, Tensor, or a tuple or mapping of these
        Real inputs, batch first; Tensors stand for their reals.
    output : str, optional
        Which output; needed only where there are several.
    alone : bool
        Whether to also compute every cause alone, which doubles the time.
    seed, threads
        As for `run`.
    progress : callable, optional
        ``progress(done, all)`` in switches computed; each computes only the steps after it again.

    Returns
    -------
    Blame
        Prints as tables.

    Raises
    ------
    BadInput
        For data that do not fit, integers in place of reals, a program of another graph, no samples.

    Examples
    --------
    >>> import fixqnn as fq
    >>> graph = fq.Graph((fq.Value("x", (None, 2), fq.fixed(8, 4)),), ("fc",),
    ...     (fq.Node("fc", fq.OPS["linear"], ("x", "w")),), {"w": [[0.75, -1.3]]}, {"fc": fq.fixed(16, 8), "w": fq.fixed(3, 1)})
    >>> mac = fq.SumOfProducts(fq.Exact(), sum=fq.Stage(fq.Register(32)))
    >>> found = blame(graph, fq.lower(graph, fq.Accelerator("m", {"linear": mac})), [[0.5, 1.0], [1.0, 0.25]])
    >>> found.worst().layer, found.worst().cause, round(found.worst().share, 3)
    ('fc', 'weights', 1.0)
    """
    inputs, name = _check(graph, program, data, output)
    hybrid = Hybrid(graph, program, seed, threads)
    switches = _switches(hybrid)
    total, remainder = _Sums(), _Sums()
    samples = len(next(iter(inputs.values())))
    parts = list(batches(graph, samples * PARTS))
    size = max(1, (parts[0].stop - parts[0].start) // PARTS)
    starts = range(0, samples, size)
    for number, start in enumerate(starts):
        real = {k: np.asarray(a[start : start + size], np.float64) for k, a in inputs.items()}
        batch = _Batch(hybrid, real, start, name, graph.evaluate(real)[name])
        total.add(batch.reference, batch.end(batch.machine))
        remainder.add(batch.reference, batch.end(batch.exact))
        for done, switch in enumerate(switches, start=number * len(switches) + 1):
            switch.without.add(batch.reference, batch.without(switch))
            if alone:
                switch.alone.add(batch.reference, batch.alone(switch))
            if progress is not None:
                progress(done, len(starts) * len(switches))
    shares = [_share(switch, total, alone) for switch in switches]
    shares.sort(key=lambda share: -share.share)
    rows = tuple(s for s in shares if s.cause != "all" and s.layer != "all")
    return Blame(
        total.error(), rows, tuple(s for s in shares if s.cause == "all"), tuple(s for s in shares if s.layer == "all"),
        1 - sum(row.share for row in rows) if total.noise else 0.0, remainder.error(), samples, name, hybrid.notes,
    )  # fmt: skip


@dataclass
class _Batch:
    """Some samples: every value as the machine has it, and every value exact."""

    hybrid: Hybrid
    real: Mapping[str, np.ndarray]
    start: int
    output: str
    reference: np.ndarray

    def __post_init__(self) -> None:
        self.hybrid.first_sample = self.start
        formats = self.hybrid.program.formats
        self.coded = {name: encode_and_count(formats[name], x, name)[0] for name, x in self.real.items()}
        self.machine = self.hybrid.everything(self.coded, NOTHING)
        self.exact = self.hybrid.everything(self.real, FULL)

    def without(self, switch: _Switch) -> np.ndarray:
        """Output where only this is exact."""
        inputs = {name: self.real[name] for name in switch.inputs}
        return self.end({**self.machine, **self.hybrid.run(switch.steps, self.machine, NOTHING, inputs)})

    def alone(self, switch: _Switch) -> np.ndarray:
        """Output where all but this is exact."""
        inputs = {name: self.coded[name] for name in switch.inputs}
        exact = {number: FULL - causes for number, causes in switch.steps.items()}
        return self.end({**self.exact, **self.hybrid.run(exact, self.exact, FULL, inputs)})

    def end(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The output in real numbers."""
        y = values[self.output]
        return y if is_real(y) else self.hybrid.program.formats[self.output].decode(y)


def _switches(hybrid: Hybrid) -> list[_Switch]:
    """Every cause of every layer, every layer with several, and every cause in several layers."""
    one = [
        _Switch(v.name, "input", "values", {}, frozenset((v.name,)))
        for v in hybrid.program.inputs
    ]  # fmt: skip
    whole = [replace(switch, cause="all", without=_Sums(), alone=_Sums()) for switch in one]
    for number, part in enumerate(hybrid.parts):
        op = part.step.attributes.get("function") or part.step.op.name
        one += [_Switch(part.step.name, op, cause, {number: frozenset((cause,))}) for cause in part.causes]
        if part.causes:
            whole.append(_Switch(part.step.name, op, "all", {number: frozenset(part.causes)}))
    for cause in CAUSES:
        steps = {n: frozenset((cause,)) for n, part in enumerate(hybrid.parts) if cause in part.causes}
        inputs = frozenset(v.name for v in hybrid.program.inputs) if cause == "values" else frozenset()
        if steps or inputs:
            whole.append(_Switch("all", "", cause, steps, inputs))
    return one + whole


def _share(switch: _Switch, total: _Sums, alone: bool) -> Share:
    share = 1 - switch.without.noise / total.noise if total.noise else 0.0
    return Share(
        switch.layer, switch.op, switch.cause, share, switch.without.error(), switch.alone.error() if alone else None
    )


def _check(graph: Graph, program: Program, data: Any, output: str | None) -> tuple[dict[str, np.ndarray], str]:
    """Inputs as real arrays, and the output's name."""
    for value, kind, maker in ((graph, Graph, "from_torch(net, example)"), (program, Program, "lower(graph, machine)")):
        if not isinstance(value, kind):
            raise BadInput(f"blame takes a {kind.__name__} here, not {type(value).__name__}; {maker} makes one")
    names = [v.name for v in program.inputs]
    if names != [v.name for v in graph.inputs] or set(program.outputs) != set(graph.outputs):
        raise BadInput(
            f"the program was made from another graph: it takes {', '.join(names)} and gives {', '.join(program.outputs)}, "
            f"the graph takes {', '.join(v.name for v in graph.inputs)} and gives {', '.join(graph.outputs)}"
        )
    if output is None and len(program.outputs) != 1:
        raise BadInput(f"the program has the outputs {', '.join(program.outputs)}; name one: blame(..., output=...)")
    name = program.outputs[0] if output is None else output
    if name not in program.outputs:
        raise BadInput(f"the program has no output {name!r}; it has {', '.join(program.outputs)}")
    if isinstance(data, Mapping):
        given = {key: _real(value, str(key)) for key, value in data.items()}
    elif isinstance(data, tuple):
        given = tuple(_real(value, names[i] if i < len(names) else f"number {i}") for i, value in enumerate(data))
    else:
        given = _real(data, names[0])
    arrays = graph.bind(given)
    if not len(next(iter(arrays.values()))):
        raise BadInput("blame needs at least one sample; data is empty")
    return arrays, name


def _real(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Tensor):
        return value.real()
    array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    if array.dtype.kind != "f":
        raise BadInput(
            f"input {name!r} holds {array.dtype}; blame compares with real numbers: give floats, or a Tensor of codes"
        )
    if not np.isfinite(array).all():
        raise BadInput(f"input {name!r} holds NaN or infinity")
    return array
