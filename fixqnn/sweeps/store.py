"""Rows on disk: one SQLite file that several processes may write to, and that survives a kill at any moment.

Write-ahead logging (https://www.sqlite.org/wal.html) with one transaction a row: what was committed is there, what was not
leaves no trace.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from fixqnn.errors import BadFile, BadInput
from fixqnn.sweeps.points import Point
from fixqnn.sweeps.rows import COLUMNS, Row, Rows, as_json

SCHEMA = 1
PATIENCE = 30.0  # seconds to wait for another process that writes
SETTLED = ("ok", "impossible")  # computed once, for good; "failed" is tried again
# What must agree between a store and who writes to it, and how messages call it.
BELONGS = {
    "schema": "layout of the store", "fixqnn": "version of fixqnn", "graph": "graph", "samples": "calibration samples",
    "test_set": "test set", "labels": "labels",
}  # fmt: skip
META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
TYPES = {name: "TEXT" if kind == "JSON" else kind for name, kind in COLUMNS.items()}
_COLUMNS = ", ".join(f'"{name}" {kind}' for name, kind in TYPES.items())
ROWS = f"CREATE TABLE IF NOT EXISTS rows ({_COLUMNS}, PRIMARY KEY (key))"
NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
# A row that failed gives way to a later one of the same key; one that is settled stays.
INSERT = (
    f"INSERT INTO rows ({NAMES}) VALUES ({', '.join('?' for _ in COLUMNS)}) ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS if name != "key")
    + " WHERE rows.status = 'failed'"
)


class Store:
    """An open store.

    Parameters
    ----------
    path : path or None
        The file; made if it is not there. None: in memory, gone with the object.
    belongs : mapping of str to str
        What the rows depend on beside their settings: the entries of `BELONGS`.
    patience : float
        Seconds to wait for another process.

    Raises
    ------
    BadFile
        For a file that is no store, is damaged, locked or cannot be written, or where no room is left.
    BadInput
        For a store of another graph, data set or version; the differences are named.
    """

    def __init__(
        self, path: str | Path | None = None, belongs: Mapping[str, Any] | None = None, patience: float = PATIENCE
    ) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.is_dir():
            raise BadFile(f"{self.path} is a folder; a store is one file, such as rows.sqlite")
        if self.path is not None and not self.path.parent.is_dir():
            raise BadFile(f"there is no folder {self.path.parent} to put {self.path.name} into")
        with said(self.path):
            name = ":memory:" if self.path is None else str(self.path)
            self._connection = sqlite3.connect(name, timeout=patience, isolation_level=None, check_same_thread=False)
        try:
            with said(self.path):
                self._open(belongs or {}, patience)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, belongs: Mapping[str, Any], patience: float) -> None:
        connection = self._connection
        _check(connection, self.path)
        if (tables := _tables(connection)) and not {"meta", "rows"} <= tables:
            raise BadFile(f"{self.path} is a database of something else, with the tables {', '.join(sorted(tables))}")
        _log_ahead(connection, patience)
        connection.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; a power cut, the last rows at most
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(META)
            connection.execute(ROWS)
            self._settle({"schema": str(SCHEMA), **{name: str(value) for name, value in belongs.items()}})
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _settle(self, belongs: Mapping[str, str]) -> None:
        """Write down what a new store belongs to; refuse one that belongs to something else."""
        there = dict(self._connection.execute("SELECT name, value FROM meta"))
        differing = [
            f"{words}: the store has {_brief(json.loads(there[name]))}, this is {_brief(belongs[name])}"
            for name, words in BELONGS.items()
            if name in there and name in belongs and json.loads(there[name]) != belongs[name]
        ]
        if differing:
            raise BadInput(
                f"{self.path} belongs to something else; name another store for this one\n"
                + "\n".join(f"  - {line}" for line in differing)
            )
        self._write_meta({name: value for name, value in belongs.items() if name not in there})

    def _write_meta(self, meta: Mapping[str, Any]) -> None:
        self._connection.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [(name, json.dumps(value, ensure_ascii=False)) for name, value in meta.items()],
        )

    def add(self, row: Row) -> bool:
        """Write a row in a transaction of its own; tell whether it is new, or in place of one that failed.

        Raises
        ------
        BadFile
            When the row cannot be written; those before it stay.
        """
        with said(self.path):
            return self._connection.execute(INSERT, [_packed(name, row.get(name)) for name in COLUMNS]).rowcount > 0

    def set_meta(self, **meta: Any) -> None:
        """Write down facts about all rows; anything that JSON can hold."""
        with said(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._write_meta(meta)
            self._connection.execute("COMMIT")

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about all rows."""
        with said(self.path):
            return _meta(self._connection)

    def settled(self) -> set[str]:
        """Keys of the rows that need not be computed any more."""
        marks = ", ".join("?" for _ in SETTLED)
        with said(self.path):
            return {
                key for (key,) in self._connection.execute(f"SELECT key FROM rows WHERE status IN ({marks})", SETTLED)
            }

    def has(self, key: str) -> bool:
        """Whether a row of this key is settled, perhaps by another process."""
        with said(self.path):
            found = self._connection.execute("SELECT status FROM rows WHERE key = ?", (key,)).fetchone()
        return found is not None and found[0] in SETTLED

    def rows(self, keys: tuple[str, ...] | list[str] | None = None) -> Rows:
        """Give all rows in the order of writing, or those of some keys in the order of the keys."""
        with said(self.path):
            found = _rows(self._connection)
            meta = _meta(self._connection)
        if keys is not None:
            by_key = {row["key"]: row for row in found}
            found = [by_key[key] for key in dict.fromkeys(keys) if key in by_key]
        return Rows(found, meta)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read the rows and facts of a store without changing anything.

    Raises
    ------
    BadFile
        Where there is no store, or it is damaged.
    """
    if not path.is_file():
        raise BadFile(f"there is no store {path}; sweep(..., store={str(path)!r}) makes one")
    with said(path), closing(_reader(path)) as connection:
        _check(connection, path)
        if not {"meta", "rows"} <= _tables(connection):
            raise BadFile(f"{path} is no store of sweeps: it has no table of rows")
        if (schema := _meta(connection).get("schema")) != str(SCHEMA):
            raise BadFile(f"{path} has layout {schema} of the store; this version of fixqnn reads layout {SCHEMA}")
        return _rows(connection), _meta(connection)


def _reader(path: Path) -> sqlite3.Connection:
    """Open for reading; where the folder cannot be written the log has no index, and the file is read as it is."""
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=PATIENCE)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as problem:
        connection.close()
        if "unable to open" not in str(problem) and "readonly" not in str(problem):
            raise
        return sqlite3.connect(f"{address}&immutable=1", uri=True)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path | None) -> None:
    """Refuse a file whose pages do not hang together."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise BadFile(f"{path} is damaged ({found}); restore it from a copy, or name another store")


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _log_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Switch to write-ahead logging; SQLite does not wait by itself for others who do the same at that moment."""
    stop = monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as problem:
            if not problem.sqlite_errorname.startswith("SQLITE_BUSY") or monotonic() > stop:
                raise
            sleep(0.01)


@contextmanager
def said(path: Path | None) -> Iterator[None]:
    """Turn what SQLite raises into one clear error."""
    try:
        yield
    except sqlite3.Error as problem:
        text = str(problem)
        code = getattr(problem, "sqlite_errorname", "") or ""
        if code.startswith("SQLITE_FULL") or "is full" in text:
            raise BadFile(
                f"no room is left for {path}; the rows in it stay, and the same call goes on from there"
            ) from None
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise BadFile(
                f"{path} is locked by another process that has not let go of it for a while: {text}"
            ) from None
        if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or "malformed" in text or "not a database" in text:
            raise BadFile(f"{path} is no store of sweeps, or is damaged: {text}; name another file") from None
        if code.startswith("SQLITE_READONLY"):
            raise BadFile(f"{path} cannot be written: {text}") from None
        raise BadFile(f"{path} cannot be used: {text}") from None


def _packed(name: str, value: Any) -> Any:
    return as_json(name, value) if COLUMNS[name] == "JSON" else value


def _rows(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    there = {name for _, name, *_ in connection.execute("PRAGMA table_info(rows)")}
    if missing := [name for name in COLUMNS if name not in there]:
        raise BadFile(f"a store of sweeps has the columns {', '.join(missing)}, too; this one has not")
    cursor = connection.execute(f"SELECT {NAMES} FROM rows ORDER BY rowid")
    return [{name: _unpacked(name, v) for name, v in zip(COLUMNS, values, strict=True)} for values in cursor]


def _unpacked(name: str, value: Any) -> Any:
    if value is None or COLUMNS[name] != "JSON":
        return value
    return dict(Point.from_json(value).settings) if name == "settings" else json.loads(value)


def _meta(connection: sqlite3.Connection) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM meta")}


def _brief(value: Any) -> str:
    text = str(value)
    return f"{text[:16]}…" if len(text) == 64 else text  # a hash says no more in full
