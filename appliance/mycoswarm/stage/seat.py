"""One node of a ring as the coordinator sees it: its ring stream, its tickets, its last sign of life."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mycoswarm.base.errors import ProtocolError, RingError, SwarmError
from mycoswarm.stage.failure import lost, revive
from mycoswarm.stage.permit import seal_ticket
from mycoswarm.swarm.client import Connection, Stream
from mycoswarm.wire.line import LineSplitter, decode_report, encode_line
from mycoswarm.wire.order import AnyOrder, Ping
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import AnyReport, Failed, Nonce, Pong
from mycoswarm.wire.ticket import Sealed, Ticket, Warrant

BEAT_S = 0.5
CONNECT_S = 10.0
MAX_REFUSAL_BYTES = 64 << 10

Connect = Callable[[str], Awaitable[Connection]]
Seal = Callable[[bytes], bytes]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a ticket says beside whom it is for. `request_id` None is for the ring itself."""

    swarm_id: str
    plan: RingPlan
    warrant: Warrant
    lifetime_s: float
    request_id: str | None


class Seat:
    """A ring stream to one node. Entered by `connect`, left by `close`; `read` and `beat` run as tasks of the ring."""

    def __init__(self, node_id: str, seal: Seal) -> None:
        self.node_id = node_id
        self.heard_s = 0.0
        self.has_failed = False
        self._seal = seal
        self._connection: Connection | None = None
        self._stream: Stream | None = None
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()
        self._nonce = ""
        self._sequence = 0
        self._telling = asyncio.Lock()

    async def connect(self, connect: Connect) -> None:
        """Open the stream and take the node's nonce.

        Raises:
            RingError: the node cannot be reached, or broke the protocol.
            SwarmError: the node refused, and said why.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                self._connection = await connect(self.node_id)
                self._stream = await self._connection.open("POST", "/peer/rings")
                if await self._stream.response(CONNECT_S) != 200:
                    raise await self._refusal(self._stream)
                first = await self.hear()
        except TimeoutError as exc:
            message = f"node {self.node_id} did not open a ring stream in {CONNECT_S:.0f} s"
            raise lost(self.node_id, message, "unreachable") from exc
        except RingError:
            raise
        except SwarmError as exc:
            if exc.code in ("unreachable", "wrong_identity", "connection_lost"):
                message = f"node {self.node_id} cannot be reached: {exc.message}"
                raise lost(self.node_id, message, "unreachable") from exc
            raise
        if isinstance(first, Failed):
            raise revive(first)
        if not isinstance(first, Nonce):
            raise ProtocolError(f"node {self.node_id} did not begin with a nonce")
        self._nonce = first.nonce
        self.heard_s = asyncio.get_running_loop().time()

    async def tell(self, order: AnyOrder) -> None:
        """Send an order.

        Raises:
            RingError: the stream is lost.
        """
        async with self._telling:
            await self._send(order)

    async def grant(self, grant: Grant, write: Callable[[Sealed], AnyOrder]) -> None:
        """Send an order with this stream's next ticket in it.

        Raises:
            RingError: the stream is lost.
        """
        async with self._telling:
            ticket = Ticket(
                swarm_id=grant.swarm_id,
                node_id=self.node_id,
                nonce=self._nonce,
                sequence=self._sequence,
                lifetime_s=grant.lifetime_s,
                warrant=grant.warrant,
                plan=grant.plan,
                request_id=grant.request_id,
            )
            self._sequence += 1
            await self._send(write(seal_ticket(ticket, self._seal)))

    async def hear(self) -> AnyReport:
        """Wait for the next report.

        Raises:
            RingError: the stream is lost, has ended, or carries nonsense.
        """
        assert self._stream is not None
        try:
            while not self._lines:
                data = await self._stream.receive()
                if data is None:
                    raise lost(self.node_id, f"node {self.node_id} ended the ring")
                self.heard_s = asyncio.get_running_loop().time()
                self._lines.extend(self._splitter.feed(data))
            return decode_report(self._lines.popleft())
        except ProtocolError as exc:
            if exc.code == "stream_reset":  # the node stops, or its side broke off: no fault in what it said
                raise lost(self.node_id, f"node {self.node_id} gave up the ring") from exc
            exc.lost_node_id = self.node_id
            raise
        except RingError:
            raise
        except SwarmError as exc:
            raise lost(self.node_id, f"the connection to node {self.node_id} was lost") from exc

    async def read(self, take: Callable[["Seat", AnyReport], None]) -> None:
        """Hand reports on until the stream is lost.

        Raises:
            RingError: why it was.
        """
        while True:
            report = await self.hear()
            if not isinstance(report, Pong):
                take(self, report)

    async def beat(self) -> None:
        """Say that the coordinator is here.

        Raises:
            RingError: the stream is lost.
        """
        while True:
            if not self._telling.locked():  # else something is on its way, which says the same
                await self.tell(Ping())
            await asyncio.sleep(BEAT_S)

    async def end(self) -> None:
        """Say that no more orders come: the node ends its stage, then the stream."""
        if self._stream is not None and self._stream.is_open:
            try:
                await self._stream.end()
            except SwarmError as exc:
                _log.debug("the stream to node %s had ended: %s", self.node_id, exc)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _send(self, order: AnyOrder) -> None:
        assert self._stream is not None
        try:
            await self._stream.send(encode_line(order))
        except SwarmError as exc:
            raise lost(self.node_id, f"the connection to node {self.node_id} was lost") from exc

    async def _refusal(self, stream: Stream) -> SwarmError:
        """The error that a node answered with instead of a stream."""
        body = await stream.body(MAX_REFUSAL_BYTES)
        try:
            report = decode_report(body)
        except ProtocolError:
            report = None
        if isinstance(report, Failed):
            return revive(report)
        return lost(self.node_id, f"node {self.node_id} refused a ring stream (HTTP {stream.status})")
