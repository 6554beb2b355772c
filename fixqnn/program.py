"""Lower a graph onto an accelerator: integer steps and integer constants, nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fixqnn.accelerator import Accelerator
from fixqnn.datapath import SumOfProducts
from fixqnn.errors import BadInput, DoesNotFit, FixqnnError, TooWide
from fixqnn.format import Format, affine
from fixqnn.graph import Graph, Node, Value, show_shape
from fixqnn.kernels.ranges import ranged
from fixqnn.kernels.reals import encode_and_count
from fixqnn.ops import OPS
from fixqnn.ops.op import Op, Step
from fixqnn.tensor import Tensor

MOVES = ("clamp", "max_pool", "reshape", "transpose", "slice", "pad", "concat", "pixel_shuffle", "resize")


@dataclass(frozen=True)
class Program:
    """A network as integer steps for one accelerator: self-contained, and the same on every machine.

    Attributes
    ----------
    steps : tuple of Step
        In order; each reads inputs, constants and earlier outputs.
    inputs : tuple of Value
        With formats.
    outputs : tuple of str
        Names of the values that leave.
    accelerator : str
        Name of the machine.
    source : str
        Where the machine's arithmetic is written down.
    notes : tuple of str
        What lowering changed or clipped, in words.
    """

    steps: tuple[Step, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    accelerator: str
    source: str = ""
    notes: tuple[str, ...] = ()
    constants: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def formats(self) -> dict[str, Format]:
        """Format of every value, constants included, by name."""
        formats = {v.name: v.format for v in self.inputs}
        for step in self.steps:
            formats.update(step.formats)
        return formats

    @cached_property
    def last_reads(self) -> tuple[tuple[str, ...], ...]:
        """Per step, in order: the values that no later step reads, so that they need not be kept beyond it."""
        last = {name: i for i, step in enumerate(self.steps) for name in (step.output, *step.inputs)}
        return tuple(
            tuple(n for n in dict.fromkeys((*step.inputs, step.output)) if last[n] == i and n not in step.constants)
            for i, step in enumerate(self.steps)
        )

    @cached_property
    def live_bytes(self) -> int:
        """Bytes of code per sample that are alive at once, at most, when values go after their last reader."""
        shapes = {v.name: v.shape for v in self.inputs} | {n: s for step in self.steps for n, s in step.shapes.items()}
        size = {
            n: math.prod(s[1:]) * self.formats[n].narrow_dtype.itemsize for n, s in shapes.items() if s[:1] == (None,)
        }
        alive, most = {v.name for v in self.inputs}, sum(size[v.name] for v in self.inputs)
        for step, gone in zip(self.steps, self.last_reads, strict=True):
            alive.add(step.output)
            most = max(most, sum(size.get(name, 0) for name in alive))
            alive.difference_update(gone)
        return most

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that codes depend on; the same on every machine."""
        from fixqnn.storage import describe

        document, arrays = describe(self)
        digest = hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=True).encode())
        for name in sorted(arrays):
            array = arrays[name]
            digest.update(f"{name} {array.shape} {array.dtype.kind}".encode())
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def step(self, name: str) -> Step:
        """Find the step of that name; BadInput lists the names there are."""
        for step in self.steps:
            if step.name == name:
                return step
        raise BadInput(f"program has no step named {name!r}; it has {', '.join(s.name for s in self.steps)}")

    def table(self) -> list[dict[str, str]]:
        """One row per step: what it is, its formats, its kernel path and why."""
        return [
            {
                "step": s.name,
                "op": s.attributes.get("function") or s.op.name,
                "shape": show_shape(s.shapes[s.output]),
                "format": str(s.out_format),
                "path": s.path,
                "reason": s.reason,
            }
            for s in self.steps
        ]

    def __str__(self) -> str:
        rows = self.table()
        head = f"program for {self.accelerator}, {len(self.steps)} steps, fingerprint {self.fingerprint[:16]}"
        names = ("step", "op", "shape", "format", "path")
        widths = [max([len(n), *(len(r[n]) for r in rows)]) for n in names]
        lines = ["  ".join([*(n.ljust(w) for n, w in zip(names, widths, strict=True)), "reason"])]
        lines += [
            "  ".join([*(r[n].ljust(w) for n, w in zip(names, widths, strict=True)), r["reason"]]).rstrip()
            for r in rows
        ]
        return "\n".join([head, *(f"note: {n}" for n in self.notes), *lines])

    def save(self, path: str | Path) -> None:
        """Write the program as one ``.npz`` file without pickle."""
        from fixqnn.storage import save

        save(self, Path(path))

    @staticmethod
    def load(path: str | Path, ops: tuple[Op, ...] = ()) -> Program:
        """Read a saved program; `ops` are operations of your own that it uses.

        Raises
        ------
        BadFile
            For a file that is no program, is truncated, or was changed.
        """
        from fixqnn.storage import load

        return load(Path(path), ops)


def lower(graph: Graph, accelerator: Accelerator, paths: str | Mapping[str, str] | None = None) -> Program:
    """Bind every node of a graph to a datapath of an accelerator.

    Parameters
    ----------
    graph : Graph
        With a format on every value (`quantize` fills them).
    accelerator : Accelerator
        The machine.
    paths : str or mapping of str to str, optional
        Kernel path to force for all sums of products (``"wide"``), or by node name.

    Returns
    -------
    Program
        Integer steps. A step that the fast engine cannot be trusted with says so in its ``reason``; then
        ``run(..., engine="exact")`` still runs it and ``engine="fast"`` raises TooWide.

    Raises
    ------
    DoesNotFit
        With every node that the machine cannot take, and why.
    BadInput
        For an unknown kernel path, or a forced one that is not proved.
    """
    if not isinstance(graph, Graph):
        raise BadInput(f"lower takes a Graph, not {type(graph).__name__}; from_torch(module, example) makes one")
    if not isinstance(accelerator, Accelerator):
        hint = "call it: it makes one" if callable(accelerator) else "e.g. hw_models.ideal()"
        raise BadInput(f"lower takes an Accelerator, not {accelerator!r}; {hint}")
    if not isinstance(paths, str | Mapping | None):
        raise BadInput(f"paths is the name of a kernel path, or names by node, not {paths!r}")
    for rewrite in accelerator.rewrites:
        graph = rewrite(graph)
    return _Lowering(graph, accelerator, paths).program()


class _Lowering:
    """One pass over the nodes; problems are gathered and raised together."""

    def __init__(self, graph: Graph, accelerator: Accelerator, paths: str | Mapping[str, str] | None) -> None:
        self.graph, self.accelerator, self.paths = graph, accelerator, paths
        self.formats = dict(graph.formats)
        self.shapes = {v.name: v.shape for v in graph.values.values()}
        self.constants: dict[str, np.ndarray] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.steps: list[Step] = []
        self.ranges: dict[str, tuple[int, int]] = {}
        if not isinstance(paths, str | None):
            unknown = sorted(set(paths) - {n.name for n in graph.nodes})
            if unknown:
                raise BadInput(f"paths names {unknown}, which are no nodes of the graph")

    def program(self) -> Program:
        self._default_biases()
        self._check_formats()
        self._check_ports()
        self._raise()
        for node in self.graph.nodes:
            try:
                self._lower(node)
            except DoesNotFit as problem:
                text = str(problem)
                self.problems.append(text if text.startswith(node.name) else f"{node.name} ({node.op.name}): {text}")
        self._raise()
        inputs = tuple(replace(v, format=self.formats[v.name]) for v in self.graph.inputs)
        used = {name for step in self.steps for name in step.inputs}
        constants = {name: c for name, c in self.constants.items() if name in used}
        return Program(
            tuple(self.steps), inputs, self.graph.outputs, self.accelerator.name, self.accelerator.source,
            tuple(self.notes), constants,
        )  # fmt: skip

    def _raise(self) -> None:
        if self.problems:
            lines = "\n".join(f"  - {p}" for p in self.problems)
            raise DoesNotFit(f"{self.accelerator.name} cannot take this graph:\n{lines}")

    def _default_biases(self) -> None:
        """A real bias without a format gets 32 bits at the products' step, where products have one."""
        for node in self.graph.nodes:
            if node.op.name not in ("linear", "conv", "conv_transpose") or len(node.inputs) < 3:
                continue
            x, w = (self.formats.get(name) for name in node.inputs[:2])
            bias = node.inputs[2]
            if bias in self.formats or x is None or w is None or x.per_channel:
                continue
            channels = self.shapes[bias][0]
            scales = [x.scale * w.scale_at(i % w.channels) for i in range(channels)]
            self.formats[bias] = affine(32, scales, axis=0) if w.per_channel else affine(32, scales[0])

    def _check_formats(self) -> None:
        used = {name for node in self.graph.nodes for name in (*node.inputs, node.output)} | set(self.graph.outputs)
        bare = [name for name in self.graph.values if name in used and name not in self.formats]
        if bare:
            self.problems.append(
                f"no format for {', '.join(bare)}; quantize(graph, samples) or graph.with_formats(...) gives them"
            )

    def _check_ports(self) -> None:
        ports = self.accelerator.ports
        for node in self.graph.nodes:
            if node.op.name not in ("linear", "conv", "conv_transpose"):
                continue
            for name, kind in zip(node.inputs, ("activations", "weights"), strict=False):
                problem = ports.problem(self.formats[name], kind) if name in self.formats else ""
                if problem:
                    self.problems.append(f"{node.name} ({node.op.name}): {name!r}: {problem}")

    def _constant(self, name: str, form: Format | None = None) -> np.ndarray:
        """Codes of a constant, encoded once; what saturates is noted."""
        if name not in self.constants:
            value = self.graph.constants[name]
            if isinstance(value, Tensor):
                self.constants[name] = value.codes
            else:
                codes, clipped = encode_and_count(form or self.formats[name], value, name)
                self.constants[name] = codes
                if clipped:
                    self.notes.append(
                        f"{clipped} of {codes.size} values of constant {name!r} saturated in {self.formats[name]}"
                    )
        return self.constants[name]

    def _lower(self, node: Node) -> None:
        datapath = self.accelerator.datapath(node)
        ignored = isinstance(datapath, SumOfProducts) and datapath.zero_point == "ignored"
        out = self.formats[node.output]
        if node.op.name not in MOVES and not ignored:
            if datapath is None:
                what = node.attributes.get("function") or node.op.name
                self.problems.append(
                    f"{node.name} ({what}): {self.accelerator.name} has no datapath for it; it has "
                    f"{', '.join(self.accelerator.datapaths)}"
                )
                return
            self._add(node.op, node.name, node.inputs, node.output, node.attributes, datapath)
            return
        if node.op.name == "concat":
            inputs = tuple(self._converted(node, i, name, out) for i, name in enumerate(node.inputs))
            self._add(node.op, node.name, inputs, node.output, node.attributes, datapath)
        elif self.formats[node.inputs[0]] == out:
            self._add(node.op, node.name, node.inputs, node.output, node.attributes, datapath)
        else:
            before = f"{node.output}.before"
            self.formats[before], self.shapes[before] = self.formats[node.inputs[0]], self.shapes[node.output]
            self._add(node.op, node.name, node.inputs, before, node.attributes, datapath)
            self._requantize(f"{node.name}.requantize", before, node.output)

    def _converted(self, node: Node, index: int, name: str, out: Format) -> str:
        """An input of a concat in the output's format."""
        if name in self.graph.constants or self.formats[name] == out:
            if name in self.graph.constants and self.formats[name] != out:
                raise DoesNotFit(
                    f"{node.name}: constant {name!r} has another format than the concat's output; give it {out}"
                )
            return name
        converted = f"{node.name}.input{index}"
        self.formats[converted], self.shapes[converted] = out, self.shapes[name]
        self._requantize(converted, name, converted)
        return converted

    def _requantize(self, step: str, source: str, target: str) -> None:
        datapaths = self.accelerator.datapaths
        datapath = datapaths.get(step, datapaths.get("requantize"))  # as everywhere, a step's own name wins
        if datapath is None:
            raise DoesNotFit(
                f"{step}: {source!r} has {self.formats[source]} and {target!r} needs {self.formats[target]}, but "
                f"{self.accelerator.name} has no datapath for requantize; give both the same format"
            )
        self._add(OPS["requantize"], step, (source,), target, {}, datapath)

    def _add(
        self, op: Op, name: str, inputs: tuple[str, ...], output: str, attributes: Mapping[str, Any], datapath: Any
    ) -> None:
        values = (*inputs, output)
        constants = {n: self._constant(n) for n in inputs if n in self.graph.constants}
        step = Step(
            op, name, inputs, output, attributes, datapath,
            {v: self.formats[v] for v in values}, {v: self.shapes[v] for v in values}, constants,
        )  # fmt: skip
        step = _ranged(replace(step, prepared=op.prepare(step)), self.ranges)
        forced = self.paths if isinstance(self.paths, str | None) else self.paths.get(name)
        self.steps.append(plan(step, forced))


def planned(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Find ranges and choose kernel paths again, for the prepared steps of a program in order."""
    ranges: dict[str, tuple[int, int]] = {}
    return tuple(plan(_ranged(step, ranges)) for step in steps)


def _ranged(step: Step, known: dict[str, tuple[int, int]]) -> Step:
    return ranged(step, known, OPS.get(step.op.name) is step.op)


def plan(step: Step, forced: str | None = None) -> Step:
    """Choose the kernel path of a step, or write down why the fast engine cannot be trusted with it."""
    if step.op.plan is None:  # weights are not known before the run: matmul chooses call by call
        return replace(step, path=forced or "") if isinstance(step.datapath, SumOfProducts) else step
    try:
        path, reason = step.op.plan(replace(step, path=forced or ""))
    except TooWide as problem:
        return replace(step, path="exact", reason=str(problem))
    except FixqnnError as problem:
        raise type(problem)(f"{step.name} ({step.op.name}): {problem}") from None
    return replace(step, path=path, reason=reason)
