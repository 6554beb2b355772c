"""Stores: what is written stays, what does not belong is refused, and errors are one clear sentence."""

from __future__ import annotations

import math
import os
import sqlite3

import pytest

import fixqnn as fq
from fixqnn.sweeps import store as module
from fixqnn.sweeps.store import Store

BELONGS = {"fixqnn": "1", "graph": "a" * 64, "samples": "s", "test_set": "t", "labels": "none"}


def row(key, status="ok", **more):
    return {"key": key, "settings": {"weights": 4, "format[fc]": fq.fixed(8, 4)}, "status": status, **more}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.sqlite"


def test_rows_come_back_as_they_were(path):
    with Store(path, BELONGS) as store:
        assert store.add(row("1", sqnr=math.inf, layer_events={"fc": {"sum[0]": 3}}, right=7))
        assert store.add(row("2", sqnr=-math.inf, p=0.1))
        store.set_meta(command="fixqnn sweep", float_accuracy=None)
    rows = fq.Rows.load(path)
    assert [r["key"] for r in rows] == ["1", "2"]
    assert rows[0]["settings"] == {"weights": 4, "format[fc]": fq.fixed(8, 4)}
    assert rows[0]["layer_events"] == {"fc": {"sum[0]": 3}}
    assert (rows[0]["sqnr"], rows[1]["sqnr"], rows[1]["p"], rows[0]["right"]) == (math.inf, -math.inf, 0.1, 7)
    assert rows.meta["command"] == "fixqnn sweep"
    assert rows.meta["graph"] == "a" * 64


def test_a_settled_row_stays_and_a_failed_one_gives_way(path):
    with Store(path, BELONGS) as store:
        assert store.add(row("1", "failed", reason="power"))
        assert store.settled() == set()
        assert store.add(row("1", "ok", events=5))
        assert not store.add(row("1", "ok", events=6))
        assert not store.add(row("1", "failed"))
        assert store.rows()[0]["events"] == 5
        assert store.settled() == {"1"}
        assert store.has("1")
        assert not store.has("2")


def test_a_store_of_something_else_is_refused_and_the_differences_are_named(path):
    Store(path, BELONGS).close()
    before = path.read_bytes()
    with pytest.raises(fq.BadInput) as refusal:
        Store(path, {**BELONGS, "graph": "b" * 64, "fixqnn": "2"})
    text = str(refusal.value)
    assert f"graph: the store has {'a' * 16}…, this is {'b' * 16}…" in text
    assert "version of fixqnn: the store has 1, this is 2" in text
    assert "test set" not in text
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_not_touched(path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mail (text)")
    other.close()
    before = path.read_bytes()
    for action in (lambda: Store(path, BELONGS), lambda: fq.Rows.load(path)):
        with pytest.raises(fq.BadFile, match=r"database of something else|no store of sweeps"):
            action()
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "zeros", "cut"])
def test_a_damaged_store_is_one_clear_error(path, damage):
    with Store(path, BELONGS) as store:
        for i in range(200):
            store.add(row(str(i), reason="x" * 100))
    content = path.read_bytes()
    if damage == "text":
        path.write_text("hello" * 100)
    elif damage == "zeros":
        path.write_bytes(content[:5000] + bytes(len(content) - 5000))
    else:
        path.write_bytes(content[: len(content) // 2])
    for action in (lambda: Store(path, BELONGS), lambda: fq.Rows.load(path)):
        with pytest.raises(fq.BadFile, match=r"damaged|malformed|no store") as refusal:
            action()
        assert str(path) in str(refusal.value)


def test_no_store_a_folder_or_no_folder_are_named(tmp_path):
    with pytest.raises(fq.BadFile, match="there is no store"):
        fq.Rows.load(tmp_path / "rows.sqlite")
    with pytest.raises(fq.BadFile, match="is a folder"):
        Store(tmp_path, BELONGS)
    with pytest.raises(fq.BadFile, match="there is no folder"):
        Store(tmp_path / "no" / "rows.sqlite", BELONGS)


def test_where_no_room_is_left_the_rows_before_stay_readable(path):
    with Store(path, BELONGS) as store:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages + 4}")  # the file can grow no further: a full disk
        written = []

        def fill():
            for i in range(1000):
                store.add(row(str(i), reason="x" * 1000))
                written.append(i)

        with pytest.raises(fq.BadFile, match=r"no room is left for .*the same call goes on from there"):
            fill()
        assert len(written) > 3
        assert len(fq.Rows.load(path)) == len(written)
    with Store(path, BELONGS) as store:  # with room again
        assert store.add(row("more"))
        assert len(store.rows()) == len(written) + 1


def test_a_store_that_another_holds_locked_is_named_after_some_patience(path):
    with Store(path, BELONGS) as store, Store(path, BELONGS, patience=0.05) as other:
        store._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(fq.BadFile, match="is locked by another process"):
            other.add(row("1"))
        assert len(fq.Rows.load(path)) == 0, "it can be read all the same"
        store._connection.execute("ROLLBACK")
        assert other.add(row("1"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_store_that_cannot_be_written_is_named(path):
    Store(path, BELONGS).close()
    path.chmod(0o444)
    with pytest.raises(fq.BadFile, match="cannot be"):
        Store(path, BELONGS)
    assert len(fq.Rows.load(path)) == 0


def test_a_store_of_another_layout_is_refused(path, monkeypatch):
    Store(path, BELONGS).close()
    monkeypatch.setattr(module, "SCHEMA", 2)
    with pytest.raises(fq.BadInput, match="layout of the store: the store has 1, this is 2"):
        Store(path, BELONGS)
    with pytest.raises(fq.BadFile, match="layout 1"):
        fq.Rows.load(path)
