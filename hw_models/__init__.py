"""Machines, ready made: each is a function that returns an `Accelerator`, a record of how integers are summed and scaled.

    >>> import hw_models
    >>> sorted(hw_models.CATALOG)
    ['hls4ml', 'ideal', 'onnxruntime', 'per_operation', 'systolic', 'tflite', 'torch_quantized']
    >>> hw_models.systolic(partial=16, accumulator=32).name
    'systolic(16x16, partial=16, accumulator=32)'

A machine of your own is a function like these, in a file of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import fixqnn as fq
from hw_models.hls4ml import apply_types, hls4ml
from hw_models.ideal import ideal
from hw_models.onnxruntime import onnxruntime
from hw_models.per_operation import per_operation
from hw_models.systolic import systolic
from hw_models.tflite import tflite
from hw_models.torch_quantized import torch_quantized

__all__ = [
    "CATALOG",
    "apply_types",
    "hls4ml",
    "ideal",
    "onnxruntime",
    "per_operation",
    "systolic",
    "tflite",
    "torch_quantized",
]

CATALOG: Mapping[str, Callable[..., fq.Accelerator]] = MappingProxyType(
    {
        "ideal": ideal,
        "per_operation": per_operation,
        "systolic": systolic,
        "hls4ml": hls4ml,
        "tflite": tflite,
        "onnxruntime": onnxruntime,
        "torch_quantized": torch_quantized,
    }
)
