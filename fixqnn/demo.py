"""A small residual network for handwritten digits, trained on the spot, and what several machines make of it.

The pictures are the 1797 digits of 8×8 pixels that come with scikit-learn (test set of the UCI "Optical Recognition of
Handwritten Digits" data), so nothing is downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.comparison import Comparison, compare_with_float
from fixqnn.errors import BadInput
from fixqnn.graph import Graph
from fixqnn.machines import resolve
from fixqnn.program import lower
from fixqnn.provenance import stamps
from fixqnn.report.facts import layer_rows, machine_row, register_rows
from fixqnn.report.pages import run_page
from fixqnn.report.tables import Table, jsonable
from fixqnn.simulate import run
from fixqnn.trace import Trace

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[int, int], None]

# A spread of machines, by the name that tables give them: exact sums, one word for everything, narrow partial sums, the
# types of an HLS flow (with room for sums, and saturating, since the output does the relu), the rules of an int8 runtime.
MACHINES = {
    "ideal": "ideal",
    "per_operation": "per_operation",
    "systolic(partial=16)": "systolic(partial=16)",
    "systolic(partial=14)": "systolic(partial=14)",
    "hls4ml": "hls4ml(accum='ap_fixed<20,10>', result='ap_fixed<16,6,AP_RND,AP_SAT>')",
    "tflite": "tflite",
}
CLOSE_UP = "systolic(partial=14)"
LEAD = (
    "A small residual network was trained on 8×8 handwritten digits, its weights and values were given 8 bits each, and all "
    "test pictures were computed by several machines: the same integers go in, and each machine's own registers and roundings "
    "decide what comes out."
)
SAVED = 8  # pictures whose every code is written down per machine
ROUNDS = 5  # timed runs per machine, each beside one of torch; three where a run takes long
LONG = 0.5  # seconds


@dataclass(frozen=True)
class Digits:
    """Pictures (N, 1, 8, 8) in [0, 1] and their labels: two thirds to train, one third to test."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits(seed: int = 0, images: int | None = None) -> Digits:
    """Split the digits, stratified by label and shuffled by `seed`; `images` keeps only so many of each part."""
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise BadInput(
            "the demo reads its pictures from scikit-learn, which is not installed: pip install 'fixqnn[demo]'"
        ) from None
    data = load()
    pictures = (data.images / 16).astype(np.float32)[:, None]
    parts = train_test_split(pictures, data.target, test_size=1 / 3, random_state=seed, stratify=data.target)
    train_images, test_images, train_labels, test_labels = (np.ascontiguousarray(part[:images]) for part in parts)
    return Digits(train_images, train_labels, test_images, test_labels)


def network() -> nn.Module:
    """Make the untrained network: stem, residual block, pooling, a second stage, classifier; ten thousand weights."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.relu1 = nn.ReLU()
            self.relu2 = nn.ReLU()

        def forward(self, x: Any) -> Any:
            y = self.relu1(self.bn1(self.conv1(x)))
            return self.relu2(x + self.bn2(self.conv2(y)))

    class DigitsNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(16)
            self.relu = nn.ReLU()
            self.block = Block(16)
            self.pool = nn.MaxPool2d(2)
            self.conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(32)
            self.relu2 = nn.ReLU()
            self.average = nn.AvgPool2d(4)
            self.classifier = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.block(self.relu(self.bn(self.stem(x)))))
            x = self.average(self.relu2(self.bn2(self.conv(x))))
            return self.classifier(x.flatten(1))

    return DigitsNet()


def train(digits: Digits, epochs: int = 6, seed: int = 0, progress: Progress | None = None) -> nn.Module:
    """Train the network with Adam on batches of 64; the same seed and torch version give the same network.

    Parameters
    ----------
    digits : Digits
        Where to learn from.
    epochs : int
        Passes over the training pictures.
    seed : int
        Seed of first weights and shuffling.
    progress : callable, optional
        ``progress(done, all)`` in epochs.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.
    """
    import torch

    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network()
        batches = max(1, -(-len(images) // 64))
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=max(1, epochs * batches))
        net.train()
        for epoch in range(epochs):
            for batch in torch.randperm(len(images)).chunk(batches):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimiser.step()
                schedule.step()
            if progress is not None:
                progress(epoch + 1, epochs)
    return net.eval()


@dataclass(frozen=True)
class Outcome:
    """What the demo found.

    Attributes
    ----------
    graph : Graph
        The quantized network.
    float_row : dict
        Accuracy of torch's float32 network, in the columns of `rows`.
    rows : tuple of dict
        One per machine; see ``report.views.machines``.
    comparisons : dict of str to Comparison
        By machine: the trace, and how far each layer is from float.
    """

    graph: Graph
    float_row: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    comparisons: dict[str, Comparison]


def quantized(net: nn.Module, digits: Digits, progress: Progress | None = None) -> Graph:
    """Give the network 8-bit weights and values with power-of-two steps, which every machine takes."""
    import torch

    from fixqnn.calibration import Policy, quantize
    from fixqnn.importers.torch import from_torch

    graph = from_torch(net, torch.zeros(2, 1, 8, 8))
    return quantize(graph, digits.train_images, Policy(weights=8, activations=8), progress=progress)


def compute(
    net: nn.Module,
    graph: Graph,
    digits: Digits,
    machines: Mapping[str, str] = MappingProxyType(MACHINES),
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> Outcome:
    """Run all test pictures on every machine, and compare codes, labels and speed with the float network.

    Parameters
    ----------
    net : torch.nn.Module
        The float network.
    graph : Graph
        The same, quantized.
    digits : Digits
        Pictures and labels.
    machines : mapping of str to str
        By label: names as `fixqnn.machines.resolve` takes them.
    rounds : int
        Timed runs per machine, at most; each is followed by one of torch, and medians are compared.
    progress : callable, optional
        ``progress(done, all)`` in machines.
    """
    import torch

    images, labels = digits.test_images, digits.test_labels
    pictures = torch.from_numpy(images)
    traces: dict[str, Trace] = {}
    seconds: dict[str, list[float]] = {}
    torch_seconds: list[float] = []
    with one_thread(), torch.inference_mode():
        reference = net(pictures).numpy().astype(np.float64)
        for done, name in enumerate(machines):
            program = lower(graph, resolve(machines[name]))
            traces[name] = run(program, images, watch="all")  # compiles; what is timed next does not
            seconds[name] = []
            while len(seconds[name]) < (rounds if min(seconds[name], default=0) < LONG else min(rounds, 3)):
                seconds[name].append(_time(partial(run, program, images)))
                torch_seconds.append(_time(partial(net, pictures)))
            if progress is not None:
                progress(done + 1, len(machines))
    comparisons = compare_with_float(graph, traces, {graph.inputs[0].name: images})
    usual = median(torch_seconds)
    rows = tuple(
        machine_row(name, comparisons[name], reference, labels, median(seconds[name]), usual) for name in machines
    )
    float_row = machine_row("torch float32", None, reference, labels, usual, usual)
    return Outcome(graph, float_row, rows, comparisons)


def _time(work: Callable[[], Any]) -> float:
    """Processor time, which other work on the same cores does not lengthen."""
    start = process_time()
    work()
    return process_time() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch and the linear algebra beneath numpy to one thread: more, on busy cores, measure the cores."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def write(
    outcome: Outcome, digits: Digits, overview: Table, folder: Path, command: str, settings: dict[str, Any]
) -> dict[str, str]:
    """Write page, summary and, per machine, a program with all codes of the first pictures; name what was written.

    Parameters
    ----------
    outcome : Outcome
        From `compute`.
    digits : Digits
        The pictures it speaks of.
    overview : Table
        One row per machine.
    folder : Path
        Where to write; made if it is not there.
    command : str
        What was typed.
    settings : dict
        Whatever else one needs to repeat it.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; --out takes a folder")
    folder.mkdir(parents=True, exist_ok=True)
    files = {"page": folder / "report.html", "summary": folder / "summary.json"}
    notes = list(dict.fromkeys(note for c in outcome.comparisons.values() for note in c.trace.program.notes))
    stamp = stamps(command, {**settings, **{f"machine {label}": name for label, name in MACHINES.items()}})
    page = run_page(
        "fixqnn demo: one network, several machines", LEAD, overview, outcome.comparisons, CLOSE_UP, stamp, notes
    )
    files["page"].write_text(page, encoding="utf-8")
    document = {
        "float": outcome.float_row,
        "machines": [
            {
                **row,
                "fingerprint": outcome.comparisons[row["machine"]].trace.program.fingerprint,
                "layers": layer_rows(outcome.comparisons[row["machine"]]),
                "registers": register_rows(outcome.comparisons[row["machine"]].trace),
            }
            for row in outcome.rows
        ],
        "stamps": stamp,
    }
    files["summary"].write_text(json.dumps(jsonable(document), indent=1, ensure_ascii=False), encoding="utf-8")
    for name, comparison in outcome.comparisons.items():
        files[name] = folder / "runs" / re.sub(r"[^A-Za-z0-9=]+", "-", name).strip("-")
        run(comparison.trace.program, digits.test_images[:SAVED], watch="all").save(files[name])
    return {name: str(path) for name, path in files.items()}
