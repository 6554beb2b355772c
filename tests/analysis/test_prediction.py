import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

import fixqnn as fq
import hw_models as hw
from benchmarks import error_prediction
from benchmarks.networks import resnet8
from fixqnn import demo
from fixqnn.analysis.gradients import Tape
from fixqnn.analysis.prediction import predict_rms
from fixqnn.analysis.rounding_noise import grid_factor, noise_factor
from tests.analysis.random_networks import random_graph, random_policy, samples


@cache
def digits():
    pictures = demo.load_digits()
    with demo.one_thread():
        net = demo.train(pictures)
    return fq.from_torch(net, torch.zeros(2, 1, 8, 8)), pictures


@cache
def resnet():
    pictures = torch.randn(96, 3, 32, 32, generator=torch.Generator().manual_seed(1)).numpy()
    return fq.from_torch(resnet8.build(), torch.zeros(2, 3, 32, 32)), pictures.astype(np.float64)


def observed(graph, x):
    real = graph.evaluate(x)[graph.outputs[0]]
    return np.sqrt(np.mean((fq.run(fq.lower(graph, hw.ideal()), x).output.real() - real) ** 2))


@pytest.mark.parametrize("style", [{}, {"scales": "free", "per_channel": True}, {"fuse_relu": False}], ids=str)
def test_the_error_of_the_digits_network_is_predicted_within_a_quarter(style):
    graph, pictures = digits()
    x, calibration = pictures.test_images[:160].astype(np.float64), fq.calibrate(graph, pictures.train_images)
    for weights, activations in ((4, 4), (4, 8), (8, 4), (5, 5), (6, 6), (8, 8), (10, 10)):
        made = fq.choose(graph, calibration, fq.Policy(weights=weights, activations=activations, **style))
        assert predict_rms(made, x).rms == pytest.approx(observed(made, x), rel=0.25), (weights, activations)


def test_the_error_of_resnet_8_is_predicted_within_a_quarter():
    graph, x = resnet()
    calibration = fq.calibrate(graph, x[32:])
    for weights, activations in ((4, 4), (4, 8), (8, 4), (6, 6), (8, 8)):
        made = fq.choose(graph, calibration, fq.Policy(weights=weights, activations=activations))
        assert predict_rms(made, x[:32]).rms == pytest.approx(observed(made, x[:32]), rel=0.25), (weights, activations)


def test_uniform_errors_are_right_on_average_over_weights():
    ratios = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        nodes = (
            fq.Node("hidden", fq.OPS["linear"], ("x", "w1", "b1")),
            fq.Node("relu", fq.OPS["clamp"], ("hidden",), attributes={"low": 0.0}),
            fq.Node("y", fq.OPS["linear"], ("relu", "w2", "b2")),
        )
        sizes = {"w1": (16, 4), "b1": (16,), "w2": (10, 16), "b2": (10,)}
        constants = {name: random.normal(size=shape) * shape[-1] ** -0.5 for name, shape in sizes.items()}
        graph = fq.Graph((fq.Value("x", (None, 4)),), ("y",), nodes, constants)
        x = random.uniform(-1, 1, (200, 4))
        made = fq.quantize(graph, x, fq.Policy(weights=6, activations=12))
        ratios.append(predict_rms(made, x, errors="uniform").rms / observed(made, x))
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(1, rel=0.1)
    assert np.std(ratios) > 0.02  # one draw of weights is not the average


@pytest.mark.parametrize("seed", range(12))
def test_gradients_are_those_of_the_graph(seed):
    graph = random_graph(seed)
    graph = fq.quantize(graph, samples(seed, reach=2), fq.Policy(weights=12, activations=16, fuse_relu=False))
    x = samples(seed + 100, 3)
    tape = Tape(graph, {"x": x}, {name: graph.real_constant(name) for name in graph.constants})
    real = graph.evaluate(x, watch="all")
    for name, value in tape.values.items():
        assert value.detach().numpy() == pytest.approx(real[name], rel=1e-3, abs=1e-4), name
    direction, step = np.random.default_rng(seed).normal(size=x.shape), 1e-4
    y = graph.outputs[0]
    moved = (graph.evaluate(x + step * direction)[y] - graph.evaluate(x - step * direction)[y]) / (2 * step)
    for output in range(3):
        (g,) = torch.autograd.grad(tape.values[y][:, output].sum(), tape.values["x"], retain_graph=True)
        found = (g.numpy() * direction).sum(axis=(1, 2, 3))
        assert found == pytest.approx(moved[:, output], rel=0.05, abs=0.02)


def test_small_errors_of_random_networks_are_predicted():
    near = []
    for seed in range(24):
        graph = fq.quantize(random_graph(seed, 4), samples(seed, 40), fq.Policy(weights=10, activations=12))
        x = samples(seed, 40)
        near.append(predict_rms(graph, x, limit=None).rms / observed(graph, x))
    assert np.median(near) == pytest.approx(1, rel=0.1)
    assert (
        np.mean((np.array(near) > 0.75) & (np.array(near) < 1.25)) > 0.8
    )  # functions with jumps or kinks are the rest


def test_nothing_is_predicted_where_nothing_is_lost():
    nodes = (
        fq.Node("fc", fq.OPS["linear"], ("x", "w")),
        fq.Node("relu", fq.OPS["clamp"], ("fc",), attributes={"low": 0.0}),
        fq.Node("flat", fq.OPS["reshape"], ("relu",), attributes={"shape": (None, 2)}),
    )
    form = fq.fixed(12, 6)
    formats = {"x": fq.fixed(8, 4), "w": fq.fixed(4, 2), "fc": form, "relu": form, "flat": form}
    graph = fq.Graph((fq.Value("x", (None, 2)),), ("flat",), nodes, {"w": [[0.25, -0.5], [1.0, 0.75]]}, formats)
    predicted = predict_rms(graph, [[0.5, 0.25], [-0.5, 1.0]])
    assert predicted.rms == 0
    assert predicted.shares() == {}
    assert predicted.sqnr == np.inf


def test_a_fused_relu_rounds_once():
    graph, pictures = digits()
    x = pictures.test_images[:32].astype(np.float64)
    made = fq.quantize(graph, pictures.train_images, fq.Policy())
    layers = predict_rms(made, x).layers()
    assert "relu" not in layers
    assert "pool" not in layers
    assert {"stem", "block.conv1", "classifier"} <= set(layers)


def test_shares_make_one_and_name_the_layer_that_was_spoilt():
    graph, pictures = digits()
    policy = fq.Policy(weights=10, activations=10, overrides={"block.conv2": {"weights": 2}})
    made = fq.quantize(graph, pictures.train_images, policy)
    predicted = predict_rms(made, pictures.test_images[:32])
    shares = predicted.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "block.conv2"
    assert shares["block.conv2"] > 0.95
    assert next(iter(predicted.kind_shares())) == "weights"
    assert predicted.table()[0]["layer"] == "block.conv2"
    assert "block.conv2 weights" in str(predicted).splitlines()[1]


def test_random_signs_stand_for_many_outputs():
    random = np.random.default_rng(3)
    node = fq.Node("y", fq.OPS["linear"], ("x", "w"))
    graph = fq.Graph((fq.Value("x", (None, 8)),), ("y",), (node,), {"w": random.normal(size=(60, 8))})
    x = random.normal(size=(100, 8))
    made = fq.quantize(graph, x, fq.Policy(weights=6, activations=8))
    one, same, other = (predict_rms(made, x, seed=s).rms for s in (0, 0, 1))
    assert one == same != other
    assert one == pytest.approx(observed(made, x), rel=0.1)


def test_the_signal_to_noise_ratio_is_that_of_the_run():
    graph, pictures = digits()
    made = fq.quantize(graph, pictures.train_images, fq.Policy(weights=6, activations=6))
    x = pictures.test_images[:64].astype(np.float64)
    found = fq.sqnr(graph.evaluate(x)[graph.outputs[0]], fq.run(fq.lower(made, hw.ideal()), x).output)
    assert predict_rms(made, x).sqnr == pytest.approx(found, abs=1.5)


@pytest.mark.parametrize("places", [1, 2, 3, 4, 7, 16])
def test_noise_of_a_grid_is_that_of_rounding_its_numbers(places):
    numbers = np.arange(-50 * places, 50 * places) / places
    assert np.mean((np.round(numbers) - numbers) ** 2) * 12 == pytest.approx(grid_factor(places), abs=1e-12)


def test_noise_follows_from_formats():
    graph = random_graph(0)
    made = fq.quantize(graph, samples(0), random_policy(0, power_of_two=True))
    kept = [
        n
        for n in made.nodes
        if n.op.name in ("clamp", "reshape") and made.formats[n.inputs[0]] == made.formats[n.output]
    ]
    assert all(noise_factor(made, node) == 0 for node in kept)
    last = made.nodes[-1]
    fine = made.with_formats({last.output: dataclasses.replace(made.formats[last.output], bits=60, scale=2.0**-40)})
    assert noise_factor(fine, last) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"errors": "measured"}, "errors must be"),
        ({"limit": 0}, "limit must be"),
        ({"samples": np.zeros((0, 1, 8, 8))}, "samples"),
        ({"samples": np.zeros((2, 1, 8, 7))}, "shape"),
        ({"samples": np.full((2, 1, 8, 8), np.nan)}, "nan|NaN|finite"),
    ],
)
def test_what_cannot_be_predicted_is_refused(arguments, words):
    graph, pictures = digits()
    made = fq.quantize(graph, pictures.train_images[:50])
    with pytest.raises(fq.BadInput, match=words):
        predict_rms(made, **({"samples": pictures.test_images[:4]} | arguments))


def test_a_graph_without_formats_is_refused():
    graph, pictures = digits()
    with pytest.raises(fq.BadInput, match="no format for"):
        predict_rms(graph, pictures.test_images[:4])


def test_the_benchmark_measures_what_its_table_promises():
    x = samples(0, 30)
    rows = error_prediction.measure("random", random_graph(3, 3), x, x, ((8, 8), (10, 10)))
    assert len(rows) == 2 * len(error_prediction.STYLES)
    for row in rows:
        assert {column.key for column in error_prediction.COLUMNS} <= set(row)
        assert row["certified"] >= 1
