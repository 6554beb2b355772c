"""Every example in the room's page and docstrings runs."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import fixqnn

ROOM = Path(fixqnn.__file__).parent / "universal"
FILES = ("grid", "table", "rows", "separation", "second_layer", "decide", "verdict", "affine", "functions", "neurons")


def test_the_page_is_true():
    outcome = doctest.testfile(str(ROOM / "README.md"), module_relative=False)
    assert outcome.attempted > 20
    assert outcome.failed == 0


@pytest.mark.parametrize(
    "name",
    [
        *(f"universal.{name}" for name in FILES),
        "universal.certificate",
        "universal.format_map",
        "universal.closure",
        "universal.closure_table",
        "cli.universal",
        "arith.enclosures",
    ],
)
def test_examples_of_docstrings_run(name):
    assert doctest.testmod(import_module(f"fixqnn.{name}")).failed == 0
