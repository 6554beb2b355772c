"""Benchmarks run and report ratios; no test looks at a time."""

from __future__ import annotations

import json

from benchmarks.vs_float import main


def test_the_benchmark_against_float_writes_its_table(tmp_path, capsys):
    output = tmp_path / "vs_float.json"
    main(["--networks", "mlp", "--rounds", "1", "--batch", "2", "--output", str(output)])
    document = json.loads(output.read_text())
    assert {row["machine"] for row in document["rows"]} == {"ideal", "systolic 16/32", "systolic 12/32"}
    assert all(row["ratio"] > 0 for row in document["rows"])
    assert document["environment"]["torch"]
    assert "mlp" in capsys.readouterr().out
