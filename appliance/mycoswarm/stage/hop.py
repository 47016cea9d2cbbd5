"""A stage's two hops: frames in from the stage before, frames out to the stage after, over HTTP/2 with pinned TLS.

Each hop is one long-lived `POST /hop`. The stage before is its client: frames flow in the request body; the response
body carries only signs of life and trouble back. So a stage is server to its predecessor and client to its successor,
and the ring closes because the head is the first stage's predecessor.

    previous ──POST /hop──▶ [server │ this stage │ client] ──POST /hop──▶ following
             ◀─Beat,Trouble─                               ◀─Beat,Trouble─

Both sides of both hops say `Beat` every half second, and compare their clocks by it (skew.py). What ends a ring, here:
a reset, an end or 2 s of silence on either hop (the error names that neighbour), a change out of order, more changes
queued than a head may have in flight, a `Trouble` from either side (the error names whom it names). Whatever it is,
this stage sends it on as `Trouble` both ways before it closes, so every stage of the ring learns the same cause, and
`receive` and `send` raise it from then on.

Reading never stops: a stage that computes for many seconds still hears its neighbours. So the queue is not bounded by
waiting but by a count whose overflow ends the ring; heads keep far fewer steps in flight (DESIGN 7).
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mycoswarm.base.egress import Opening
from mycoswarm.base.errors import ProtocolError, RingError, SwarmError
from mycoswarm.stage.failure import lost, retold
from mycoswarm.stage.skew import Skew, clock_us, pauses
from mycoswarm.swarm.address import interfaces, scoped
from mycoswarm.swarm.client import Connection, Stream
from mycoswarm.swarm.dial import Address, dial
from mycoswarm.swarm.server import PeerServer
from mycoswarm.swarm.tls import client_context, server_context
from mycoswarm.wire.frame import (
    Beat,
    Begin,
    Bye,
    Change,
    Frame,
    FrameSplitter,
    Numbering,
    Remove,
    Step,
    Trouble,
    encode,
)
from mycoswarm.wire.order import Neighbour

BEAT_S = 0.5  # DESIGN 7: lost at worst after 2 s, with three beats to spare
SILENT_S = 2.0
JOIN_S = 20.0  # all stages are told to join at the same moment; a slow one still has to start its server
MAX_QUEUED = 256  # changes; a head has at most a few steps in flight, each with a few removals beside it
MAX_SEND_S = 60.0  # one step of 4 MB takes 32 s at 1 Mbit/s
LINGER_S = 0.2  # between a farewell and the close, so that the neighbour reads it before it sees the end
MAX_LAG_S = 1.0  # this process itself slept: its neighbours cannot be blamed for that silence

Send = Callable[[dict[str, Any]], Awaitable[None]]  # ASGI's

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What both ends of a hop must agree on; sent once, as request headers. `laps`: of a step that comes here."""

    ring_id: str
    model_digest: str
    n_embd: int
    n_ubatch: int
    n_seq_max: int
    laps: int

    def splitter(self, skew: Skew) -> FrameSplitter:
        """A reader of this ring's frames, out of a neighbour whose clock is so."""
        return FrameSplitter(
            self.n_embd, self.n_ubatch, self.n_seq_max, lambda sent: skew.hop_us(sent, clock_us()), laps=self.laps
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The terms as header fields."""
        return [
            (b"content-type", b"application/vnd.mycoswarm.frames"),
            (b"x-mycoswarm-ring", self.ring_id.encode()),
            (b"x-mycoswarm-model", self.model_digest.encode()),
            (b"x-mycoswarm-shape", f"f32 {self.n_embd} {self.n_ubatch} {self.n_seq_max}".encode()),
        ]


@dataclass(frozen=True, slots=True)
class Identity:
    """This stage's own ephemeral certificate and key, both PEM."""

    certificate_pem: str
    key_pem: str


class Hops:
    """Both hops of one stage in a ring of two or more. An async context manager; entering connects both."""

    def __init__(
        self,
        terms: Terms,
        *,
        node_id: str,
        identity: Identity,
        listeners: Sequence[socket.socket],
        previous: Neighbour,
        following: Neighbour,
        opening: Opening = contextlib.nullcontext,
    ) -> None:
        self._terms, self._node_id, self._identity = terms, node_id, identity
        self._listeners, self._previous, self._following = listeners, previous, following
        self._opening = opening
        self._frames: asyncio.Queue[Change | None] = asyncio.Queue()
        self._numbering = Numbering()
        self._skew_before, self._skew_after = Skew(), Skew()  # of the neighbours' clocks
        self._error: RingError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._accepted = asyncio.Event()
        self._parted = asyncio.Event()
        self._send_back: Send | None = None
        self._stream: Stream | None = None
        self._connection: Connection | None = None
        self._sending = asyncio.Lock()
        self._sending_back = asyncio.Lock()
        self._sending_since: float | None = None
        self._heard_previous = self._heard_following = 0.0

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(JOIN_S):
                await self._serve()
                await self._dial()
                await self._accepted.wait()
        except TimeoutError as exc:
            await self.__aexit__()
            raise lost(
                self._previous.node_id, f"node {self._previous.node_id} did not connect in {JOIN_S:.0f} s"
            ) from exc
        except BaseException:
            await self.__aexit__()
            raise
        self._heard_previous = self._heard_following = asyncio.get_running_loop().time()
        self._start(self._watch())
        if self._error is not None:
            error = self._error
            await self.__aexit__()
            raise error
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._error is None:
            self._break(lost(self._node_id, f"node {self._node_id} left the ring"))
        tasks, current = list(self._tasks), asyncio.current_task()
        farewells = [task for task in tasks if task.get_name() == "farewell"]
        if farewells:
            await asyncio.wait(farewells, timeout=4 * LINGER_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not current), return_exceptions=True)
        await self._stack.aclose()

    async def send(self, frame: Change) -> None:
        """Hand a frame to the next stage.

        Raises:
            RingError: the ring is lost.
        """
        await self._put(encode(frame, clock_us()))

    async def receive(self) -> Change:
        """Take the next change from the stage before.

        Raises:
            RingError: the ring is lost.
        """
        if self._error is not None:
            raise self._error
        frame = await self._frames.get()
        if frame is None:
            assert self._error is not None
            raise self._error
        return frame

    def fail(self, error: RingError) -> None:
        """End the ring for all, because of something at this stage."""
        if error.lost_node_id is None:
            error.lost_node_id = self._node_id
        self._break(error)

    async def _serve(self) -> None:
        context = server_context(self._identity.certificate_pem, self._identity.key_pem, self._previous.certificate_pem)
        server = PeerServer(self._answer, context, self._listeners)
        await self._stack.enter_async_context(server)

    async def _dial(self) -> None:
        pinned = ssl.PEM_cert_to_DER_cert(self._following.certificate_pem)
        context = client_context(
            self._identity.certificate_pem, self._identity.key_pem, self._following.certificate_pem
        )
        hosts, node_id = self._following.addresses, self._following.node_id
        own = await asyncio.to_thread(interfaces) if any(":" in host for host in hosts) else ()
        addresses = scoped((str(Address(host, self._following.port)) for host in hosts), own)
        try:
            self._connection = await dial(addresses, context, lambda der: der == pinned, JOIN_S, opening=self._opening)
            self._stack.push_async_callback(self._connection.close)
            self._stream = await self._connection.open("POST", "/hop", self._terms.headers())
            await self._stream.response(JOIN_S)
        except SwarmError as exc:
            raise lost(node_id, f"node {node_id} cannot be joined: {exc.message}") from exc
        if self._stream.status != 200:
            raise lost(node_id, f"node {node_id} refused the hop (HTTP {self._stream.status})")
        self._start(self._read_back())
        self._start(self._beat())

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """The server side: exactly one hop, from the pinned predecessor."""
        status = self._judge(scope)
        if status != 200:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        self._send_back = send
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": encode(Beat(), clock_us()), "more_body": True})
        self._accepted.set()
        self._start(self._beat_back())
        try:
            await self._read(receive)
        except ProtocolError as exc:
            self._break(_blamed(exc, self._previous.node_id))
        finally:
            self._break(_gone(self._previous.node_id))
            await self._parted.wait()  # the farewell goes out in this response
            self._send_back = None
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b""})

    def _judge(self, scope: Mapping[str, Any]) -> int:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/hop"):
            return 404
        if scope["state"].get("peer_der") != ssl.PEM_cert_to_DER_cert(self._previous.certificate_pem):
            return 403
        given = dict(scope["headers"])
        if any(given.get(name) != value for name, value in self._terms.headers()):
            return 412
        if self._accepted.is_set() or self._send_back is not None:
            return 409
        return 200

    async def _read(self, receive: Any) -> None:
        """Read the request body of the stage before, until it ends."""
        splitter, clock = self._terms.splitter(self._skew_before), asyncio.get_running_loop().time
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break
            self._heard_previous = clock()
            for frame in splitter.feed(message.get("body", b"")):
                self._take(frame)
            if not message.get("more_body", False):
                break

    def _take(self, frame: Frame) -> None:
        match frame:
            case Step() | Begin() | Remove():
                self._numbering.check(frame)
                if self._frames.qsize() >= MAX_QUEUED:
                    raise ProtocolError(f"more than {MAX_QUEUED} changes are in flight")
                self._frames.put_nowait(frame)
            case Trouble():
                self._break(retold(frame))
            case Bye():
                self._break(lost(self._previous.node_id, f"node {self._previous.node_id} left the ring"))
            case Beat():
                self._skew_before.hear(frame, clock_us())

    async def _read_back(self) -> None:
        """Read the response body of the stage after, until it ends."""
        assert self._stream is not None
        splitter, node_id = self._terms.splitter(self._skew_after), self._following.node_id
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(SwarmError, OSError):
            while (data := await self._stream.receive()) is not None:
                self._heard_following = clock()
                try:
                    for frame in splitter.feed(data):
                        self._take_back(frame)
                except ProtocolError as exc:
                    self._break(_blamed(exc, node_id))
        self._break(_gone(node_id))

    def _take_back(self, frame: Frame) -> None:
        if isinstance(frame, Trouble):
            self._break(retold(frame))
        elif isinstance(frame, Beat):
            self._skew_after.hear(frame, clock_us())
        else:
            raise ProtocolError("a hop carries nothing back but signs of life and trouble")

    async def _put(self, data: bytes) -> None:
        assert self._stream is not None
        async with self._sending:
            if self._error is not None:
                raise self._error
            self._sending_since = asyncio.get_running_loop().time()
            try:
                await self._stream.send(data)
            except (SwarmError, OSError) as exc:
                self._break(_gone(self._following.node_id))
                raise self._error or _gone(self._following.node_id) from exc
            finally:
                self._sending_since = None

    async def _put_back(self, data: bytes) -> None:
        async with self._sending_back:
            if self._send_back is not None:
                await self._send_back({"type": "http.response.body", "body": data, "more_body": True})

    async def _beat(self) -> None:
        for pause_s in pauses(BEAT_S):
            if not self._sending.locked():  # else bytes are on their way, which says the same
                with contextlib.suppress(RingError):
                    await self._put(encode(self._skew_after.beat(now := clock_us()), now))
            await asyncio.sleep(pause_s)

    async def _beat_back(self) -> None:
        for pause_s in pauses(BEAT_S):
            if self._send_back is None:
                return
            with contextlib.suppress(OSError):  # the reader of that hop sees the loss and says so
                await self._put_back(encode(self._skew_before.beat(now := clock_us()), now))
            await asyncio.sleep(pause_s)

    async def _watch(self) -> None:
        """Notice a neighbour that is silent: frozen, or behind a cable that was pulled."""
        clock = asyncio.get_running_loop().time
        before = clock()
        while True:
            await asyncio.sleep(BEAT_S / 2)
            now = clock()
            if now - before > MAX_LAG_S:
                self._heard_previous = self._heard_following = now
            before = now
            hops = ((self._previous.node_id, self._heard_previous), (self._following.node_id, self._heard_following))
            for node_id, heard in hops:
                if now - heard > SILENT_S:
                    self._break(lost(node_id, f"node {node_id} has been silent for {SILENT_S:.0f} s"))
            if self._sending_since is not None and now - self._sending_since > MAX_SEND_S:
                node_id = self._following.node_id
                self._break(lost(node_id, f"node {node_id} took no data for {MAX_SEND_S:.0f} s"))

    def _break(self, error: RingError) -> None:
        """The ring is lost: the first cause stays."""
        if self._error is not None:
            return
        self._error = error
        _log.info("ring %s is lost: %s", self._terms.ring_id, error.message)
        self._frames.put_nowait(None)
        self._accepted.set()
        self._start(self._part(error), name="farewell")

    async def _part(self, error: RingError) -> None:
        """Tell both neighbours, then give up the connection, which frees a sender that waits for credit."""
        farewell = encode(Trouble(error.code, error.message, error.lost_node_id or self._node_id))
        try:
            for tell in (self._tell_following, self._put_back):
                with contextlib.suppress(SwarmError, OSError, TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await tell(farewell)
        finally:
            self._parted.set()
        await asyncio.sleep(LINGER_S)
        if self._connection is not None:
            await self._connection.close()

    async def _tell_following(self, farewell: bytes) -> None:
        if self._stream is not None:
            async with self._sending:
                await self._stream.send(farewell)

    def _start(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _gone(node_id: str) -> RingError:
    return lost(node_id, f"the connection to node {node_id} was lost")


def _blamed(error: ProtocolError, node_id: str) -> RingError:
    error.lost_node_id = node_id
    return error
