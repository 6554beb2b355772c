import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.analysis.path_metric import path_metric, path_norm


def layered(widths, random, frac=3, rounding="half_even"):
    """A ReLU network with a bias everywhere, its parameters, and what its codes stand for."""
    nodes, constants, formats, last = [], {}, {}, "x"
    form = fq.fixed(24, frac)
    for i, (n, m) in enumerate(itertools.pairwise(widths)):
        w, b = random.normal(size=(m, n)), random.normal(size=m)
        if rounding == "toward_zero":  # give them codes a little nearer to zero: what lies above is then cut off
            w, b = (
                a + np.sign(a) * 2.0**-frac * 0.49
                for a in (np.trunc(w * 2**frac) / 2**frac, np.trunc(b * 2**frac) / 2**frac)
            )
        constants |= {f"w{i}": w, f"b{i}": b}
        nodes.append(fq.Node(f"fc{i}", fq.OPS["linear"], (last, f"w{i}", f"b{i}")))
        last = f"fc{i}"
        if i < len(widths) - 2:
            nodes.append(fq.Node(f"relu{i}", fq.OPS["clamp"], (last,), attributes={"low": 0.0}))
            last = f"relu{i}"
    formats = dict.fromkeys(constants, form)
    return fq.Graph((fq.Value("x", (None, widths[0])),), (last,), tuple(nodes), constants, formats)


def codes(graph):
    """The same network with the reals of its codes."""
    return replace(
        graph, constants={n: graph.formats[n].decode(graph.formats[n].encode(c)) for n, c in graph.constants.items()}
    )


def listed(graph, widths):
    """Products along every path, by hand: from each input or bias to each output."""
    found = []
    layers = len(widths) - 1
    for start in range(layers + 1):  # 0: an input; else a bias of layer start − 1
        first = widths[start]
        for path in itertools.product(range(first), *(range(w) for w in widths[start + 1 :])):
            product = 1.0 if not start else graph.real_constant(f"b{start - 1}")[path[0]]
            for i, (a, b) in enumerate(itertools.pairwise(path), start=start):
                product *= graph.real_constant(f"w{i}")[b, a]
            found.append(product)
    return np.array(found)


@pytest.mark.parametrize("seed", range(40))
def test_the_distance_is_that_of_all_paths_listed_by_hand(seed):
    random = np.random.default_rng(seed)
    widths = tuple(int(w) for w in random.integers(1, 4, random.integers(2, 5)))
    graph = layered(widths, random)
    one, other = listed(graph, widths), listed(codes(graph), widths)
    distance = np.abs(one - other).sum()
    assert path_norm(graph) == pytest.approx(np.abs(one).sum())
    assert path_metric(graph) == pytest.approx(distance)
    assert path_metric(graph, paths=0) >= distance * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_two_passes_are_exact_where_all_magnitudes_fall(seed):
    random = np.random.default_rng(seed)
    graph = layered((3, 4, 3, 2), random, rounding="toward_zero")
    assert all((np.abs(codes(graph).constants[n]) <= np.abs(c)).all() for n, c in graph.constants.items())
    distance = np.abs(listed(graph, (3, 4, 3, 2)) - listed(codes(graph), (3, 4, 3, 2))).sum()
    assert path_metric(graph, paths=0) == pytest.approx(distance)
    assert path_metric(graph, paths=0) == pytest.approx(path_norm(graph) - path_norm(codes(graph)))


def by_hand():
    nodes = (
        fq.Node("hidden", fq.OPS["linear"], ("x", "w1", "b1")),
        fq.Node("relu", fq.OPS["clamp"], ("hidden",), attributes={"low": 0.0}),
        fq.Node("y", fq.OPS["linear"], ("relu", "w2", "b2")),
    )
    constants = {"w1": [[0.3, -0.6]], "b1": [0.1], "w2": [[0.7]], "b2": [0.0]}
    formats = dict.fromkeys(constants, fq.fixed(6, 2))
    return fq.Graph((fq.Value("x", (None, 2)),), ("y",), nodes, constants, formats)


def test_the_distance_is_the_one_computed_by_hand():
    assert path_metric(by_hand()) == pytest.approx(0.1375)


def convolutional(seed):
    random = np.random.default_rng(seed)
    conv = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    pool = {"kernel": (2, 2), "stride": (1, 1), "padding": ((0, 1), (1, 0))}
    nodes = (
        fq.Node("conv1", fq.OPS["conv"], ("x", "w1", "b1"), attributes=conv),
        fq.Node("relu1", fq.OPS["clamp"], ("conv1",), attributes={"low": 0.0}),
        fq.Node("pool", fq.OPS["max_pool"], ("relu1",), attributes={**pool, "dilation": (1, 1)}),
        fq.Node("conv2", fq.OPS["conv"], ("pool", "w2", "b2"), attributes=conv),
        fq.Node("skip", fq.OPS["subtract"], ("relu1", "conv2")),
        fq.Node("relu2", fq.OPS["lookup"], ("skip",), attributes={"function": "relu"}),
        fq.Node("average", fq.OPS["average_pool"], ("relu2",), attributes=pool),
        fq.Node("flat", fq.OPS["reshape"], ("average",), attributes={"shape": (None, 18)}),
        fq.Node("y", fq.OPS["linear"], ("flat", "w3")),
    )
    shapes = {"w1": (2, 1, 3, 3), "b1": (2,), "w2": (2, 2, 3, 3), "b2": (2,), "w3": (3, 18)}
    constants = {name: random.normal(size=shape) * 0.4 for name, shape in shapes.items()}
    return fq.Graph(
        (fq.Value("x", (None, 1, 3, 3)),), ("y",), nodes, constants, dict.fromkeys(constants, fq.fixed(12, 4))
    )


@pytest.mark.parametrize("seed", range(10))
def test_outputs_never_move_farther_than_paths_do(seed):
    graph = convolutional(seed)
    x = np.random.default_rng(seed).uniform(-3, 3, (200, 1, 3, 3))
    moved = np.abs(graph.evaluate(x)["y"] - codes(graph).evaluate(x)["y"]).sum(axis=1)
    reach = np.maximum(np.abs(x).max(axis=(1, 2, 3)), 1)
    assert (moved <= reach * path_metric(graph)).all()


def test_no_path_of_a_small_convolutional_network_is_forgotten():
    graph = convolutional(0)
    names = ("w1", "b1", "w2", "b2")
    small = replace(
        graph,
        nodes=graph.nodes[:5],
        outputs=("skip",),
        constants={n: graph.constants[n] for n in names},
        formats={n: graph.formats[n] for n in names},
    )
    exact = path_metric(small, paths=1 << 30)
    x = np.random.default_rng(0).uniform(-1, 1, (500, 1, 3, 3))
    moved = np.abs(small.evaluate(x)["skip"] - codes(small).evaluate(x)["skip"]).sum(axis=(1, 2, 3))
    assert moved.max() <= exact <= path_metric(small, paths=0)
    # the identity of both ways where magnitudes only fall: the list and the passes see the same paths
    falling = replace(
        small, constants={n: np.sign(c) * (np.abs(c) // 0.0625 + 0.4) * 0.0625 for n, c in small.constants.items()}
    )
    assert path_metric(falling, paths=1 << 30) == pytest.approx(path_metric(falling, paths=0))


def test_rescaled_neurons_have_the_same_paths():
    graph = by_hand()
    scaled = {"w1": graph.constants["w1"] * 8, "b1": graph.constants["b1"] * 8, "w2": graph.constants["w2"] / 8}
    formats = {"w1": fq.fixed(9, -1), "b1": fq.fixed(9, -1), "w2": fq.fixed(9, 5), "b2": fq.fixed(6, 2)}
    other = replace(graph, constants={**graph.constants, **scaled}, formats=formats)
    assert path_metric(other) == pytest.approx(path_metric(graph))


def test_what_paths_do_not_describe_is_refused_by_name():
    graph = by_hand()
    node = fq.Node("s", fq.OPS["lookup"], ("y",), attributes={"function": "sigmoid"})
    with pytest.raises(fq.DoesNotFit, match=r"s \(sigmoid\): paths describe"):
        path_metric(replace(graph, nodes=(*graph.nodes, node), outputs=("s",)))
    six = fq.Node("six", fq.OPS["clamp"], ("y",), attributes={"low": 0.0, "high": 6.0})
    with pytest.raises(fq.DoesNotFit, match=r"six \(clamp\)"):
        path_metric(replace(graph, nodes=(*graph.nodes, six), outputs=("six",)))
    with pytest.raises(fq.BadInput, match="'w1' has no format"):
        path_metric(replace(graph, formats={}))
    turned = {**graph.formats, "w1": fq.affine(4, 0.5, Fraction(1, 4))}
    with pytest.raises(fq.BadInput, match="changes its sign"):
        path_metric(replace(graph, formats=turned, constants={**graph.constants, "w1": [[0.01, -0.6]]}))
