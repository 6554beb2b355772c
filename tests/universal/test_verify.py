from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.errors import BadInput
from fixqnn.tensor import Tensor
from fixqnn.universal.build import build
from fixqnn.universal.verify import CHUNK, Mismatch, round_once, verify
from hw_models import ideal

TARGET = np.random.default_rng(0).integers(-3, 4, (7, 7))


def network():
    return build(TARGET, "relu", fq.symmetric(2, 3), rounding="half_even")


def test_a_planted_error_in_the_target_is_found_with_input_expected_and_found():
    planted = TARGET.copy()
    planted[2, 5] = TARGET[2, 5] + (1 if TARGET[2, 5] < 3 else -1)
    found = verify(network(), planted)
    assert found == Mismatch((-1, 2), int(planted[2, 5]), int(TARGET[2, 5]), 19)
    assert str(found) == f"input (-1, 2) (number 19): expected {planted[2, 5]}, found {TARGET[2, 5]}"


@pytest.mark.parametrize("engine", ["fast", "exact"])
def test_a_planted_error_in_a_weight_is_found(engine):
    graph = network()
    codes = graph.constants["weights1"].codes.copy()
    row = int(np.flatnonzero(codes.any(axis=1))[0])
    codes[row] = -codes[row]
    broken = graph.with_constants({"weights1": Tensor(codes, graph.constants["weights1"].format)})
    assert verify(graph, TARGET, engine=engine) is None
    assert isinstance(verify(broken, TARGET, engine=engine), Mismatch)


def test_programs_graphs_machines_and_functions_as_targets_are_taken_alike():
    graph = network()
    assert verify(fq.lower(graph, ideal("half_even")), TARGET) is None
    assert verify(graph, TARGET, machine=round_once("half_even")) is None
    assert verify(graph, lambda codes: TARGET[codes[:, 0] + 3, codes[:, 1] + 3]) is None
    assert verify(graph, TARGET.ravel()) is None


def test_the_tie_rule_of_a_graph_is_kept_with_it():
    target = [-1, -1, 0, 0, 0, 1, 1]  # k / 2, ties to even
    for ties, shown in (("half_even", [-2, -1, 0, 0, 0, 1, 2]), ("half_away", [-2, -1, -1, 0, 1, 1, 2])):
        graph = build(shown, "identity", fq.symmetric(2, 2), rounding=ties)
        assert graph.notes["y"]["construction"] == "affine"
        assert verify(graph, shown) is None
        assert verify(graph, target) is not None
        other = "half_away" if ties == "half_even" else "half_even"
        assert verify(graph, shown, machine=round_once(other)) is not None


def test_large_grids_are_streamed_with_progress():
    values = fq.symmetric(6, 16)  # 127³ inputs
    k = np.arange(-63, 64)
    line = np.where(k > 5, 20, -3)
    graph = build(np.broadcast_to(line[:, None], (127, 127)), "relu", values)
    wide = replace_inputs(graph, 3)
    seen = []
    assert verify(wide, lambda codes: np.where(codes[:, 0] > 5, 20, -3), progress=lambda *at: seen.append(at)) is None
    assert seen[-1] == (127**3, 127**3)
    assert len(seen) == -(-(127**3) // CHUNK)


def replace_inputs(graph, inputs):
    """The same network with further inputs that nothing depends on."""
    first = graph.constants["weights1"]
    codes = np.zeros((len(first.codes), inputs), np.int64)
    codes[:, : first.codes.shape[1]] = first.codes
    value = replace(graph.inputs[0], shape=(None, inputs))
    return replace(graph, inputs=(value,), constants={**graph.constants, "weights1": Tensor(codes, first.format)})


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.zeros((7, 7, 7), np.int64), "2 inputs, the target 3 axes"),
        (np.zeros((7, 6), np.int64), "shape"),
        (np.full((7, 7), 4), "between"),
        (np.zeros((7, 7)), "integers"),
        (lambda codes: codes, "one integer per input"),
        (lambda codes: codes[:, 0] * 0.5, "one integer per input"),
    ],
)
def test_odd_targets_are_refused(target, words):
    with pytest.raises(BadInput, match=words):
        verify(network(), target)


def test_what_is_no_function_of_a_grid_is_refused():
    graph = network()
    with pytest.raises(BadInput, match="symmetric"):
        verify(fq.lower(graph.with_formats({"x": fq.affine(3, Fraction(1, 3))}), ideal()), TARGET)
    with pytest.raises(BadInput, match="Graph or a Program"):
        verify(TARGET, TARGET)
    with pytest.raises(BadInput, match="lowered already"):
        verify(fq.lower(graph, ideal()), TARGET, machine=ideal())
    hidden = replace(graph, outputs=("hidden1",))
    with pytest.raises(BadInput, match=r"outputs \(batch, 1\)"):
        verify(hidden, TARGET)


def test_the_machine_takes_tie_rules_by_the_names_that_settings_take():
    assert round_once("half_to_zero").name == "round_once('half_toward_zero')"
    with pytest.raises(BadInput, match="the tie rule must round to the nearest value"):
        round_once("floor")
