"""`ledger verify`: this node's own chain, then what every other node says of its own, then all tickets against all
decisions. A node that does not answer is named as not checked, and nothing is concluded from its silence.
"""

import asyncio
import binascii
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from mycoswarm.base.errors import BusyError, ProtocolError, SwarmError, UnreachableError
from mycoswarm.daemon.archivist import BUSY_S, VERDICT_S, Archivist, Judgement, TicketEntry, TicketPage, judgement_of
from mycoswarm.daemon.standing import Standing
from mycoswarm.store.chain import Row
from mycoswarm.store.comparison import (
    Comparison,
    Pledge,
    Taken,
    carried_out,
    is_finished,
    is_release,
    pledge_for,
    pledge_of,
    read_ticket,
    request_of,
)
from mycoswarm.store.ledger import MAX_ROWS, Ledger
from mycoswarm.store.record import DECISION, TICKET, TOOL, TOOL_TICKET
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.roster import Entry
from mycoswarm.wire.ticket import Ticket, ToolTicket

AT_ONCE = 4  # nodes that are asked at a time
PAGE_S = 30.0
PAGE_BYTES = 8 << 20  # a page of tickets as JSON, with all its quotes escaped
VERDICT_BYTES = 1 << 20
MAX_PAGES = 100_000  # a node that never ends its list is no reason to ask for ever
MAX_SOUGHT = 20  # decisions that are sought through the whole ledger, for a ticket of another request
STEP_ROWS = 500
PARTING_S = 1.0

log = logging.getLogger(__name__)

Event = dict[str, Any]
Tell = Callable[[Event], None]
Answer = TypeVar("Answer")
PageAfter = Callable[[str, int], Awaitable[TicketPage]]  # of tickets of this kind, after this row


class Auditor:
    """Verifies, once at a time. `connect` gives a fresh connection to a node; who asked closes it."""

    def __init__(
        self,
        ledger: Ledger,
        archivist: Archivist,
        standing: Standing,
        connect: Callable[[str], Awaitable[Connection]],
    ) -> None:
        self._course = partial(_Course, ledger, archivist, standing, connect)
        self._is_busy = False

    def verify(self) -> AsyncGenerator[Event, None]:
        """Events as JSON; each says which it is by `event`: "progress", "chain" (one node's own), "not_checked",
        "comparison", last "verdict". Closing the generator ends the work.

        Raises:
            BusyError: a verification runs already.
        """
        self._check_free()
        return self._events()

    def _check_free(self) -> None:
        if self._is_busy:
            raise BusyError("a verification runs already", retry_after_s=BUSY_S)

    async def _events(self) -> AsyncGenerator[Event, None]:
        self._check_free()  # once more: two that asked at a time may only begin now
        self._is_busy = True
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)  # threads tell, too

        work = asyncio.create_task(self._course(tell).run(), name="verify the ledger")
        work.add_done_callback(lambda done: loop.call_soon_threadsafe(events.put_nowait, None))  # after what was told
        try:
            while (event := await events.get()) is not None:
                yield event
            work.result()
        finally:
            self._is_busy = False
            work.cancel()
            await asyncio.wait({work}, timeout=PARTING_S)


class _Course:
    """One verification."""

    def __init__(
        self,
        ledger: Ledger,
        archivist: Archivist,
        standing: Standing,
        connect: Callable[[str], Awaitable[Connection]],
        tell: Tell,
    ) -> None:
        self._ledger, self._archivist, self._standing = ledger, archivist, standing
        self._connect, self._tell = connect, tell
        self._entries = standing.roster()[0].entries
        names = {entry.node_id: entry.name for entry in self._entries}
        self._comparison = Comparison(standing.swarm_id, names)
        self._comparing = asyncio.Lock()
        self._own_id = standing.identity.node_id
        self._sought = 0
        self._is_sound = True
        self._checked: list[str] = []
        self._not_checked: list[str] = []

    async def run(self) -> None:
        """Do it all.

        Raises:
            BusyError: the ledger is being verified already.
            UnreachableError: it takes too long.
            StorageError: it could not be read.
        """
        own = next((entry for entry in self._entries if entry.node_id == self._own_id), None)
        name = own.name if own else self._standing.identity.name
        verdict = await self._archivist.verify(lambda rows: self._tell(_progress(name, rows=rows)))
        self._judge(name, self._own_id, judgement_of(verdict))
        if self._standing.decides:
            # What is decided later may be under way while the tickets are read.
            newest = await asyncio.to_thread(self._ledger.newest, 1)
            limit = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for entry in self._entries:
                    group.create_task(self._look(entry, limit))
            await self._trace(newest[0].seq if newest else 0)
        self._tell(
            {
                "event": "verdict",
                "is_sound": self._is_sound,
                "checked": self._checked,
                "not_checked": self._not_checked,
                "compares": self._standing.decides,
            }
        )

    def _judge(self, name: str, node_id: str, judgement: Judgement) -> None:
        self._checked.append(name)
        is_sound = not judgement.findings and not judgement.more
        self._is_sound = self._is_sound and is_sound
        told = {"event": "chain", "node": name, "node_id": node_id, "is_sound": is_sound}
        self._tell({**told, **msgspec.to_builtins(judgement)})

    async def _look(self, entry: Entry, limit: asyncio.Semaphore) -> None:
        """Check one node. What goes wrong on the way names it as not checked."""
        async with limit:
            try:
                if entry.node_id == self._own_id:
                    await self._compare(entry, self._own_page)
                    return
                async with await self._connect(entry.node_id) as connection:
                    path = "/peer/ledger/verdict"
                    reply = await _asked(connection, path, timeout_s=VERDICT_S + PAGE_S, limit_bytes=VERDICT_BYTES)
                    self._judge(entry.name, entry.node_id, _read(reply, Judgement))
                    await self._compare(entry, partial(_remote_page, connection))
            except SwarmError as error:
                self._not_checked.append(entry.name)
                told = {"event": "not_checked", "node": entry.name, "node_id": entry.node_id, "why": error.message}
                self._tell(told)

    async def _own_page(self, kind: str, after: int) -> TicketPage:
        read = {TICKET: self._archivist.tickets, TOOL_TICKET: self._archivist.tool_tickets}[kind]
        return await asyncio.to_thread(read, after)

    async def _compare(self, entry: Entry, page_after: PageAfter) -> None:
        """Hold all of a node's tickets against the decisions here."""
        self._comparison.begin(entry.node_id)
        tickets = 0
        for kind in (TICKET, TOOL_TICKET):
            tickets = await self._compare_kind(entry, kind, page_after, tickets)
        self._comparison.end(entry.node_id)

    async def _compare_kind(self, entry: Entry, kind: str, page_after: PageAfter, tickets: int) -> int:
        """The same for tickets of one kind; `tickets` are compared already. Gives how many there are then."""
        after = 0
        for _ in range(MAX_PAGES):
            page = await page_after(kind, after)
            rows = [each.row for each in page.entries]
            if rows != sorted(set(rows)) or (rows and rows[0] <= after) or (not rows and not page.is_last):
                raise ProtocolError(f"{entry.name} gives its tickets in no order")
            async with self._comparing:
                await asyncio.to_thread(self._take, entry.node_id, kind, page)
            tickets += len(rows)
            self._tell(_progress(entry.name, tickets=tickets))
            if page.is_last:
                return tickets
            after = rows[-1]
        raise ProtocolError(f"{entry.name} gives more tickets than there can be")

    def _take(self, node_id: str, kind: str, page: TicketPage) -> None:
        known: dict[str, list[Pledge]] = {}
        for entry in page.entries:
            taken = self._taken(kind, entry)
            ticket = taken.ticket
            if ticket is None:
                self._comparison.take(node_id, taken, None)
                continue
            request_id = request_of(ticket) or ""
            if request_id not in known:
                known[request_id] = self._pledges(request_id)
            pledge = pledge_for(node_id, ticket, known[request_id])
            is_ours = ticket.swarm_id == self._standing.swarm_id and taken.is_signed and not is_release(ticket)
            if pledge is None and is_ours and self._sought < MAX_SOUGHT:
                self._sought += 1
                row = self._ledger.named(ticket.warrant.receipt)
                pledge = pledge_of(row) if row is not None and row.kind == DECISION else None
            self._comparison.take(node_id, taken, pledge)

    def _pledges(self, request_id: str) -> list[Pledge]:
        """What was decided on a request. That of an agent's run may have any number of calls."""
        found: list[Pledge] = []
        after, is_over = 0, not request_id
        while not is_over:
            rows = self._ledger.rows(kind=DECISION, request_id=request_id, after=after, limit=MAX_ROWS)
            found += [one for one in map(pledge_of, rows) if one is not None]
            is_over = len(rows) < MAX_ROWS
            after = rows[-1].seq if rows else after
        return found

    def _taken(self, kind: str, entry: TicketEntry) -> Taken:
        body = entry.ticket.encode()
        ticket = read_ticket(body, ToolTicket) if kind == TOOL_TICKET else read_ticket(body, Ticket)
        is_signed = False
        with contextlib.suppress(binascii.Error, ValueError):  # no hex is no signature
            is_signed = self._standing.is_signed(body, bytes.fromhex(entry.signature))
        return Taken(
            row=entry.row, request_id=entry.request_id, receipt=entry.receipt, ticket=ticket, is_signed=is_signed
        )

    async def _trace(self, last: int) -> None:
        """Look for the tickets of every decision up to this row. What ended later may have had its tickets after we
        had read them."""
        calls: dict[str, tuple[Pledge, tuple[str, ...]]] = {}  # on tools, without a ticket so far, by digest

        def look(row: Row) -> None:
            pledge = pledge_of(row)
            if pledge is None or not (lacking := self._comparison.lacking(pledge)):
                return  # one that cannot be read, the chain has named already
            if pledge.call is not None:
                calls[pledge.digest] = (pledge, lacking)
                return
            others = tuple(one for one in self._ledger.request(pledge.request_id or "") if one.seq <= last)
            self._comparison.judge(pledge, lacking, is_finished=is_finished(pledge, others))

        def close(row: Row) -> None:
            if known := calls.pop(carried_out(row) or "", None):
                self._comparison.judge(*known, is_finished=True)

        await self._through(DECISION, last, look)
        if calls:
            await self._through(TOOL, last, close)
        for pledge, lacking in calls.values():
            self._comparison.judge(pledge, lacking, is_finished=False)
        done = self._comparison
        self._is_sound = self._is_sound and not done.found and not done.more
        self._tell(
            {
                "event": "comparison",
                "tickets": done.tickets,
                "foreign": done.foreign,
                "decisions": done.decisions,
                "untraced": done.untraced,
                "unchecked": done.unchecked,
                "findings": msgspec.to_builtins(done.found),
                "more": done.more,
            }
        )

    async def _through(self, kind: str, last: int, look: Callable[[Row], None]) -> None:
        """Show all rows of a kind up to this number, in a thread."""
        rows = self._ledger.each(kind)
        is_over = False

        def step() -> bool:
            for _ in range(STEP_ROWS):
                row = next(rows, None)
                if row is None or row.seq > last:
                    return True
                look(row)
            return False

        while not is_over:
            is_over = await asyncio.to_thread(step)
            self._tell({"event": "progress", "node": None, "decisions": self._comparison.decisions})


async def _remote_page(connection: Connection, kind: str, after: int) -> TicketPage:
    path = f"/peer/ledger/{kind.replace('_', '-')}s?after={after}"
    return _read(await _asked(connection, path, timeout_s=PAGE_S, limit_bytes=PAGE_BYTES), TicketPage)


async def _asked(connection: Connection, path: str, *, timeout_s: float, limit_bytes: int) -> bytes:
    reply = await connection.request("GET", path, timeout_s=timeout_s, limit_bytes=limit_bytes)
    if reply.status != 200:
        why = {404: "it runs an older version", 429: "it is busy verifying", 503: "it took too long"}.get(
            reply.status, "it refused"
        )
        raise UnreachableError(f"{why} (HTTP {reply.status})")
    return reply.body


def _read(data: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError(f"the node's answer cannot be read: {exc}") from exc


def _progress(name: str, **counts: int) -> Event:
    return {"event": "progress", "node": name, **counts}
