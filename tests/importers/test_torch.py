"""What from_torch makes of torch models: the same numbers, the modules' names, and every problem at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.networks import NETWORKS
from fixqnn.errors import BadInput, ImportProblems
from fixqnn.importers.torch import from_torch
from fixqnn.ops import OPS
from tests.importers.nets import assert_agrees, forward, tensors

# ------------------------------------------------------------------------------------------------------ whole networks
SIZES = {"mobilenet_v2": {"size": 64}, "resnet18": {"size": 64}, "unet": {"size": 32}}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_in_real_numbers_what_torch_computes_also_for_another_batch(name):
    network = NETWORKS[name]()
    net = network.build()
    graph = from_torch(net, network.example(1, **SIZES.get(name, {})))
    (x,) = network.example(3, seed=7, **SIZES.get(name, {}))
    got = graph.evaluate(x.numpy())[graph.outputs[0]]
    with torch.no_grad():
        single = net(x).double().numpy()
        double = net.double()(x.double()).numpy()
    assert np.abs(got - single).max() <= 1e-5 * np.abs(single).max()  # torch's own float32 rounding
    assert np.abs(got - double).max() <= 1e-12 * np.abs(double).max()  # the order of float64 sums


def test_resnet18_nodes_and_constants_carry_the_names_of_the_usual_weights():
    network = NETWORKS["resnet18"]()
    graph = from_torch(network.build(classes=10), network.example(1, size=32))
    assert [node.name for node in graph.nodes][:9] == [
        "conv1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.relu", "layer1.0.conv2", "layer1.0.add", "layer1.0.relu_1",
        "layer1.1.conv1",
    ]  # fmt: skip
    assert {"layer2.0.downsample.0", "avgpool", "fc"} <= {node.name for node in graph.nodes}
    assert {"conv1.weight", "layer4.1.conv2.weight", "layer2.0.downsample.0.bias", "fc.weight"} <= set(graph.constants)
    assert not any("bn" in name for name in graph.values)
    assert graph.inputs[0].name == "x"
    assert graph.inputs[0].shape == (None, 3, 32, 32)


# -------------------------------------------------------------------------------------------------- names and sharing
def test_a_module_called_twice_gives_two_nodes_and_one_weight():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(4, 4)

        def forward(self, x):
            return self.shared(torch.relu(self.shared(x)))

    graph = assert_agrees(Net().eval(), (4,))
    assert [node.name for node in graph.nodes] == ["shared", "relu", "shared_1"]
    assert list(graph.constants) == ["shared.weight", "shared.bias"]


def test_tied_weights_are_one_constant():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    graph = assert_agrees(nn.Sequential(a, b).eval(), (4,))
    assert list(graph.constants) == ["0.weight", "0.bias", "1.bias"]


def test_functions_are_named_after_the_module_whose_forward_calls_them():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return torch.relu(x + self.fc(x)) + x

    class OwnLinear(nn.Linear):
        pass

    net = nn.Sequential(Block(), nn.Sequential(Block(), OwnLinear(4, 4))).eval()
    graph = assert_agrees(net, (4,))
    assert [node.name for node in graph.nodes] == [
        "0.fc", "0.add", "0.relu", "0.add_1", "1.0.fc", "1.0.add", "1.0.relu", "1.0.add_1", "1.1",
    ]  # fmt: skip


def test_inputs_carry_the_names_of_arguments_and_outputs_come_flattened_in_order():
    class Net(nn.Module):
        def forward(self, image, *, gain, extras=None):
            product = image * gain
            return {"a": product, "b": [image + extras[1], None, {"c": image}]}

    batch = {"image": torch.zeros(2, 3), "gain": torch.zeros(2, 3), "extras": [torch.zeros(2, 1), torch.zeros(2, 3)]}
    graph = from_torch(Net().eval(), batch)
    assert [v.name for v in graph.inputs] == ["image", "gain", "extras_0", "extras_1"]
    assert graph.outputs == ("mul", "add", "image")
    got = graph.evaluate(
        image=np.ones((4, 3)), gain=np.full((4, 3), 2), extras_0=np.ones((4, 1)), extras_1=np.full((4, 3), 5)
    )
    assert [got[name][0, 0] for name in graph.outputs] == [2, 6, 1]


def test_what_depends_on_no_input_is_computed_once_in_double_precision():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.0, 3.0]))

        def forward(self, x):
            return x * ((1 / self.scale).double().float() + torch.arange(2))

    graph = from_torch(Net().eval(), torch.zeros(1, 2))
    assert [node.op.name for node in graph.nodes] == ["multiply"]
    (constant,) = graph.constants.values()
    assert constant.tolist() == [1.0, 1 / 3 + 1]


def test_weight_norm_is_folded_into_one_weight():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))).eval()
    graph = assert_agrees(net, (4,))
    assert [node.name for node in graph.nodes] == ["0"]
    assert len(graph.constants) == 2


# ------------------------------------------------------------------------------------------------------------- batch
def test_a_module_written_for_one_batch_size_is_read_where_samples_stay_apart():
    net = forward(lambda self, x: self.p0(x.view(1, 12)), nn.Linear(12, 2))
    graph = from_torch(net, torch.zeros(1, 3, 4))
    (x,) = tensors((5, 3, 4))
    got = graph.evaluate(x.numpy())[graph.outputs[0]]
    with torch.no_grad():
        want = torch.cat([net(sample[None]) for sample in x]).numpy()
    assert np.abs(got - want).max() < 1e-6  # torch computed in float32


def test_dynamic_batch_off_gives_the_same_graph():
    net = NETWORKS["lenet"]().build()
    (x,) = tensors((2, 1, 32, 32))
    fixed, free = from_torch(net, x, dynamic_batch=False), from_torch(net, x)
    assert str(fixed) == str(free)
    assert fixed.nodes == free.nodes


MIXES = {
    "a mean over everything": lambda x: x.mean(),
    "a mean over the batch": lambda x: x - x.mean(0, keepdim=True),
    "a reshape into the batch": lambda x: x.reshape(-1, 4) * 2,
    "a flatten of everything": lambda x: x.flatten() * 2,
    "a transpose of the batch": lambda x: x.transpose(0, 1) * 2,
    "a product with the batch size": lambda x: x * x.shape[0],
    "one sample": lambda x: x[0],
    "a join of samples": lambda x: torch.cat([x, x], 0),
    "a product across samples": lambda x: x[:, 0] @ x[:, 0].t(),
    "a broadcast across samples": lambda x: x + x[:, 0, 0],
}


# with a fixed batch, torch.export leaves no trace of where a number came from: that one case cannot be told
UNTOLD = ("a product with the batch size", False)


@pytest.mark.parametrize(("name", "free"), [(n, f) for n in MIXES for f in (True, False) if (n, f) != UNTOLD])
def test_what_mixes_samples_is_refused(name, free):
    with pytest.raises(ImportProblems, match=r"nearest supported|torch\.export cannot trace"):
        from_torch(forward(lambda self, x: MIXES[name](x)), torch.zeros(4, 4, 4), dynamic_batch=free)


def test_a_constant_with_one_row_per_sample_is_refused():
    with pytest.raises(ImportProblems, match="reaches into the batch axis"):
        from_torch(forward(lambda self, x: x + torch.arange(4.0).reshape(4, 1)), torch.zeros(4, 3))


# ------------------------------------------------------------------------------------------------------------ problems
def test_all_unsupported_operators_are_listed_at_once_with_their_place_and_a_way_out():
    class Head(nn.Module):
        def forward(self, x):
            return F.softmax(x, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.head = Head()

        def forward(self, x):
            return self.head(self.norm(x) * 2)

    with pytest.raises(ImportProblems) as caught:
        from_torch(Net().eval(), torch.zeros(1, 4))
    first, norm, softmax = str(caught.value).splitlines()
    assert first == "2 places of this model cannot be imported:"
    assert norm.startswith("  aten.layer_norm.default in 'norm' (test_torch.py, line ")
    assert "`return self.head(self.norm(x) * 2)`" in norm
    assert norm.endswith("is not supported; nearest supported: batch norm, whose statistics are fixed after training")
    assert softmax.startswith("  aten.softmax.int in 'head' (test_torch.py, line ")
    assert "`return F.softmax(x, 1)`" in softmax


def test_an_argument_without_translation_is_a_problem_of_its_own():
    odd = [
        (lambda x: F.pad(x, (1, 1), mode="reflect"), "its mode is reflect"),
        (lambda x: F.pad(x, (-1, 1)), "a negative number crops"),
        (lambda x: x**2.5, "its exponent is 2.5"),
        (lambda x: F.adaptive_max_pool1d(x, 4), "does not divide evenly into (4,)"),
        (lambda x: F.threshold(x, 0.5, 0.0), "it jumps at its threshold"),
        (lambda x: torch.ops.aten.elu(x, 1.0, 2.0), "it scales its input or output"),
        (lambda x: F.prelu(x, torch.tensor([0.1, 0.2])), "it has one slope per channel"),
        (lambda x: torch.div(x, 3, rounding_mode="floor"), "it rounds its quotient"),
        (lambda x: x / torch.zeros(6), "its reciprocal holds infinities"),
        (lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True), "it has ceil_mode and counts its padding"),
        (lambda x: x.half(), "it casts to torch.float16"),
        (lambda x: x[:, 0:0], "it leaves nothing"),
        (lambda x: F.dropout(x), "it drops values at random"),
        (lambda x: F.max_pool1d(x, 2, return_indices=True)[1] * x[..., :3], "its result number 1 is used"),
    ]
    for function, reason in odd:
        with pytest.raises(ImportProblems) as caught:
            from_torch(forward(lambda self, x, f=function: f(x)), torch.zeros(2, 2, 6))
        assert reason in str(caught.value)


def test_a_scale_that_only_happens_to_give_a_whole_factor_is_refused():
    # 2 → int(2 · 2.4) = 4 places, but torch takes input floor(i / 2.4): 0, 0, 0, 1
    with pytest.raises(ImportProblems, match=r"its scale is \[2\.4\]"):
        from_torch(forward(lambda self, x: F.interpolate(x, scale_factor=2.4)), torch.zeros(1, 1, 2))


def test_integers_may_come_in_but_are_not_computed_with():
    pixels = torch.full((2, 3), 200, dtype=torch.uint8)
    graph = from_torch(forward(lambda self, x: x.float() / 4 - 1), pixels)
    assert graph.evaluate(pixels.numpy())[graph.outputs[0]][0, 0] == 49
    with pytest.raises(ImportProblems, match=r"it computes in torch\.uint8"):  # where 200 + 100 is 44
        from_torch(forward(lambda self, x: (x + 100).float()), pixels)


def test_training_mode_is_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    net[1].train()
    with pytest.raises(BadInput, match=r"in training mode: 1; call module\.eval\(\)"):
        from_torch(net, torch.zeros(2, 3))


def test_a_batch_norm_without_statistics_is_refused():
    with pytest.raises(ImportProblems, match="statistics from the batch"):
        from_torch(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)).eval(), torch.zeros(2, 3))


def test_branching_on_values_is_told_as_such():
    def run(self, x):
        return x * 2 if x.sum() > 0 else x

    with pytest.raises(ImportProblems, match=r"(?s)torch\.export cannot trace.*must not branch on values"):
        from_torch(forward(run), torch.zeros(1, 3))


def test_infinite_weights_are_refused():
    net = nn.Linear(2, 2).eval()
    nn.init.constant_(net.weight, float("nan"))
    with pytest.raises(ImportProblems, match="infinities or NaN in weight"):
        from_torch(net, torch.zeros(1, 2))


def test_a_forward_that_writes_its_buffers_is_refused():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x * 2

    with pytest.raises(ImportProblems, match="buffer 'calls' is written by forward"):
        from_torch(Counter().eval(), torch.zeros(2, 3))


def test_constants_as_large_as_the_batch_are_not_summed_over_it():
    with pytest.raises(ImportProblems, match=r"aten\.sum.*is not the batch N"):
        from_torch(forward(lambda self, x: x + torch.ones(x.shape[0], 3).sum(0)), torch.zeros(2, 3))


def test_random_numbers_and_outputs_that_are_constant_are_refused():
    with pytest.raises(ImportProblems, match=r"(?s)it is random.*does not depend on the inputs"):
        from_torch(forward(lambda self, x: (x + torch.rand(3), torch.ones(3))), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (None, "needs example_inputs"),
        ((), "holds no torch tensor"),
        (np.zeros((1, 2)), "not ndarray"),
        ((torch.zeros(2, 3), torch.zeros(1, 3)), r"\[\(2, 3\), \(1, 3\)\]"),
        (torch.zeros(()), "axis 0 of every input must be the batch"),
        (torch.zeros(0, 3), "at least 1"),
    ],
)
def test_example_inputs_are_checked(examples, said):
    with pytest.raises(BadInput, match=said):
        from_torch(forward(lambda self, x, y=None: x * 2), examples)


def test_something_else_than_a_model_is_refused():
    with pytest.raises(BadInput, match=r"takes a torch\.nn\.Module.*not dict"):
        from_torch({"weight": torch.zeros(1)}, torch.zeros(1, 2))


# ----------------------------------------------------------------------------------------------- programs, own operators
def test_a_program_is_read_without_examples_also_when_it_is_decomposed():
    network = NETWORKS["resnet8"]()
    net = network.build()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, network.example(2), dynamic_shapes=shapes)
    whole, core = from_torch(program), from_torch(program.run_decompositions())
    (x,) = network.example(3, seed=1)
    want = net(x).detach().numpy()
    for graph in (whole, core):
        assert (
            np.abs(graph.evaluate(x.numpy())[graph.outputs[0]] - want).max() <= 1e-5 * np.abs(want).max()
        )  # torch in float32
    assert {node.name for node in core.nodes if node.op.name == "conv"} == {
        n.name for n in whole.nodes if n.op.name == "conv"
    }
    assert set(core.constants) == set(whole.constants)


def test_a_program_exported_in_training_mode_is_refused():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    with pytest.raises(ImportProblems, match=r"(?s)statistics from the batch.*module\.eval\(\)"):
        from_torch(torch.export.export(net, (torch.zeros(2, 3),)))


def test_a_size_that_is_free_besides_the_batch_is_refused():
    dim = torch.export.Dim
    program = torch.export.export(
        nn.ReLU().eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: dim("batch"), 2: dim("height")},)
    )
    with pytest.raises(ImportProblems, match=r"input 'input': its shape .* is not fixed but for the batch"):
        from_torch(program)


def test_own_translations_win_and_may_bring_their_own_constants():
    def halved(call):
        return call.emit("multiply", call.activation("self"), call.constant(0.5, "half"))

    net = nn.Sequential(nn.Linear(3, 3), nn.Softmax(1), nn.ReLU()).eval()
    graph = from_torch(net, torch.zeros(1, 3), ops={"aten.softmax.int": halved, "aten.relu": lambda call: call["self"]})
    assert [(node.name, node.op) for node in graph.nodes] == [("0", OPS["linear"]), ("1", OPS["multiply"])]
    assert graph.constants["1.half"] == 0.5


def test_a_translation_with_the_wrong_shape_is_caught():
    def wrong(call):
        return call.emit("mean", call.activation("self"), axes=(1,))

    with pytest.raises(ImportProblems, match=r"translated to shape \(None,\), where torch has \(None, 3\)"):
        from_torch(forward(lambda self, x: F.softmax(x, 1)), torch.zeros(1, 3), ops=[("aten.softmax", wrong)])
