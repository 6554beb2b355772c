"""Lowering, saving, running and comparing whole programs."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.graph import Graph, Node, Value
from fixqnn.ops import OPS

SUM = fq.SumOfProducts(fq.Shift("half_even"), sum=(fq.Stage(fq.Register(12), 7), fq.Stage(fq.Register(32))))
MACHINE = fq.Accelerator("mine", {"conv": SUM, "linear": SUM, "requantize": fq.Shift("half_even"), "add": fq.Elementwise(
    fq.Shift(), common="finest")})  # fmt: skip


def small_graph(**formats: fq.Format) -> Graph:
    random = np.random.default_rng(0)
    conv = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    unsigned = fq.fixed(8, 3, signed=False)
    chosen = {
        "conv.weight": fq.fixed(8, 6), "conv.bias": fq.fixed(20, 12), "conv": unsigned, "relu": unsigned, "flat": unsigned,
        "fc.weight": fq.fixed(8, 6), "fc": fq.fixed(8, 1),
    }  # fmt: skip
    return Graph(
        (Value("x", (None, 2, 4, 4), fq.fixed(8, 6)),),
        ("fc",),
        (
            Node("conv", OPS["conv"], ("x", "conv.weight", "conv.bias"), attributes=conv),
            Node("relu", OPS["clamp"], ("conv",), attributes={"low": 0.0, "high": None}),
            Node("flat", OPS["reshape"], ("relu",), attributes={"shape": (None, 48)}),
            Node("fc", OPS["linear"], ("flat", "fc.weight")),
        ),
        {
            "conv.weight": random.normal(size=(3, 2, 3, 3)) * 0.5,
            "conv.bias": random.normal(size=3),
            "fc.weight": random.normal(size=(5, 48)) * 0.5,
        },
        {**chosen, **formats},
    )


@pytest.fixture(scope="module")
def program() -> fq.Program:
    return fq.lower(small_graph(), MACHINE)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-2.5, 2, (7, 2, 4, 4))


def test_both_engines_agree_on_every_value_and_event(program, images):
    fast, exact = (fq.run(program, images, engine=e, watch="all") for e in ("fast", "exact"))
    assert fq.first_difference(fast, exact) is None
    assert fast.events == exact.events
    assert fast.total_events() > 0


def test_batches_of_any_size_give_the_same_codes_events_and_witnesses(program, images, monkeypatch):
    whole = fq.run(program, images, watch="all")
    monkeypatch.setattr("fixqnn.simulate.CHUNK_BYTES", 400)
    seen = []
    cut = fq.run(program, images, watch="all", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)
    assert len(seen) > 1
    assert fq.first_difference(whole, cut) is None
    assert whole.events == cut.events
    assert fq.run(program, images[:0]).output.shape == (0, 5)


def test_clipped_inputs_and_saturated_constants_are_counted(images):
    program = fq.lower(small_graph(**{"fc.weight": fq.fixed(8, 8)}), MACHINE)
    assert any("fc.weight" in note and "saturated" in note for note in program.notes)
    assert fq.run(program, images).clipped == {"x": int(((images < -128.5 / 64) | (images >= 127.5 / 64)).sum())}


def test_reals_codes_tensors_and_torch_tensors_are_the_same_input(program, images):
    import torch

    codes = fq.fixed(8, 6).encode(images)
    runs = [
        fq.run(program, x)
        for x in (images, codes, fq.Tensor(codes, fq.fixed(8, 6)), torch.from_numpy(images), {"x": images})
    ]
    assert all(np.array_equal(r.output.codes, runs[0].output.codes) for r in runs)


def test_a_saved_program_comes_back_whole(program, images, tmp_path):
    path = tmp_path / "program.npz"
    program.save(path)
    loaded = fq.Program.load(path)
    assert loaded.fingerprint == program.fingerprint
    assert str(loaded) == str(program)
    assert fq.first_difference(fq.run(loaded, images, watch="all"), fq.run(program, images, watch="all")) is None


def test_the_fingerprint_is_the_same_on_every_machine_and_follows_every_constant(program):
    assert fq.lower(small_graph(), MACHINE).fingerprint == program.fingerprint
    assert fq.lower(small_graph(), MACHINE, paths="wide").fingerprint == program.fingerprint
    wider = replace(MACHINE, datapaths={**MACHINE.datapaths, "conv": replace(SUM, order=("channel", "row", "column"))})
    assert fq.lower(small_graph(), wider).fingerprint != program.fingerprint


def test_truncated_tampered_and_foreign_files_are_refused(program, tmp_path):
    path = tmp_path / "program.npz"
    program.save(path)
    whole = path.read_bytes()
    for name, content in (
        ("short", whole[: len(whole) // 2]),
        ("empty", b""),
        ("text", b"hello"),
        ("zeros", bytes(900)),
    ):
        other = tmp_path / name
        other.write_bytes(content)
        with pytest.raises(fq.BadFile, match=name):
            fq.Program.load(other)
    with pytest.raises(fq.BadFile, match="no file"):
        fq.Program.load(tmp_path / "missing")
    np.savez(tmp_path / "arrays.npz", a=np.arange(3))
    with pytest.raises(fq.BadFile, match="no saved program"):
        fq.Program.load(tmp_path / "arrays.npz")
    _tamper(path, tmp_path / "tampered.npz")
    with pytest.raises(fq.BadFile, match="changed after it was saved"):
        fq.Program.load(tmp_path / "tampered.npz")


def _tamper(source, target):
    with np.load(source) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = next(n for n in arrays if n.startswith("constant/fc"))
    arrays[name] = arrays[name] + (np.arange(arrays[name].size).reshape(arrays[name].shape) == 3)
    np.savez(target.open("wb"), **arrays)


def test_program_files_hold_no_pickle(program, tmp_path):
    path = tmp_path / "program.npz"
    program.save(path)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            array = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
            assert not array.dtype.hasobject
    with np.load(path) as archive:
        document = json.loads(archive["program.json"].tobytes())
    assert document["accelerator"] == "mine"


def test_codes_past_64_bits_survive_saving(tmp_path):
    graph = Graph(
        (Value("x", (None, 2), fq.fixed(70, 30)),), ("fc",), (Node("fc", OPS["linear"], ("x", "w")),),
        {"w": fq.Tensor(np.array([[1 << 68, -(1 << 66)]], object), fq.fixed(70, 30))}, {"fc": fq.fixed(150, 60)},
    )  # fmt: skip
    wide = fq.SumOfProducts(fq.Shift(), sum=(fq.Stage(fq.Register(150)),))
    program = fq.lower(graph, fq.Accelerator("wide", {"linear": wide}))
    assert program.steps[0].path == "exact"
    program.save(tmp_path / "wide.npz")
    loaded = fq.Program.load(tmp_path / "wide.npz")
    assert loaded.fingerprint == program.fingerprint
    codes = np.array([[1 << 65, 5]], object)
    found = fq.run(loaded, codes, engine="exact").output.codes[0, 0]
    assert found == (1 << 65) * (1 << 68) - 5 * (1 << 66)
    with pytest.raises(fq.TooWide, match=r"fc \(linear\).*engine='exact'"):
        fq.run(loaded, codes)


# -- what lowering adds, and what it refuses ------------------------------------------------------------------------------


def test_a_moved_value_with_another_format_is_requantized_after_the_move(images):
    program = fq.lower(small_graph(flat=fq.fixed(6, 1, signed=False)), MACHINE)
    assert [s.name for s in program.steps] == ["conv", "relu", "flat", "flat.requantize", "fc"]
    trace = fq.run(program, images, watch="all")
    expected = fq.cast(trace["flat.before"], fq.fixed(6, 1, signed=False), "half_even", "saturate")
    assert trace["flat"] == expected


def test_concat_brings_its_inputs_to_the_output_format():
    graph = Graph(
        (Value("a", (None, 2), fq.fixed(8, 4)), Value("b", (None, 3), fq.fixed(8, 2))), ("y",),
        (Node("y", OPS["concat"], ("a", "b"), attributes={"axis": 1}),), {}, {"y": fq.fixed(8, 3)},
    )  # fmt: skip
    program = fq.lower(graph, MACHINE)
    trace = fq.run(program, (np.array([[1, 3]]), np.array([[1, 2, 100]])))
    assert trace.output.codes.tolist() == [[0, 2, 2, 4, 127]]
    assert trace.events["y.input1"]["output"].above.tolist() == [0, 0, 1]


def test_every_node_that_does_not_fit_is_named_at_once():
    graph = small_graph()
    machine = fq.Accelerator("tiny", {"linear": SUM}, ports=fq.Ports(weights=(4,)))
    with pytest.raises(fq.DoesNotFit) as problem:
        fq.lower(graph, machine)
    assert "conv (conv)" in str(problem.value)
    assert "fc (linear)" in str(problem.value)
    with pytest.raises(fq.DoesNotFit, match=r"conv \(conv\): tiny has no datapath for it; it has linear"):
        fq.lower(graph, replace(machine, ports=fq.Ports()))
    bare = Graph(graph.inputs, graph.outputs, graph.nodes, graph.constants, {})
    with pytest.raises(fq.DoesNotFit, match=r"no format for .*conv.weight.*quantize"):
        fq.lower(bare, MACHINE)


def test_a_bias_without_a_format_gets_32_bits_at_the_products_step():
    graph = small_graph()
    formats = {k: v for k, v in graph.formats.items() if k != "conv.bias"}
    program = fq.lower(Graph(graph.inputs, graph.outputs, graph.nodes, graph.constants, formats), MACHINE)
    assert program.formats["conv.bias"] == fq.fixed(32, 12)


def test_a_forbidden_overflow_raises_with_step_index_and_value(images):
    forbid = fq.SumOfProducts(fq.Shift(), sum=(fq.Stage(fq.Register(15, "forbid")),))
    machine = replace(MACHINE, datapaths={**MACHINE.datapaths, "conv": forbid})
    program = fq.lower(small_graph(), machine)
    for engine in ("fast", "exact"):
        with pytest.raises(
            fq.RegisterOverflow, match=r"conv \(conv\): register sum\[0\] forbids overflow .* hold -?\d+ at sample 0"
        ):
            fq.run(program, images, engine=engine)


def test_a_register_too_narrow_for_its_own_product_is_named():
    narrow = fq.SumOfProducts(fq.Shift(), sum=(fq.Stage(fq.Register(9)),))
    program = fq.lower(small_graph(), replace(MACHINE, datapaths={**MACHINE.datapaths, "fc": narrow}))
    assert "sum[0] (9 bits) does not hold a single product" in program.step("fc").reason
    forbid = fq.SumOfProducts(fq.Shift(), sum=(fq.Stage(fq.Register(9, "forbid")),))
    with pytest.raises(
        fq.DoesNotFit, match=r"fc \(linear\).*sum\[0\] \(9 bits\) does not hold a single product.*forbids"
    ):
        fq.lower(small_graph(), replace(MACHINE, datapaths={**MACHINE.datapaths, "fc": forbid}))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 2, 4, 5)), r"input 'x' has shape \(2, 2, 4, 5\); the program takes \(N, 2, 4, 4\)"),
        (np.full((1, 2, 4, 4), np.nan), r"input 'x'\[0, 0, 0, 0\] is nan"),
        (np.full((1, 2, 4, 4), 200), r"input 'x'.*is 200.*-128 to 127"),
        (np.zeros((1, 2, 4, 4), bool), "boolean"),
        ((np.zeros((1, 2, 4, 4)),) * 2, "given were 2"),
        (fq.Tensor(np.zeros((1, 2, 4, 4), int), fq.fixed(8, 5)), r"fixed\(8, 5\); the program takes fixed\(8, 6\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(program, x, message):
    with pytest.raises(fq.BadInput, match=message):
        fq.run(program, x)


def test_unknown_engines_and_values_are_refused(program, images):
    with pytest.raises(fq.BadInput, match="no engine 'quick'; there are fast, exact"):
        fq.run(program, images, engine="quick")
    with pytest.raises(fq.BadInput, match=r"cannot watch \['conv2'\]"):
        fq.run(program, images, watch="conv2")
    with pytest.raises(fq.BadInput, match="holds no value 'relu'"):
        fq.run(program, images)["relu"]


# -- traces --------------------------------------------------------------------------------------------------------------


def test_a_saved_trace_comes_back_whole(program, images, tmp_path):
    trace = fq.run(program, images, watch="all")
    trace.save(tmp_path / "run")
    loaded = fq.Trace.load(tmp_path / "run")
    assert fq.first_difference(trace, loaded) is None
    assert loaded.events == trace.events
    assert loaded.clipped == trace.clipped
    (tmp_path / "run" / "conv.npy").unlink()
    with pytest.raises(fq.BadFile, match=r"conv\.npy"):
        fq.Trace.load(tmp_path / "run")


def test_the_first_difference_names_step_index_codes_and_operands(program, images):
    wider = fq.lower(small_graph(), hw.systolic(partial=16, rows=7))
    a, b = (fq.run(p, images, watch="all") for p in (program, wider))
    found = fq.first_difference(a, b)
    assert (found.step, found.value) == ("conv", "conv")
    assert found.codes == (int(a["conv"].codes[found.index]), int(b["conv"].codes[found.index]))
    assert len(found.operands) == 18
    weights = program.constants["conv.weight"]
    channel = found.index[1]
    assert sorted(w for _, w in found.operands) == sorted(weights[channel].ravel().tolist())
    assert "first terms of that sum" in str(found)


def test_dumps_from_elsewhere_are_compared_by_name(program, images):
    trace = fq.run(program, images, watch="all")
    dumps = {"relu": trace["relu"].codes.copy(), "fc": trace["fc"].codes.copy()}
    assert fq.first_difference(trace, dumps) is None
    dumps["relu"][2, 1, 0, 3] += 1
    found = fq.first_difference(trace, dumps)
    assert (found.step, found.index, found.count) == ("relu", (2, 1, 0, 3), 1)
    with pytest.raises(fq.BadInput, match="nothing to compare"):
        fq.first_difference(trace, {"other": dumps["fc"]})


# -- names, tables, wide codes, and what is no program ------------------------------------------------------------------


@pytest.mark.parametrize("names", [("bias", "scaler"), ("scaler", "bias_ratio"), ("bias_ratio", "bias")])
def test_constants_may_be_called_like_anything_that_lowering_prepares(names, tmp_path):
    weight, bias = names
    form = fq.fixed(8, 4)
    graph = Graph(
        (Value("x", (None, 3), form),), ("fc",), (Node("fc", OPS["linear"], ("x", weight, bias)),),
        {weight: np.eye(3), bias: np.ones(3)}, {weight: form, "fc": form},
    )  # fmt: skip
    program = fq.lower(graph, hw.ideal())
    x = np.array([[0.5, 1.0, -2.0]])
    runs = [fq.run(program, x, engine=e) for e in ("fast", "exact")]
    assert all(r.output.real().tolist() == [[1.5, 2.0, -1.0]] for r in runs)
    program.save(tmp_path / "named.npz")
    assert fq.Program.load(tmp_path / "named.npz").fingerprint == program.fingerprint


def test_a_bare_linear_module_runs_in_both_engines_and_survives_saving(tmp_path):
    import torch

    module, x = torch.nn.Linear(4, 3).eval(), np.random.default_rng(0).normal(size=(5, 4))
    for machine in (hw.ideal(), hw.systolic(partial=16), hw.tflite()):
        program = fq.lower(fq.quantize(fq.from_torch(module, torch.zeros(2, 4)), x), machine)
        fast, exact = (fq.run(program, x, engine=e) for e in ("fast", "exact"))
        assert fq.first_difference(fast, exact) is None
        fast.save(tmp_path / machine.name.replace("/", "_"))
        assert fq.first_difference(fq.Trace.load(tmp_path / machine.name.replace("/", "_")), fast) is None


def test_a_program_with_a_machine_s_own_table_loads_again(tmp_path):
    form = fq.affine(8, 0.05, 3)
    graph = Graph(
        (Value("x", (None, 3), form),), ("s",), (Node("s", OPS["lookup"], ("x",), attributes={"function": "sigmoid"}),),
        {}, {"s": fq.affine(8, 1 / 256, -128)},
    )  # fmt: skip
    program = fq.lower(graph, hw.tflite())
    program.save(tmp_path / "table.npz")
    loaded = fq.Program.load(tmp_path / "table.npz")
    codes = np.arange(-128, 127, dtype=np.int32).reshape(-1, 3)
    assert np.array_equal(fq.run(loaded, codes).output.codes, fq.run(program, codes).output.codes)


def test_values_may_have_names_that_no_path_can_hold_and_codes_past_63_bits(tmp_path):
    wide = fq.fixed(64, 3, signed=False)
    relu = Node("a/b", OPS["clamp"], ("../x",), attributes={"low": 0.0, "high": None})
    graph = Graph((Value("../x", (None, 2), wide),), ("a/b",), (relu,), {}, {"a/b": wide})
    trace = fq.run(fq.lower(graph, hw.ideal()), np.array([[1, wide.high]], object))
    trace.save(tmp_path / "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    assert fq.Trace.load(tmp_path / "run")["a/b"] == trace["a/b"]


def test_what_is_no_graph_machine_program_or_trace_is_refused_by_name(program, images, tmp_path):
    graph = small_graph()
    for mistake, message in (
        (lambda: fq.lower(graph, "ideal"), "lower takes an Accelerator, not 'ideal'"),
        (lambda: fq.lower(graph, hw.ideal), "call it: it makes one"),
        (lambda: fq.lower(program, hw.ideal()), "lower takes a Graph, not Program"),
        (lambda: fq.lower(graph, hw.ideal(), paths=3), "paths is the name"),
        (lambda: fq.run(graph, images), "run takes a Program, not Graph"),
        (lambda: fq.run(program, images, watch=3), "watch takes 'all' or names"),
        (lambda: fq.quantize(graph, images, {"weights": 8}), "policy must be a Policy"),
        (lambda: fq.quantize(program, images), "quantize takes a Graph"),
        (lambda: fq.first_difference(1, 2), "first_difference takes a Trace"),
        (lambda: graph.with_formats({"conv": 8}), "the format of 'conv' must be a Format"),
        (lambda: fq.cast(images, fq.fixed(8, 4)), "cast takes a Tensor"),
        (lambda: fq.cast(fq.Tensor([3, 4], fq.fixed(8, 0)), fq.affine(8, [0.5, 0.25], axis=1)), "no axis 1"),
        (lambda: graph.evaluate(images, watch=("zz",)), r"cannot watch \['zz'\]"),
        (lambda: program.save(tmp_path / "no" / "a.npz"), "cannot write"),
        (lambda: Graph(graph.inputs, ("fc.weight",), graph.nodes, graph.constants), "are constants"),
    ):
        with pytest.raises(fq.FixqnnError, match=message):
            mistake()
