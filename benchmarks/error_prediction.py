"""Hold predicted and certified errors against exact simulation: digits, and ResNet-8 with made-up and with trained weights.

Run from the repository root::

    python benchmarks/error_prediction.py

Errors are root mean squares over all outputs of the test pictures, on whole sums; "predicted" over "seen" should be one. The
certified bound is the largest over all of them, and so is the largest error seen. ResNet-8 is trained for three epochs on digits
enlarged to 32×32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measure import RESULTS, Column, Row, environment, report  # noqa: E402

NAME = "error_prediction"
STYLES: dict[str, dict[str, Any]] = {"power of two": {}, "free, per channel": {"scales": "free", "per_channel": True}}
WIDTHS = ((3, 3), (4, 4), (4, 8), (8, 4), (5, 5), (6, 6), (8, 8), (10, 10))
COLUMNS = (
    Column("network", "network"),
    Column("scales", "scales"),
    Column("weights", "weights", "d"),
    Column("activations", "values", "d"),
    Column("seen", "rms seen", ".4g"),
    Column("ratio", "predicted / seen", ".2f"),
    Column("uniform", "uniform / seen", ".2f"),
    Column("db", "seen, dB", ".1f"),
    Column("certified", "bound / largest seen", ".0f"),
    Column("seconds", "prediction, s", ".2f"),
)


def digits() -> tuple[Any, np.ndarray, np.ndarray]:
    """The demo's network, pictures for its ranges, and pictures to test with."""
    import torch

    import fixqnn as fq
    from fixqnn import demo

    pictures = demo.load_digits()
    graph = fq.from_torch(demo.train(pictures), torch.zeros(2, 1, 8, 8))
    return graph, pictures.train_images, pictures.test_images[:200]


def made_up() -> tuple[Any, np.ndarray, np.ndarray]:
    """ResNet-8 with weights drawn at random, on noise."""
    import torch

    import fixqnn as fq
    from benchmarks.networks import resnet8

    noise = torch.randn(128, 3, 32, 32, generator=torch.Generator().manual_seed(1)).numpy()
    return fq.from_torch(resnet8.build(), torch.zeros(2, 3, 32, 32)), noise[64:], noise[:64]


def trained(epochs: int = 3) -> tuple[Any, np.ndarray, np.ndarray]:
    """ResNet-8 that knows digits, enlarged and grey."""
    import torch

    import fixqnn as fq
    from benchmarks.networks import resnet8
    from fixqnn import demo

    def enlarged(images: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.interpolate(torch.from_numpy(images), size=32, mode="bilinear").repeat(1, 3, 1, 1)

    pictures = demo.load_digits()
    images, labels = enlarged(pictures.train_images), torch.from_numpy(pictures.train_labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = resnet8.ResNet8(10).train()
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(64):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimiser.step()
    graph = fq.from_torch(net.eval(), torch.zeros(2, 3, 32, 32))
    return graph, images[:64].numpy(), enlarged(pictures.test_images[:64]).numpy()


NETWORKS: dict[str, Callable[[], tuple[Any, np.ndarray, np.ndarray]]] = {
    "digits": digits, "ResNet-8, made up": made_up, "ResNet-8, trained": trained,
}  # fmt: skip


def measure(name: str, graph: Any, train: np.ndarray, test: np.ndarray, widths: Sequence[tuple[int, int]]) -> list[Row]:
    """One row per style and widths."""
    import fixqnn as fq
    from fixqnn.machines import resolve

    x, rows = test.astype(np.float64), []
    real = graph.evaluate(x)[graph.outputs[0]]
    for scales, style in STYLES.items():
        calibration = fq.calibrate(graph, train, fq.Policy(**style))
        for weights, activations in widths:
            made = fq.choose(graph, calibration, fq.Policy(weights=weights, activations=activations, **style))
            output = fq.run(fq.lower(made, resolve("ideal")), x).output.real()
            seen = float(np.sqrt(np.mean((output - real) ** 2)))
            start = process_time()
            predicted = fq.predict_rms(made, x)
            rows.append({
                "network": name, "scales": scales, "weights": weights, "activations": activations, "seen": seen,
                "seconds": process_time() - start, "ratio": predicted.rms / seen, "db": fq.sqnr(real, output),
                "uniform": fq.predict_rms(made, x, errors="uniform").rms / seen,
                "certified": float(fq.error_bound(made, x).max() / np.abs(output - real).max()),
            })  # fmt: skip
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{NAME}.json")
    given = parser.parse_args(arguments)
    from fixqnn.demo import one_thread

    rows: list[Row] = []
    with one_thread():
        for name, make in list(NETWORKS.items())[: 1 if given.quick else None]:
            rows += measure(name, *make(), WIDTHS[-1:] if given.quick else WIDTHS)
    report(NAME, COLUMNS, rows, given.output, environment(), given.markdown)


if __name__ == "__main__":
    main()
