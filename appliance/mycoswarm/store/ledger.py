"""The ledger of one node: what happened here, in rows that hang together by their digests and are signed one by one.

Covered: a row that somebody with access to the file changed, removed, inserted, moved or signed otherwise is found and
named; rows cut off at the end are found by the head, which is signed on its own and written with its row. An end that
was altered while the daemon was down is not continued in silence: the next row says so, and stays.
Not covered: the whole file put back to an older copy, or the rows cut off and an old head, kept from that time, put
back with them; nor the ledger removed as a whole. Only the rows of the other nodes show that. Whoever holds the
node's key can write the whole ledger anew.
"""

import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mycoswarm.base.errors import InputError, StorageError
from mycoswarm.store.audit import ALTERED, Audit, Verdict
from mycoswarm.store.chain import GENESIS, Head, Row, canonical, head_words, numbered, row_words, unnumbered, write_line
from mycoswarm.store.database import Store, Transaction

MAX_ROWS = 10_000  # that one question gives
BATCH_BYTES = 1 << 20  # about what reading through the ledger holds at once
BATCH_ROWS = 1000
LOOK_ROWS = 200  # verified in about 0.1 s on a Raspberry Pi
LAST_SEQ = (1 << 62) - 1  # nobody gets there; a number put in to make the counter run over does

_KIND = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_REQUEST_ID = re.compile(r"[!-~]{1,128}")  # ours are hex
_DIGEST = re.compile(r"[0-9a-f]{64}")
# As bytes, because text that is not UTF-8 would end the query instead of being found.
_COLUMNS = (
    "seq, at, CAST(kind AS BLOB), CAST(request_id AS BLOB), CAST(body AS BLOB), CAST(previous AS BLOB),"
    " CAST(digest AS BLOB), signature"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be written as one row."""

    kind: str
    body: Mapping[str, Any]
    request_id: str | None = None


class Ledger:
    """Rows are only ever added. Blocking and thread-safe; one ledger per store.

    `sign(body)` signs with the node's key; `is_signed(body, signature)` asks its public half.
    """

    def __init__(self, store: Store, sign: Callable[[bytes], bytes], is_signed: Callable[[bytes, bytes], bool]) -> None:
        self._store, self._sign, self._is_signed = store, sign, is_signed
        self._appending = threading.Lock()
        self._head: Head | None = None  # as we wrote or checked it

    def append(self, kind: str, body: Mapping[str, Any], *, request_id: str | None, now: float) -> Row:
        """Add one row; on return it is on the disk.

        Raises:
            InputError: JSON cannot hold the body, or the kind, id or time cannot be one.
            StorageError: it could not be written; the ledger is as before.
        """
        return self.append_many([Entry(kind, body, request_id)], now)[0]

    def append_many(self, entries: Sequence[Entry], now: float) -> tuple[Row, ...]:
        """Add rows in this order, all or none; on return they are on the disk.

        Raises:
            InputError: JSON cannot hold a body, or a kind, id or the time cannot be one.
            StorageError: they could not be written; the ledger is as before.
        """
        at = _checked_time(now)
        drafts = [_draft(entry, at) for entry in entries]
        if not drafts:
            return ()
        with self._appending:
            with self._store.transaction() as transaction:
                head, fault = self._end(transaction)
                marks = [_draft(Entry(ALTERED, {"found": fault}), at)] if fault else []
                rows = self._chained([*marks, *drafts], head)
                for row in rows:
                    transaction.write(
                        "INSERT INTO ledger (seq, at, kind, request_id, body, previous, digest, signature)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (row.seq, row.at, row.kind, row.request_id, row.body, row.previous, row.digest, row.signature),
                    )
                head = Head(rows[-1].seq, rows[-1].digest, self._sign(head_words(rows[-1].seq, rows[-1].digest)))
                transaction.write(
                    "INSERT INTO ledger_head (id, seq, digest, signature) VALUES (1, ?, ?, ?) ON CONFLICT (id)"
                    " DO UPDATE SET seq = excluded.seq, digest = excluded.digest, signature = excluded.signature",
                    (head.seq, head.digest, head.signature),
                )
            self._head = head
        return tuple(rows[len(marks) :])

    def rows(
        self, *, kind: str | None = None, request_id: str | None = None, after: int = 0, limit: int = 100
    ) -> tuple[Row, ...]:
        """Rows in order, from the first after number `after`; those of one kind or request where it is named.

        Raises:
            StorageError: they could not be read.
        """
        wanted: list[tuple[str, Any]] = [("seq > ?", after)]
        wanted += [("kind = ?", kind)] if kind is not None else []
        wanted += [("request_id = ?", request_id)] if request_id is not None else []
        return self._read(" AND ".join(part for part, _ in wanted), *(value for _, value in wanted), limit=limit)

    def newest(self, limit: int = 100, kinds: Sequence[str] | None = None) -> tuple[Row, ...]:
        """The newest rows, newest first; of these kinds where they are named.

        Raises:
            StorageError: they could not be read.
        """
        shown = None if kinds is None else json.dumps(list(kinds))
        where = "(? IS NULL OR kind IN (SELECT value FROM json_each(?)))"
        return self._read(where, shown, shown, limit=limit, order="DESC")

    def request(self, request_id: str) -> tuple[Row, ...]:
        """All rows of one request, in order.

        Raises:
            StorageError: they could not be read.
        """
        return self.rows(request_id=request_id, limit=MAX_ROWS)

    def row(self, seq: int) -> Row | None:
        """The row of this number.

        Raises:
            StorageError: it could not be read.
        """
        return next(iter(self._read("seq = ?", seq, limit=1)), None)

    def named(self, digest: str) -> Row | None:
        """The row that has this digest. Reads through the whole ledger: it takes its time.

        Raises:
            StorageError: it could not be read.
        """
        return next(iter(self._read("digest = ?", digest, limit=1)), None)

    def recent(self, kinds: Sequence[str], *, before: int | None = None, limit: int = 100) -> list[tuple[int, str]]:
        """Number and request ("" where there is none) of rows of these kinds, newest first, below number `before`.

        Raises:
            StorageError: they could not be read.
        """
        # The plus keeps SQLite from sorting all rows of several kinds: it walks down the numbers instead.
        which = "kind = ?" if len(kinds) == 1 else f"+kind IN ({', '.join('?' * len(kinds))})"
        found = self._store.read(
            f"SELECT seq, CAST(coalesce(request_id, '') AS BLOB) FROM ledger WHERE {which} AND seq < ?"  # noqa: S608  # ours
            " ORDER BY seq DESC LIMIT ?",
            (*kinds, LAST_SEQ if before is None else before, min(max(limit, 0), MAX_ROWS)),
        )
        return [(seq, _decoded(request_id)) for seq, request_id in found]

    def request_ids(self, beginning: str, limit: int = 2) -> list[str]:
        """Ids of requests that begin so, in the order of the alphabet.

        Raises:
            StorageError: they could not be read.
        """
        found = self._store.read(
            "SELECT DISTINCT CAST(request_id AS BLOB) FROM ledger WHERE request_id >= ? AND request_id < ?"
            " ORDER BY request_id LIMIT ?",
            (beginning, beginning + "\x7f", limit),  # ids hold no sign past "~"
        )
        return [_decoded(request_id) for (request_id,) in found]

    def each(self, kind: str, after: int = 0) -> Iterator[Row]:
        """All rows of a kind after number `after`, in order; holds a batch of them at a time.

        Raises:
            StorageError: they could not be read.
        """
        statement = f"SELECT {_COLUMNS} FROM ledger WHERE kind = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608  # ours
        is_over = False
        while not is_over:
            with self._store.transaction() as transaction:
                batch, is_over = _batch(transaction, statement, (kind, after))
            yield from batch
            after = batch[-1].seq if batch else after

    def verify(self, look: Callable[[int], None] | None = None) -> Verdict:
        """Read through the whole ledger and say what is wrong with it. Rows may be added meanwhile.

        `look` is told now and then how many rows are read; a SwarmError that it raises ends this.

        Raises:
            StorageError: it could not be read.
        """
        audit, head, rows = Audit(self._is_signed), None, 0
        for entry in self._through(None):
            if isinstance(entry, Row):
                audit.add(entry)
                rows += 1
                if look is not None and rows % LOOK_ROWS == 0:
                    look(rows)
            else:
                head = entry
        return audit.finish(head)

    def export(self, after: int = 0) -> Iterator[str]:
        """Give the rows after number `after`, and last the head, as lines that anybody can check: see chain.py.

        Raises:
            StorageError: they could not be read.
        """
        return (write_line(entry) for entry in self._through(after if after else None))

    def _read(self, where: str, *values: Any, limit: int, order: str = "ASC") -> tuple[Row, ...]:
        found = self._store.read(
            f"SELECT {_COLUMNS} FROM ledger WHERE {where} ORDER BY seq {order} LIMIT ?",  # noqa: S608  # our own words
            (*values, min(max(limit, 0), MAX_ROWS)),
        )
        return tuple(_row(raw) for raw in found)

    def _through(self, after: int | None) -> Iterator[Row | Head]:
        """All rows after this number in batches, last the head as it was when the last row was read."""
        statement = f"SELECT {_COLUMNS} FROM ledger WHERE ? IS NULL OR seq > ? ORDER BY seq LIMIT ?"  # noqa: S608  # ours
        is_over = False
        while not is_over:
            with self._store.transaction() as transaction:
                batch, is_over = _batch(transaction, statement, (after, after))
                head = _stored_head(transaction)
            yield from batch
            after = batch[-1].seq if batch else after
        if head is not None:
            yield head

    def _end(self, transaction: Transaction) -> tuple[Head, str | None]:
        """What the next row comes after; and what is wrong with the end of the ledger, if something is.

        Without this look, the next row's head would cover up that rows were cut off.
        """
        stored, known = _stored_head(transaction), self._head
        last = transaction.read("SELECT seq, CAST(digest AS BLOB) FROM ledger ORDER BY seq DESC LIMIT 1")
        last_seq, last_digest = (last[0][0], _decoded(last[0][1])) if last else (0, GENESIS)
        if stored != known and self._is_next(stored):
            known = stored
        if known is None and stored is None and not last:
            return Head(0, GENESIS, b""), None
        if known is not None and last_seq <= known.seq:
            return known, None  # rows that are missing leave a gap, which shows
        fault = "the head is gone" if stored is None else "the head was changed"
        if known is not None:
            fault = f"there are rows after the newest, which was row {known.seq}"
        if not 0 <= last_seq < LAST_SEQ:
            raise StorageError(
                "the ledger was altered: its last row has an impossible number",
                hint="Run `mycoswarm-node ledger verify`, keep a copy of the database, and restore a backup.",
                code="ledger_altered",
            )
        return Head(last_seq, last_digest if _DIGEST.fullmatch(last_digest) else GENESIS, b""), fault

    def _is_next(self, stored: Head | None) -> bool:
        """Whether a head that we did not write is by this node, and not an older one than ours."""
        if stored is None or (self._head is not None and stored.seq <= self._head.seq):
            return False
        return self._is_signed(head_words(stored.seq, stored.digest), stored.signature)

    def _chained(self, drafts: Sequence[Row], head: Head) -> list[Row]:
        rows: list[Row] = []
        seq, previous = head.seq, head.digest
        for draft in drafts:
            row = replace(draft, seq=seq + 1, previous=previous)
            digest = numbered(unnumbered(row), row.seq)
            rows.append(replace(row, digest=digest, signature=self._sign(row_words(digest))))
            seq, previous = row.seq, digest
        return rows


def _draft(entry: Entry, at: float) -> Row:
    """A row that does not know its place yet."""
    if not _KIND.fullmatch(entry.kind):
        raise InputError(f"{entry.kind[:80]!r} is no kind of row")
    if entry.request_id is not None and not _REQUEST_ID.fullmatch(entry.request_id):
        raise InputError(f"{entry.request_id[:80]!r} is no request's id")
    return Row(0, at, entry.kind, entry.request_id, canonical(entry.body), "", "", b"")


def _checked_time(now: float) -> float:
    if not math.isfinite(now) or not 0 <= now < 1e12:
        raise InputError(f"{now} is no time in seconds since 1970")
    return now + 0.0  # SQLite keeps no -0.0


def _row(raw: tuple[Any, ...]) -> Row:
    seq, at, kind, request_id, body, previous, digest, signature = raw
    texts = [None if value is None else _decoded(value) for value in (kind, request_id, body, previous, digest)]
    return Row(seq, float(at), texts[0] or "", texts[1], texts[2] or "", texts[3] or "", texts[4] or "", signature)


def _batch(transaction: Transaction, statement: str, values: tuple[Any, ...]) -> tuple[list[Row], bool]:
    """The next rows, as many as are held at once, and whether they are the last."""
    batch: list[Row] = []
    held_bytes = 0
    for raw in transaction.each(statement, (*values, BATCH_ROWS)):
        batch.append(_row(raw))
        held_bytes += len(batch[-1].body)
        if held_bytes > BATCH_BYTES:
            return batch, False
    return batch, len(batch) < BATCH_ROWS


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _stored_head(transaction: Transaction) -> Head | None:
    found = transaction.read("SELECT seq, CAST(digest AS BLOB), signature FROM ledger_head")
    return Head(found[0][0], _decoded(found[0][1]), found[0][2]) if found else None
