"""The examples in the machines' own documentation run, and every machine says where it is written down."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import fixqnn as fq
import hw_models

MODULES = ["hw_models", *(f"hw_models.{m.name}" for m in pkgutil.iter_modules(hw_models.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", hw_models.CATALOG)
def test_every_machine_is_made_without_arguments_and_documents_itself(name):
    factory = hw_models.CATALOG[name]
    machine = factory()
    assert isinstance(machine, fq.Accelerator)
    assert getattr(hw_models, name) is factory
    assert len(machine.source) > 100
    assert ">>>" in inspect.getdoc(factory)
    assert machine == factory()


def test_files_that_sources_name_are_there():
    root = Path(__file__).parents[2]
    sources = [hw_models.CATALOG[name]().source for name in hw_models.CATALOG]
    from hw_models.tflite import SOURCE

    words = {
        w.strip("(),;.") for s in (*sources, *SOURCE.values()) for w in s.split() if w.strip("(),;.").endswith(".npz")
    }
    assert len(words) >= 7
    for word in words:
        assert (root / word).exists() or (root / "tests/vectors" / word).exists(), word
