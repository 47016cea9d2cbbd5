"""The enrolment door: a small TLS listener of its own, open only while somebody may come in.

Limits: `MAX_VISITORS` at once (`MAX_PER_ADDRESS` from one address) and `MAX_PER_S` new ones per second, all counted
before any TLS; a time limit for each word and for each visit; lines of bounded length. Who is over a limit is hung up
on. Covered: floods by connections, slow visitors, visitors that say nothing. Not covered: a flood of packets.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from mycoswarm.base.errors import SetupError, SwarmError
from mycoswarm.swarm.channel import Channel, door_context
from mycoswarm.swarm.enrolment import MAX_LINE_BYTES
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.server import bind

MAX_VISITORS = 16
MAX_PER_ADDRESS = 8
MAX_PER_S = 5.0
_BURST = 20.0
_HANDSHAKE_S = 5.0
_VISIT_S = 300.0  # above an adoption's own limit
_LOOK_S = 1.0  # a door stays open at most this much longer than it is needed

_log = logging.getLogger(__name__)


class Desk(Protocol):
    """Who sits behind a door."""

    def is_needed(self) -> bool:
        """Whether the door should be open now."""
        ...

    async def serve(self, channel: Channel) -> None:
        """Serve one visitor. A SwarmError is told to the visitor."""
        ...


class Door:
    """A door for one desk. `port` is where it listens, None while it is closed; `on_change` hears of both.

    `hosts` are addresses to listen at; the port, once found, stays the same each time it opens, unless it is taken.
    """

    def __init__(
        self,
        desk: Desk,
        identity: Identity,
        *,
        hosts: Sequence[str],
        port: int = 0,
        on_change: Callable[[int | None], None] | None = None,
    ) -> None:
        self._desk = desk
        self._identity = identity
        self._hosts = tuple(hosts)
        self._wanted_port = port
        self._on_change = on_change
        self._sockets: tuple[socket.socket, ...] = ()
        self._accepting: list[asyncio.Task[None]] = []
        self._visits: dict[asyncio.Task[None], str] = {}
        self._watch: asyncio.Task[None] | None = None
        self._context: ssl.SSLContext | None = None
        self._allowance, self._counted_s = _BURST, time.monotonic()
        self.port: int | None = None

    async def __aenter__(self) -> Self:
        await self.refresh()
        self._watch = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._close()
        visits = tuple(self._visits)
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    async def refresh(self) -> None:
        """Open or close now, as the desk needs it. Visits that have begun go on.

        Raises:
            SetupError: no port could be opened.
        """
        needed = self._desk.is_needed()
        if needed and self.port is None:
            await self._open()
        elif not needed and self.port is not None:
            await self._close()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.refresh()
            except SetupError as exc:
                _log.warning("the enrolment door: %s", exc)

    async def _open(self) -> None:
        self._context = await asyncio.to_thread(door_context, self._identity)
        self._sockets = _listen(self._hosts, self._wanted_port)
        self.port = self._wanted_port = int(self._sockets[0].getsockname()[1])
        self._accepting = [asyncio.create_task(self._accept(each)) for each in self._sockets]
        _log.info("the enrolment door is open at port %s", self.port)
        if self._on_change is not None:
            self._on_change(self.port)

    async def _close(self) -> None:
        if self.port is None:
            return
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for each in self._sockets:
            each.close()
        self._accepting, self._sockets, self.port = [], (), None
        _log.info("the enrolment door is closed")
        if self._on_change is not None:
            self._on_change(None)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                visitor, address = await loop.sock_accept(listening)
            except OSError as exc:  # out of file descriptors, or a visitor gone already
                _log.warning("the enrolment door could not accept: %s", exc)
                await asyncio.sleep(_LOOK_S)
                continue
            if not self._has_room(str(address[0])):
                visitor.close()
                continue
            visit = asyncio.create_task(self._receive(visitor))
            self._visits[visit] = str(address[0])
            visit.add_done_callback(self._visits.pop)

    def _has_room(self, address: str) -> bool:
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + (now - self._counted_s) * MAX_PER_S)
        self._counted_s = now
        if self._allowance < 1 or len(self._visits) >= MAX_VISITORS:
            return False
        if Counter(self._visits.values())[address] >= MAX_PER_ADDRESS:
            return False
        self._allowance -= 1
        return True

    async def _receive(self, visitor: socket.socket) -> None:
        """One visit, from its TLS handshake on. The rim: nothing a visitor does may reach further than here."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, visitor, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_S, ssl_shutdown_timeout=1
            )
        except (OSError, TimeoutError) as exc:  # ssl.SSLError is an OSError
            _log.debug("a visitor did not get through the handshake: %s", exc)
            visitor.close()
            return
        channel = Channel(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        try:
            async with asyncio.timeout(_VISIT_S):
                await self._desk.serve(channel)
        except SwarmError as exc:
            _log.info("a visitor at the enrolment door was refused: %s", exc)
            await channel.refuse(exc)
        except TimeoutError:
            _log.info("a visitor at the enrolment door took too long")
        except Exception:
            _log.exception("the enrolment door failed for a visitor")
        finally:
            await channel.close()


def _listen(hosts: Sequence[str], port: int) -> tuple[socket.socket, ...]:
    """Listen at all hosts, at this port, or where it is taken at any that is free at all of them.

    Raises:
        SetupError: none is, or a host is not this machine's.
    """
    for wanted in (port, 0):
        with contextlib.suppress(SetupError):
            return bind(hosts, wanted)
    return bind(hosts, 0)  # the port that was free at the first host may have been taken at the second
