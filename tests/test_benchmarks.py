"""Benchmarks run, and write the tables and files that they promise; no test looks at a time."""

from __future__ import annotations

import json

import pytest

from benchmarks import kernels, sweep_bits, tables, vs_float, vs_peers
from benchmarks.measure import Column, as_markdown, interleaved, significant


def document_of(path):
    document = json.loads(path.read_text())
    assert {"processor", "python", "numpy", "numba", "torch", "commit", "threads"} <= set(document["environment"])
    return document


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def test_kernels_have_one_row_per_work_and_part(results, capsys):
    kernels.main(["--quick", "--output", str(results / "kernels.json")])
    document = document_of(results / "kernels.json")
    rows = {(row["work"], row["part"]): row for row in document["rows"]}
    whole = [work for work in kernels.WORKS if not work.portable]
    assert set(rows) == {(w.name, p) for w in whole for p in kernels.PARTS} | {
        (w.name, "sum") for w in kernels.WORKS if w.portable
    }
    for work in kernels.WORKS:
        assert rows[work.name, "sum"].get("floor") == work.floor
    for row in document["rows"]:
        assert row.get("path") or row["error"], "measured, or a reason why not"
    assert rows["exact 8×8", "sum"]["conv"] > 0
    assert "exact 8×8" in capsys.readouterr().out


def test_whole_networks_are_measured_with_start_and_memory(results, capsys):
    vs_float.main(["--quick", "--threads", "1", "--output", str(results / "vs_float.json")])
    rows = document_of(results / "vs_float.json")["rows"]
    assert [row["machine"] for row in rows] == vs_float.DEFAULT_MACHINES[:2]
    assert all(row["ratio"] > 0 and row["network"] == "mlp" for row in rows)
    starts = document_of(results / "vs_float_start.json")["rows"]
    assert [row["case"].split(", ")[-1] for row in starts] == ["cold cache", "warm cache"]
    assert all(row["first_seconds"] > 0 for row in starts)
    memories = document_of(results / "vs_float_memory.json")["rows"]
    assert all(row["peak_mib"] >= row["loaded_mib"] > 0 for row in memories)
    assert "mlp" in capsys.readouterr().out


def test_peers_are_compared_only_where_their_codes_are_equal(results, capsys):
    vs_peers.main(["--quick", "--output", str(results / "vs_peers.json")])
    rows = document_of(results / "vs_peers.json")["rows"]
    assert {row["peer"] for row in rows if row["version"] != "missing" and row["work"].startswith("saturate 16")} >= {
        "numpy, loop over terms", "fxpmath, scalars",
    }  # fmt: skip
    for row in rows:
        assert "error" not in row
        assert ("ratio" in row) == (row.get("equal") == "yes")
        assert row.get("equal", "yes") == "yes" or row["peer"] == "apytypes", "apytypes does not saturate"
    assert "numpy, loop over terms" in capsys.readouterr().out


def test_sweeps_are_measured_alone_in_two_processes_and_whole(results, capsys):
    sweep_bits.main(["--quick", "--output", str(results / "sweep_bits.json")])
    rows = document_of(results / "sweep_bits.json")["rows"]
    assert [(row["sweep"], row["processes"]) for row in rows] == [
        (sweep_bits.GRID, 1), (sweep_bits.LAST, 1), (sweep_bits.GRID, 2), (f"{sweep_bits.GRID}, whole process", 1),
    ]  # fmt: skip
    for row in rows:
        assert "error" not in row
        assert row["points"] == 4
        assert row["per_minute"] == pytest.approx(4 / row["seconds"] * 60)
    assert 0 < rows[0]["outside"] < 100
    assert rows[1]["reuse"] > 0
    assert rows[2]["scaling"] > 0
    assert "weights × activations" in capsys.readouterr().out


class Elsewhere:
    name, multiplications = "a tool that nobody has", 1

    def available(self):
        return ""


class Wrong(Elsewhere):
    name, multiplications = "a tool that computes something else", 10_000

    def available(self):
        return "1.0"

    def prepare(self, work):
        return lambda: work.x @ work.w + 1

    def codes(self, result):
        return result


def test_a_missing_or_different_peer_is_named_and_not_timed():
    exact = vs_peers.matrix_works(quick=True)[0]
    missing, wrong = vs_peers.measure(exact, [Elsewhere(), Wrong()], rounds=1)
    assert missing["version"] == "missing"
    assert wrong["equal"] == "no, 100.0% differ"
    assert "ratio" not in missing
    assert "ratio" not in wrong


def test_tables_of_the_readme_come_from_the_files(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(tables.README.read_text())
    arguments = ["--readme", str(readme), "--results", str(results)]
    assert tables.main(arguments) == 0
    assert tables.main([*arguments, "--check"]) == 0
    text = readme.read_text()
    assert "| exact 8×8 | sum |" in text
    for name in tables.TABLES:
        assert f"<!-- table: {name} -->\n" in text
    readme.write_text(text.replace("| exact 8×8 | sum |", "| exact 8×8 | typed |"))
    assert tables.main([*arguments, "--check"]) == 1


def test_the_readme_says_what_the_stored_results_say():
    assert tables.main(["--check"]) == 0


def test_numbers_are_written_with_digits_that_count():
    assert [significant(v, 2) for v in (1234.5, 12.34, 0.01234, 0.0)] == ["1234", "12", "0.012", "0.0"]
    table = as_markdown([Column("a", "name"), Column("b", "ms", "3")], [{"a": "x|y", "b": 0.5}, {"a": "z"}])
    assert table.splitlines() == ["| name | ms |", "|---|---:|", "| x\\|y | 0.500 |", "| z |  |"]


def test_interleaved_calls_every_case_in_every_round():
    calls = []
    medians = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert set(medians) == {"a", "b"}
    assert min(medians.values()) >= 0
    assert calls.index("b") < len(calls) - 1 - calls[::-1].index("a"), "a comes again after b"
