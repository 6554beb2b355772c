"""Machines by name: literals only, and every wrong name answered with the right ones."""

from __future__ import annotations

import doctest

import pytest

import fixqnn as fq
import hw_models
from fixqnn import machines, models
from fixqnn.machines import Reference, parse_reference, resolve


def test_examples_in_docstrings_run():
    for module in (machines, models):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ideal", Reference("hw_models", "ideal")),
        ("hw_models:systolic(accumulator=20)", Reference("hw_models", "systolic", (), {"accumulator": 20}, True)),
        ("a/b.py:m", Reference("a/b.py", "m")),
        ("C:\\dir\\b.py:m( -1, 'x:y' )", Reference("C:\\dir\\b.py", "m", (-1, "x:y"), {}, True)),
        (
            "hls4ml(types={'conv1': {'accum': 'ap_fixed<20,8>'}})",
            Reference("hw_models", "hls4ml", (), {"types": {"conv1": {"accum": "ap_fixed<20,8>"}}}, True),
        ),
    ],
)
def test_text_is_read_as_place_name_and_literals(text, expected):
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a:", ":b", "systolic(", "systolic(partial=x)", "systolic(partial=__import__('os').getcwd())", "systolic(*[1])",
        "systolic(**{'partial': 1})", "systolic(1)(2)", "a.b.c()", "systolic(partial=1, partial=2)", "x y", "systolic(lambda: 1)",
        "systolic(1); systolic(2)",
    ],
)  # fmt: skip
def test_anything_but_literals_is_refused(text):
    with pytest.raises(fq.BadInput):
        resolve(text)


def test_every_machine_of_the_catalogue_is_found_by_its_bare_name():
    for name, factory in hw_models.CATALOG.items():
        assert resolve(name) == resolve(f"hw_models:{name}") == factory()


def test_arguments_reach_the_machine():
    assert resolve("systolic(4, 8, partial=20)") == hw_models.systolic(4, 8, partial=20)


def test_a_file_may_import_its_neighbours_and_hold_machines_ready_made(tmp_path):
    (tmp_path / "parts.py").write_text("BITS = 11\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport hw_models\nfrom parts import BITS\n"
        "@dataclass\nclass Size:\n    rows: int\n\n"
        "def narrow(rows=Size(4).rows):\n    return hw_models.systolic(rows, partial=BITS)\n\n"
        "READY = narrow(2)\n_hidden = 1\n"
    )
    assert resolve(f"{tmp_path}/mine.py:narrow(8)") == hw_models.systolic(8, partial=11)
    assert resolve(f"{tmp_path}/mine.py:READY") == hw_models.systolic(2, partial=11)
    with pytest.raises(fq.BadInput, match="has no machine 'wide'; it has: Size, narrow, READY"):
        resolve(f"{tmp_path}/mine.py:wide")


def test_a_refusal_of_the_machine_itself_comes_through():
    with pytest.raises(fq.FormatError, match="scaler must be"):
        resolve("systolic(scaler='magic')")
