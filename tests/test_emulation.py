"""Codes and events do not depend on the processor: here on ones with fewer instructions, which compilers can be told to serve."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import fixqnn as fq
from fixqnn.kernels.portable import KERNELS
from tests.hw_models.test_networks import MACHINES, network, samples

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of another kind")
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
SSE2 = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


def perceptron() -> fq.Graph:
    """Two linear layers."""
    rng = np.random.default_rng(3)
    nodes = (
        fq.Node("first", fq.OPS["linear"], ("x", "w1", "b1")),
        fq.Node("relu", fq.OPS["clamp"], ("first",), attributes={"low": 0.0}),
        fq.Node("second", fq.OPS["linear"], ("relu", "w2")),
    )
    constants = {"w1": rng.normal(0, 0.2, (40, 72)), "b1": rng.normal(0, 0.2, 40), "w2": rng.normal(0, 0.2, (10, 40))}
    return fq.Graph((fq.Value("x", (None, 72)),), ("second",), nodes, constants)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("programs")
    x = samples(20)
    pairs = [
        (name, network(name != "tflite"), x) for name in ("ideal", "systolic(partial=10)", "per_operation", "tflite")
    ]
    for name, net, inputs in [*pairs, ("systolic", perceptron(), x.reshape(20, 72))]:
        program = fq.lower(fq.quantize(net, inputs), MACHINES[name])
        program.save(made / f"{name}.npz")
        np.save(made / f"{name}.npy", inputs)
    return made


def emulated(folder: Path, **variables: str) -> dict:
    """Run the module in a process that thinks it has another processor."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulated", str(folder)],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def here(folder):
    """What this processor says."""
    return emulated(folder)


def test_every_kind_of_path_is_among_the_layers(here):
    rare = {path for path, count in here["taken"].items() if count < 2}
    assert not rare
    assert here["kernels"] == KERNELS


def test_plain_loops_say_the_same(here, folder):
    assert emulated(folder, FIXQNN_KERNELS="portable") == {**here, "kernels": "portable"}


@x86
def test_a_processor_with_vectors_of_256_bits_says_the_same(here, folder):
    found = emulated(folder, FIXQNN_KERNELS="", **AVX2)
    assert found == {**here, "kernels": "vectors"}


@x86
def test_a_processor_with_vectors_of_128_bits_takes_plain_loops_and_says_the_same(here, folder):
    assert emulated(folder, FIXQNN_KERNELS="", **SSE2) == {**here, "kernels": "portable"}


@x86
def test_explicit_vectors_of_128_bits_say_the_same(here, folder):
    assert emulated(folder, FIXQNN_KERNELS="vectors", **SSE2) == {**here, "kernels": "vectors"}
