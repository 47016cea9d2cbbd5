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
from mycoswarm.store.comparison import Comparison, Pledge, Taken, is_finished, pledge_of, read_ticket
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import DECISION
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.roster import Entry

AT_ONCE = 4  # nodes that are asked at a time
PAGE_S = 30.0
PAGE_BYTES = 8 << 20  # a page of tickets as JSON, with all its quotes escaped
VERDICT_BYTES = 1 << 20
MAX_PAGES = 100_000  # a node that never ends its list is no reason to ask for ever
MAX_SOUGHT = 20  # decisions that are sought through the whole ledger, for a ticket of another request
STEP_DECISIONS = 500
PARTING_S = 1.0

log = logging.getLogger(__name__)

Event = dict[str, Any]
Tell = Callable[[Event], None]
Answer = TypeVar("Answer")


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
                    await self._compare(entry, lambda after: _remote_page(connection, after))
            except SwarmError as error:
                self._not_checked.append(entry.name)
                told = {"event": "not_checked", "node": entry.name, "node_id": entry.node_id, "why": error.message}
                self._tell(told)

    async def _own_page(self, after: int) -> TicketPage:
        return await asyncio.to_thread(self._archivist.tickets, after)

    async def _compare(self, entry: Entry, page_after: Callable[[int], Awaitable[TicketPage]]) -> None:
        """Hold all of a node's tickets against the decisions here."""
        self._comparison.begin(entry.node_id)
        after, tickets = 0, 0
        for _ in range(MAX_PAGES):
            page = await page_after(after)
            rows = [each.row for each in page.entries]
            if rows != sorted(set(rows)) or (rows and rows[0] <= after) or (not rows and not page.is_last):
                raise ProtocolError(f"{entry.name} gives its tickets in no order")
            async with self._comparing:
                await asyncio.to_thread(self._take, entry.node_id, page)
            tickets += len(rows)
            self._tell(_progress(entry.name, tickets=tickets))
            if page.is_last:
                self._comparison.end(entry.node_id)
                return
            after = rows[-1]
        raise ProtocolError(f"{entry.name} gives more tickets than there can be")

    def _take(self, node_id: str, page: TicketPage) -> None:
        known: dict[str, dict[str, Pledge]] = {}
        for entry in page.entries:
            taken = self._taken(entry)
            request_id = taken.ticket.request_id if taken.ticket else None
            if request_id is not None and request_id not in known:
                pledges = (pledge_of(row) for row in self._ledger.request(request_id) if row.kind == DECISION)
                known[request_id] = {one.digest: one for one in pledges if one is not None}
            receipt = taken.ticket.warrant.receipt if taken.ticket else ""
            pledge = known.get(request_id or "", {}).get(receipt)
            is_ours = taken.ticket is not None and taken.ticket.swarm_id == self._standing.swarm_id
            if pledge is None and is_ours and taken.is_signed and self._sought < MAX_SOUGHT:
                self._sought += 1
                row = self._ledger.named(receipt)
                pledge = pledge_of(row) if row is not None and row.kind == DECISION else None
            self._comparison.take(node_id, taken, pledge)

    def _taken(self, entry: TicketEntry) -> Taken:
        ticket = read_ticket(entry.ticket.encode())
        is_signed = False
        with contextlib.suppress(binascii.Error, ValueError):  # no hex is no signature
            is_signed = self._standing.is_signed(entry.ticket.encode(), bytes.fromhex(entry.signature))
        return Taken(
            row=entry.row, request_id=entry.request_id, receipt=entry.receipt, ticket=ticket, is_signed=is_signed
        )

    async def _trace(self, last: int) -> None:
        """Look for the tickets of every decision up to this row."""
        rows = self._ledger.each(DECISION)
        is_over = False

        def step() -> bool:
            for _ in range(STEP_DECISIONS):
                row = next(rows, None)
                if row is None or row.seq > last:
                    return True
                pledge = pledge_of(row)
                if pledge is None:
                    continue  # the chain has named it already
                if lacking := self._comparison.lacking(pledge):
                    # An answer that ended later may have had its tickets after we had read them.
                    others = tuple(one for one in self._ledger.request(pledge.request_id or "") if one.seq <= last)
                    self._comparison.judge(pledge, lacking, is_finished=is_finished(pledge, others))
            return False

        while not is_over:
            is_over = await asyncio.to_thread(step)
            self._tell({"event": "progress", "node": None, "decisions": self._comparison.decisions})
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


async def _remote_page(connection: Connection, after: int) -> TicketPage:
    path = f"/peer/ledger/tickets?after={after}"
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
