"""Compiled kernels on disk: one file per kernel, signature, processor and state of the sources.

Numba keeps an index beside numbered files and writes the index first. A process that reads between the two writes, or two
processes that write at once, can find code of an older source or of another signature under the number: codes would be wrong
without a word. Here the name of a file says everything that its code depends on, files appear whole or not at all, and
what does not hash to its own checksum is compiled again. No failure to read or write costs more than that compilation.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

CHECKSUM = 32  # bytes of SHA-256 ahead of the code


def _hash_of_sources() -> str:
    package = Path(__file__).parent.parent
    files = [package / "arith" / "fast.py", *sorted((package / "kernels").glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


# All that kernels are made of: inlined steps and called kernels may come from another file. Read at import, as the code is.
SOURCES = _hash_of_sources()


class KernelCache(FunctionCache):
    """The cache of one kernel.

    Raises
    ------
    RuntimeError
        When neither NUMBA_CACHE_DIR, nor the package, nor the user's cache folder can be written.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(Path(self.cache_path), self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the code for a signature; None where there is none that can be trusted."""
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, if the folder still takes it: it may be full, gone or read-only by now."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


class _Files:
    """Where one kernel's code lies; `key` is the signature, the processor and the function's own code."""

    def __init__(self, folder: Path, name: str, stamp: Any) -> None:
        self.folder, self.name, self.stamp = folder, name, stamp

    def path(self, key: Any) -> Path:
        """Name of the file for a key: types, processor and its features are told apart by how they print."""
        text = repr((numba.__version__, SOURCES, self.stamp, key))
        return self.folder / f"{self.name}.{hashlib.sha256(text.encode()).hexdigest()[:24]}.nbc"

    def load(self, key: Any) -> Any:
        """Read what was kept under a key; None if there is nothing, or it is damaged."""
        try:
            data = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        checksum, code = data[:CHECKSUM], data[CHECKSUM:]
        return pickle.loads(code) if hashlib.sha256(code).digest() == checksum else None

    def save(self, key: Any, data: Any) -> None:
        """Write under another name, then rename: no process ever sees half a file."""
        code = dumps(data)
        temporary = self.folder / f"{self.name}.{uuid4().hex[:16]}.tmp"
        try:
            temporary.write_bytes(hashlib.sha256(code).digest() + code)
            temporary.replace(self.path(key))
        finally:
            temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        """Remove everything kept for this kernel."""
        for file in self.folder.glob(f"{self.name}.*.nbc"):
            file.unlink(missing_ok=True)
