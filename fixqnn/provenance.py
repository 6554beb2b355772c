"""What one would need to repeat a run: versions, machine, command, settings."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from fixqnn import __version__

PACKAGES = ("numpy", "numba", "torch", "scikit-learn")


def stamps(command: str = "", settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What one would need to repeat a run: versions, machine, command, settings."""
    found = {"fixqnn": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["processor"] = f"{_processor()}, {platform.system()} {platform.machine()}"
    if command:
        found["command"] = command
    return {**found, **{str(key): str(value) for key, value in (settings or {}).items()}}


def _processor() -> str:
    if sys.platform.startswith("linux"):
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        except OSError:
            names = []
        if names:
            return names[0]
    return platform.processor() or "unknown processor"
