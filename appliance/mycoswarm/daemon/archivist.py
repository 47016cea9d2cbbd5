"""Reads this node's own ledger: for its owner in words, for its coordinator in pages, for any program whole."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mycoswarm.base.errors import BusyError, InputError, NotFoundError, UnreachableError
from mycoswarm.daemon.standing import Standing
from mycoswarm.stage.permit import MAX_TICKET_BYTES
from mycoswarm.store.audit import Verdict
from mycoswarm.store.chain import Row
from mycoswarm.store.exposure import exposure_of
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import ANSWER, DECISION, TICKET, TOOL_TICKET
from mycoswarm.store.summary import REQUEST_KINDS, body_of, shown, summary_of

MIN_BEGINNING = 8  # signs of an id that stand for the whole
MAX_SCANNED = 5000  # requests that one question for a list looks at; it goes on from there
PAGE_ROWS = 500
PAGE_BYTES = 1 << 20  # of tickets that one answer holds, and one ticket more
VERDICT_S = 300.0  # two million rows on a PC, some hundred thousand on a Raspberry Pi
BUSY_S = 30
STEP_ROWS = 200
MAX_WORD = 200  # characters of an id or digest
MAX_SIGNATURE = 512  # hex; ours have some 144


class TicketEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row about a ticket, as a node shows it to its coordinator. `ticket` and `signature` (hex) are what was
    signed; empty where the row was altered and cannot be read."""

    row: int
    digest: str
    request_id: str | None = None
    receipt: str = ""
    ring: str = ""
    layers: tuple[int, ...] = ()
    ticket: str = ""
    signature: str = ""


class TicketPage(msgspec.Struct, frozen=True):
    """Some of a node's tickets in the order of their rows. `is_last`: there are no more now."""

    entries: tuple[TicketEntry, ...]
    is_last: bool


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with the rows `first` to `last`: see `Finding` in store/audit.py."""

    kind: str
    first: int
    last: int
    words: str


class Judgement(msgspec.Struct, frozen=True):
    """A verdict as it crosses the wire."""

    rows: int
    findings: tuple[Fault, ...]
    more: int


class Archivist:
    """What can be asked of one ledger. Methods that are not coroutines block: call them in a thread."""

    def __init__(
        self,
        ledger: Ledger,
        standing: Standing,
        *,
        name: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._standing, self._name, self._clock = ledger, standing, name, clock
        self._is_verifying = False

    def requests(self, *, limit: int, before: int | None, key: str | None, outcome: str | None) -> dict[str, Any]:
        """The newest requests in one line each. `next` is where to go on; None at the end.

        Raises:
            StorageError: they could not be read.
        """
        found: list[dict[str, Any]] = []
        scanned = 0
        while True:
            page = self._ledger.recent(REQUEST_KINDS, before=before, limit=STEP_ROWS)
            for seq, request_id in page:
                before = seq
                summary = self._summary(seq, request_id)
                if summary is None:
                    continue
                scanned += 1
                if key in (None, summary["key"]) and outcome in (None, summary["outcome"]):
                    found.append(summary)
                if len(found) >= limit or scanned >= MAX_SCANNED:
                    return {"requests": found, "next": before}
            if len(page) < STEP_ROWS:
                return {"requests": found, "next": None}

    def rows(self, kind: str, *, limit: int, before: int | None) -> dict[str, Any]:
        """The newest rows of a kind. `next` is where to go on; None at the end.

        Raises:
            StorageError: they could not be read.
        """
        page = self._ledger.recent((kind,), before=before, limit=limit)
        read = (self._ledger.row(seq) for seq, _ in page)
        return {"rows": [shown(row) for row in read if row], "next": page[-1][0] if len(page) == limit else None}

    def request(self, beginning: str, *, with_prompt: bool) -> dict[str, Any]:
        """All rows of one request, by its id or the beginning of it.

        Raises:
            NotFoundError: there is none.
            InputError: several begin so, or it is too short.
            StorageError: they could not be read.
        """
        request_id, rows = self._find(beginning)
        return {
            **summary_of(request_id, rows),
            "node": self._name(),
            "rows": [shown(row, with_prompt=with_prompt) for row in rows],
        }

    def exposure(self, beginning: str) -> dict[str, Any]:
        """Every machine that could have read a request's prompt.

        Raises:
            NotFoundError: there is no such request.
            InputError: several begin so, or it was decided on another node.
            StorageError: they could not be read.
        """
        request_id, rows = self._find(beginning)
        if not any(row.kind in (DECISION, ANSWER) for row in rows):  # no decision where nobody said yes
            raise InputError(
                "this node only worked for that request", hint="Ask on the coordinator.", code="asked_a_worker"
            )
        identity = self._standing.identity
        names = {entry.node_id: entry.name for entry in self._standing.roster()[0].entries}
        return exposure_of(request_id, rows, coordinator=(identity.node_id, self._name()), names=names)

    def export(self) -> Iterator[str]:
        """The whole ledger as lines: see store/chain.py.

        Raises:
            StorageError: it could not be read.
        """
        return self._ledger.export()

    def tickets(self, after: int) -> TicketPage:
        """The next tickets for layers after this row.

        Raises:
            StorageError: they could not be read.
        """
        return self._page(TICKET, after)

    def tool_tickets(self, after: int) -> TicketPage:
        """The same for tools.

        Raises:
            StorageError: they could not be read.
        """
        return self._page(TOOL_TICKET, after)

    def _page(self, kind: str, after: int) -> TicketPage:
        entries: list[TicketEntry] = []
        held_bytes = 0
        for row in self._ledger.each(kind, after):
            entries.append(_entry(row))
            held_bytes += len(entries[-1].ticket)
            if len(entries) >= PAGE_ROWS or held_bytes >= PAGE_BYTES:
                return TicketPage(tuple(entries), False)
        return TicketPage(tuple(entries), True)

    async def verdict(self) -> Judgement:
        """What this node finds in its ledger.

        Raises:
            BusyError: it is at it already.
            UnreachableError: it takes longer than `VERDICT_S`.
            StorageError: it could not be read.
        """
        return judgement_of(await self.verify(lambda rows: None, VERDICT_S))

    async def verify(self, look: Callable[[int], None], limit_s: float = math.inf) -> Verdict:
        """The same; `look` is told, in a thread, how many rows are read.

        Raises:
            BusyError: it is at it already.
            UnreachableError: it takes longer than `limit_s`.
            StorageError: it could not be read.
        """
        if self._is_verifying:
            raise BusyError("this node is verifying its ledger already", retry_after_s=BUSY_S)
        self._is_verifying = True
        began = self._clock()
        has_left = False

        def watch(rows: int) -> None:
            if has_left or self._clock() - began > limit_s:
                raise UnreachableError(
                    f"the ledger was not read through in {limit_s:g} s",
                    hint="Verify again when this node has less to do, or check an export of it on another machine.",
                    code="timeout",
                )
            look(rows)

        def done(work: "asyncio.Task[Verdict]") -> None:
            self._is_verifying = False
            if not work.cancelled():
                work.exception()  # who has left has no ears for it

        # A task of its own: cancelled before a thread takes it up, the work would never say that it is over.
        work = asyncio.create_task(asyncio.to_thread(self._ledger.verify, watch), name="read the ledger through")
        work.add_done_callback(done)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            has_left = True  # the thread ends at its next look
            raise

    def _summary(self, seq: int, request_id: str) -> dict[str, Any] | None:
        """A request in one line where this is its newest row; others come with that one."""
        rows = self._ledger.request(request_id) if request_id else ()
        newest = max((row.seq for row in rows if row.kind in REQUEST_KINDS), default=None)
        return summary_of(request_id, rows) if newest == seq else None

    def _find(self, beginning: str) -> tuple[str, tuple[Row, ...]]:
        rows = self._ledger.request(beginning)
        if rows:
            return beginning, rows
        if len(beginning) < MIN_BEGINNING:
            raise InputError(f"an id's beginning has at least {MIN_BEGINNING} signs", hint="Give more of it.")
        found = self._ledger.request_ids(beginning)
        if len(found) > 1:
            raise InputError(f"several requests begin with {beginning[:128]!r}", hint="Give more of the id.")
        if not found:
            raise NotFoundError(
                f"this node's ledger has no request {beginning[:128]!r}",
                hint="`mycoswarm-node ledger list` shows the newest ones.",
            )
        return found[0], self._ledger.request(found[0])


def judgement_of(verdict: Verdict) -> Judgement:
    """A verdict as it crosses the wire."""
    faults = tuple(Fault(one.kind, one.first, one.last, one.words) for one in verdict.findings)
    return Judgement(verdict.rows, faults, verdict.more)


def _entry(row: Row) -> TicketEntry:
    """A row for the coordinator. Altered ones may hold anything, of any length: what cannot be a ticket is left out."""
    body = body_of(row) or {}
    request_id = None if row.request_id is None else _cut(row.request_id)
    entry = TicketEntry(row=row.seq, digest=_cut(row.digest), request_id=request_id)
    ticket, signature, layers = body.get("ticket"), body.get("signature"), body.get("layers")
    if not isinstance(ticket, str) or not isinstance(signature, str) or len(ticket) > MAX_TICKET_BYTES:
        return entry
    numbers = layers if isinstance(layers, list) and len(layers) == 2 else []
    return msgspec.structs.replace(
        entry,
        receipt=_cut(str(body.get("receipt"))),
        ring=_cut(str(body.get("ring", ""))),
        layers=tuple(one for one in numbers if isinstance(one, int)),
        ticket=_cut(ticket, MAX_TICKET_BYTES),
        signature=_cut(signature, MAX_SIGNATURE),
    )


def _cut(text: str, most: int = MAX_WORD) -> str:
    """Text of at most so many characters, as UTF-8 can carry it: an altered row may hold other bytes."""
    return text[:most].encode("utf-8", "replace").decode()
