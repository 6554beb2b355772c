"""What from_torch makes of torch models: the same numbers, the modules' names, and every problem at once."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.networks import NETWORKS
from fixqnn.errors import BadFile, BadInput, ImportProblems
from fixqnn.importers.torch import from_torch, load_weights
from fixqnn.ops import OPS

SEED = 20240607


def tensors(*shapes):
    generator = torch.Generator().manual_seed(SEED)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def forward(function, *parts):
    """A module in evaluation mode around a function of its inputs; `parts` are its submodules p0, p1 …"""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for i, part in enumerate(parts):
                setattr(self, f"p{i}", part)

        def forward(self, *xs):
            return function(self, *xs)

    torch.manual_seed(SEED)
    net = Net()
    for part in net.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            for array in (part.weight, part.bias, part.running_mean, part.running_var):
                nn.init.uniform_(array, 0.5, 1.5)
    return net.eval()


def assert_agrees(net, *shapes, outputs=None, limit=1e-5, **options):
    """The graph, made from one sample, computes for three what torch does in float64, to `limit` of the largest number."""
    graph = from_torch(net, tensors(*((1, *shape) for shape in shapes)), **options)
    xs = tensors(*((3, *shape) for shape in shapes))
    with torch.no_grad():
        want = net.double()(*(x.double() for x in xs))
    net.float()
    want = [want] if isinstance(want, torch.Tensor) else list(want.values()) if isinstance(want, dict) else list(want)
    got = graph.evaluate(*(x.numpy() for x in xs))
    assert len(graph.outputs) == len(want)
    for name, array in zip(graph.outputs, want, strict=True):
        array = array.numpy()
        assert got[name].shape == array.shape
        # float64 on both sides, but parameters went through float32 and torch may add in another order
        assert np.abs(got[name] - array).max() <= limit * np.abs(array).max(), f"{name}: differs from torch"
    return graph


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


# ---------------------------------------------------------------------------------------------------------- operators
def test_activations_agree_with_torch():
    names = "sigmoid tanh silu mish elu selu celu softplus hardswish hardsigmoid relu relu6 leaky_relu hardtanh logsigmoid softsign"
    functions = [getattr(F, name) for name in names.split()]
    functions += [F.gelu, lambda x: F.gelu(x, approximate="tanh"), lambda x: F.softplus(x, 2.0, 5.0), lambda x: F.elu(x, 0.5)]
    functions += [torch.exp, torch.abs, torch.square, torch.erf, torch.sin, torch.cos, lambda x: F.leaky_relu(x, 0.3)]
    functions += [lambda x: x.clamp(-0.5, 0.7), lambda x: x.clamp(min=-0.2), lambda x: x.clamp_max(0.1), lambda x: x.clip(-1, 1)]
    functions += [lambda x: F.hardtanh(x, -2.0, 0.5), lambda x: F.threshold(x, 0.1, 0.1), torch.sign, lambda x: F.glu(x, 1)]
    assert_agrees(forward(lambda self, x: [f(3 * x) for f in functions]), (4, 5))


def test_activation_modules_agree_with_torch():
    kinds = (nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.PReLU, nn.Softplus, nn.Hardswish)
    graph = assert_agrees(nn.Sequential(*(kind() for kind in kinds)).eval(), (4, 5))
    assert [node.name for node in graph.nodes] == [str(i) for i in range(len(kinds))]


def test_functions_of_positive_numbers_agree_with_torch():
    functions = [torch.sqrt, torch.rsqrt, torch.reciprocal, torch.log, lambda x: x**0.5, lambda x: x**-1, lambda x: x**-0.5]
    functions += [lambda x: x**2, lambda x: x**3, lambda x: x**1, lambda x: 1 / x]
    assert_agrees(forward(lambda self, x: [f(x.abs() + 0.5) for f in functions]), (4, 5))


def test_elementwise_operators_agree_with_torch_on_arrays_numbers_and_buffers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("row", tensors((1, 4, 1))[0])
            self.offset = nn.Parameter(tensors((5,))[0])

        def forward(self, x, y):
            alike = [x + y, x - y, x * y, torch.add(x, y, alpha=3), torch.sub(x, y, alpha=0.5), x / (y.abs() + 1)]
            numbers = [x + 2, x - 0.5, x * 3, x / 7, 1 - x, -x, torch.rsub(x, y, alpha=2), 2 / (x.abs() + 1)]
            stored = [x + self.row, self.row - x, x * self.offset, x / (self.offset.abs() + 1), x + self.row * 2 + self.offset]
            narrow = [x * x.mean(1, keepdim=True), torch.add(x, self.row, alpha=2), x + torch.ones(5), x * 1 + 0]
            return alike + numbers + stored + narrow

    assert_agrees(Net().eval(), (4, 5), (4, 5))


def test_matrix_products_agree_with_torch_and_constant_ones_are_linear_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(tensors((6, 4))[0])
            self.b = nn.Parameter(tensors((4,))[0])
            self.left = nn.Parameter(tensors((2, 5))[0])

        def forward(self, x, y):
            first = x[:, 0]
            sums = [torch.addmm(self.b, first, self.w), first.mm(self.w), x @ self.w, F.linear(x, self.w.t(), self.b)]
            return [*sums, torch.bmm(x, y.transpose(1, 2)), torch.matmul(x, y.mT), self.left @ x, x @ self.w.t().t()]

    graph = assert_agrees(Net().eval(), (5, 6), (5, 6))
    assert [node.op.name for node in graph.nodes if node.op.name in ("linear", "matmul")] == [
        "linear", "linear", "linear", "linear", "matmul", "matmul", "matmul", "linear",
    ]  # fmt: skip


def test_convolutions_agree_with_torch_for_every_rank_padding_stride_dilation_and_groups():
    parts = [
        nn.Conv1d(4, 6, 3, stride=2, padding=1),
        nn.Conv1d(4, 6, 4, padding="same", dilation=3),
        nn.Conv2d(4, 6, (3, 2), padding="valid", groups=2, bias=False),
        nn.Conv2d(4, 8, (2, 4), padding="same", groups=4),
        nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1), groups=2),
        nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2, dilation=(1, 2)),
        nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False),
    ]

    def run(self, a, b, c):
        inputs = (a, a, b, b, b, c, a, b, b)
        return [getattr(self, f"p{i}")(x) for i, x in enumerate(inputs)]

    graph = assert_agrees(forward(run, *parts), (4, 16), (4, 9, 8), (2, 3, 4, 5))
    assert [node.name for node in graph.nodes] == [f"p{i}" for i in range(len(parts))]
    assert graph.node("p3").attributes["padding"] == ((0, 1), (1, 2))  # torch puts the odd one after


def test_pools_agree_with_torch():
    functions = [
        lambda a, b, c: F.max_pool1d(a, 3, 2, 1), lambda a, b, c: F.max_pool2d(b, (3, 2), 2, (1, 0), (2, 1)),
        lambda a, b, c: F.max_pool2d(b, 2, 2, ceil_mode=True), lambda a, b, c: F.max_pool2d(b, 3, 3, 1, ceil_mode=True),
        lambda a, b, c: F.max_pool3d(c, 2), lambda a, b, c: F.max_pool2d(b, 2, return_indices=True)[0],
        lambda a, b, c: F.avg_pool1d(a, 4), lambda a, b, c: F.avg_pool2d(b, 3, 2, 1),
        lambda a, b, c: F.avg_pool2d(b, 3, 2, 1, count_include_pad=False), lambda a, b, c: F.avg_pool2d(b, 2, ceil_mode=True),
        lambda a, b, c: F.avg_pool2d(b, 3, 2, 1, ceil_mode=True, count_include_pad=False), lambda a, b, c: F.avg_pool3d(c, 2),
        lambda a, b, c: F.adaptive_avg_pool1d(a, 5), lambda a, b, c: F.adaptive_avg_pool2d(b, 1),
        lambda a, b, c: F.adaptive_avg_pool2d(b, (3, None)), lambda a, b, c: F.adaptive_max_pool2d(b, (3, 1)),
        lambda a, b, c: F.adaptive_max_pool1d(a, 4), lambda a, b, c: b.mean((2, 3)), lambda a, b, c: b.mean(-1, keepdim=True),
        lambda a, b, c: b.sum(1), lambda a, b, c: b.sum((-1, -2), keepdim=True),
    ]  # fmt: skip
    assert_agrees(forward(lambda self, *xs: [f(*xs) for f in functions]), (4, 16), (4, 9, 7), (2, 4, 4, 5))


def test_operators_that_move_values_agree_with_torch():
    functions = [
        lambda x: x.reshape(x.shape[0], -1), lambda x: x.view(-1, 8 * 6, 4), lambda x: x.flatten(2), lambda x: x.unflatten(1, (2, 4)),
        lambda x: x.unsqueeze(2).squeeze(2) * 2, lambda x: x[:, :1].squeeze(1), lambda x: x.transpose(1, 3), lambda x: x.mT,
        lambda x: x.permute(0, 2, 3, 1), lambda x: x.movedim(1, -1), lambda x: x.swapaxes(2, 3).contiguous().clone().detach(),
        lambda x: x[:, 2:7:2], lambda x: x[..., -1], lambda x: x[:, 1], lambda x: x[:, -3:-1, 1:], lambda x: x.select(2, -2),
        lambda x: torch.cat([x, 2 * x, x[:, :3]], 1), lambda x: torch.cat([x, x], -1), lambda x: torch.stack([x, -x], 2),
        lambda x: x.chunk(3, 1)[2], lambda x: x.split(3, 1)[1], lambda x: x.split([2, 5, 1], 1)[1], lambda x: x.unbind(2)[3],
        lambda x: sum(x.chunk(2, 1)), lambda x: F.pad(x, (1, 2)), lambda x: F.pad(x, (0, 1, 2, 0), value=1.5),
        lambda x: F.interpolate(x, scale_factor=2), lambda x: F.interpolate(x, size=(12, 12)), lambda x: F.pixel_shuffle(x, 2),
        lambda x: F.interpolate(x, scale_factor=3, mode="nearest-exact"), lambda x: F.pixel_unshuffle(x, 2),
        lambda x: F.channel_shuffle(x, 4), lambda x: x.view(-1, 2, 4, 6, 4).transpose(1, 2).reshape(-1, 8, 6, 4),
        lambda x: F.interpolate(x[:, 0], scale_factor=2), lambda x: F.dropout(x, 0.5, False) + 1, lambda x: x.double().float() + 1,
        lambda x: torch.cat([x, torch.zeros_like(x), x.new_ones(x.shape[0], 2, 6, 4)], 1),
        lambda x: torch.cat([x, torch.full((1, 1, 6, 4), 0.5).expand(x.shape[0], 2, 6, 4)], 1),
    ]  # fmt: skip
    assert_agrees(forward(lambda self, x: [f(x) for f in functions]), (8, 6, 4))


def test_in_place_operators_also_through_views_give_what_torch_gives():
    def run(self, x):
        y = x * 2
        y[:, 1:3].mul_(3)
        y.add_(1).clamp_(-1, 2)
        return y, torch.relu_(x)

    with pytest.raises(ImportProblems, match="slice_scatter"):
        assert_agrees(forward(run), (4, 5))
    assert_agrees(forward(lambda self, x: (x * 2).add_(1).mul_(x).relu_()), (4, 5))
    assert_agrees(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2), nn.ReLU6(inplace=True)).eval(), (4,))


def test_batch_norms_are_folded_or_become_layers_of_their_own():
    def run(self, x, y):
        a = self.p1(self.p0(x))  # folded
        b = self.p2(F.relu(a))  # alone, on pictures
        c = self.p4(F.relu(self.p3(y)))  # alone, on vectors
        return b, self.p6(self.p5(y)), c  # folded into linear

    parts = (nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Linear(5, 6), nn.BatchNorm1d(6),
             nn.Linear(5, 2), nn.BatchNorm1d(2, affine=True))  # fmt: skip
    graph = assert_agrees(forward(run, *parts), (3, 7, 7), (5,))
    assert [(node.name, node.op.name) for node in graph.nodes] == [
        ("p0", "conv"), ("relu", "clamp"), ("p2", "conv"), ("p3", "linear"), ("relu_1", "clamp"), ("p4.multiply", "multiply"),
        ("p4", "add"), ("p5", "linear"),
    ]  # fmt: skip
    assert graph.node("p2").attributes["groups"] == 4
    assert graph.outputs == ("p2", "p5", "p4")


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
    got = graph.evaluate(image=np.ones((4, 3)), gain=np.full((4, 3), 2), extras_0=np.ones((4, 1)), extras_1=np.full((4, 3), 5))
    assert [got[name][0, 0] for name in graph.outputs] == [2, 6, 1]


def test_what_depends_on_no_input_is_computed_once_in_double_precision():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.0, 3.0]))

        def forward(self, x):
            return x * (1 / self.scale + torch.arange(2))

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


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_what_mixes_samples_is_refused(mix, free):
    if mix is MIXES["a product with the batch size"] and not free:
        pytest.skip("torch.export leaves no trace of where a fixed number came from; the docstring says so")
    with pytest.raises(ImportProblems, match=r"nearest supported|torch\.export cannot trace"):
        from_torch(forward(lambda self, x: mix(x)), torch.zeros(4, 4, 4), dynamic_batch=free)


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
    with pytest.raises(ImportProblems, match=r"(?s)mode is reflect.*exponent is 2\.5.*does not divide evenly") as caught:
        from_torch(
            forward(lambda self, x: (F.pad(x, (1, 1), mode="reflect"), x**2.5, F.adaptive_max_pool1d(x, 4))), torch.zeros(1, 2, 6)
        )
    assert str(caught.value).startswith("3 places")


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
        assert np.abs(graph.evaluate(x.numpy())[graph.outputs[0]] - want).max() <= 1e-5 * np.abs(want).max()  # torch in float32
    assert {node.name for node in core.nodes if node.op.name == "conv"} == {n.name for n in whole.nodes if n.op.name == "conv"}
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
    with pytest.raises(ImportProblems, match="input 'input': its shape .* is not fixed but for the batch"):
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


# ---------------------------------------------------------------------------------------------------------------- files
@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    network = NETWORKS["lenet"]()
    path = tmp_path_factory.mktemp("saved") / "lenet.pt2"
    program = torch.export.export(network.build(), network.example(2), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return path


def test_a_saved_program_gives_the_graph_of_the_module(saved):
    network = NETWORKS["lenet"]()
    graph, direct = from_torch(saved), from_torch(network.build(), network.example(1))
    assert str(graph) == str(direct)
    assert graph.nodes == direct.nodes
    assert all(np.array_equal(graph.constants[name], direct.constants[name]) for name in direct.constants)


def rewritten(source, target, change):
    """Copy an archive with parts changed: `change` gets name and content and returns the content or None."""
    changed = False
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            changed = changed or content != old.read(name)
            if content is not None:
                new.writestr(name, content)
    assert changed
    return target


def test_an_archive_that_hides_code_is_not_opened(saved, tmp_path):
    def pickled(name, content):
        if not name.endswith("weights_config.json"):
            return content
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()

    def operator(name, content):
        return content.replace(b'"torch.ops.aten.tanh.default"', b'"torch.serialization.os.getcwd"')

    def size(name, content):
        return content.replace(b'"expr_str": "S', b'"expr_str": "__import__(\'os\').getcwd() or S')

    def sample(name, content):
        return b"\x80\x02cos\ngetcwd\n(tR." if name.startswith("data/sample_inputs") else content

    def nested(name, content):
        return content.replace(b'\\"builtins.dict\\"', b'\\"collections.defaultdict\\"')

    reasons = {
        pickled: "a tensor stored as pickle",
        operator: r"an operator outside torch\.ops",
        size: "a size that is not plain arithmetic",
        sample: "full pickle",
        nested: "nested in a collections.defaultdict",
    }
    for change, reason in reasons.items():
        path = rewritten(saved, tmp_path / f"{change.__name__}.pt2", change)
        with pytest.raises(BadFile, match=reason):
            from_torch(path)
    path = tmp_path / "library.pt2"
    path.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("lenet/data/aotinductor/model/run.so", b"")
    with pytest.raises(BadFile, match="no part of a plain exported program"):
        from_torch(path)


def test_files_that_are_no_program_are_refused_with_advice(saved, tmp_path):
    text = tmp_path / "notes.pt2"
    text.write_text("no model")
    weights = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 2).state_dict(), weights)
    disguised = tmp_path / "disguised.pt2"
    disguised.write_bytes(weights.read_bytes())
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(saved.read_bytes()[:-2000])
    empty = rewritten(saved, tmp_path / "empty.pt2", lambda name, content: None if name.startswith("models/") else content)
    with pytest.raises(BadFile, match=r"notes\.pt2 is not a model saved by torch\.export\.save; save one with"):
        from_torch(text)
    for path in (weights, disguised):
        with pytest.raises(BadFile, match=r"is not a model saved by torch\.export\.save; a file of weights holds no network.*load_weights"):
            from_torch(path)
    for path in (cut, empty):
        with pytest.raises(BadFile, match="is not a model saved|cannot be read by torch"):
            from_torch(path)
    with pytest.raises(BadFile, match="is not there"):
        from_torch(tmp_path / "nowhere.pt2")


class Hidden:
    """Runs code when unpickled: what a weights file must not be able to do."""

    def __reduce__(self):
        return (print, ("unpickled",))


def test_weights_are_loaded_from_both_kinds_of_file_and_checked(tmp_path, capsys):
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(net.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        nn.init.zeros_(other.weight)
        assert load_weights(other, tmp_path / name) is other
        assert torch.equal(other.weight, net.weight)
    with pytest.raises(BadInput, match=r"(?s)not those of this Conv2d.*size mismatch"):
        load_weights(nn.Conv2d(3, 2, 1), tmp_path / "a.pt")
    torch.save({"weight": Hidden()}, tmp_path / "bad.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"0")
    for name in ("bad.pt", "bad.safetensors", "nowhere.pt"):
        with pytest.raises(BadFile):
            load_weights(other, tmp_path / name)
    assert "unpickled" not in capsys.readouterr().out
