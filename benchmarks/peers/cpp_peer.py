"""A compiled loop over a C++ register class, as the emulation of high-level synthesis runs it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("saturating.cpp")


class CppLoop:
    """`saturating.cpp` by g++: our own class, a stand-in for ac_fixed and ap_fixed."""

    name = "C++ class, g++ -O2"
    multiplications = 30_000_000
    flags: tuple[str, ...] = ("-O2",)

    def available(self) -> str:
        """Say which compiler is there."""
        if shutil.which("g++") is None:
            return ""
        return subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=False).stdout.strip()

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Compile for the work's register and lay out the operands."""
        if work.kind not in ("saturate", "rounded"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "saturating.so"
            defined = (f"-DBITS={work.bits}", f"-DDROPPED={work.drop}")
            command = ["g++", *self.flags, *defined, "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
            subprocess.run(command, check=True, capture_output=True)
            function = ctypes.CDLL(str(library)).saturating_product
        x, w = np.ascontiguousarray(work.x, np.int8), np.ascontiguousarray(work.w.T, np.int8)
        out = np.zeros((len(x), len(w)), np.int32)
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, w, out)]
        held = (x, w)  # the pointers do not keep their arrays alive

        def call() -> np.ndarray:
            function(*pointers, len(held[0]), held[0].shape[1], len(held[1]))
            return out

        return call

    def codes(self, result: Any) -> np.ndarray:
        """Give the registers' codes."""
        return np.asarray(result, np.int64)


class CppLoopNative(CppLoop):
    """The same with everything that the compiler can do for this processor."""

    name = "C++ class, g++ -O3 -march=native"
    flags = ("-O3", "-march=native")
