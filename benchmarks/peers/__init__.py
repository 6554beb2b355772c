"""Other tools that compute the same codes, each behind one narrow adapter; those that are missing say so."""

from __future__ import annotations

from benchmarks.peers.apytypes_peer import APyTypes
from benchmarks.peers.cpp_peer import CppLoop, CppLoopNative
from benchmarks.peers.fxpmath_peer import FxpmathArrays, FxpmathLoop
from benchmarks.peers.numpy_peer import NumpyFloat, NumpyInteger, NumpyLoop
from benchmarks.peers.onnxruntime_peer import OnnxRuntime
from benchmarks.peers.torch_peer import TorchInt8
from benchmarks.peers.work import MatrixWork, NetworkWork, Peer

PEERS: tuple[Peer, ...] = (
    OnnxRuntime(), TorchInt8(), NumpyFloat(), NumpyInteger(), NumpyLoop(), APyTypes(), CppLoop(), CppLoopNative(),
    FxpmathArrays(), FxpmathLoop(),
)  # fmt: skip

__all__ = ["PEERS", "MatrixWork", "NetworkWork", "Peer"]
