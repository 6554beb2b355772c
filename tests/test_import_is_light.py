"""Importing the package costs next to nothing; names arrive on first use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fixqnn

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "numba", "mpmath", "fxpmath", "sklearn", "rich", "scipy")


def in_a_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_takes_less_than_a_seventh_of_a_second_and_loads_nothing_heavy():
    code = (
        "import sys, time, json; t = time.perf_counter(); import fixqnn; t = time.perf_counter() - t; "
        "print(json.dumps([t, sorted(sys.modules)]))"
    )
    results = [json.loads(in_a_fresh_python(code)) for _ in range(3)]
    assert min(seconds for seconds, _ in results) < 0.15
    assert not set(HEAVY) & set(results[0][1])


@pytest.mark.parametrize(
    "statement", ["fixqnn.fixed(8, 4).encode([0.5])", "fixqnn.Tensor([1], fixqnn.fixed(8, 4))", "fixqnn.Register(8)"]
)
def test_formats_tensors_and_registers_need_neither_torch_nor_numba(statement):
    code = f"import sys, fixqnn\n{statement}\nprint([m for m in ('torch', 'numba') if m in sys.modules])"
    assert in_a_fresh_python(code).strip() == "[]"


@pytest.mark.parametrize("statement", ["import hw_models", "fixqnn.Program.load", "import fixqnn.report.pages"])
def test_machines_programs_and_reports_do_without_torch(statement):
    assert in_a_fresh_python(f"import sys, fixqnn\n{statement}\nprint('torch' in sys.modules)").strip() == "False"


def test_the_command_line_answers_help_without_torch_or_numba():
    code = (
        "import sys\nfrom fixqnn.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "print([m for m in ('torch', 'numba') if m in sys.modules])"
    )
    assert in_a_fresh_python(code).strip().endswith("[]")


@pytest.mark.parametrize("name", fixqnn.__all__)
def test_every_public_name_is_there(name):
    value = getattr(fixqnn, name)
    assert value.__class__.__name__ != "module"
    assert name in dir(fixqnn)


def test_type_checkers_see_the_same_names():
    import ast

    tree = ast.parse(Path(fixqnn.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == fixqnn._HOMES


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match="'quantise'; did you mean quantize"):
        fixqnn.quantise  # noqa: B018


def test_no_module_hides_a_public_function():
    modules = {path.stem for path in (ROOT / "fixqnn").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(fixqnn.__all__)
