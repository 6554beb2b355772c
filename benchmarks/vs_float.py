"""Measure whole networks against torch float32 on the same machine.

Run from the repository root::

    python benchmarks/vs_float.py                                      # all networks, one thread and all threads
    python benchmarks/vs_float.py --networks resnet18 --threads 1

Networks have 8-bit weights and values. Cases are interleaved round by round; tables hold medians and ratios inside one run;
the float baseline is the better of torch's two memory layouts. Start-up and memory are measured in fresh processes.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import fixqnn as fq  # noqa: E402
import hw_models as hw  # noqa: E402
from benchmarks.measure import RESULTS, Case, Column, Row, child, environment, interleaved, last_line, report  # noqa: E402

NAME = "vs_float"
# "exact": no register can act; "16/32": partial sums of 16 products in 16 bits, clamped at every addition, which rarely
# happens; "12/32": the same in 12 bits, where it happens all the time; "rounded": every product is rounded as well.
MACHINES: dict[str, Callable[[], fq.Accelerator]] = {
    "exact (ideal)": lambda: hw.ideal(),
    "stepwise (systolic 16/32)": lambda: hw.systolic(partial=16, accumulator=32),
    "stepwise (systolic 12/32)": lambda: hw.systolic(partial=12, accumulator=32),
    "rounded (per_operation)": lambda: hw.per_operation(),
}
DEFAULT_MACHINES = list(MACHINES)[:3]
DEFAULT_NETWORKS = ["mlp", "lenet", "resnet8", "ds_cnn", "resnet18", "mobilenet_v2"]
COLUMNS = (
    Column("network", "network"), Column("machine", "machine"), Column("batch", "batch", "d"), Column("threads", "threads"),
    Column("milliseconds", "ms", "3"), Column("torch_milliseconds", "torch float32, ms", "3"),
    Column("ratio", "torch / ours", "2"), Column("register_events", "register events", "d"),
    Column("paths", "sums by"),
)  # fmt: skip
START = "vs_float_start"
START_COLUMNS = (
    Column("case", "fresh process"), Column("import_seconds", "import fixqnn, s", ".3f"),
    Column("load_seconds", "load program, s", ".3f"), Column("first_seconds", "first run, s", ".3f"),
    Column("second_seconds", "second run, s", ".3f"), Column("process_seconds", "whole process, s", ".3f"),
)  # fmt: skip
MEMORY = "vs_float_memory"
MEMORY_COLUMNS = (
    Column("case", "fresh process"), Column("loaded_mib", "loaded, MiB", ".0f"), Column("peak_mib", "peak, MiB", ".0f"),
    Column("beyond_mib", "beyond, MiB", ".0f"),
)  # fmt: skip
TABLES = {NAME: COLUMNS, START: START_COLUMNS, MEMORY: MEMORY_COLUMNS}

START_ONCE = """
import json, sys, time
times = [time.perf_counter()]
import fixqnn as fq
times.append(time.perf_counter())
program = fq.Program.load(sys.argv[1])
times.append(time.perf_counter())
import numpy as np
x = np.load(sys.argv[2])
for _ in range(2):
    fq.run(program, x)
    times.append(time.perf_counter())
keys = "import_seconds", "load_seconds", "first_seconds", "second_seconds"
print(json.dumps(dict(zip(keys, (b - a for a, b in zip(times, times[1:]))))))
"""
# A run of a small program comes first: libraries and compiled kernels are no part of what a network needs.
MEMORY_ONCE = """
import json, sys
import numpy as np
import fixqnn as fq
from benchmarks.measure import memory_of
fq.run(fq.Program.load(sys.argv[3]), np.load(sys.argv[4]))
program, x = fq.Program.load(sys.argv[1]), np.load(sys.argv[2])
print(json.dumps(memory_of(lambda: fq.run(program, x))))
"""
TORCH_ONCE = """
import json, sys
import torch
from benchmarks.measure import memory_of
from benchmarks.networks import NETWORKS
torch.set_num_threads(1)
with torch.inference_mode():
    small, module = NETWORKS["mlp"](), NETWORKS[sys.argv[1]]()
    small.build()(*small.example(1))
    net, images = module.build(), module.example(int(sys.argv[2]))
    print(json.dumps(memory_of(lambda: net(*images))))
"""


def graph_of(network: str) -> tuple[Any, Any, fq.Graph]:
    """Build a network, quantize it on two noise pictures: module with its examples, torch network, graph."""
    from benchmarks.networks import NETWORKS

    module = NETWORKS[network]()
    net = module.build()
    example = module.example(batch=2)
    graph = fq.quantize(fq.from_torch(net, example), example[0].numpy(), fq.Policy(weights=8, activations=8))
    return module, net, graph


def measure(
    network: str, batches: Sequence[int], machines: Sequence[str], threads: Sequence[int], rounds: int
) -> list[Row]:
    """Time one network: torch in both layouts and every machine, interleaved, for every batch and number of threads."""
    import torch

    module, net, graph = graph_of(network)
    programs = {name: fq.lower(graph, MACHINES[name]()) for name in machines}
    rows = []
    for batch in batches:
        images = module.example(batch=batch)[0]
        for count in threads:
            torch.set_num_threads(count)
            cases: dict[str, Case] = {}
            lines: dict[str, Row] = {}
            for name, program in programs.items():
                line = {
                    "network": network,
                    "machine": name,
                    "batch": batch,
                    "threads": str(count),
                    "paths": _paths(program),
                }
                lines[name] = line
                try:
                    line["register_events"] = fq.run(program, images, threads=count).total_events()
                    cases[name] = _our_case(program, images, count)
                except (
                    Exception
                ) as problem:  # a machine that fails is a line of the table, and no reason to lose the others
                    line["error"] = f"{type(problem).__name__}: {problem}"
            cases |= {f"torch {layout}": _torch_case(net, images, layout) for layout in ("contiguous", "channels_last")}
            seconds = interleaved(cases, rounds, count)
            best = min(s for name, s in seconds.items() if name.startswith("torch"))
            for name in seconds.keys() & lines.keys():
                mine = seconds[name]
                lines[name].update(milliseconds=mine * 1e3, torch_milliseconds=best * 1e3, ratio=best / mine)
            rows += lines.values()
    return rows


def _paths(program: fq.Program) -> str:
    counts: dict[str, int] = {}
    for step in program.steps:
        if step.path:
            counts[step.path] = counts.get(step.path, 0) + 1
    return ", ".join(f"{n} {path}" for path, n in counts.items())


def _our_case(program: fq.Program, images: Any, threads: int) -> Case:
    return lambda: fq.run(program, images, threads=threads)


def _torch_case(net: Any, images: Any, layout: str) -> Case:
    import torch

    kind = torch.channels_last if layout == "channels_last" and images.ndim == 4 else torch.contiguous_format
    model, data = copy.deepcopy(net).to(memory_format=kind), images.contiguous(memory_format=kind)

    def forward() -> Any:
        with torch.inference_mode():
            return model(data)

    return forward


def measure_processes(networks: Sequence[str], machines: Sequence[str], batch: int) -> tuple[list[Row], list[Row]]:
    """Start-up with an empty and a filled kernel cache, and memory beyond the loaded program, in fresh processes."""
    import time

    starts, memories = [], []
    with TemporaryDirectory() as folder:
        at = Path(folder)
        small = _saved(at, "small", graph_of("mlp"), MACHINES[machines[0]](), 1)
        for network in networks:
            made = graph_of(network)
            for machine in machines:
                name = f"{network}, {machine}"
                files = _saved(at, network, made, MACHINES[machine](), 1)
                cache = {"NUMBA_CACHE_DIR": str(at / f"cache {network} {machine}".replace("/", "-"))}
                for state in ("cold", "warm"):
                    started = time.perf_counter()
                    row = last_line(child(["-c", START_ONCE, *files], cache))
                    row["process_seconds"] = time.perf_counter() - started
                    starts.append({"case": f"{name}, {state} cache", **row})
                files = _saved(at, network, made, MACHINES[machine](), batch)
                row = last_line(child(["-c", MEMORY_ONCE, *files, *small], cache))
                memories.append({"case": f"{name}, batch {batch}", **row})
            row = last_line(child(["-c", TORCH_ONCE, network, str(batch)]))
            memories.append({"case": f"{network}, torch float32, batch {batch}", **row})
    return starts, memories


def _saved(folder: Path, name: str, made: tuple[Any, Any, fq.Graph], machine: fq.Accelerator, batch: int) -> list[str]:
    module, _, graph = made
    program, data = folder / f"{name}.npz", folder / f"{name}.npy"
    fq.lower(graph, machine).save(program)
    np.save(data, module.example(batch=batch)[0].numpy())
    return [str(program), str(data)]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print the tables and write the JSON file."""
    import torch

    from benchmarks.networks import NETWORKS

    parser = argparse.ArgumentParser(description="Time against torch float32, as ratios inside one run.")
    parser.add_argument("--networks", nargs="+", default=DEFAULT_NETWORKS, choices=sorted(NETWORKS))
    parser.add_argument("--machines", nargs="+", default=DEFAULT_MACHINES, choices=list(MACHINES), metavar="MACHINE")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", default=["1", "all"], metavar="N", help="numbers, or 'all'")
    parser.add_argument("--processes", nargs="*", default=["resnet18"], help="networks to start in fresh processes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one small network, to see that it runs")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "vs_float.json")
    options = parser.parse_args(arguments)
    everything = len(os.sched_getaffinity(0))
    threads = list(dict.fromkeys(everything if t == "all" else int(t) for t in options.threads))
    if options.quick:
        options.networks, options.processes, options.batch, options.rounds = ["mlp"], ["mlp"], [2], 1
        options.machines = options.machines[:2]
    rows = []
    for network in options.networks:
        print(f"measuring {network} …", file=sys.stderr)
        rows += measure(network, options.batch, options.machines, threads, options.rounds)
    torch.set_num_threads(1)
    chosen = options.machines[:1] if options.quick else options.machines[:2]
    starts, memories = measure_processes(options.processes, chosen, max(options.batch))
    about = environment(", ".join(map(str, threads)))
    report(NAME, COLUMNS, rows, options.output, about, options.markdown)
    for name, columns, table in ((START, START_COLUMNS, starts), (MEMORY, MEMORY_COLUMNS, memories)):
        report(name, columns, table, options.output.with_name(f"{name}.json"), about, options.markdown)


if __name__ == "__main__":
    main()
