"""Takes one call to the node that was decided on, with a ticket for it alone, and brings back what came of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from mycoswarm.base.errors import (
    BusyError,
    ProtocolError,
    SetupError,
    StorageError,
    SwarmError,
    TicketError,
    TrustError,
    UnreachableError,
)
from mycoswarm.sandbox.clearance import MAX_LIFETIME_S, digest_of, seal
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.exchange import Stream
from mycoswarm.swarm.place import PLACES, Place
from mycoswarm.wire.chore import Chore, Done, Failed, Farewell, Greeting, ToolLine, read_chore, write_chore
from mycoswarm.wire.line import LineSplitter
from mycoswarm.wire.ticket import RELEASE, ToolTicket, Warrant

GREETING_S = 5.0
SLACK_S = 20.0  # over a tool's own time: its start, the node's disk, the way
RELEASE_S = 40.0
BUSY_S = 5
MAX_WORDS = 2000  # of what a node says that it did not do
_KINDS: Mapping[str, type[SwarmError]] = {
    TicketError.code: TicketError,
    "ticket_expired": TicketError,
    "no_sandbox": SetupError,
    "sandbox_failed": SetupError,
    StorageError.code: StorageError,
    "not_the_coordinator": TrustError,
    "not_in_roster": TrustError,
}
FURTHEST: Place = PLACES[-1]

Reach = Callable[[str, Mapping[str, Place]], Awaitable[Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One call for one node. `place`: how far away it was when it was decided on. `stands` is asked once more
    whether it may go, when the node has answered and nothing of the call has been sent."""

    node_id: str
    place: Place
    warrant: Warrant
    tool: str
    arguments: str
    run_id: str
    workspace_id: str
    within_s: float
    stands: Callable[[], bool]
    unconfined: bool = False
    means: str = field(default="", repr=False)


class Carry:
    """`reach` dials a node, no further away than was decided; `sign` signs as the coordinator."""

    def __init__(self, *, reach: Reach, sign: Callable[[bytes], bytes], swarm_id: str) -> None:
        self._reach, self._sign, self._swarm_id = reach, sign, swarm_id

    async def __call__(self, parcel: Parcel) -> Done | None:
        """Have it done. None: it does not stand any more, and nothing was sent.

        Raises:
            UnreachableError: the node does not answer (code "unreachable": nothing was sent), or was lost after that
                ("node_lost").
            SwarmError: the node refused or failed; says why.
        """
        ticket = ToolTicket(
            swarm_id=self._swarm_id,
            node_id=parcel.node_id,
            nonce="",
            sequence=0,
            lifetime_s=min(parcel.within_s + SLACK_S, MAX_LIFETIME_S),
            warrant=parcel.warrant,
            tool=parcel.tool,
            digest=digest_of(parcel.arguments),
            run_id=parcel.run_id,
            workspace_id=parcel.workspace_id,
            within_s=parcel.within_s,
            unconfined=parcel.unconfined,
            means=digest_of(parcel.means) if parcel.means else "",
        )
        return await self._hand_over(ticket, parcel.place, parcel, parcel.stands)

    async def release(self, node_id: str, run_id: str, workspace_id: str) -> None:
        """Have a workspace removed.

        Raises:
            SwarmError: the node does not answer, or did not do it.
        """
        ticket = ToolTicket(
            swarm_id=self._swarm_id,
            node_id=node_id,
            nonce="",
            sequence=0,
            lifetime_s=RELEASE_S,
            warrant=Warrant(rule="", task="release"),
            tool=RELEASE,
            digest=digest_of(""),
            run_id=run_id,
            workspace_id=workspace_id,
        )
        await self._hand_over(ticket, FURTHEST, None, lambda: True)

    async def _hand_over(
        self, ticket: ToolTicket, place: Place, parcel: Parcel | None, stands: Callable[[], bool]
    ) -> Done | None:
        async with self._stream(ticket.node_id, place) as lines:
            greeting = await lines.hear(GREETING_S)
            if not isinstance(greeting, Greeting):
                raise _as_error(greeting)
            if not stands():
                return None
            sealed = seal(msgspec.structs.replace(ticket, nonce=greeting.nonce), self._sign)
            order: ToolLine = Farewell(ticket=sealed)
            if parcel is not None:
                order = Chore(ticket=sealed, arguments=parcel.arguments, means=parcel.means)
            try:
                await lines.say(order)
                answer = await lines.hear(ticket.lifetime_s)
            except (UnreachableError, ProtocolError) as exc:
                raise UnreachableError(
                    f"node {ticket.node_id} was lost while it ran {ticket.tool}: {exc.message}",
                    hint="Whether the tool did its work is not known; nothing was tried elsewhere.",
                    code="node_lost",
                ) from exc
            if isinstance(answer, Done):
                return answer
            raise _as_error(answer)

    @contextlib.asynccontextmanager
    async def _stream(self, node_id: str, place: Place) -> AsyncIterator["_Lines"]:
        async with (
            await self._reach(node_id, {node_id: place}) as connection,
            await connection.open("POST", "/peer/tools") as stream,
        ):
            status = await stream.response(GREETING_S)
            lines = _Lines(stream)
            if status == 404:
                raise UnreachableError(f"node {node_id} runs an older version, which has no tools", code="too_old")
            yield lines


class _Lines:
    def __init__(self, stream: Stream) -> None:
        self._stream, self._splitter = stream, LineSplitter()
        self._waiting: list[bytes] = []

    async def say(self, line: ToolLine) -> None:
        await self._stream.send(write_chore(line))

    async def hear(self, limit_s: float) -> ToolLine:
        try:
            async with asyncio.timeout(limit_s):
                while not self._waiting:
                    data = await self._stream.receive()
                    if data is None:
                        raise ProtocolError("the node ended the stream")
                    self._waiting = self._splitter.feed(data)
        except TimeoutError as exc:
            raise UnreachableError(f"the node said nothing for {limit_s:g} s", code="node_lost") from exc
        return read_chore(self._waiting.pop(0))


def _as_error(line: ToolLine) -> SwarmError:
    """What a node said that it did not do."""
    if not isinstance(line, Failed):
        return ProtocolError(f"a node said {type(line).__name__} where it has no place")
    if line.code == BusyError.code:
        return BusyError(line.message[:MAX_WORDS], retry_after_s=BUSY_S)
    return _KINDS.get(line.code, SwarmError)(line.message[:MAX_WORDS], hint=line.hint[:MAX_WORDS], code=line.code[:64])
