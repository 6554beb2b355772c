"""Every snippet of the README runs; every command that it shows exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fixqnn.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("   #")[0].strip()
    for kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("fixqnn ")
]
SET_UP = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines() if "venv" in line]


def test_python_snippets_run_in_reading_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    snippets = [text for kind, text in BLOCKS if kind == "python"]
    assert len(snippets) == 10
    for text in snippets:
        first = text.splitlines()[0]
        if first.startswith("# ") and first.endswith(".py"):
            (tmp_path / first[2:]).write_text(text)
            continue
        exec(compile(text, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "dB against float64" in out
    assert "fixed(16, 10)" in out
    assert "fxp-s16/8" in out
    verdict = next(text for kind, text in BLOCKS if kind == "text" and text.startswith("registers of systolic"))
    assert verdict in out  # the figures that the page shows
    sys.modules.pop("my_array", None)


def test_formats_table_is_right():
    import fixqnn as fq

    section = README[README.index("## Formats") : README.index("## What")]
    rows = re.findall(r"^\| (`.*?`) \|.*?\| (`.*) \|$", section, re.MULTILINE)
    assert len(rows) == 6
    for spellings, meanings in rows:
        names, formats = re.findall(r"`(.*?)`", spellings), re.findall(r"`(.*?)`", meanings)
        formats = formats * len(names) if len(formats) == 1 else formats
        for name, meaning in zip(names, formats, strict=True):
            assert fq.Format.parse(name) == eval(meaning, vars(fq) | {n: getattr(fq, n) for n in fq.__all__}), name
    with pytest.raises(fq.FormatError):
        fq.Format.parse("Q1.15")


def test_set_up_lines_pin_versions_and_name_what_exists():
    assert len(SET_UP) == 2
    for line in SET_UP:
        assert "-c constraints.txt" in line
        assert (ROOT / "constraints.txt").read_text().count("torch==") == 1
    demo, test = SET_UP
    assert demo.endswith(".venv/bin/fixqnn demo")
    assert '".[demo]"' in demo
    assert test.endswith("-m pytest")
    assert '-e ".[test]"' in test
    project = (ROOT / "pyproject.toml").read_text()
    assert 'fixqnn = "fixqnn.cli:main"' in project
    assert re.search(r"^demo = \[", project, re.MULTILINE)
    assert re.search(r"^test = \[", project, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_options_exist(command):
    verb, *rest = shlex.split(command)[1:]
    known = {option for parameter in cli.commands[verb].params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_continuous_run_uses_the_line_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '(.*?)'", script).group(1)
    assert re.findall(pattern, README, re.MULTILINE) == [SET_UP[1]]
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0


def test_links_lead_to_files():
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\((?!http)(.*?)\)", README):
        assert target in anchors if target.startswith("#") else (ROOT / target).exists(), target


def test_machines_that_the_readme_speaks_of_are_all_there_are():
    import hw_models

    table = README[README.index("| machine |") :]
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:8]))
    assert sorted(named) == sorted(hw_models.CATALOG)


def test_the_demo_output_has_the_columns_and_machines_of_today():
    from fixqnn.demo import MACHINES
    from fixqnn.report.views import MACHINE

    shown = next(text for kind, text in BLOCKS if kind == "text" and "test digits" in text)
    assert re.split(r"  +", shown.splitlines()[1].strip()) == [column.heading for column in MACHINE]
    assert [line.split()[0] for line in shown.splitlines()[4:10]] == list(MACHINES)
    assert all(f"  {column.heading}" in shown and column.meaning in shown for column in MACHINE)
