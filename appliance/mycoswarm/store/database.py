"""The node's one SQLite file: WAL, numbered migrations, every write one transaction, foreign errors translated."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from mycoswarm.base.errors import StorageError

BUSY_MS = 5000  # another process (a CLI that reads) may hold the file this long

_migrations = Migrations("mycoswarm")


@_migrations(name="0001 keys")
def _keys(db: Any) -> None:
    db.execute(
        "CREATE TABLE keys (name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, made_at REAL NOT NULL, used_at REAL)"
    )


@_migrations(name="0002 ledger")
def _ledger(db: Any) -> None:
    db.execute(
        "CREATE TABLE tickets (id INTEGER PRIMARY KEY, at REAL NOT NULL, request_id TEXT, rule TEXT NOT NULL,"
        " model_digest TEXT NOT NULL, body BLOB NOT NULL, signature BLOB NOT NULL)"
    )
    db.execute(
        "CREATE TABLE answers (request_id TEXT PRIMARY KEY, at REAL NOT NULL, key_name TEXT, model TEXT NOT NULL,"
        " model_digest TEXT NOT NULL, rule TEXT NOT NULL, nodes TEXT NOT NULL, outcome TEXT NOT NULL,"
        " prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL)"
    )


@_migrations(name="0003 speeds")
def _speeds(db: Any) -> None:
    db.execute("CREATE TABLE speeds (node_id TEXT PRIMARY KEY, at REAL NOT NULL, bytes_per_s REAL NOT NULL)")


@_migrations(name="0004 what a key may do")
def _key_terms(db: Any) -> None:
    db.execute("ALTER TABLE keys ADD COLUMN labels TEXT NOT NULL DEFAULT '[]'")
    db.execute("ALTER TABLE keys ADD COLUMN user TEXT")
    db.execute("ALTER TABLE keys ADD COLUMN is_owner INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER")
    db.execute("ALTER TABLE keys ADD COLUMN tokens_per_day INTEGER")
    db.execute(
        "CREATE TABLE spending (key_name TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL,"
        " PRIMARY KEY (key_name, day))"
    )


@_migrations(name="0005 chained ledger")
def _chain(db: Any) -> None:
    db.execute("DROP TABLE tickets")
    db.execute("DROP TABLE answers")
    # STRICT, so that a value has the type that its digest was made over.
    db.execute(
        "CREATE TABLE ledger (seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, request_id TEXT,"
        " body TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL, signature BLOB NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX ledger_kinds ON ledger (kind, seq)")
    db.execute("CREATE INDEX ledger_requests ON ledger (request_id, seq) WHERE request_id IS NOT NULL")
    db.execute(
        "CREATE TABLE ledger_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, digest TEXT NOT NULL,"
        " signature BLOB NOT NULL) STRICT"
    )


@_migrations(name="0006 rules")
def _rules(db: Any) -> None:
    db.execute("CREATE TABLE rules (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT")
    db.execute("CREATE TABLE rule_tests (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT")
    db.execute(
        "CREATE TABLE rule_order (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, ids TEXT NOT NULL,"
        " next_id INTEGER NOT NULL) STRICT"
    )
    db.execute(
        "CREATE TABLE rule_versions (version INTEGER PRIMARY KEY, at REAL NOT NULL, by TEXT NOT NULL,"
        " what TEXT NOT NULL, undoes INTEGER UNIQUE) STRICT"
    )
    db.execute(
        "CREATE TABLE rule_changes (version INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, before TEXT,"
        " after TEXT, PRIMARY KEY (version, kind, key)) STRICT, WITHOUT ROWID"
    )


@_migrations(name="0007 endpoints")
def _endpoints(db: Any) -> None:
    db.execute(
        "CREATE TABLE endpoints (name TEXT PRIMARY KEY, url TEXT NOT NULL,"
        " place TEXT NOT NULL CHECK (place IN ('LAN', 'outside')), models TEXT NOT NULL, secret TEXT,"
        " added_at REAL NOT NULL, added_by TEXT NOT NULL) STRICT"
    )


@_migrations(name="0008 agent runs")
def _runs(db: Any) -> None:
    db.execute(
        "CREATE TABLE runs (id TEXT PRIMARY KEY, agent TEXT NOT NULL, task TEXT NOT NULL, model TEXT NOT NULL,"
        " asked_by TEXT NOT NULL, labels TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL,"
        " state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'failed', 'stopped', 'interrupted')),"
        " how TEXT, message TEXT, answer TEXT NOT NULL DEFAULT '', steps INTEGER NOT NULL DEFAULT 0,"
        " prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0) STRICT"
    )
    db.execute("CREATE INDEX runs_started ON runs (started_at)")
    db.execute(
        "CREATE TABLE run_events (run_id TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, body TEXT NOT NULL,"
        " PRIMARY KEY (run_id, number)) STRICT, WITHOUT ROWID"
    )


@_migrations(name="0010 certificates")
def _diplomas(db: Any) -> None:
    db.execute(
        "CREATE TABLE diplomas (subject TEXT PRIMARY KEY, model TEXT NOT NULL, at REAL NOT NULL,"
        " version INTEGER NOT NULL, percent INTEGER NOT NULL, correct INTEGER NOT NULL, cases INTEGER NOT NULL,"
        " kinds TEXT NOT NULL) STRICT"
    )


@_migrations(name="0011 schedules")
def _schedules(db: Any) -> None:
    db.execute(
        "CREATE TABLE schedules (id TEXT PRIMARY KEY, cron TEXT NOT NULL, zone TEXT NOT NULL, agent TEXT NOT NULL,"
        " task TEXT NOT NULL, labels TEXT NOT NULL, key_name TEXT, key_made_at REAL, user TEXT, client TEXT,"
        " made_at REAL NOT NULL, since REAL NOT NULL, handled_at REAL NOT NULL, ran_at REAL, run_id TEXT,"
        " state TEXT CHECK (state IN ('running', 'finished', 'failed', 'stopped', 'interrupted')), code TEXT,"
        " message TEXT, remark TEXT, failures INTEGER NOT NULL DEFAULT 0, is_paused INTEGER NOT NULL DEFAULT 0) STRICT"
    )


@_migrations(name="0012 MCP servers")
def _suppliers(db: Any) -> None:
    db.execute(
        "CREATE TABLE mcp_servers (name TEXT PRIMARY KEY, command TEXT NOT NULL, url TEXT NOT NULL,"
        " place TEXT NOT NULL CHECK (place IN ('LAN', 'outside')), secrets TEXT NOT NULL, added_at REAL NOT NULL,"
        " added_by TEXT NOT NULL, looked_at REAL) STRICT"
    )
    db.execute(
        "CREATE TABLE mcp_tools (server TEXT NOT NULL, place INTEGER NOT NULL, tool TEXT NOT NULL,"
        " description TEXT NOT NULL, schema TEXT NOT NULL, digest TEXT NOT NULL, fault TEXT NOT NULL, allowed TEXT,"
        " before TEXT, is_there INTEGER NOT NULL, PRIMARY KEY (server, tool)) STRICT, WITHOUT ROWID"
    )


@_migrations(name="0013 search server")
def _search(db: Any) -> None:
    db.execute(
        "CREATE TABLE search (id INTEGER PRIMARY KEY CHECK (id = 1), url TEXT NOT NULL, set_at REAL NOT NULL,"
        " set_by TEXT NOT NULL) STRICT"
    )


@_migrations(name="0015 sessions of browsers")
def _sessions(db: Any) -> None:
    db.execute(
        "CREATE TABLE sessions (digest BLOB PRIMARY KEY, key_name TEXT NOT NULL, key_made_at REAL NOT NULL,"
        " used_at REAL NOT NULL) STRICT"
    )
    db.execute("CREATE TABLE setup_codes (digest BLOB PRIMARY KEY, made_at REAL NOT NULL) STRICT")


class Transaction:
    """Several statements that are done together or not at all. Lives only inside `Store.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        """Run one changing statement; give back the number of rows it touched."""
        return self._connection.execute(statement, values).rowcount

    def read(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one query; it sees what this transaction has written."""
        return self._connection.execute(statement, values).fetchall()

    def each(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Run one query and hold one row at a time. Ends with the transaction."""
        return iter(self._connection.execute(statement, values))


class Store:
    """One connection and one lock: many threads may ask, one writes at a time. Blocking; call it from a thread."""

    def __init__(self, path: Path, migrations: Migrations = _migrations) -> None:
        """Open or make the file, and bring it to the newest version; `migrations` are a node's unless others are given.

        Raises:
            StorageError: not a database, not writable, no space.
        """
        self._lock = threading.Lock()
        with _translated(path):
            path.touch(mode=0o600, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_MS / 1000)
            try:
                self._database = Database(self._connection)
                self._database.enable_wal()
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA secure_delete = ON")  # keys of endpoints lie in the file
                migrations.apply(self._database)
            except BaseException:
                self._connection.close()
                raise
        self._path = path

    def write(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        """Run one changing statement as one transaction; give back the number of rows it touched.

        Raises:
            StorageError: the disk or the file failed; nothing was changed.
        """
        with self._lock, _translated(self._path), self._connection:
            return self._connection.execute(statement, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Run several statements as one transaction; an error inside undoes them all. Nobody else reads or writes
        meanwhile, so ask the store itself for nothing inside: it would wait for itself.

        Raises:
            StorageError: the disk or the file failed; nothing was changed.
        """
        with self._lock, _translated(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield Transaction(self._connection)

    def read(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one query.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock, _translated(self._path):
            return self._connection.execute(statement, values).fetchall()

    def forget(self) -> None:
        """Empty the write-ahead log, which still holds what was deleted. Where another process reads just now, it keeps
        it until the next time.

        Raises:
            StorageError: the disk or the file failed.
        """
        with self._lock, _translated(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file; everything written is already safe."""
        with self._lock:
            self._connection.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise StorageError(f"the database {path} failed: {exc}") from exc
