"""One request and its response on the peer channel, both open at once."""

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import zttp

from mycoswarm.base.errors import ProtocolError, SwarmError, UnreachableError
from mycoswarm.swarm.credit import SendCredit


class Carrier(Protocol):
    """The connection, as far as a stream needs it."""

    peer: str
    sending: SendCredit

    @property
    def is_closed(self) -> bool:
        """The connection is lost or closed."""

    def flush(self) -> None:
        """Write what zttp has queued."""

    def consumed(self, stream_id: int, count: int) -> None:
        """A stream's reader took bytes."""

    def dropped(self, count: int) -> None:
        """Bytes of a closed stream will never be read."""

    def cancel(self, handle: zttp.Stream) -> None:
        """Reset a stream."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Stream:
    """One request and its response, both open at once. One task reads and one sends at a time.

    `status` and `headers` are there once `response` has returned. Leave a stream by reading it to its end or by
    `reset`; `async with` does the latter where the former did not happen.
    """

    def __init__(self, connection: Carrier, handle: zttp.Stream) -> None:
        self.status: int | None = None
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self._connection = connection
        self._handle = handle
        self._chunks: deque[bytes] = deque()
        self._error: SwarmError | None = None
        self._is_received = False  # the response is whole
        self._is_sent = False  # so is the request
        self._news: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()

    @property
    def is_open(self) -> bool:
        """The response is not whole yet, and nothing has failed."""
        return not self._is_received and self._error is None

    async def send(self, data: bytes) -> None:
        """Send a part of the request's body; waits as long as the other side does not take it.

        Raises:
            ProtocolError: the request is ended or the response is whole, so nobody will read this.
            UnreachableError: the connection is lost.
        """
        view = memoryview(data)
        while view:
            self._check_sendable()
            try:
                room = await self._connection.sending.take(self._handle)
            except UnreachableError as exc:
                self._check_sendable()
                raise ProtocolError("the other side takes no more of this request", code="stream_ended") from exc
            self._handle.send_data(view[:room])
            self._connection.flush()
            view = view[room:]

    async def end(self) -> None:
        """End the request's body; the response goes on."""
        if self._error is not None:
            raise self._error
        self._finish()

    async def response(self, timeout_s: float) -> int:
        """Wait for the response's head and return its status.

        Raises:
            UnreachableError: none in time, or the connection is lost.
            ProtocolError: the other side reset the stream.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.status is None:
                    if self._error is not None:
                        raise self._error
                    await self._wait()
        except TimeoutError as exc:
            raise UnreachableError(f"{self._connection.peer} did not answer within {timeout_s:g} s") from exc
        return self.status

    async def receive(self) -> bytes | None:
        """Wait for the next part of the response's body; None is its end.

        Raises:
            UnreachableError: the connection is lost; parts that came before are given out first.
            ProtocolError: the other side reset the stream.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._is_received:
                return None
            await self._wait()
        chunk = self._chunks.popleft()
        self._connection.consumed(self._handle.stream_id, len(chunk))
        return chunk

    async def body(self, limit_bytes: int) -> bytes:
        """Read the whole response's body. Put a timeout around it.

        Raises:
            ProtocolError: longer than `limit_bytes`, or the other side reset the stream.
            UnreachableError: the connection is lost.
        """
        body = bytearray()
        while (chunk := await self.receive()) is not None:
            body += chunk
            if len(body) > limit_bytes:
                self.reset()
                raise ProtocolError(f"{self._connection.peer} sent more than {limit_bytes} bytes")
        return bytes(body)

    def reset(self) -> None:
        """Give the stream up in both directions; nothing to do where both have ended."""
        if self._error is None and not (self._is_received and self._is_sent):
            self.fail(ProtocolError("this side gave the stream up", side="local", code="stream_reset"))
            self._connection.cancel(self._handle)
        self._drop()

    # What follows is for the connection alone.

    def begin(self, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """The response's head has come."""
        self.status, self.headers = status, headers
        self._wake()

    def push(self, data: bytes) -> None:
        """A part of the response's body has come."""
        self._chunks.append(data)
        self._wake()

    def complete(self) -> None:
        """The response is whole: nobody reads the rest of the request, so end it, as a reset would count."""
        self._is_received = True
        self._finish()
        self._wake()

    def fail(self, error: SwarmError) -> None:
        """The stream is lost."""
        if self._error is None and not self._is_received:
            self._error = error
        self._wake()

    def _check_sendable(self) -> None:
        if self._error is not None:
            raise self._error
        if self._is_received or self._is_sent:
            whole = "response is whole" if self._is_received else "request is ended"
            raise ProtocolError(f"nothing can be sent: the {whole}", side="local", code="stream_ended")

    def _finish(self) -> None:
        if not self._is_sent and not self._connection.is_closed:
            self._is_sent = True
            self._handle.end_message()
            self._connection.flush()

    def _drop(self) -> None:
        unread = sum(map(len, self._chunks))
        self._chunks.clear()
        if unread:
            self._connection.dropped(unread)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None
