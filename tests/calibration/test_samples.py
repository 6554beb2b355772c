from __future__ import annotations

import numpy as np
import pytest
import torch

from fixqnn.calibration.samples import chunks, rows_per_batch
from fixqnn.errors import BadInput
from fixqnn.format import fixed
from fixqnn.graph import Graph, Value
from fixqnn.tensor import Tensor
from tests.calibration.networks import chain, mlp, relu, rows

TWO = Graph((Value("a", (None, 2)), Value("b", (None, 3))), ("a",), (), {})


def read(graph, samples):
    return [batch["x"] for batch, _, _ in chunks(graph, samples)]


@pytest.mark.parametrize(
    "samples",
    [
        rows(150),
        torch.tensor(rows(150), requires_grad=True),
        rows(150).tolist(),
        (rows(150),),
        [rows(150)],
        {"x": rows(150)},
        list(np.split(rows(150), 15)),
        [[part] for part in np.split(rows(150), 15)],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(rows(150))), batch_size=7),
        (part for part in np.split(rows(150), [1, 2, 149])),
    ],
    ids=[
        "array",
        "torch",
        "lists",
        "tuple",
        "one batch",
        "dict",
        "batches",
        "lists of arrays",
        "DataLoader",
        "generator",
    ],
)
def test_samples_come_in_many_shapes_and_leave_in_equal_batches(samples):
    found = read(mlp(), samples)
    assert [len(part) for part in found] == [64, 64, 22]
    assert np.array_equal(np.concatenate(found), rows(150))
    assert all(part.dtype == np.float64 for part in found)


def test_the_total_is_known_for_an_array_and_unknown_for_a_stream():
    assert [(size, total) for _, size, total in chunks(mlp(), rows(70))] == [(64, 70), (6, 70)]
    assert [(size, total) for _, size, total in chunks(mlp(), [rows(70)])] == [(64, None), (6, None)]


def test_bfloat16_and_codes_are_read():
    assert read(mlp(), torch.ones(2, 4, dtype=torch.bfloat16))[0].tolist() == [[1.0] * 4] * 2
    assert read(mlp(), Tensor(np.full((2, 4), 8), fixed(8, 4)))[0].tolist() == [[0.5] * 4] * 2


def test_a_generator_may_use_its_buffer_again():
    def stream():
        buffer = np.zeros((1, 4))
        for i in range(5):
            buffer[:] = i
            yield buffer

    assert read(mlp(), stream())[0][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_stream_is_read_as_it_is_used():
    drawn = []

    def stream():
        for i in range(10):
            drawn.append(i)
            yield np.zeros((64, 4))

    found = chunks(mlp(), stream())
    next(found)
    next(found)
    assert drawn == [0, 1]


def test_several_inputs_are_a_tuple_or_a_dict():
    a, b = np.ones((4, 2)), np.zeros((4, 3))
    for samples in ((a, b), {"b": b, "a": a}, [(a[:1], b[:1]), [a[1:], b[1:]]]):
        batch, size, _ = next(chunks(TWO, samples))
        assert size == 4
        assert np.array_equal(batch["a"], a)
        assert np.array_equal(batch["b"], b)


def test_batches_shrink_where_values_are_large():
    wide = chain(relu("y", "x"), shape=(2**20,))  # x and y: 2**21 numbers per sample
    assert rows_per_batch(wide) == 4
    assert rows_per_batch(chain(relu("y", "x"), shape=(2**24,))) == 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((3, 5)), r"samples: input 'x' has shape \(3, 5\); the graph wants \(N, 4\)"),
        ([np.zeros((3, 4)), np.zeros(4)], r"batch 1 of the samples: input 'x' has shape \(4,\)"),
        ([(np.zeros((3, 4)), np.zeros(3))], r"takes 1 inputs \(x\), not 2; .*leave out labels, \(b\[0\] for"),
        ({"y": np.zeros((3, 4))}, "takes the inputs x; given were y"),
        (["a"], r"batch 0 of the samples is 'a', not an array"),
        ("file.npy", "samples must be an array, .* not 'file.npy'"),
        (None, "samples must be an array"),
        (np.array([["a"] * 4]), "samples have dtype <U1; they must be real numbers"),
        ([[0.0, 1.0], [2.0]], "samples cannot be made an array"),
    ],
)
def test_what_cannot_be_read_is_named(samples, message):
    with pytest.raises(BadInput, match=message):
        list(chunks(mlp(), samples))


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_a_number_that_is_none_is_named_by_input_and_place_among_all_samples(bad, word):
    samples = rows(100)
    samples[97, 2] = bad
    for given in (samples, list(np.split(samples, 10))):
        with pytest.raises(
            BadInput, match=rf"samples\[97, 2\], for input 'x', is {word}; samples must be finite numbers"
        ):
            list(chunks(mlp(), given))


def test_inputs_of_one_batch_must_have_one_length():
    with pytest.raises(BadInput, match="different batch sizes"):
        list(chunks(TWO, (np.zeros((2, 2)), np.zeros((3, 3)))))
