"""Every verdict of the tables in ``expected.py``."""

from __future__ import annotations

import pytest

import fixqnn as fq
from tests.universal.expected import SINGLE, TABLES


def cells():
    for (weights, bias, dimensions), (columns, rows) in TABLES.items():
        for names, letters in rows.items():
            for name in names.split():
                yield pytest.param(
                    weights, bias, dimensions, name, columns.split(), letters.split(), id=f"{weights}-{bias}-{name}"
                )


@pytest.mark.parametrize(("weights", "bias", "dimensions", "name", "columns", "letters"), list(cells()))
def test_the_tables_of_verdicts(weights, bias, dimensions, name, columns, letters):
    assert len(columns) == len(letters)
    for column, letter in zip(columns, letters, strict=True):
        p, s = map(int, column.split(","))
        for inputs in dimensions:
            verdict = fq.universal.decide(name, fq.symmetric(p, s), weights, bias, inputs=inputs)
            assert verdict.letter == letter, verdict
            assert verdict.universal is (letter == "R")


@pytest.mark.parametrize(("p", "s", "activation", "weights", "bias", "inputs", "ties", "letter"), SINGLE)
def test_single_tables(p, s, activation, weights, bias, inputs, ties, letter):
    for tie in ties.split():
        verdict = fq.universal.decide(activation, fq.symmetric(p, s), weights, bias, tie, inputs)
        assert verdict.letter == letter, verdict
