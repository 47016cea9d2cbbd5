"""The library's own SQLite file: folders of the owner's, their files, passages, notes, and vectors of passages.

Apart from the node's file, because a long write here must keep no prompt waiting. The passages' words are an FTS5 index
over the table of passages, kept by triggers. What is deleted is gone from the file: SQLite overwrites its pages, the
index is merged into one where nothing deleted is left, and the write-ahead log is emptied.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlite_utils.migrations import Migrations

from mycoswarm.base.errors import BusyError, InputError, NotFoundError
from mycoswarm.store.database import Store, Transaction

FILE_NAME = "library.db"
MAX_FOLDERS = 16
MAX_NOTES = 1000

_migrations = Migrations("mycoswarm library")


@_migrations(name="0001 library")
def _library(db: Any) -> None:
    db.execute(
        "CREATE TABLE folders (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL,"
        " labels TEXT NOT NULL, added_at REAL NOT NULL, read_at REAL, fault TEXT, others TEXT NOT NULL DEFAULT '{}',"
        " unembedded TEXT) STRICT"
    )
    db.execute(
        "CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT, folder_id INTEGER NOT NULL, path TEXT NOT NULL,"
        " bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT, edition INTEGER NOT NULL,"
        " fault TEXT NOT NULL, passages INTEGER NOT NULL, UNIQUE (folder_id, path)) STRICT"
    )
    db.execute(
        "CREATE TABLE notes (id TEXT PRIMARY KEY, labels TEXT NOT NULL, run_id TEXT NOT NULL, key_name TEXT,"
        " at REAL NOT NULL) STRICT"
    )
    # An id is never given twice: a vector that is made meanwhile must not end up at another passage.
    db.execute(
        "CREATE TABLE passages (id INTEGER PRIMARY KEY AUTOINCREMENT, file_id INTEGER, note_id TEXT UNIQUE,"
        " heading TEXT NOT NULL, page INTEGER, first_line INTEGER, last_line INTEGER, text TEXT NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX passages_files ON passages (file_id)")
    db.execute(
        "CREATE TABLE vectors (passage_id INTEGER PRIMARY KEY, maker TEXT NOT NULL, vector BLOB NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX vectors_makers ON vectors (maker, passage_id)")
    db.execute(
        "CREATE VIRTUAL TABLE words USING fts5 (text, heading, content = 'passages', content_rowid = 'id',"
        " tokenize = 'unicode61 remove_diacritics 2')"
    )
    db.execute(
        "CREATE TRIGGER passages_in AFTER INSERT ON passages BEGIN"
        " INSERT INTO words (rowid, text, heading) VALUES (new.id, new.text, new.heading); END"
    )
    db.execute(
        "CREATE TRIGGER passages_out AFTER DELETE ON passages BEGIN"
        " INSERT INTO words (words, rowid, text, heading) VALUES ('delete', old.id, old.text, old.heading);"
        " DELETE FROM vectors WHERE passage_id = old.id; END"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRow:
    """A folder of the owner's. Times are seconds since 1970. `fault`: why it could not be read whole the last time.
    `others`: how many files of which kind are left out. `unembedded`: why passages have no vector."""

    id: int
    name: str
    path: str
    labels: frozenset[str]
    added_at: float
    read_at: float | None = None
    fault: str | None = None
    others: dict[str, int] = field(default_factory=dict)
    unembedded: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file of a folder, as it was read. `digest` None: it was not. `edition`: of what made passages of it. `fault`:
    why there are none, or not all."""

    path: str
    bytes: int
    mtime_ns: int
    digest: str | None = None
    edition: int = 0
    fault: str = ""
    passages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageRow:
    """A piece of a file, and its place there; what is None the file does not have."""

    text: str
    heading: str = ""
    page: int | None = None
    first_line: int | None = None
    last_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """What a reading of a folder changed: written together or not at all. `kept` are files whose passages stay."""

    gone: tuple[str, ...] = ()
    kept: tuple[FileRow, ...] = ()
    fresh: tuple[tuple[FileRow, tuple[PassageRow, ...]], ...] = ()
    fault: str | None = None
    others: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRow:
    """What a run remembered. `key_name` None: it was the owner's."""

    id: str
    text: str
    labels: frozenset[str]
    run_id: str
    key_name: str | None
    at: float


_FILE = "path, bytes, mtime_ns, digest, edition, fault, passages"
_FOLDER = "id, name, path, labels, added_at, read_at, fault, others, unembedded"


class Holdings:
    """The library on the disk. Blocking; call it from threads."""

    def __init__(self, folder: Path) -> None:
        """Open or make its file in the data folder, and let go what an interrupted deletion has left in the log.

        Raises:
            StorageError: it cannot be opened.
        """
        self.store = Store(folder / FILE_NAME, _migrations)
        self.store.forget()

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def folders(self) -> tuple[FolderRow, ...]:
        """All of them, by name.

        Raises:
            StorageError: they could not be read.
        """
        return tuple(map(_folder, self.store.read(f"SELECT {_FOLDER} FROM folders ORDER BY name")))  # noqa: S608  # our own names

    def folder(self, name: str) -> FolderRow:
        """One folder.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: it could not be read.
        """
        found = self.store.read(f"SELECT {_FOLDER} FROM folders WHERE name = ?", (name,))  # noqa: S608  # our own names
        if not found:
            raise NotFoundError(
                f"the library has no folder {name[:80]!r}", hint="`mycoswarm-node library list` shows those it has."
            )
        return _folder(found[0])

    def add(self, name: str, path: str, labels: frozenset[str], at: float) -> FolderRow:
        """Take a folder in, still unread.

        Raises:
            InputError: the name or the folder is there already.
            BusyError: there are too many folders.
            StorageError: it could not be written.
        """
        with self.store.transaction() as transaction:
            for known, place in transaction.read("SELECT name, path FROM folders"):
                if known == name or place == path:
                    raise InputError(
                        f"the library has {place} as {known}",
                        hint=f"`library refresh {known}` reads it anew; `library remove {known}` forgets it first.",
                        code="name_taken",
                    )
            ((number,),) = transaction.read("SELECT COUNT(*) FROM folders")
            if number >= MAX_FOLDERS:
                why = f"the library has {MAX_FOLDERS} folders already"
                raise BusyError(why, retry_after_s=60, hint="Remove one first, or add a folder that holds several.")
            transaction.write(
                "INSERT INTO folders (name, path, labels, added_at) VALUES (?, ?, ?, ?)",
                (name, path, _listed(labels), at),
            )
        return self.folder(name)

    def remove(self, name: str) -> None:
        """Forget a folder with all that was read of it.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: it could not be written; nothing was forgotten.
        """
        folder_id = self.folder(name).id
        with self.store.transaction() as transaction:
            where = "file_id IN (SELECT id FROM files WHERE folder_id = ?)"
            transaction.write(f"DELETE FROM passages WHERE {where}", (folder_id,))  # noqa: S608  # our own words
            transaction.write("DELETE FROM files WHERE folder_id = ?", (folder_id,))
            transaction.write("DELETE FROM folders WHERE id = ?", (folder_id,))
            _merge(transaction)
        self.store.forget()

    def files(self, folder_id: int) -> tuple[FileRow, ...]:
        """The files of a folder, by path.

        Raises:
            StorageError: they could not be read.
        """
        found = self.store.read(
            f"SELECT {_FILE} FROM files WHERE folder_id = ? ORDER BY path",  # noqa: S608  # our own names
            (folder_id,),
        )
        return tuple(FileRow(**dict(zip(_FILE.split(", "), row, strict=True))) for row in found)

    def turn_over(self, folder_id: int, turnover: Turnover, at: float) -> None:
        """Write what a reading found. Where the folder is not there any more, nothing is written.

        Raises:
            StorageError: it could not be written; all is as it was.
        """
        with self.store.transaction() as transaction:
            told = (at, turnover.fault, json.dumps(turnover.others), folder_id)
            if not transaction.write("UPDATE folders SET read_at = ?, fault = ?, others = ? WHERE id = ?", told):
                return
            lost = sum(_drop(transaction, folder_id, path) for path in turnover.gone)
            for row in turnover.kept:
                transaction.write(
                    "UPDATE files SET bytes = ?, mtime_ns = ? WHERE folder_id = ? AND path = ?",
                    (row.bytes, row.mtime_ns, folder_id, row.path),
                )
            for row, passages in turnover.fresh:
                lost += _drop(transaction, folder_id, row.path)
                _put(transaction, folder_id, row, passages)
            if lost:
                _merge(transaction)
        if lost:
            self.store.forget()

    def explain(self, folder_id: int, unembedded: str | None) -> None:
        """Keep why passages of a folder have no vector.

        Raises:
            StorageError: it could not be written.
        """
        self.store.write("UPDATE folders SET unembedded = ? WHERE id = ?", (unembedded, folder_id))

    # Notes

    def remember(self, note: NoteRow) -> None:
        """Keep a note.

        Raises:
            BusyError: there are too many.
            StorageError: it could not be written.
        """
        with self.store.transaction() as transaction:
            ((number,),) = transaction.read("SELECT COUNT(*) FROM notes")
            if number >= MAX_NOTES:
                why = f"{MAX_NOTES} notes are kept already"
                raise BusyError(why, retry_after_s=60, hint="The owner can forget some: `library forget ID`.")
            transaction.write(
                "INSERT INTO notes (id, labels, run_id, key_name, at) VALUES (?, ?, ?, ?, ?)",
                (note.id, _listed(note.labels), note.run_id, note.key_name, note.at),
            )
            transaction.write("INSERT INTO passages (note_id, heading, text) VALUES (?, '', ?)", (note.id, note.text))

    def notes(self) -> tuple[NoteRow, ...]:
        """All notes, the newest first.

        Raises:
            StorageError: they could not be read.
        """
        found = self.store.read(
            "SELECT notes.id, text, labels, run_id, key_name, at FROM notes JOIN passages ON note_id = notes.id"
            " ORDER BY at DESC, notes.id"
        )
        return tuple(
            NoteRow(id=a, text=b, labels=frozenset(json.loads(c)), run_id=d, key_name=e, at=f)
            for a, b, c, d, e, f in found
        )

    def forget(self, note_id: str) -> None:
        """Forget a note.

        Raises:
            NotFoundError: there is none of that id.
            StorageError: it could not be written.
        """
        with self.store.transaction() as transaction:
            if not transaction.write("DELETE FROM notes WHERE id = ?", (note_id,)):
                raise NotFoundError(
                    f"there is no note {note_id[:40]!r}", hint="`mycoswarm-node library notes` shows them."
                )
            transaction.write("DELETE FROM passages WHERE note_id = ?", (note_id,))
            _merge(transaction)
        self.store.forget()


def _drop(transaction: Transaction, folder_id: int, path: str) -> int:
    """Forget a file; gives how many passages went with it."""
    where = "SELECT id FROM files WHERE folder_id = ? AND path = ?"
    lost = transaction.write(f"DELETE FROM passages WHERE file_id IN ({where})", (folder_id, path))  # noqa: S608  # our own words
    transaction.write("DELETE FROM files WHERE folder_id = ? AND path = ?", (folder_id, path))
    return lost


def _put(transaction: Transaction, folder_id: int, row: FileRow, passages: Iterable[PassageRow]) -> None:
    transaction.write(
        f"INSERT INTO files (folder_id, {_FILE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # our own names
        (folder_id, row.path, row.bytes, row.mtime_ns, row.digest, row.edition, row.fault, row.passages),
    )
    ((file_id,),) = transaction.read("SELECT last_insert_rowid()")
    for one in passages:
        transaction.write(
            "INSERT INTO passages (file_id, heading, page, first_line, last_line, text) VALUES (?, ?, ?, ?, ?, ?)",
            (file_id, one.heading, one.page, one.first_line, one.last_line, one.text),
        )


def _merge(transaction: Transaction) -> None:
    """Write the index anew without what was deleted: FTS5 only marks that as gone. Its own option `secure-delete` would
    do, but is not in all versions of SQLite, and older ones cannot read a file that used it."""
    transaction.write("INSERT INTO words (words) VALUES ('optimize')")


def _listed(labels: frozenset[str]) -> str:
    return json.dumps(sorted(labels))


def _folder(values: Sequence[Any]) -> FolderRow:
    named = dict(zip(_FOLDER.split(", "), values, strict=True))
    labels, others = frozenset(json.loads(named["labels"])), json.loads(named["others"])
    return FolderRow(**{**named, "labels": labels, "others": others})
