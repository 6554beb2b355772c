"""hls4ml's layers against hls4ml: two networks, layer by layer, on the types that it chose."""

from __future__ import annotations

import json

import numpy as np
import pytest
from replay import VECTORS, same_codes, single

import fixqnn as fq
import hw_models

NETWORKS = {"hls4ml_cnn_wide.npz": 12_280, "hls4ml_cnn_narrow.npz": 12_280}  # codes, without softmax


def type_name(words: list) -> str:
    bits, whole, signed, rounding, overflow, kept = words
    return f"ap_{'' if signed else 'u'}fixed<{bits},{whole},{rounding},{overflow},{kept}>"


def network(file: str) -> tuple[fq.Graph, dict, dict[str, np.ndarray]]:
    """The network, its types by layer, and what hls4ml printed."""
    with np.load(VECTORS / file) as data:
        arrays = {name: data[name] for name in data.files}
    layers = json.loads(str(arrays.pop("meta")))["layers"]
    nodes, constants, types, last = [], {}, {}, "x"
    for layer in layers:
        name, kind = layer["name"], layer["class"]
        types[name] = {
            key: type_name(layer[word])
            for word, key in ((f"{key}_t", key) for key in ("result", "accum", "weight", "bias", "table"))
            if word in layer
        }
        if kind in ("Input", "Softmax"):
            continue
        weights = []
        if f"{name}.weight" in arrays:
            weights = [f"{name}.weight", f"{name}.bias"]
            w = arrays[weights[0]]
            # (row, column, channel, output) → (output, channel, row, column); (input, output) → (output, input)
            constants[weights[0]] = np.ascontiguousarray(np.moveaxis(w, (-1, -2), (0, 1)))
            constants[weights[1]] = arrays[weights[1]]
        if kind == "Reshape":  # channels last, as hls4ml flattens
            nodes.append(fq.Node("last", fq.OPS["transpose"], (last,), attributes={"axes": (0, 2, 3, 1)}))
            types["last"], last = types[name], "last"
        operation, attributes = operation_of(layer)
        nodes.append(fq.Node(name, fq.OPS[operation], (last, *weights), attributes=attributes))
        last = name
    types.pop("soft")
    graph = fq.Graph((fq.Value("x", (None, 3, 12, 12)),), (last,), tuple(nodes), constants)
    return graph, types, arrays


def operation_of(layer: dict) -> tuple[str, dict]:
    kind = layer["class"]
    if kind == "Dense":
        return "linear", {}
    if kind == "Reshape":
        return "reshape", {"shape": (None, 24)}
    if kind == "Activation":
        if layer["activation"] == "relu":
            return "clamp", {"low": 0.0, "high": None}
        return "lookup", {"function": layer["activation"]}
    stride = (layer["stride_height"], layer["stride_width"])
    padding = ((layer["pad_top"], layer["pad_bottom"]), (layer["pad_left"], layer["pad_right"]))
    if kind == "Conv2D":
        return "conv", {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    kernel = (layer["pool_height"], layer["pool_width"])
    if layer["pool_op"] == "Max":
        return "max_pool", {"kernel": kernel, "stride": stride, "padding": padding, "dilation": (1, 1)}
    return "average_pool", {"kernel": kernel, "stride": stride, "padding": padding, "include_padding": False}


def encoded(x: np.ndarray, name: str) -> np.ndarray:
    """Reals cast to a type, as hls4ml casts its inputs."""
    t = fq.parse_type(name)
    return t.format.encode(x, t.rounding, t.overflow, t.kept)


@pytest.mark.parametrize("file", NETWORKS)
def test_every_layer_gives_hls4ml_s_codes(file):
    """All layers but softmax, which is no operation of a graph here."""
    graph, types, arrays = network(file)
    typed = hw_models.apply_types(graph, types)
    program = fq.lower(typed, hw_models.hls4ml(types=types, graph=typed))
    codes = encoded(np.moveaxis(arrays["x"], -1, 1), types["x"]["result"])
    fast = fq.run(program, codes, watch="all")
    slow = fq.run(program, codes[:2], engine="exact", watch="all")
    compared = 0
    for node in graph.nodes:
        if node.name in ("last", "flat"):  # codes in another order: hls4ml traces none
            continue
        want = arrays[f"out.{node.name}"]
        if want.ndim == 4:
            want = np.moveaxis(want, -1, 1)
        same_codes(fast[node.output].codes, want, f"{file} {node.name}, fast engine")
        same_codes(slow[node.output].codes, want[:2], f"{file} {node.name}, exact engine")
        compared += want.size
    assert compared == NETWORKS[file]
    short = fq.run(program, codes[:2])
    assert short.events == slow.events


@pytest.mark.parametrize("file", NETWORKS)
def test_printed_weights_have_as_many_decimals_as_their_type_has_fraction_bits(file):
    graph, types, _ = network(file)
    for node in graph.nodes:
        for name, key in zip(node.inputs[1:], ("weight", "bias"), strict=False):
            decimals = fq.parse_type(types[node.name][key]).format.frac
            for value in graph.constants[name].ravel():
                assert float(f"{value:.{decimals}f}") == value
            assert any(float(f"{value:.{decimals - 1}f}") != value for value in graph.constants[name].ravel())


def test_weights_pass_through_decimal_text():
    x = fq.Value("x", (None, 1))
    graph = fq.Graph((x,), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w")),), {"w": [[0.4999999]]})
    types = {"fc": {"weight": "ap_fixed<4,3>"}}  # one fraction bit, one decimal: 0.5
    assert hw_models.apply_types(graph, types).constants["w"].codes.item() == 1
    assert hw_models.apply_types(graph, types, printed=False).constants["w"].codes.item() == 0


def test_the_middle_bin_of_a_table_is_twice_as_wide():
    x = fq.Tensor([[c] for c in (-11, -10, -1, 0, 1, 10)], fq.fixed(16, 10))  # -0.01 is about -10/1024
    graph = single("lookup", {"x": x}, {}, fq.fixed(16, 10), function="sigmoid")
    machine = hw_models.hls4ml(size=1024)
    for engine in ("fast", "exact"):
        found = fq.run(fq.lower(graph, machine), x, engine=engine).output.codes.ravel().tolist()
        assert found == [512] * 6
    steps = fq.Tensor([[-32], [-16], [-15], [15], [16]], fq.fixed(16, 10))  # an entry is 16 codes wide
    want = [int(np.floor(1024 / (1 + np.exp(-v)))) for v in (-2 / 64, -1 / 64, 0, 0, 1 / 64)]
    found = fq.run(fq.lower(single("lookup", {"x": steps}, {}, fq.fixed(16, 10), function="sigmoid"), machine), steps)
    assert found.output.codes.ravel().tolist() == want


def test_an_average_is_cut_toward_zero():
    x = fq.Tensor([[[-1, -1, 0]], [[1, 1, 0]]], fq.fixed(8, 0))
    attributes = {"kernel": (3,), "stride": (3,), "padding": ((0, 0),), "include_padding": True}
    graph = single("average_pool", {"x": x}, {}, fq.fixed(8, 0), **attributes)
    for accum, want in (("ap_fixed<8,8>", [0, 0]), ("ap_fixed<8,6>", [-1, 0])):  # -2/3 in quarters is -2/4: floor is -1
        machine = hw_models.hls4ml(accum)
        for engine in ("fast", "exact"):
            assert fq.run(fq.lower(graph, machine), x, engine=engine).output.codes.ravel().tolist() == want


def test_products_are_cast_before_they_are_added():
    x = fq.Tensor([[2, 1]], fq.fixed(8, 1))  # 1 and 1/2 into whole numbers, half to even: 1 + 0, and not 1.5 to 2
    graph = single("linear", {"x": x}, {"w": fq.Tensor([[1, 1]], fq.fixed(8, 0))}, fq.fixed(8, 0))
    for engine in ("fast", "exact"):
        assert (
            fq.run(fq.lower(graph, hw_models.hls4ml("ap_fixed<8,8,AP_RND_CONV>")), x, engine=engine).output.codes.item()
            == 1
        )


def test_every_layer_has_modes_of_its_own_also_where_codes_are_only_compared():
    x = fq.Tensor([[3], [-3], [40]], fq.fixed(8, 1))
    nodes = (
        fq.Node("relu", fq.OPS["clamp"], ("x",), attributes={"low": 0.0}),
        fq.Node("half", fq.OPS["clamp"], ("x",), attributes={"low": -100.0}),
    )
    graph = fq.Graph((fq.Value("x", (None, 1), x.format),), ("relu", "half"), nodes)
    types = {"relu": {"result": "ap_fixed<4,4,AP_RND,AP_SAT>"}, "half": {"result": "ap_fixed<4,4,AP_TRN,AP_WRAP>"}}
    typed = hw_models.apply_types(graph, types)
    trace = fq.run(fq.lower(typed, hw_models.hls4ml(types=types, graph=typed)), x)
    assert trace.outputs["relu"].codes.ravel().tolist() == [2, 0, 7]
    assert trace.outputs["half"].codes.ravel().tolist() == [1, -2, 4]


def test_a_leaky_relu_is_one_exact_product_and_one_cast():
    x = fq.Tensor([[-5], [7]], fq.fixed(8, 0))  # -1.25, floored
    graph = single("lookup", {"x": x}, {}, fq.fixed(8, 0), function="leaky_relu", negative_slope=0.25)
    assert fq.run(fq.lower(graph, hw_models.hls4ml()), x).output.codes.ravel().tolist() == [-2, 7]


def test_names_and_keys_that_mean_nothing_are_refused():
    graph = single(
        "linear", {"x": fq.Tensor([[1]], fq.fixed(8, 0))}, {"w": fq.Tensor([[1]], fq.fixed(8, 0))}, fq.fixed(8, 0)
    )
    with pytest.raises(fq.BadInput, match="give graph="):
        hw_models.hls4ml(types={"op": {}})
    with pytest.raises(fq.BadInput, match="types names fc, neither nodes nor inputs"):
        hw_models.hls4ml(types={"fc": {}}, graph=graph)
    with pytest.raises(fq.BadInput, match="has the keys acum; there are accum, result"):
        hw_models.hls4ml(types={"op": {"acum": "ap_fixed<8,4>"}}, graph=graph)
    with pytest.raises(fq.FormatError, match="no type name"):
        hw_models.hls4ml("ap_float<8>")
