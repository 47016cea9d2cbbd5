"""Standing connections to the nodes of the roster, their cards, and how far away they are."""

import asyncio
import logging
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec

from mycoswarm.base.egress import Opening
from mycoswarm.base.errors import SwarmError, TrustError, UnreachableError
from mycoswarm.swarm.card import MAX_CARD_BYTES, Card, check_versions, decode_card
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.place import Place, place_of
from mycoswarm.swarm.roster import Roster, SignedRoster
from mycoswarm.swarm.tls import fingerprint

POLL_S = 2.0
DIAL_S = 3.0
ANSWER_S = 3.0
FAREWELL_S = 2.0  # an expelled node's connections wait for it, and are to close at once
RETIRED_S = 30.0  # a spent connection closes then; the exchanges on it have ended long before
SMALL_BYTES = 1 << 16  # of answers that say nothing but yes or no
KEPT_TRIPS = 9  # round trips remembered per node; their least is the way, the rest is waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of one node now. `trouble` is None while it answers and can work with us."""

    node_id: str
    card: Card | None
    round_trip_s: float | None
    trouble: str | None
    place: Place = "outside"


@dataclass(slots=True)
class _Line:
    """One node's connection and what was learnt over it."""

    lock: asyncio.Lock
    trips: deque[float]
    connection: Connection | None = None
    card: Card | None = None
    trouble: str | None = "it has not answered yet"
    told_number: int = -1
    place: Place = "outside"


class Contacts:
    """One connection per node, made when wanted and kept. With `polls` every node's card is read each `POLL_S`.

    `card` is our own, of which versions and name count. `place` says where an address is. `addresses` gives where a
    node may answer, from hints for it; `met` hears the instance id of each node that answers; `opening` is as in
    `dial`. Methods run in the event loop that entered it.
    """

    def __init__(
        self,
        *,
        own_id: str,
        roster: Callable[[], tuple[Roster, SignedRoster | None]],
        context: ssl.SSLContext,
        addresses: Callable[[str, Sequence[str]], tuple[str, ...]],
        card: Callable[[], Card],
        met: Callable[[str, str], None],
        polls: bool,
        place: Callable[[str], Place] = place_of,
        opening: Opening = nullcontext,
    ) -> None:
        self._own_id = own_id
        self._opening = opening
        self._roster, self._context, self._addresses = roster, context, addresses
        self._card, self._met, self._polls, self._place = card, met, polls, place
        self._lines: dict[str, _Line] = {}
        self._retired: list[tuple[float, Connection]] = []  # since when
        self._lent: dict[str, weakref.WeakSet[Connection]] = {}  # those of `fresh`, which others close
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._polls:
            self._task = asyncio.create_task(self._poll(), name="poll nodes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        live = [line.connection for line in self._lines.values() if line.connection]
        retired = [connection for _, connection in self._retired]
        await asyncio.gather(*(one.close() for one in (*live, *retired)), return_exceptions=True)

    def contact(self, node_id: str) -> Contact:
        """What is known of a node now."""
        line = self._lines.get(node_id)
        if line is None:
            trouble = "it has not answered yet" if self._polls else "only the coordinator looks at the nodes"
            return Contact(node_id, None, None, trouble)
        return Contact(node_id, line.card, min(line.trips, default=None), line.trouble, line.place)

    async def connect(self, node_id: str) -> Connection:
        """Give the connection to a node of the roster; it is shared, so the caller does not close it.

        It is for short exchanges: once spent it is replaced, and ends `RETIRED_S` later.

        Raises:
            TrustError: the node is not in the roster, or only others answer at its addresses.
            UnreachableError: it answers at none of its addresses.
        """
        line = self._line(node_id)
        async with line.lock:
            held = line.connection
            if held is not None and not held.is_closed and not held.is_spent:
                return held
            if held is not None and not held.is_closed:
                self._retired.append((time.monotonic(), held))
            line.connection, line.told_number = None, -1
            line.connection = await self.fresh(node_id)
            line.place = self._place(line.connection.remote)
            return line.connection

    async def fresh(self, node_id: str, hints: Sequence[str] = ()) -> Connection:
        """Make a connection to a node of the roster that belongs to the caller, who closes it.

        Raises:
            TrustError: the node is not in the roster, or only others answer at its addresses.
            UnreachableError: it answers at none of its addresses.
        """
        entry = self._roster()[0].find(node_id)
        if entry is None:
            raise TrustError(f"node {node_id} is not in this swarm's roster")
        targets = self.addresses(node_id, hints)
        if not targets:
            raise UnreachableError(f"no address of {entry.name} is known")
        wanted = entry.fingerprint
        connection = await dial(
            targets, self._context, lambda der: fingerprint(der) == wanted, DIAL_S, opening=self._opening
        )
        if not self._roster()[0].holds(wanted):
            connection.abort()
            raise TrustError(f"node {node_id} has just left this swarm")
        self._lent.setdefault(node_id, weakref.WeakSet()).add(connection)
        return connection

    def addresses(self, node_id: str, hints: Sequence[str] = ()) -> tuple[str, ...]:
        """Every address, "host:port", at which a node of the roster may answer."""
        entry, line = self._roster()[0].find(node_id), self._lines.get(node_id)
        known = line.card.addresses if line and line.card else ()
        return self._addresses(node_id, (*hints, *known, *(entry.addresses if entry else ())))

    async def refresh(self, node_id: str) -> Contact:
        """Ask a node for its card, and bring it the newest roster. What goes wrong becomes its trouble."""
        line = self._line(node_id)
        try:
            connection = await self.connect(node_id)
            if node_id != self._own_id:
                await self._tell_roster(line, connection)
            reply = await connection.request("GET", "/peer/card", timeout_s=ANSWER_S, limit_bytes=MAX_CARD_BYTES)
            if reply.status != 200:
                raise UnreachableError(f"the node answered with HTTP {reply.status}")
            line.card = decode_card(reply.body, node_id=node_id)
            began = time.monotonic()
            await connection.request("GET", "/peer/ping", timeout_s=ANSWER_S, limit_bytes=SMALL_BYTES)
            line.trips.append(time.monotonic() - began)
            self._met(node_id, line.card.instance_id)
            check_versions(self._card(), line.card)
            line.trouble = None
        except SwarmError as error:
            if line.trouble is None:
                log.warning("node %s: %s", node_id, error.message)
            line.trouble = f"it cannot work now: {error.message}"
            if isinstance(error, UnreachableError) and line.connection is not None:
                # A machine that lost its power never says so: the next look dials anew, wherever it is then.
                line.connection.abort()
                line.connection = None
        return self.contact(node_id)

    def forget(self, node_id: str) -> None:
        """Drop everything of a node that left the roster, its connection first."""
        line = self._lines.pop(node_id, None)
        if line and line.connection:
            line.connection.abort()
        for connection in self._lent.pop(node_id, ()):
            connection.abort()

    async def tell_all(self) -> None:
        """Bring the newest roster to every node that answers."""
        await asyncio.gather(*(self._look(entry.node_id) for entry in self._roster()[0].entries))

    async def farewell(self, node_id: str) -> None:
        """Bring a node the roster that it is no longer in, if it is connected and takes it within `FAREWELL_S`."""
        line = self._lines.get(node_id)
        if line is None or line.connection is None or line.connection.is_closed:
            return
        try:
            await self._tell_roster(line, line.connection, FAREWELL_S)
        except SwarmError as error:
            log.info("node %s did not take its farewell: %s", node_id, error.message)

    async def _tell_roster(self, line: _Line, connection: Connection, timeout_s: float = ANSWER_S) -> None:
        roster, signed = self._roster()
        if not self._polls or signed is None or line.told_number == roster.number:
            return
        reply = await connection.request(
            "POST", "/peer/roster", body=msgspec.json.encode(signed), timeout_s=timeout_s, limit_bytes=SMALL_BYTES
        )
        if reply.status != 204:
            raise UnreachableError(f"the node did not take the roster (HTTP {reply.status})")
        line.told_number = roster.number

    async def _poll(self) -> None:
        """Look at every node each `POLL_S`; one that takes long delays no other."""
        looking: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for entry in self._roster()[0].entries:
                    if entry.node_id not in looking or looking[entry.node_id].done():
                        looking[entry.node_id] = asyncio.create_task(self._look(entry.node_id))
                looking = {node_id: task for node_id, task in looking.items() if not task.done()}
                self._end_retired(time.monotonic())
                await asyncio.sleep(POLL_S)
        finally:
            for task in looking.values():
                task.cancel()
            await asyncio.gather(*looking.values(), return_exceptions=True)

    async def _look(self, node_id: str) -> None:
        """Refresh; a mistake of ours shows as the node's trouble too, so that no stale good news stands."""
        try:
            await self.refresh(node_id)
        except Exception:
            log.exception("looking at node %s failed: a bug of ours", node_id)
            self._line(node_id).trouble = "looking at it failed; this node's log says why"

    def _end_retired(self, now: float) -> None:
        for since, connection in self._retired:
            if now - since > RETIRED_S:
                connection.abort()
        self._retired = [(since, one) for since, one in self._retired if not one.is_closed and now - since <= RETIRED_S]

    def _line(self, node_id: str) -> _Line:
        return self._lines.setdefault(node_id, _Line(asyncio.Lock(), deque(maxlen=KEPT_TRIPS)))
