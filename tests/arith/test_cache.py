"""A cache of compiled code may cost time; it may never change an answer or stop a run."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from fixqnn.arith import cache

ROOT = Path(__file__).parent.parent.parent
MODULE = """
from fixqnn.arith.fast import kernel

@kernel
def add_one(x):
    for i in range(x.size):
        x[i] += {step}
    return x
"""
pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def fresh(folder: Path, step: int = 1):
    """A kernel as a new process has it: from source, nothing compiled yet."""
    path = folder / "loops.py"
    path.write_text(MODULE.format(step=step))
    spec = importlib.util.spec_from_file_location("loops", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.add_one


def answer(kernel, dtype=np.int64) -> tuple[list[int], bool]:
    """What it computes, and whether it was compiled for that."""
    got = kernel(np.zeros(2, dtype)).tolist()
    return got, sum(kernel.stats.cache_misses.values()) > 0


def files(folder: Path, suffix: str = ".nbc") -> list[Path]:
    return sorted(p for p in (folder / "cache").rglob("*") if p.name.endswith(suffix))


def test_a_second_process_finds_what_the_first_compiled(folder):
    assert answer(fresh(folder)) == ([1, 1], True)
    assert answer(fresh(folder)) == ([1, 1], False)
    assert answer(fresh(folder), np.int8) == ([1, 1], True)
    assert answer(fresh(folder), np.int8) == ([1, 1], False)
    assert len(files(folder)) == 2
    assert not files(folder, ".tmp")


def test_changed_sources_are_compiled_again(folder, monkeypatch):
    assert answer(fresh(folder)) == ([1, 1], True)
    assert answer(fresh(folder, step=2)) == (
        [2, 2],
        True,
    )  # its own file: the same name, line and byte code but for a constant
    assert answer(fresh(folder)) == ([1, 1], False)
    monkeypatch.setattr(cache, "SOURCES", "an inlined step has changed")
    assert answer(fresh(folder)) == ([1, 1], True)


def test_all_that_kernels_are_made_of_is_hashed(tmp_path, monkeypatch):
    for place in ("arith", "kernels"):
        shutil.copytree(ROOT / "fixqnn" / place, tmp_path / place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "arith" / "cache.py"))
    seen = {cache._hash_of_sources()}
    for changed in ("arith/fast.py", "kernels/wide.py", "kernels/rescale_loops.py"):
        path = tmp_path / changed
        path.write_text(path.read_text() + "\n")
        seen.add(cache._hash_of_sources())
    assert len(seen) == 4


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b * 2]
)
def test_a_damaged_file_is_compiled_again_and_mended(folder, damage):
    answer(fresh(folder))
    (file,) = files(folder)
    file.write_bytes(damage(file.read_bytes()))
    assert answer(fresh(folder)) == ([1, 1], True)
    assert answer(fresh(folder)) == ([1, 1], False)


def test_code_for_other_types_under_a_file_s_name_is_not_taken(folder):
    answer(fresh(folder), np.int64)
    answer(fresh(folder), np.int32)
    one, other = files(folder)
    assert one.read_bytes() != other.read_bytes()
    assert answer(fresh(folder), np.int32) == ([1, 1], False)


def test_a_full_folder_costs_only_time(folder, monkeypatch):
    kernel = fresh(folder)

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert answer(kernel) == ([1, 1], True)
    assert files(folder, "") == files(folder, ".nbc") + [p for p in files(folder, "") if p.is_dir()]


@pytest.mark.parametrize("instead", ["nothing", "a file", "a file's child"])
def test_a_folder_that_vanishes_costs_only_time(folder, instead):
    answer(fresh(folder))
    kernel, other = fresh(folder), fresh(folder)
    shutil.rmtree(folder / "cache")
    if instead == "a file":
        (folder / "cache").write_text("")
    elif instead == "a file's child":
        place = Path(kernel._cache.cache_path)
        place.parent.mkdir()
        place.write_text("")
    assert answer(kernel) == ([1, 1], True)
    assert answer(other, np.int16) == ([1, 1], True)


def test_something_else_in_the_place_of_a_file_costs_only_time(folder):
    answer(fresh(folder))
    (file,) = files(folder)
    file.unlink()
    file.mkdir()
    assert answer(fresh(folder)) == ([1, 1], True)
    assert not files(folder, ".tmp")


def test_flushing_forgets_one_kernel(folder):
    kernel = fresh(folder)
    answer(kernel)
    kernel._cache.flush()
    assert files(folder) == []


def test_without_any_writable_folder_kernels_are_compiled_in_every_process(tmp_path):
    """Permission bits do not stop an administrator, so regular files stand where the folders would have to be."""
    package = tmp_path / "installed"
    shutil.copytree(ROOT / "fixqnn", package / "fixqnn", ignore=shutil.ignore_patterns("__pycache__"))
    for room in ("arith", "kernels"):
        (package / "fixqnn" / room / "__pycache__").write_text("")
    wall = tmp_path / "wall"
    wall.write_text("")
    (package / "__pycache__").write_text("")
    (package / "loops.py").write_text(MODULE.format(step=1))
    code = (
        "import sys\nimport numpy as np\nimport fixqnn, fixqnn.ops, loops\nfrom fixqnn.arith.fast import KERNELS\n"
        "assert fixqnn.__file__.startswith(sys.argv[1]), fixqnn.__file__\n"
        "print(len(KERNELS) > 5, {k._cache.cache_path for k in KERNELS}, loops.add_one(np.zeros(1, int)))\n"
    )
    below = str(wall / "below")
    environment = {**os.environ, "HOME": below, "XDG_CACHE_HOME": below, "NUMBA_CACHE_DIR": below}
    environment["PYTHONPATH"] = str(package)
    done = subprocess.run(
        [sys.executable, "-c", code, str(package)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.stdout.strip() == "True {None} [1]", done.stderr


def test_processes_that_compile_at_once_agree(tmp_path):
    (tmp_path / "loops.py").write_text(MODULE.format(step=1))
    code = "import numpy as np, loops; print([loops.add_one(np.zeros(1, t)).tolist() for t in (np.int8, np.int64, np.float32)])"
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    start = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert {process.communicate()[0].strip() for process in start} == {"[[1], [1], [1.0]]"}
    assert len(files(tmp_path)) == 3
    assert not files(tmp_path, ".tmp")
