"""Every operator that the importer knows computes what torch computes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.importers.nets import assert_agrees, forward, tensors


def test_activations_agree_with_torch():
    names = "sigmoid tanh silu mish elu selu celu softplus hardswish hardsigmoid relu relu6 leaky_relu hardtanh"
    functions = [getattr(F, name) for name in (*names.split(), "logsigmoid", "softsign")]
    functions += [
        F.gelu,
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.softplus(x, 2.0, 5.0),
        lambda x: F.elu(x, 0.5),
    ]
    functions += [torch.exp, torch.abs, torch.square, torch.erf, torch.sin, torch.cos, lambda x: F.leaky_relu(x, 0.3)]
    functions += [
        lambda x: x.clamp(-0.5, 0.7),
        lambda x: x.clamp(min=-0.2),
        lambda x: x.clamp_max(0.1),
        lambda x: x.clip(-1, 1),
    ]
    functions += [
        lambda x: F.hardtanh(x, -2.0, 0.5),
        lambda x: F.threshold(x, 0.1, 0.1),
        torch.sign,
        lambda x: F.glu(x, 1),
    ]
    assert_agrees(forward(lambda self, x: [f(3 * x) for f in functions]), (4, 5))


def test_activation_modules_agree_with_torch():
    kinds = (
        nn.ReLU6,
        nn.Hardtanh,
        nn.LeakyReLU,
        nn.ELU,
        nn.SELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
        nn.PReLU,
        nn.Softplus,
        nn.Hardswish,
    )
    graph = assert_agrees(nn.Sequential(*(kind() for kind in kinds)).eval(), (4, 5))
    assert [node.name for node in graph.nodes] == [str(i) for i in range(len(kinds))]


def test_functions_of_positive_numbers_agree_with_torch():
    functions = [
        torch.sqrt,
        torch.rsqrt,
        torch.reciprocal,
        torch.log,
        lambda x: x**0.5,
        lambda x: x**-1,
        lambda x: x**-0.5,
    ]
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
            stored = [
                x + self.row,
                self.row - x,
                x * self.offset,
                x / (self.offset.abs() + 1),
                x + self.row * 2 + self.offset,
            ]
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
            return [
                *sums,
                torch.bmm(x, y.transpose(1, 2)),
                torch.matmul(x, y.mT),
                self.left @ x,
                x @ self.w.t().t(),
                x[..., :4] @ self.w.t(),
            ]

    graph = assert_agrees(Net().eval(), (5, 6), (5, 6))
    assert set(graph.constants) == {"w", "w.transposed", "b", "left"}  # each array once, however it was turned
    assert [node.op.name for node in graph.nodes if node.op.name in ("linear", "matmul")] == [
        "linear", "linear", "linear", "linear", "matmul", "matmul", "matmul", "linear", "linear",
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
        nn.ConvTranspose2d(
            4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2, dilation=(1, 2)
        ),
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
        lambda x: x.reshape(x.shape[0], -1), lambda x: x.view(-1, 8 * 6, 4), lambda x: x.flatten(2),
        lambda x: x.unflatten(1, (2, 4)), lambda x: x[:, :, 1:2].expand_as(x[:, :, :1]) * 2,
        lambda x: x.unsqueeze(2).squeeze(2) * 2, lambda x: x[:, :1].squeeze(1), lambda x: x.transpose(1, 3), lambda x: x.mT,
        lambda x: x.permute(0, 2, 3, 1), lambda x: x.movedim(1, -1), lambda x: x.swapaxes(2, 3).contiguous().clone().detach(),
        lambda x: x[:, 2:7:2], lambda x: x[..., -1], lambda x: x[:, 1], lambda x: x[:, -3:-1, 1:], lambda x: x.select(2, -2),
        lambda x: torch.cat([x, 2 * x, x[:, :3]], 1), lambda x: torch.cat([x, x], -1), lambda x: torch.stack([x, -x], 2),
        lambda x: x.chunk(3, 1)[2], lambda x: x.split(3, 1)[1], lambda x: x.split([2, 5, 1], 1)[1], lambda x: x.unbind(2)[3],
        lambda x: sum(x.chunk(2, 1)), lambda x: F.pad(x, (1, 2)), lambda x: F.pad(x, (0, 1, 2, 0), value=1.5),
        lambda x: F.interpolate(x, scale_factor=2), lambda x: F.interpolate(x, size=(12, 12)), lambda x: F.pixel_shuffle(x, 2),
        lambda x: F.interpolate(x, scale_factor=3, mode="nearest-exact"), lambda x: F.pixel_unshuffle(x, 2),
        lambda x: F.channel_shuffle(x, 4), lambda x: x.view(-1, 2, 4, 6, 4).transpose(1, 2).reshape(-1, 8, 6, 4),
        lambda x: F.interpolate(x[:, 0], scale_factor=2), lambda x: F.dropout(x, 0.5, False) + 1,
        lambda x: x.double().float() + 1, lambda x: x.type_as(torch.zeros(1, dtype=torch.float64)),
        lambda x: torch.cat([x, torch.zeros_like(x), x.new_ones(x.shape[0], 2, 6, 4)], 1),
        lambda x: torch.cat([x, torch.full((1, 1, 6, 4), 0.5).expand(x.shape[0], 2, 6, 4)], 1),
    ]  # fmt: skip
    assert_agrees(forward(lambda self, x: [f(x) for f in functions]), (8, 6, 4))


def test_in_place_operators_also_through_views_give_what_torch_gives():
    def run(self, x):
        y = x * 2
        y[:, 1:3].mul_(3)
        y[:, :, -1:] += 1
        y[:, :2] = y[:, 1:3] * 2
        y.add_(1).clamp_(-1, 2)
        return y, torch.relu_(x.clone())

    def read_before(self, x):
        y = x * 2
        before, view = y + 1, y[:, 0]
        y.relu_()
        return before, view * 1.5, y + 0.5

    assert_agrees(forward(run), (4, 5))
    assert_agrees(forward(read_before), (4, 5))
    assert_agrees(forward(lambda self, x: (x * 2).add_(1).mul_(x).relu_()), (4, 5))
    assert_agrees(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 32), nn.ReLU6(inplace=True)).eval(), (4,))


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
