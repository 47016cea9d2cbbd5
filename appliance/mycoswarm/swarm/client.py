"""The asking side of the peer channel: HTTP/2 over TLS, full duplex, for asyncio and uvloop. dial.py makes these.

Built on zttp's sans-I/O client. Covered: both directions of a stream at once; backpressure both ways (a reader that
stops stalls only its own stream's sender, see credit.py for the bounds); a lost connection ends every wait at once.
Not covered: a peer that is frozen but connected; only a heartbeat inside a stream finds that.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import zttp

from mycoswarm.base.errors import ProtocolError, SwarmError, UnreachableError
from mycoswarm.swarm.credit import GREETING, ReceiveCredit, SendCredit
from mycoswarm.swarm.exchange import Reply, Stream

__all__ = ["CLOSE_S", "MAX_RESETS", "MAX_STREAMS", "Connection", "Headers", "Reply", "Stream"]

MAX_STREAMS = 4000  # zttp's server hangs up at 4,096 streams in a connection's life
MAX_RESETS = 200  # and at 256 resets by the client
CLOSE_S = 1.0

_READ_BYTES = 1 << 16  # what one read of the socket may bring; larger buffers cost page faults
_CANCEL = 8  # RFC 9113 section 7
_MAX_CONCURRENT_STREAMS = 3
_FIRST_CONCURRENT = 100  # until the server has told its own figure

Headers = Sequence[tuple[bytes, bytes]]


class Connection(asyncio.BufferedProtocol):
    """One HTTP/2 connection to one peer, whose certificate is `peer_der`."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.peer_der = b""
        self._http = zttp.Connection(zttp.CLIENT, protocol=zttp.HTTP2)
        self.sending = SendCredit(self._http)
        self._receiving = ReceiveCredit()
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._streams: dict[int, Stream] = {}
        self._opened = self._resets = 0
        self._limit = _FIRST_CONCURRENT
        self._slots: deque[asyncio.Future[None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._is_leaving = False  # either side has said goodbye: no new streams
        self._loss: SwarmError | None = None
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def remote(self) -> str:
        """The address that answered, "host:port", whatever name it was dialled by."""
        assert self._transport is not None  # dial gives out none before
        host, port = self._transport.get_extra_info("peername")[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_closed(self) -> bool:
        """The connection is lost or closed."""
        return self._loss is not None

    @property
    def is_spent(self) -> bool:
        """No new stream should be opened here: dial a fresh connection. Streams that are open go on."""
        spent = self._opened >= MAX_STREAMS or self._resets >= MAX_RESETS
        return spent or self._is_leaving or self.is_closed

    async def ready(self) -> None:
        """Wait until the server has spoken. Only then has it accepted our certificate: TLS 1.3 tells no sooner.

        Raises:
            SwarmError: it closed the connection instead, or broke HTTP/2; `__cause__` says why.
        """
        await asyncio.shield(self._ready)

    async def open(self, method: str, path: str, headers: Headers = ()) -> Stream:
        """Open a stream; waits while the server allows no more at once. Header names in lower case.

        Raises:
            UnreachableError: the connection is lost, closing or spent.
            ProtocolError: a header or the path has characters that HTTP forbids.
        """
        while not self.is_spent and len(self._streams) >= self._limit:
            slot = asyncio.get_running_loop().create_future()
            self._slots.append(slot)
            try:
                await slot
            except asyncio.CancelledError:
                self._admit()  # its turn is the next one's
                raise
            finally:
                if slot in self._slots:
                    self._slots.remove(slot)
        if self._loss is not None:
            raise self._loss
        if self.is_spent:
            raise UnreachableError(f"the connection to {self.peer} takes no new streams", code="connection_spent")
        try:
            handle = self._http.send_request(method.encode(), path.encode(), b"2", [(b"host", b"node"), *headers])
        except zttp.LocalProtocolError as exc:
            raise ProtocolError(f"{method} {path} cannot be asked: {exc}", side="local") from exc
        stream = self._streams[handle.stream_id] = Stream(self, handle)
        self._opened += 1
        self.flush()
        return stream

    async def request(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, timeout_s: float, limit_bytes: int
    ) -> Reply:
        """One whole exchange.

        Raises:
            UnreachableError: no whole answer in time, or the connection is lost.
            ProtocolError: an answer longer than `limit_bytes`, or the other side reset the stream.
        """
        try:
            async with asyncio.timeout(timeout_s), await self.open(method, path, headers) as stream:
                if body:
                    await stream.send(body)
                await stream.end()
                status = await stream.response(timeout_s)
                return Reply(status, stream.headers, await stream.body(limit_bytes))
        except TimeoutError as exc:
            raise UnreachableError(f"{self.peer} did not answer {path} within {timeout_s:g} s") from exc

    async def close(self) -> None:
        """Say goodbye and close; streams that are still open fail. Takes at most `CLOSE_S`."""
        if self._transport is None:
            return
        if not self.is_closed:
            self._http.close()
            self.flush()
            self._lose(UnreachableError(f"this side closed the connection to {self.peer}", code="connection_closed"))
            self._transport.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self._transport.abort()

    def abort(self) -> None:
        """Drop the connection now, without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    # For streams

    def flush(self) -> None:
        """Write what zttp has queued."""
        data = self._http.data_to_send()
        if data and self._transport is not None and not self.is_closed:
            self._transport.write(data)

    def consumed(self, stream_id: int, count: int) -> None:
        """A stream's reader took bytes."""
        self._write(self._receiving.consumed(stream_id, count))

    def dropped(self, count: int) -> None:
        """Bytes of a closed stream will never be read."""
        self._write(self._receiving.dropped(count))

    def cancel(self, handle: zttp.Stream) -> None:
        """Reset a stream."""
        stream_id = handle.stream_id
        if self._streams.pop(stream_id, None) is not None and not self.is_closed:
            self._resets += 1
            self._receiving.close(stream_id)
            handle.reset(_CANCEL)
            self.flush()
            self._closed(stream_id)

    # For asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TLS over TCP only
        """TLS is up: greet."""
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        self.peer_der = tls.getpeercert(True) or b""
        if tls.selected_alpn_protocol() != "h2":
            self._lose(ProtocolError(f"{self.peer} does not speak HTTP/2"))
            transport.abort()
            return
        self._http.initiate_connection()
        transport.write(self._http.data_to_send() + GREETING)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if self.is_closed:
            return
        try:
            self._http.receive_data(self._view[:nbytes])
            while (event := self._http.next_event()) is not zttp.NEED_DATA:
                self._take(event)
        except zttp.ProtocolError as exc:
            error = ProtocolError(f"{self.peer} broke HTTP/2: {exc}")
            error.__cause__ = exc
            self._lose(error)
            self.abort()
            return
        self._write(self._receiving.outgoing(self._http.data_to_send()))

    def eof_received(self) -> None:
        """The other side closed; so do we."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: every wait on it ends."""
        error = UnreachableError(f"the connection to {self.peer} was lost", code="connection_lost")
        error.__cause__ = exc
        self._lose(error)
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self.sending.pause()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self.sending.resume()

    def _take(self, event: object) -> None:
        match event:
            case zttp.Data(stream_id=stream_id, data=data):
                if (stream := self._streams.get(stream_id)) is not None:
                    self._receiving.received(len(data))
                    stream.push(data)
            case zttp.Response(stream_id=stream_id, status_code=status, headers=headers):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.begin(status, tuple(headers))
            case zttp.EndOfMessage(stream_id=stream_id):
                if (stream := self._streams.pop(stream_id, None)) is not None:
                    self._receiving.close(stream_id)
                    stream.complete()
                    self._closed(stream_id)
            case zttp.RstStream(stream_id=stream_id, error_code=code):
                if (stream := self._streams.pop(stream_id, None)) is not None:
                    self._receiving.close(stream_id)
                    stream.fail(ProtocolError(f"{self.peer} reset the stream (code {code})", code="stream_reset"))
                    self._closed(stream_id)
            case zttp.WindowUpdate(stream_id=stream_id):
                self.sending.credited(stream_id)
            case zttp.Settings(params=params):
                self._limit = dict(params).get(_MAX_CONCURRENT_STREAMS, self._limit)
                self.sending.stir()
                if not self._ready.done():
                    self._ready.set_result(None)
            case zttp.GoAway(error_code=code):
                self._is_leaving = True
                if code:
                    raise zttp.RemoteProtocolError(f"it hung up with code {code}")

    def _closed(self, stream_id: int) -> None:
        """A stream left: its senders fail, and the next one waiting may open."""
        self.sending.credited(stream_id)
        self._admit()

    def _admit(self) -> None:
        while self._slots and len(self._streams) < self._limit:
            slot = self._slots.popleft()
            if not slot.done():
                slot.set_result(None)
                return

    def _lose(self, error: SwarmError) -> None:
        if self._loss is not None:
            return
        self._loss = error
        self.sending.close()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(error)
        for slot in self._slots:
            if not slot.done():
                slot.set_result(None)
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # nobody may be waiting

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self.is_closed:
            self._transport.write(data)
