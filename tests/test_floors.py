"""Rules that a program can check: imports never climb, loops compile in one way only, nothing hides."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module imports only from lower floors, and from the neighbours named in MAY.
FLOORS = {
    0: ("errors", "modes", "rationals", "encoding", "format", "dialects", "tensor"),
    1: ("scaler", "datapath", "provenance"),
    2: ("events", "arith"),
    3: ("kernels",),
    4: ("ops",),
    5: ("graph", "accelerator"),
    6: ("rewrite", "importers", "calibration", "costs"),
    7: ("conversion", "program", "storage", "trace", "metrics"),
    8: ("simulate", "comparison"),
    9: ("machines", "models", "warm"),
    10: ("analysis", "universal"),
    11: ("sweeps",),
    12: ("report",),
    13: ("demo", "job", "cli", "__init__"),
}
MAY = {
    ("modes", "errors"), ("rationals", "errors"), ("encoding", "errors"), ("encoding", "modes"), ("encoding", "rationals"),
    ("encoding", "format"), ("format", "errors"), ("format", "modes"), ("format", "rationals"), ("format", "encoding"),
    ("format", "dialects"), ("dialects", "errors"), ("dialects", "format"), ("dialects", "modes"), ("dialects", "rationals"),
    ("tensor", "errors"), ("tensor", "format"), ("tensor", "encoding"), ("tensor", "modes"), ("tensor", "rationals"),
    ("datapath", "scaler"), ("arith", "events"), ("accelerator", "graph"), ("importers", "rewrite"),
    ("storage", "program"), ("program", "storage"), ("trace", "program"), ("models", "machines"), ("cli", "demo"),
    ("cli", "job"),
}  # fmt: skip
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
SOURCES = sorted((ROOT / "fixqnn").rglob("*.py"))
LIBRARY = [*SOURCES, *sorted((ROOT / "hw_models").rglob("*.py"))]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "fixqnn").parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.lineno, node.module))
    return found


def test_every_room_has_a_floor():
    assert {room_of(p) for p in SOURCES} <= set(FLOOR)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_never_climb(path):
    room = room_of(path)
    for line, module in imports(ast.parse(path.read_text())):
        assert module.split(".")[0] != "hw_models", f"{path}:{line}: the library never imports hw_models"
        if not module.startswith("fixqnn.") or room == "__init__":
            continue
        other = module.split(".")[1]
        allowed = other == room or FLOOR[other] < FLOOR[room] or (room, other) in MAY
        assert allowed, f"{path}:{line}: {room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_loops_are_compiled_in_one_way_and_nothing_hides(path):
    text = path.read_text()
    tree = ast.parse(text)
    for word in ("fastmath", "prange", "import *"):
        assert word not in text, f"{path}: {word}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "njit":
            assert path.name == "fast.py", f"{path}:{node.lineno}: njit outside arith/fast.py; use @kernel"
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                assert not isinstance(default, ast.List | ast.Dict | ast.Set), (
                    f"{path}:{node.lineno}: a mutable default"
                )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name} has no docstring"
    assert ast.get_docstring(tree), f"{path}: the module has no docstring"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_enough_to_hold_in_the_head(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", sorted((ROOT / "fixqnn" / "ops").glob("*.py")), ids=lambda p: p.name)
def test_no_operation_rounds_or_scales_by_itself(path):
    if path.name in ("lookup.py",):  # tabulates sample points in exact rationals
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.BinOp):
            assert not isinstance(node.op, ast.RShift), f"{path}:{node.lineno}: >> belongs to arith"
