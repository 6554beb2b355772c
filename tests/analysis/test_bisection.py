"""Bisection: a fault that was planted in a machine is found by its name, from the codes alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fixqnn as fq
import hw_models as hw
from fixqnn.analysis.bisection import bisect
from fixqnn.errors import BadFile, BadInput

MAC = fq.SumOfProducts(
    fq.Multiplier(16, "half_even"),
    sum=(fq.Stage(fq.Register(12, "saturate"), size=6), fq.Stage(fq.Register(14, "saturate"))),
    order=("row", "column", "channel"),
)
REST = {
    "add": fq.Elementwise(fq.Shift("half_even"), common="finest", register=fq.Register(32)),
    "lookup": fq.Lookup(),
    "requantize": fq.Shift("half_even"),
    "average_pool": fq.SumOfProducts(fq.Multiplier(16, "half_even")),
}
SAME = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
RANDOM = np.random.default_rng(5)
WEIGHTS = {
    "w1": fq.Tensor(RANDOM.integers(-30, 31, (4, 4, 3, 3)), fq.fixed(6, 4)),
    "b1": fq.Tensor(RANDOM.integers(-900, 900, 4), fq.fixed(16, 8)),
    "w2": fq.Tensor(RANDOM.integers(-30, 31, (36, 36)), fq.fixed(6, 4)),
}


def network(constants: dict[str, fq.Tensor] | None = None, **formats: fq.Format) -> fq.Graph:
    """A convolution, a relu, a pool, a linear layer, a sum and a tanh."""
    nodes = (
        fq.Node("conv", fq.OPS["conv"], ("x", "w1", "b1"), attributes=SAME),
        fq.Node("relu", fq.OPS["clamp"], ("conv",), attributes={"low": 0.0}),
        fq.Node("pool", fq.OPS["average_pool"], ("relu",),
                attributes={"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}),
        fq.Node("flat", fq.OPS["reshape"], ("pool",), attributes={"shape": (None, 36)}),
        fq.Node("fc", fq.OPS["linear"], ("flat", "w2")),
        fq.Node("sum", fq.OPS["add"], ("fc", "flat")),
        fq.Node("tanh", fq.OPS["lookup"], ("sum",), attributes={"function": "tanh"}),
    )  # fmt: skip
    value = fq.fixed(8, 4)
    made = {
        **dict.fromkeys(("conv", "relu", "pool", "flat"), value),
        "fc": fq.fixed(8, 2),
        "sum": fq.fixed(8, 2),
        "tanh": value,
    }
    return fq.Graph(
        (fq.Value("x", (None, 4, 6, 6), value),),
        ("tanh",),
        nodes,
        {**WEIGHTS, **(constants or {})},
        {**made, **formats},
    )


def machine(**changes: object) -> fq.Accelerator:
    return fq.Accelerator("believed", {"conv": MAC, "linear": MAC, **REST, **changes})


CODES = np.random.default_rng(6).integers(-60, 61, (6, 4, 6, 6))
GRAPH = network()
BELIEVED = fq.run(fq.lower(GRAPH, machine()), CODES, watch="all")


def dump(graph: fq.Graph, accelerator: fq.Accelerator, *names: str, x: np.ndarray = CODES) -> dict[str, np.ndarray]:
    """Codes as hardware would hand them out."""
    trace = fq.run(fq.lower(graph, accelerator), x, watch="all")
    return {name: trace[name].codes for name in names or tuple(trace.values)}


def mac(**changes: object) -> fq.SumOfProducts:
    return replace(MAC, **changes)


def stage(level: int, register: fq.Register | None = None, **changes: object) -> fq.SumOfProducts:
    """The datapath with one stage changed."""
    stages = list(MAC.sum)
    stages[level] = replace(stages[level], **({"register": register} if register else {}), **changes)
    return mac(sum=tuple(stages))


SPATIAL = "row, column, channel"
RULES = {
    "scaler rounding half_up instead of half_even": ("conv", mac(scaler=fq.Multiplier(16, "half_up"))),
    "scaler rounding floor instead of half_even": ("conv", mac(scaler=fq.Multiplier(16, "floor"))),
    "scaler overflow wrap instead of saturate": ("conv", mac(scaler=fq.Multiplier(16, "half_even", overflow="wrap"))),
    f"order channel, row, column instead of {SPATIAL}": ("conv", mac(order=("channel", "row", "column"))),
    "sum[0] register bits 11 instead of 12": ("conv", stage(0, fq.Register(11))),
    "sum[0] register bits 13 instead of 12": ("conv", stage(0, fq.Register(13))),
    "sum[1] register bits 13 instead of 14": ("conv", stage(1, fq.Register(13))),
    "sum[0] register overflow wrap instead of saturate": ("conv", stage(0, fq.Register(12, "wrap"))),
    "sum[1] register overflow wrap instead of saturate": ("linear", stage(1, fq.Register(14, "wrap"))),
    "sum[0] size 5 instead of 6": ("linear", stage(0, size=5)),
    "products rounded, 3 low bits dropped (floor), instead of whole": ("conv", mac(product=fq.Register(48, drop=3))),
    "products kept in 9 bits that wrap instead of whole": ("conv", mac(product=fq.Register(9, "wrap"))),
    "sum[1] register drop 2 instead of 0": ("conv", stage(1, fq.Register(14, drop=2))),
    "output_rounding floor instead of half_even": ("lookup", fq.Lookup(output_rounding="floor")),
    "scaler rounding half_down instead of half_even": ("add", replace(REST["add"], scaler=fq.Shift("half_down"))),
}  # fmt: skip
LAYER = {"conv": "conv", "linear": "fc", "lookup": "tanh", "add": "sum"}


@pytest.mark.parametrize("words", RULES)
def test_a_rule_that_differs_is_named(words):
    key, datapath = RULES[words]
    found = bisect(BELIEVED, dump(GRAPH, machine(**{key: datapath})))
    assert found.difference.value == LAYER[key]
    assert found.explanation is not None, str(found)
    assert words == found.explanation.words, str(found)
    assert f"Explained by: {words} (all {BELIEVED[LAYER[key]].codes.size} codes)." in str(found)


def test_the_words_are_those_of_an_engineer():
    found = bisect(BELIEVED, dump(GRAPH, machine(conv=mac(scaler=fq.Multiplier(16, "half_up")))))
    d = found.difference
    text = str(found)
    assert text.startswith(
        f"conv differs first, at {list(d.index)}: {d.codes[0]} against {d.codes[1]} ({d.count} of 864 codes)."
    )
    assert "Terms of that sum: " in text
    assert found.explained
    assert found.facts()["explanation"]["words"] == "scaler rounding half_up instead of half_even"


def test_a_bias_that_joins_last_is_named():
    narrow = stage(1, fq.Register(11))
    found = bisect(
        fq.run(fq.lower(GRAPH, machine(conv=narrow)), CODES, watch="all"),
        dump(GRAPH, machine(conv=replace(narrow, bias="last"))),
    )
    assert found.explanation.words == "bias last instead of first", str(found)


def test_tiles_that_end_with_an_axis_are_named():
    five = stage(0, size=5)
    found = bisect(
        fq.run(fq.lower(GRAPH, machine(conv=five)), CODES, watch="all"),
        dump(GRAPH, machine(conv=replace(five, sum=(replace(five.sum[0], within="column"), five.sum[1])))),
    )
    assert found.explanation.words == "sum[0] within column instead of None", str(found)


OFFSET = fq.affine(8, 0.0625, 5)


def offset() -> fq.Graph:
    graph = network()
    return replace(graph, inputs=(fq.Value("x", (None, 4, 6, 6), OFFSET),), formats={**graph.formats, "x": OFFSET})


def test_a_folded_zero_point_is_named():
    graph = offset()
    believed = fq.run(fq.lower(graph, machine()), CODES, watch="all")
    found = bisect(believed, dump(graph, machine(conv=mac(zero_point="folded"))))
    assert found.explanation.words == "zero_point folded instead of subtracted", str(found)


def test_a_zero_point_that_was_forgotten_is_named():
    graph = offset()
    believed = fq.run(fq.lower(graph, machine()), CODES, watch="all")
    found = bisect(believed, dump(network(), machine(), "conv", "relu"))
    assert found.explanation.words == "zero point of input 'x' taken as 0", str(found)
    assert "does not hold the input x" in str(found)


@pytest.mark.parametrize(("factor", "words"), [(2, "one larger"), (0.5, "one smaller")])
def test_a_shift_that_is_one_off_is_named(factor, words):
    graph = replace(
        GRAPH, nodes=GRAPH.nodes[:1], outputs=("conv",), constants={n: WEIGHTS[n] for n in ("w1", "b1")}, formats={}
    )
    believed = graph.with_formats({"conv": fq.fixed(8, 4)})
    scaled = graph.with_formats({"conv": fq.affine(8, 0.0625 * factor)})
    found = bisect(fq.lower(believed, machine()), dump(scaled, machine()))
    assert found.explanation.words == f"scaler shift {words} than the scales ask", str(found)


TURNED = {
    "weights transposed (outputs and inputs swapped)": ("fc", {"w2": WEIGHTS["w2"].codes.T}),
    "weights transposed (rows and columns of the kernel swapped)": (
        "conv",
        {"w1": WEIGHTS["w1"].codes.swapaxes(-1, -2)},
    ),
    "kernel flipped (convolution in place of correlation)": ("conv", {"w1": WEIGHTS["w1"].codes[:, :, ::-1, ::-1]}),
    "weights with flipped sign": ("fc", {"w2": -WEIGHTS["w2"].codes}),
    "no bias": ("conv", {"b1": WEIGHTS["b1"].codes * 0}),
    "bias with flipped sign": ("conv", {"b1": -WEIGHTS["b1"].codes}),
}


@pytest.mark.parametrize("words", TURNED)
def test_weights_that_came_otherwise_are_named(words):
    layer, arrays = TURNED[words]
    other = network({name: fq.Tensor(codes, WEIGHTS[name].format) for name, codes in arrays.items()})
    found = bisect(BELIEVED, dump(other, machine()))
    assert (found.difference.value, found.explanation.words) == (layer, words), str(found)


def test_additions_in_reverse_order_are_named():
    # the same products from the other end: linear features turned around on both sides
    graph = fq.Graph(
        (fq.Value("x", (None, 36), fq.fixed(8, 4)),), ("fc",), (fq.Node("fc", fq.OPS["linear"], ("x", "w2")),),
        {"w2": WEIGHTS["w2"]}, {"fc": fq.fixed(8, 2)},
    )  # fmt: skip
    x = CODES[:, :, :3, :3].reshape(6, 36)
    turned = graph.with_constants({"w2": fq.Tensor(WEIGHTS["w2"].codes[:, ::-1], WEIGHTS["w2"].format)})
    found = bisect(fq.lower(graph, machine()), {"x": x, **dump(turned, machine(), "fc", x=x[:, ::-1])})
    assert found.explanation.words == "additions along channel in reverse order", str(found)


@pytest.mark.parametrize("stride", [1, 3])  # 3: windows leave two columns of the padding out
def test_a_convolution_summed_from_the_other_end_is_named(stride):
    attributes = {"stride": (stride, stride), "padding": ((1, 2), (0, 2)), "dilation": (1, 1)}
    graph = fq.Graph(
        (fq.Value("x", (None, 4, 6, 6), fq.fixed(8, 4)),), ("conv",),
        (fq.Node("conv", fq.OPS["conv"], ("x", "w1", "b1"), attributes=attributes),),
        {n: WEIGHTS[n] for n in ("w1", "b1")}, {"conv": fq.fixed(8, 4)},
    )  # fmt: skip
    program = fq.lower(graph, machine())
    believed = fq.run(program, CODES, watch="all")
    # by the definition: the terms of every output in reverse order
    from fixqnn.arith.exact import add_up
    from fixqnn.ops.sums import meeting

    step = program.step("conv")
    step.op.plan(step)
    work = step.cache["sum"].contraction
    rescale = step.cache["sum"].rescales[0][1]
    want = np.empty(believed["conv"].codes.shape, int)
    for n, c, i, j in np.ndindex(*want.shape):
        pairs = meeting(work.window, work.order, c, (0, i, j))[::-1]
        terms = [
            int(work.w[0, c][tap]) * (0 if at is None else int(CODES[n][at[0], at[2], at[3]])) for tap, at in pairs
        ]
        total = add_up(terms, work.bound, work.bias[c], lambda *_: None)
        want[n, c, i, j] = rescale.exact(total, c, 0, None, lambda *_: 0)[0]
    found = bisect(believed, {"x": CODES, "conv": want})
    assert found.explanation.words == "all additions in reverse order", str(found)


def test_an_input_that_is_not_as_assumed_is_named():
    found = bisect(BELIEVED, dump(GRAPH, machine(), "conv", "relu", "fc", x=CODES[:, ::-1]))
    assert "input 'x' with channels in reverse order" in {h.words for h in (found.explanation, *found.others)}, str(
        found
    )
    found = bisect(BELIEVED, dump(GRAPH, machine(), x=CODES.swapaxes(-1, -2)))
    assert (found.difference.value, found.explanation.words) == ("x", "rows and columns swapped")


def test_features_flattened_channels_last_are_named():
    order = np.arange(36).reshape(4, 3, 3).transpose(1, 2, 0).ravel()
    other = network({"w2": fq.Tensor(WEIGHTS["w2"].codes[:, np.argsort(order)], WEIGHTS["w2"].format)})
    found = bisect(BELIEVED, dump(other, machine(linear=MAC), "x", "conv", "relu", "pool", "flat"))
    assert found is None
    mine = BELIEVED["flat"].codes[:, order]  # what the layer reads
    program = fq.lower(fq.Graph((fq.Value("x", (None, 36), fq.fixed(8, 4)),), ("fc",), (
        fq.Node("fc", fq.OPS["linear"], ("x", "w2")),), {"w2": WEIGHTS["w2"]}, {"fc": fq.fixed(8, 2)}), machine())  # fmt: skip
    theirs = {**dump(GRAPH, machine(), "x", "conv", "relu", "pool", "flat"), "fc": fq.run(program, mine).output.codes}
    found = bisect(BELIEVED, theirs)
    assert found.explanation.words == "input 'flat' flattened channels last instead of channels first", str(found)


def test_a_fault_is_found_behind_a_value_that_nobody_dumped():
    found = bisect(BELIEVED, dump(GRAPH, machine(conv=stage(0, fq.Register(11))), "x", "relu"))
    assert (found.difference.value, found.explanation.step) == ("relu", "conv"), str(found)
    assert "Explained by: conv: sum[0] register bits 11 instead of 12" in str(found)
    assert "does not hold conv" in str(found)


def test_a_missing_relu_is_named():
    theirs = dump(GRAPH, machine())
    found = bisect(BELIEVED, {**theirs, "relu": theirs["conv"]})
    assert found.explanation.words == "no relu (the lower bound is missing)"


def test_codes_that_are_written_otherwise_are_named():
    theirs = dump(GRAPH, machine(), "x", "conv")
    found = bisect(BELIEVED, {**theirs, "conv": theirs["conv"].astype(np.uint8)})
    assert found.explanation.words == "codes written as unsigned numbers"
    found = bisect(BELIEVED, {**theirs, "conv": np.moveaxis(theirs["conv"], 1, -1).reshape(theirs["conv"].shape)})
    assert found.explanation.words == "memory laid out channels last"


def test_two_edits_at_once_are_found_where_one_does_not_do():
    both = replace(stage(0, fq.Register(11)), scaler=fq.Multiplier(16, "floor"))
    found = bisect(BELIEVED, dump(GRAPH, machine(conv=both)))
    assert found.explanation.size == 2
    assert set(found.explanation.words.split(" and ")) == {
        "scaler rounding floor instead of half_even", "sum[0] register bits 11 instead of 12",
    }  # fmt: skip
    alone = bisect(BELIEVED, dump(GRAPH, machine(conv=both)), pairs=False)
    assert not alone.explained
    assert "scaler rounding floor" in alone.partial.words or "bits 11" in alone.partial.words


def test_a_fault_that_nobody_can_explain_is_said_to_be_none():
    theirs = dump(GRAPH, machine())
    noise = np.random.default_rng(0).integers(-128, 128, theirs["conv"].shape)
    found = bisect(BELIEVED, {**theirs, "conv": noise}, pairs=False)
    assert not found.explained
    assert f"Not explained: {found.tried} edits were tried, none gives all codes." in str(found)
    assert "Explained by" not in str(found)


def test_the_best_partial_edit_is_no_explanation():
    theirs = dump(GRAPH, machine(conv=mac(scaler=fq.Multiplier(16, "floor"))))
    wrong = theirs["conv"].copy()
    wrong[3, 2, 1, 1] += 1
    found = bisect(BELIEVED, {**theirs, "conv": wrong}, pairs=False)
    assert not found.explained
    assert found.partial.words == "scaler rounding floor instead of half_even"
    assert (found.partial.codes, found.partial.explains) == (863, False)
    assert "Closest, but no explanation: scaler rounding floor instead of half_even (863 of 864 codes)." in str(found)


def test_edits_that_these_data_cannot_tell_apart_are_counted():
    # one sample of zeros but for the bias: nearly every edit of the sums gives the same codes
    zeros = np.zeros((1, 4, 6, 6), int)
    believed = fq.run(fq.lower(GRAPH, machine()), zeros, watch="all")
    found = bisect(believed, dump(GRAPH, machine(conv=mac(scaler=fq.Multiplier(16, "floor"))), x=zeros))
    assert found.explained
    assert found.others
    assert all(h.explains and h.size == found.explanation.size for h in found.others)
    assert f"{len(found.others)} others of that size explain these codes too" in str(found)


def test_equal_programs_have_nothing_to_tell():
    program = fq.lower(GRAPH, machine())
    assert bisect(program, fq.lower(GRAPH, machine()), CODES) is None
    assert bisect(program, BELIEVED) is None
    assert bisect(BELIEVED, program) is None


def test_two_programs_say_how_their_steps_differ():
    other = machine(conv=replace(stage(0, fq.Register(13, "wrap"), size=5), scaler=fq.Multiplier(16, "ceil")))
    found = bisect(fq.lower(GRAPH, machine()), fq.lower(GRAPH, other), CODES)
    assert set(found.known) == {
        "scaler rounding ceil instead of half_even", "sum[0] register bits 13 instead of 12",
        "sum[0] register overflow wrap instead of saturate", "sum[0] size 5 instead of 6",
    }  # fmt: skip
    assert found.explained, str(found)
    assert "The programs differ in conv: " in str(found)


def test_two_programs_that_read_inputs_in_other_formats_say_so():
    graph = network()
    other = graph.with_formats({"x": fq.fixed(7, 3)})
    found = bisect(fq.lower(graph, machine()), fq.lower(other, machine()), CODES / 16.0)
    assert found.difference.value == "x"
    assert found.known == ("format fixed(7, 3) instead of fixed(8, 4)",)
    assert "The programs differ in x: format fixed(7, 3) instead of fixed(8, 4)." in str(found)


def test_real_data_and_machines_that_come_with_it_work_too():
    reals = np.random.default_rng(1).uniform(-4, 4, (4, 4, 6, 6))
    one, other = (fq.lower(GRAPH, hw.systolic(partial=bits)) for bits in (12, 11))
    found = bisect(one, other, reals)
    assert found.explanation.words == "sum[0] register bits 11 instead of 12"
    trace = fq.run(one, reals)  # outputs only: the rest is computed
    assert bisect(trace, other).explanation == found.explanation


def test_folders_are_read_as_compare_reads_them(tmp_path):
    BELIEVED.save(tmp_path / "run")
    (tmp_path / "rtl").mkdir()
    for name, codes in dump(GRAPH, machine(conv=stage(0, size=4)), "conv", "tanh").items():
        np.save(tmp_path / "rtl" / f"{name}.npy", codes)
    found = bisect(tmp_path / "run", str(tmp_path / "rtl"))  # four at a time is also: never across a run of 4 channels
    assert found.explanation.words == "sum[0] size 4 instead of 6", str(found)


def test_progress_counts_edits():
    calls = []
    found = bisect(
        BELIEVED, dump(GRAPH, machine(conv=mac(scaler=fq.Multiplier(16, "floor")))), progress=lambda *n: calls.append(n)
    )
    assert len(calls) == found.tried
    assert all(done <= all_ for done, all_ in calls)


BAD = [
    (lambda: bisect(BELIEVED, {"conv": BELIEVED["conv"].codes * 1.0}), BadInput, "float64"),
    (lambda: bisect(BELIEVED, {"conv": BELIEVED["conv"].codes[:3]}), BadInput, "the same samples"),
    (lambda: bisect(BELIEVED, {"fc": BELIEVED["fc"].codes[:, :5]}), BadInput, "'fc' has shape"),
    (lambda: bisect(BELIEVED, {"pool": np.moveaxis(BELIEVED["pool"].codes, 1, -1)}), BadInput, "channels last"),
    (lambda: bisect(BELIEVED, {"cnv": BELIEVED["conv"].codes}), BadInput, "nothing to compare"),
    (lambda: bisect(BELIEVED, {}), BadInput, "nothing to compare"),
    (lambda: bisect({"conv": CODES}, BELIEVED), BadInput, "first argument"),
    (lambda: bisect(BELIEVED, 3), BadInput, "second is int"),
    (lambda: bisect(fq.lower(GRAPH, machine()), fq.lower(GRAPH, machine())), BadInput, "give data="),
    (lambda: bisect(BELIEVED, "no/such/folder"), BadFile, "is no folder"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_of_two_programs_the_known_difference_comes_before_a_guess_that_explains_as_well():
    # registers of 18, 19, 20 … bits hold all of these sums alike; one of them is what the other program has
    one, other = (machine(conv=stage(0, fq.Register(bits)), linear=stage(0, fq.Register(12))) for bits in (12, 27))
    found = bisect(fq.lower(GRAPH, one), fq.lower(GRAPH, other), CODES)
    assert found.explanation.words == "sum[0] register bits 27 instead of 12"
    assert any(h.words == "sum[0] register bits 20 instead of 12" for h in found.others)


def test_weights_of_the_other_program_are_named():
    other = network({"w2": fq.Tensor(np.roll(WEIGHTS["w2"].codes, 1, axis=1), WEIGHTS["w2"].format)})
    found = bisect(fq.lower(GRAPH, machine()), fq.lower(other, machine()), CODES)
    assert (found.difference.value, found.explanation.words) == ("fc", "codes of 'w2' as the second has them")
