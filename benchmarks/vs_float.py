"""Measure how fast an exact simulation is, against torch float32 on the same machine.

Run from the repository root::

    python benchmarks/vs_float.py --networks resnet18 --threads 1

Whole networks, batch by batch, on machines whose sums are exact and on machines that clamp at every addition. Cases are
interleaved round by round; the table holds medians of rounds and ratios inside this run. The float baseline is the better of
torch's two memory layouts.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import fixqnn as fq  # noqa: E402
import hw_models as hw  # noqa: E402

MACHINES = {
    "ideal": lambda: hw.ideal(),
    "systolic 16/32": lambda: hw.systolic(partial=16, accumulator=32),
    "systolic 12/32": lambda: hw.systolic(partial=12, accumulator=32),
}


def measure(network: str, batch: int, machines: dict[str, Callable[[], Any]], rounds: int) -> list[dict[str, Any]]:
    """Time one network: torch in both layouts and every machine, interleaved."""
    import torch

    from benchmarks.networks import NETWORKS

    module = NETWORKS[network]()
    net = module.build()
    example = module.example(batch=2)
    images = module.example(batch=batch)[0]
    started = time.perf_counter()
    graph = fq.quantize(fq.from_torch(net, example), images.numpy(), fq.Policy(weights=8, activations=8))
    prepared = time.perf_counter() - started
    cases: dict[str, Callable[[], Any]] = {}
    lowering: dict[str, float] = {}
    traces = {}
    for name, machine in machines.items():
        started = time.perf_counter()
        program = fq.lower(graph, machine())
        lowering[name] = time.perf_counter() - started
        started = time.perf_counter()
        traces[name] = fq.run(program, images.numpy())
        lowering[f"{name} first"] = time.perf_counter() - started
        cases[name] = lambda program=program: fq.run(program, images.numpy())
    cases |= {f"torch {layout}": _torch_case(torch, net, images, layout) for layout in ("contiguous", "channels_last")}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    best = min(medians[name] for name in medians if name.startswith("torch"))
    with torch.inference_mode():
        reference = net(images).numpy()
    rows = []
    for name in machines:
        found = traces[name].output.real()
        rows.append({
            "network": network, "batch": batch, "machine": name, "seconds": medians[name], "torch_seconds": best,
            "ratio": best / medians[name], "first_run_seconds": lowering[f"{name} first"], "lower_seconds": lowering[name],
            "import_and_quantize_seconds": prepared, "register_events": traces[name].total_events(),
            "sqnr_db": fq.sqnr(reference, found),
        })  # fmt: skip
    return rows


def _torch_case(torch: Any, net: Any, images: Any, layout: str) -> Callable[[], Any]:
    kind = torch.channels_last if layout == "channels_last" and images.ndim == 4 else torch.contiguous_format
    model, data = copy.deepcopy(net).to(memory_format=kind), images.contiguous(memory_format=kind)

    def forward() -> Any:
        with torch.inference_mode():
            return model(data)

    forward()
    return forward


def environment(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    import numba
    import torch

    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "processor": platform.processor() or platform.machine(), "python": platform.python_version(), "numpy": np.__version__,
        "numba": numba.__version__, "torch": torch.__version__, "threads": threads, "commit": commit.stdout.strip(),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print the table and write the JSON file."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from benchmarks.networks import NETWORKS

    parser = argparse.ArgumentParser(description="Time against torch float32, as ratios inside one run.")
    parser.add_argument(
        "--networks", nargs="+", default=["lenet", "resnet8", "ds_cnn", "resnet18"], choices=sorted(NETWORKS)
    )
    parser.add_argument("--machines", nargs="+", default=list(MACHINES), choices=list(MACHINES))
    parser.add_argument("--batch", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "vs_float.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    console = Console(width=140)
    rows = []
    for network in options.networks:
        for batch in options.batch:
            console.print(f"measuring {network}, batch {batch} …", style="dim")
            rows += measure(network, batch, {m: MACHINES[m] for m in options.machines}, options.rounds)
    table = Table(
        "network", "batch", "machine", "ms", "torch ms", "torch / ours", "first run s", "register events", "SQNR dB"
    )
    for r in rows:
        table.add_row(
            r["network"], str(r["batch"]), r["machine"], f"{r['seconds'] * 1e3:.1f}", f"{r['torch_seconds'] * 1e3:.1f}",
            f"{r['ratio']:.3f}", f"{r['first_run_seconds']:.2f}", str(r["register_events"]), f"{r['sqnr_db']:.1f}",
        )  # fmt: skip
    console.print(table)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"peak memory of this process: {memory:.2f} GiB")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    document = {"environment": environment(options.threads), "peak_memory_gib": memory, "rows": rows}
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"written: {options.output}")


if __name__ == "__main__":
    main()
