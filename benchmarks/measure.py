"""What all benchmarks share: interleaved rounds, the environment, and one table in three forms: terminal, JSON, Markdown."""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHORTEST = 2e-3  # seconds: shorter cases are repeated inside one measurement, so that the clock's step does not matter
SETTLE = 0.005  # seconds: torch's OpenMP threads spin for a while after a call, and would disturb the next case

Row = dict[str, Any]
Case = Callable[[], Any]


@dataclass(frozen=True)
class Column:
    """One column of a table: which entry of a row, under which title, and its format: a digit says how many count."""

    key: str
    title: str
    form: str = ""

    def show(self, row: Mapping[str, Any]) -> str:
        """Write the row's entry; nothing where it has none."""
        value = row.get(self.key)
        if value is None or value == "":
            return ""
        if not self.form or not isinstance(value, int | float):
            return str(value)
        return significant(value, int(self.form)) if self.form.isdigit() else format(value, self.form)


def significant(value: float, digits: int) -> str:
    """Write a number with so many digits that count, and without an exponent.

    >>> [significant(v, 2) for v in (1234.5, 12.34, 0.01234, 0)]
    ['1234', '12', '0.012', '0.0']
    """
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else digits - 1
    return f"{value:.{max(places, 0)}f}"


def interleaved(cases: Mapping[str, Case], rounds: int, threads: int = 1) -> dict[str, float]:
    """Median seconds per call of every case, measured in turns: what slows the machine down slows all of them.

    One thread is measured in processor time, which others on the machine do not add to; several in wall time.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    repeats = {name: _repeats(case, clock) for name, case in cases.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, case in cases.items():
                if threads > 1:
                    time.sleep(SETTLE)
                started = clock()
                for _ in range(repeats[name]):
                    case()
                seconds[name].append((clock() - started) / repeats[name])
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in seconds.items()}


def _repeats(case: Case, clock: Callable[[], float]) -> int:
    started = clock()
    case()  # compiles, packs, touches memory
    if clock() - started > 1:
        return 1
    started = clock()
    case()
    return max(1, min(1000, int(SHORTEST / max(clock() - started, 1e-6))))


def environment(threads: int | str = 1) -> Row:
    """What the figures depend on."""
    import importlib.metadata as metadata

    versions = {}
    for package in ("numpy", "numba", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": _processor(), "processors": len(os.sched_getaffinity(0)), "system": platform.system(),
        "python": platform.python_version(), **versions, "threads": threads,
        "commit": _git("rev-parse", "--short", "HEAD"), "changed": bool(_git("status", "--porcelain", "fixqnn", "hw_models")),
        "load": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _processor() -> str:
    """Model, and the vector instructions that the kernels ask for."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    entries = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    entries = {key.strip(): value.strip() for key, value in entries.items()}
    flags = entries.get("flags", entries.get("Features", "")).split()
    known = [f for f in ("avx2", "avx512bw", "avx512_vnni", "amx_int8", "asimd", "asimddp") if f in flags]
    return f"{entries.get('model name', platform.machine())} ({', '.join(known)})"


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def report(
    name: str, columns: Sequence[Column], rows: Sequence[Row], output: Path, about: Row, markdown: bool = False
) -> None:
    """Print the table, and write the JSON file that `benchmarks/tables.py` reads."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=250)
    if markdown:
        console.print(as_markdown(columns, rows), markup=False, soft_wrap=True)
    else:
        table = Table(title=name)
        for column in columns:
            table.add_column(column.title, justify="right" if column.form else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(column.show(row) for column in columns))
        console.print(table)
    for line in notes(rows):
        console.print(f"- {line}", markup=False, soft_wrap=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"benchmark": name, "environment": about, "rows": list(rows)}, indent=1) + "\n")
    console.print(f"written: {output}", soft_wrap=True)


def notes(rows: Sequence[Row]) -> list[str]:
    """What was not measured, and why; equal reasons once."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.get("error"):
            who = " by ".join(str(row[key]) for key in ("network", "case", "work", "peer") if row.get(key))
            named.setdefault(str(row["error"]), []).append(who)
    return [f"not measured: {'; '.join(dict.fromkeys(who))}: {error}" for error, who in named.items()]


def as_markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Write the table as Markdown."""
    lines = ["| " + " | ".join(c.title for c in columns) + " |"]
    lines += ["|" + "|".join("---:" if c.form else "---" for c in columns) + "|"]
    lines += ["| " + " | ".join(c.show(row).replace("|", "\\|") for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def memory_of(case: Case) -> Row:
    """Resident memory before a call, its peak during the call, and the difference, in MiB.

    Not `ru_maxrss`: a child process inherits that from the parent which started it.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here (Linux, proc(5))
    before = _status("VmRSS")
    kept = case()
    peak = _status("VmHWM")
    del kept
    return {"loaded_mib": before, "peak_mib": peak, "beyond_mib": peak - before}


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def child(arguments: Sequence[str], changes: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process from the repository root, with a changed environment."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **(changes or {})}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=variables, cwd=ROOT
    )


def last_line(finished: subprocess.CompletedProcess[str]) -> Row:
    """Read the JSON object that a child printed last, or what went wrong as its ``error``."""
    lines = finished.stdout.strip().splitlines()
    if finished.returncode or not lines:
        said = finished.stderr.strip().splitlines()
        return {"error": said[-1] if said else f"exit status {finished.returncode}"}
    return dict(json.loads(lines[-1]))
