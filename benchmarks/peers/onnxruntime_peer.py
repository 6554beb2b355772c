"""onnxruntime: int8 operators, one thread; a whole network is built node by node from a fixqnn graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import version

OPSET = 19


class OnnxRuntime:
    """MatMulInteger for products; QLinearConv, QLinearAdd and MaxPool for networks, with graph optimisation."""

    name = "onnxruntime"
    multiplications = 10_000_000_000

    def available(self) -> str:
        """Say which version is there."""
        return version("onnxruntime") if version("onnx") else ""

    def prepare(self, work: Any) -> Callable[[], Any] | None:
        """Build the model and open a session of one thread."""
        if work.kind not in ("exact", "network"):
            return None
        import onnxruntime

        model, codes = product_model(work) if work.kind == "exact" else network_model(work)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": codes})[0]

    def codes(self, result: Any) -> np.ndarray:
        """Give sums or codes."""
        return np.asarray(result).astype(np.int64)


def product_model(work: Any) -> tuple[Any, np.ndarray]:
    """Make a model of one MatMulInteger, and its input: unsigned codes with a zero point, which it is fastest with."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(work.w, np.int8), "w"),
        numpy_helper.from_array(np.array(128, np.uint8), "zero"),
    ]
    graph = helper.make_graph(
        [node], "product", [helper.make_tensor_value_info("x", TensorProto.UINT8, list(work.x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)], constants,
    )  # fmt: skip
    return _model(onnx, graph), (work.x + 128).astype(np.uint8)


def network_model(work: Any) -> tuple[Any, np.ndarray]:
    """Make the model of a graph of conv, add, max_pool and relus that its formats do already."""
    import onnx
    from onnx import TensorProto, helper

    writer = _Writer(work.graph)
    for node in work.graph.nodes:
        getattr(writer, node.op.name)(node)
    (source,), (output,) = work.graph.inputs, work.graph.outputs
    shape = [work.codes.shape[0], *source.shape[1:]]
    graph = helper.make_graph(
        writer.nodes, "network", [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(writer.names[output], TensorProto.UINT8, None)], writer.constants,
    )  # fmt: skip
    return _model(onnx, graph), work.codes.astype(np.uint8)


def _model(onnx: Any, graph: Any) -> Any:
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


class _Writer:
    """Nodes and constants of an ONNX graph; values that only change their name keep the one they have."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[str, str] = {graph.inputs[0].name: "x"}

    def constant(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def quantization(self, value: str, kind: Any = np.uint8) -> list[str]:
        """Names of a value's scale and zero point."""
        form = self.graph.formats[value]
        if form.bits != 8 or form.signed != (kind is np.int8):
            raise ValueError(f"{value}: {form} has no place in this model")
        name = f"{value}.{len(self.constants)}"
        scale = self.constant(f"{name}.scale", np.array(float(form.scale), np.float32))
        return [scale, self.constant(f"{name}.zero", np.array(int(form.zero_point), kind))]

    def emit(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.names[output] = output
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def conv(self, node: Any) -> None:
        x, w, b = node.inputs
        weights = self.graph.formats[w].encode(self.graph.constants[w]).astype(np.int8)
        scale = self.graph.formats[x].scale * self.graph.formats[w].scale
        bias = np.rint(np.array([float(v / float(scale)) for v in self.graph.constants[b]])).astype(np.int32)
        (top, bottom), (left, right) = node.attributes["padding"]
        self.emit(
            "QLinearConv",
            [
                self.names[x], *self.quantization(x), self.constant(w, weights), *self.quantization(w, np.int8),
                *self.quantization(node.output), self.constant(b, bias),
            ],
            node.output, strides=list(node.attributes["stride"]), pads=[top, left, bottom, right],
            dilations=list(node.attributes["dilation"]), group=node.attributes["groups"],
        )  # fmt: skip

    def add(self, node: Any) -> None:
        operands = [name for value in node.inputs for name in (self.names[value], *self.quantization(value))]
        self.emit("QLinearAdd", [*operands, *self.quantization(node.output)], node.output, domain="com.microsoft")

    def max_pool(self, node: Any) -> None:
        (top, bottom), (left, right) = node.attributes["padding"]
        self.emit(
            "MaxPool", [self.names[node.inputs[0]]], node.output, kernel_shape=list(node.attributes["kernel"]),
            strides=list(node.attributes["stride"]), pads=[top, left, bottom, right],
        )  # fmt: skip

    def clamp(self, node: Any) -> None:
        """A relu whose input has its format: unsigned codes from zero, which saturate there."""
        before, after = self.graph.formats[node.inputs[0]], self.graph.formats[node.output]
        if (
            before != after
            or after.zero_point != 0
            or node.attributes["low"] != 0
            or node.attributes["high"] is not None
        ):
            raise ValueError(f"{node.name}: {before} to {after} is more than a relu that the format does")
        self.names[node.output] = self.names[node.inputs[0]]
