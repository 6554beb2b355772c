"""What a run leaves behind: codes of the watched values, register events, and how two traces differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from fixqnn.encoding import as_codes
from fixqnn.errors import BadFile, BadInput
from fixqnn.events import RegisterEvents, Witness
from fixqnn.ops.op import Step
from fixqnn.program import Program
from fixqnn.tensor import Tensor

SUMMARY = "trace.json"
PROGRAM = "program.npz"


@dataclass(frozen=True)
class Trace:
    """One run of a program.

    Attributes
    ----------
    program : Program
        What ran.
    values : mapping of str to Tensor
        Inputs, outputs and watched values, by name.
    events : mapping of str to (mapping of str to RegisterEvents)
        Per step, per register, how often it acted.
    clipped : mapping of str to int
        Per input, how many real values its format clipped.
    samples : int
        Length of the batch.
    """

    program: Program
    values: Mapping[str, Tensor]
    events: Mapping[str, Mapping[str, RegisterEvents]]
    clipped: Mapping[str, int] = field(default_factory=dict)
    samples: int = 0

    @property
    def output(self) -> Tensor:
        """The only output; BadInput if there are several."""
        if len(self.program.outputs) != 1:
            raise BadInput(f"the program has the outputs {', '.join(self.program.outputs)}; take trace[name]")
        return self.values[self.program.outputs[0]]

    @property
    def outputs(self) -> dict[str, Tensor]:
        """All outputs, by name."""
        return {name: self.values[name] for name in self.program.outputs}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.values:
            known = name in self.program.formats
            remedy = f"run(..., watch={name!r})" if known else "watch='all' keeps every value"
            raise BadInput(f"the trace holds no value {name!r}, only {', '.join(self.values)}; {remedy}")
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def total_events(self, output: bool = False) -> int:
        """Events of all inner registers, or with `output` those of the output registers."""
        return sum(
            e.count
            for registers in self.events.values()
            for name, e in registers.items()
            if (name == "output") == output
        )

    def summary(self) -> list[dict[str, Any]]:
        """One row per step and register that acted."""
        rows = []
        for step, registers in self.events.items():
            for name, e in registers.items():
                if e.count:
                    first = e.first
                    rows.append({
                        "step": step, "register": name, "events": e.count, "below": int(e.below.sum()),
                        "above": int(e.above.sum()), "channels": int(np.count_nonzero(e.per_channel)),
                        "first": "" if first is None else (
                            f"sample {first.sample}, channel {first.channel}, position {first.position}, "
                            f"term {first.index}: {first.value}"
                        ),
                    })  # fmt: skip
        return rows

    def __repr__(self) -> str:
        return (
            f"<Trace of {self.samples} samples on {self.program.accelerator}: {len(self.values)} values, "
            f"{self.total_events()} register events, {self.total_events(output=True)} output clips>"
        )

    def save(self, folder: str | Path) -> None:
        """Write codes as ``<value>.npy``, events as ``trace.json``, and the program, into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.program.save(folder / PROGRAM)
        for name, tensor in self.values.items():
            codes = tensor.codes.astype(str) if tensor.codes.dtype.hasobject else tensor.codes  # wide codes as decimals
            np.save(folder / file_name(name), codes, allow_pickle=False)
        document = {
            "program": self.program.fingerprint, "accelerator": self.program.accelerator, "samples": self.samples,
            "clipped": dict(self.clipped), "values": list(self.values),
            "events": {step: {n: _event_json(e) for n, e in regs.items()} for step, regs in self.events.items()},
        }  # fmt: skip
        (folder / SUMMARY).write_text(json.dumps(document, indent=1))

    @staticmethod
    def load(folder: str | Path) -> Trace:
        """Read a folder that `save` wrote; BadFile says what is missing."""
        folder = Path(folder)
        if not (folder / SUMMARY).is_file():
            raise BadFile(f"{folder} holds no {SUMMARY}: it is no saved trace")
        try:
            document = json.loads((folder / SUMMARY).read_text())
            program = Program.load(folder / PROGRAM)
            values = {
                name: Tensor(read_codes(folder / file_name(name)), program.formats[name]) for name in document["values"]
            }
            events = {step: {n: _event_of(n, e) for n, e in regs.items()} for step, regs in document["events"].items()}
        except (KeyError, ValueError, OSError, EOFError, TypeError) as problem:
            if isinstance(problem, BadFile):
                raise
            raise BadFile(f"{folder} is no complete trace: {type(problem).__name__} {problem}") from None
        return Trace(program, values, events, document["clipped"], document["samples"])


def file_name(value: str) -> str:
    """Name of the file that holds a value; what a path cannot hold is written as in a URL.

    >>> file_name("layer1.0.conv1"), file_name("a/b")
    ('layer1.0.conv1.npy', 'a%2Fb.npy')
    """
    return f"{quote(value, safe='')}.npy"


def read_codes(path: Path) -> np.ndarray:
    """Read one file of codes, decimals included."""
    codes = np.load(path, allow_pickle=False)
    if codes.dtype.kind != "U":
        return codes
    whole = np.empty(codes.shape, object)
    whole.reshape(-1)[:] = [int(text) for text in codes.ravel()]
    return whole


def load_codes(folder: Path) -> Mapping[str, np.ndarray]:
    """Read all ``<value>.npy`` of a folder as integer codes."""
    files = sorted(folder.glob("*.npy"))
    if not files:
        what = "holds neither a saved run (trace.json) nor .npy files" if folder.is_dir() else "is no folder"
        raise BadFile(f"{folder} {what}")
    codes = {}
    for file in files:
        try:
            array = read_codes(file)
        except (ValueError, OSError, EOFError):
            raise BadFile(
                f"{file} is no .npy file of numbers, or is truncated; np.save(path, codes) writes one"
            ) from None
        if array.dtype.kind not in "iuO":
            raise BadInput(f"{file} holds {array.dtype}; a dump holds the integer codes themselves")
        codes[unquote(file.stem)] = array
    return codes


def _event_json(e: RegisterEvents) -> dict[str, Any]:
    first = (
        None
        if e.first is None
        else [e.first.sample, list(e.first.position), e.first.channel, e.first.index, str(e.first.value)]
    )
    return {"register": e.record, "below": e.below.tolist(), "above": e.above.tolist(), "first": first}


def _event_of(name: str, row: Mapping[str, Any]) -> RegisterEvents:
    first = row["first"]
    witness = None if first is None else Witness(first[0], tuple(first[1]), first[2], first[3], int(first[4]))
    return RegisterEvents(
        name, row["register"], np.array(row["below"], np.int64), np.array(row["above"], np.int64), witness
    )


@dataclass(frozen=True)
class Difference:
    """Where two traces part: the first value, in the program's order, whose codes differ.

    Attributes
    ----------
    step : str
        The step that made it, or the input's name.
    value : str
        Name of the value.
    index : tuple of int
        Index of the first differing code.
    codes : tuple of int
        Both codes; None in place of both when shapes differ.
    count : int
        How many codes of the value differ.
    operands : tuple of (int, int)
        For a sum of products: the operand pairs (input, weight) that meet there, zero points removed, in order.
    note : str
        What else is to be said, such as differing shapes.
    """

    step: str
    value: str
    index: tuple[int, ...]
    codes: tuple[int, int] | None
    count: int
    operands: tuple[tuple[int, int], ...] = ()
    note: str = ""

    def __str__(self) -> str:
        if self.codes is None:
            return f"{self.value} (step {self.step}): {self.note}"
        place = f"{self.value}{list(self.index)} (step {self.step})"
        text = f"{place}: {self.codes[0]} against {self.codes[1]}; {self.count} codes differ"
        if self.operands:
            shown = ", ".join(f"{a}·{b}" for a, b in self.operands[:8])
            more = f", … {len(self.operands)} terms" if len(self.operands) > 8 else ""
            text += f"\n  first terms of that sum: {shown}{more}, exact sum {sum(a * b for a, b in self.operands)}"
        return text + (f"\n  {self.note}" if self.note else "")


def first_difference(a: Trace, b: Trace | Mapping[str, np.ndarray]) -> Difference | None:
    """Find the first value, in the order of a's program, whose codes differ.

    Parameters
    ----------
    a : Trace
        The reference.
    b : Trace or mapping of str to ndarray
        Another trace, or codes by value name from elsewhere.

    Returns
    -------
    Difference or None
        None when all values that both hold are equal.

    Raises
    ------
    BadInput
        When the two have no value in common.
    """
    if not isinstance(a, Trace) or not isinstance(b, Trace | Mapping):
        kinds = f"{type(a).__name__} and {type(b).__name__}"
        raise BadInput(f"first_difference takes a Trace and a Trace or arrays by name, not {kinds}")
    others = (
        {n: t.codes for n, t in b.values.items()} if isinstance(b, Trace) else {n: as_codes(v, n) for n, v in b.items()}
    )
    makers = {step.output: step for step in a.program.steps}
    order = [v.name for v in a.program.inputs] + [s.output for s in a.program.steps]
    shared = [name for name in order if name in a.values and name in others]
    if not shared:
        raise BadInput(
            f"nothing to compare: one side holds {', '.join(a.values)}, the other {', '.join(others) or 'nothing'}"
        )
    for name in shared:
        mine, theirs = a.values[name].codes, others[name]
        step = makers.get(name)
        label = step.name if step else name
        if mine.shape != theirs.shape:
            return Difference(label, name, (), None, 0, note=f"shapes differ: {mine.shape} against {theirs.shape}")
        different = mine != theirs
        if not different.any():
            continue
        index = tuple(int(i) for i in np.argwhere(different)[0])
        note = ""
        if isinstance(b, Trace) and name in b.program.formats and b.program.formats[name] != a.program.formats[name]:
            note = f"formats differ too: {a.program.formats[name]} against {b.program.formats[name]}"
        operands = _operands(a, step, index) if step else ()
        return Difference(
            label, name, index, (int(mine[index]), int(theirs[index])), int(different.sum()), operands, note
        )
    return None


def _operands(trace: Trace, step: Step, index: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Operand pairs of the sum behind one code, where the step is such a sum and its input was watched."""
    if step.op.name not in ("linear", "conv", "conv_transpose") or step.inputs[0] not in trace.values:
        return ()
    work = step.op.plan and _sum_of(step)
    x = trace.values[step.inputs[0]].codes[index[0]]
    if step.op.name == "linear":
        channel, place, sample = index[-1], index[1:-1], np.moveaxis(x, -1, 0)
    else:
        channel, place, sample = index[1], index[2:], x
    window = work.contraction.window
    shape = window.out[3 - len(place) :]
    position = int(np.ravel_multi_index(place, shape)) if place else 0
    return tuple(work.contraction.terms_of(sample.reshape(-1, *window.size), channel, position))


def _sum_of(step: Step) -> Any:
    if "sum" not in step.cache:
        step.op.plan(step)  # builds the sum and leaves it in the cache
    return step.cache["sum"]
