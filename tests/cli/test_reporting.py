"""fixqnn report: a page and tables from a store, which stays as it is."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest

from fixqnn.cli import main
from fixqnn.sweeps.rows import Rows
from fixqnn.sweeps.store import Store
from tests.report.made_rows import grid, impossible


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    opened = Store("rows.sqlite", {})
    for one in grid():
        opened.add(one)
    opened.set_meta(**grid().meta)
    opened.close()
    return tmp_path / "rows.sqlite"


def content(store: Path) -> list[tuple]:
    with sqlite3.connect(store) as connection:
        return connection.execute('SELECT * FROM rows ORDER BY "key"').fetchall()


def test_report_writes_a_page_and_prints_what_to_pick(capsys, store):
    before = content(store)
    status, text, err = call(capsys, "report", "rows.sqlite", "--title", "Widths of the net")
    assert status == 0, err
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<h1>Widths of the net</h1>" in page
    assert "fixqnn sweep net.pt2 --store rows.sqlite" in page
    assert "weights=6, activations=6" in text
    assert "24 rows: 21 ok, 3 impossible" in text
    assert "Wrote report.html; open it in a browser" in text
    assert content(store) == before


def test_tables_come_alone_or_with_the_page(capsys, store):
    status, text, err = call(capsys, "report", "rows.sqlite", "--csv", "rows.csv", "--json")
    assert status == 0, err
    assert not Path("report.html").exists()
    facts = json.loads(text)
    assert facts["files"] == {"csv": "rows.csv"}
    assert facts["rows"] == {"ok": 21, "stopped": 0, "impossible": 3, "failed": 0}
    with open("rows.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["accuracy"] for line in lines[:3]] == [str(r["accuracy"]) for r in grid()[:3]]
    assert len(lines) == 24
    status, _, err = call(capsys, "report", "rows.sqlite", "-o", "p.html", "--latex", "t.tex", "--parquet", "r.parquet")
    assert status == 0, err
    assert "\\toprule" in Path("t.tex").read_text()
    assert Path("p.html").exists()
    import pandas

    assert pandas.read_parquet("r.parquet")["accuracy"].tolist()[:3] == [r["accuracy"] for r in grid()[:3]]


def test_a_sweep_without_results_prints_the_reasons(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = Store("rows.sqlite", {})
    opened.add(impossible(2, 4, reason="DoesNotFit: 2 bits"))
    opened.close()
    status, text, err = call(capsys, "report", "rows.sqlite")
    assert status == 0, err
    assert "DoesNotFit: 2 bits" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.sqlite",), "there is no store nowhere.sqlite"),
        (("rows.sqlite", "--csv", "rows.sqlite"), "rows.sqlite is the store itself"),
        (("rows.sqlite", "-o", "./rows.sqlite"), "rows.sqlite is the store itself"),
        (("rows.sqlite", "-o", "nowhere/page.html"), "cannot write nowhere/page.html"),
        (("text.sqlite",), "text.sqlite"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_message(capsys, store, arguments, message):
    Path("text.sqlite").write_text("no database at all, but long enough to look at")
    status, _, err = call(capsys, "report", *arguments)
    assert status == 2
    assert message in err
    assert "unexpected" not in err
    assert len(Rows.load(store)) == 24
