from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import fixqnn as fq
import hw_models as hw
from fixqnn import demo
from fixqnn.analysis.allocation import allocate_bits


@cache
def digits():
    pictures = demo.load_digits()
    with demo.one_thread():
        net = demo.train(pictures)
    return fq.from_torch(net, torch.zeros(2, 1, 8, 8)), pictures


def observed(graph, x):
    real = graph.evaluate(x)[graph.outputs[0]]
    return np.sqrt(np.mean((fq.run(fq.lower(graph, hw.ideal()), x).output.real() - real) ** 2))


def spent(graph, made):
    """Bits of all weights and of the values of one sample that are stored anew."""
    weights = sum(c.size * made.formats[name].bits for name, c in made.constants.items() if c.ndim > 1)
    moved = ("clamp", "max_pool", "reshape")
    values = {v.name for v in graph.inputs} | {n.output for n in graph.nodes if n.op.name not in moved}
    return weights + sum(int(np.prod(made.values[v].shape[1:])) * made.formats[v].bits for v in values)


@pytest.mark.parametrize(("target", "base"), [
    (0.3, fq.Policy()), (0.06, fq.Policy()), (0.2, fq.Policy(scales="free", per_channel=True)),
], ids=str)  # fmt: skip
def test_the_target_is_met_with_fewer_bits_than_one_width_for_all_needs(target, base):
    graph, pictures = digits()
    x, train = pictures.test_images[:160].astype(np.float64), pictures.train_images
    found = allocate_bits(graph, train, target, policy=base, limit=32)
    made = fq.quantize(graph, train, found.policy(base))
    assert found.predicted_rms <= found.target == target
    assert observed(made, x) == pytest.approx(found.predicted_rms, rel=0.25)
    calibration = fq.calibrate(graph, train, base)
    uniform = (fq.choose(graph, calibration, replace(base, weights=b, activations=b)) for b in range(3, 16))
    enough = next(one for one in uniform if observed(one, x) <= target)
    assert spent(graph, made) == found.bits
    assert found.bits < 0.95 * spent(graph, enough)


def test_widths_are_those_of_the_formats_that_the_policy_makes():
    graph, pictures = digits()
    found = allocate_bits(graph, pictures.train_images[:60], target_sqnr=25, limit=16)
    made = fq.quantize(graph, pictures.train_images[:60], found.policy())
    assert found.predicted.sqnr >= 25
    for name, settings in found.widths.items():
        if "weights" in settings:
            assert made.formats[graph.node(name).inputs[1]].bits == settings["weights"]
        value = name if name in graph.values else graph.node(name).output
        if "activations" in settings:
            assert made.formats[value].bits == settings["activations"]
    told = {name for name, settings in found.widths.items() if "activations" in settings}
    fused = {node.inputs[0] for node in graph.nodes if node.op.name == "clamp"}
    assert {v.name for v in graph.inputs} | {n.output for n in graph.nodes} <= told | fused
    assert str(found).splitlines()[1].split() == ["weights", "values", "layer"]


def test_weights_that_matter_less_get_fewer_bits():
    random = np.random.default_rng(0)
    nodes = (
        fq.Node("loud", fq.OPS["linear"], ("x", "w1")),
        fq.Node("quiet", fq.OPS["linear"], ("x", "w2")),
        fq.Node("small", fq.OPS["multiply"], ("quiet", "c")),
        fq.Node("y", fq.OPS["add"], ("loud", "small")),
    )
    constants = {"w1": random.normal(size=(4, 32)), "w2": random.normal(size=(4, 32)), "c": [[1 / 64]]}
    graph = fq.Graph((fq.Value("x", (None, 32)),), ("y",), nodes, constants)
    x = random.normal(size=(64, 32))
    found = allocate_bits(graph, x, target=0.02)
    loud, quiet = (found.widths[name]["weights"] for name in ("loud", "quiet"))
    assert 4 <= loud - quiet <= 8  # 64 times less is 6 bits
    assert found.predicted_rms <= 0.02


def test_names_are_matched_exactly():
    random = np.random.default_rng(1)
    nodes = (fq.Node("a[0]", fq.OPS["linear"], ("x", "w1")), fq.Node("a0", fq.OPS["linear"], ("a[0]", "w2")))
    constants = {"w1": random.normal(size=(16, 8)), "w2": random.normal(size=(1, 16))}
    graph = fq.Graph((fq.Value("x", (None, 8)),), ("a0",), nodes, constants)
    x = random.normal(size=(64, 8))
    found = allocate_bits(graph, x, target_sqnr=20)
    made = fq.quantize(graph, x, found.policy(fq.Policy(overrides={"a*": {"weights": 12}})))
    assert [made.formats[w].bits for w in ("w1", "w2")] == [found.widths[n]["weights"] for n in ("a[0]", "a0")]


def test_formats_that_are_there_stay():
    random = np.random.default_rng(2)
    nodes = (fq.Node("a", fq.OPS["linear"], ("x", "w1")), fq.Node("b", fq.OPS["linear"], ("a", "w2")))
    constants = {"w1": random.normal(size=(16, 8)), "w2": random.normal(size=(1, 16))}
    form = fq.fixed(14, 10)
    graph = fq.Graph((fq.Value("x", (None, 8)),), ("b",), nodes, constants, {"w1": form, "a": form})
    x = random.normal(size=(64, 8))
    found = allocate_bits(graph, x, target_sqnr=30)
    assert "a" not in found.widths
    assert fq.quantize(graph, x, found.policy()).formats["w1"] == form


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "one of the two"),
        ({"target": 0.1, "target_sqnr": 20}, "one of the two"),
        ({"target": 0}, "target must be above 0"),
        ({"target": float("nan")}, "finite"),
        ({"target": 0.1, "bits": (1, 8)}, "bits must be a pair"),
        ({"target": 1e-9, "bits": (3, 6)}, "with 6 bits everywhere the error is"),
        ({"target": 0.1, "policy": 8}, "policy must be a Policy"),
    ],
)
def test_what_cannot_be_allocated_is_refused(arguments, words):
    graph, pictures = digits()
    with pytest.raises(fq.BadInput, match=words):
        allocate_bits(graph, pictures.train_images[:20], limit=8, **arguments)
    with pytest.raises(fq.BadInput, match="no width to choose"):
        allocate_bits(fq.quantize(graph, pictures.train_images[:20]), pictures.train_images[:20], 0.1)
