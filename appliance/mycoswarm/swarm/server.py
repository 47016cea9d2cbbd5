"""The answering side of the peer channel: an ASGI app behind HTTP/2, TLS 1.3 and certificates on both sides.

uvicorn's HTTP/2 protocol on zttp, with what uvicorn 0.54.0 lacks for long duplex streams:

- `send` waits for the reader's credit and the socket (credit.py); stock piles up without limit.
- A stream's unread body is bounded by its own window, 8 MB; stock pauses the whole connection, and with it the
  window updates that a sender on it waits for.
- `send` after a disconnect raises OSError and the scope says so (ASGI 2.4), else starlette's StreamingResponse eats
  the messages of a request that is still being sent.
- The end of a request without a body is seen; in stock `await request.body()` on a GET never returns.
- `scope["state"]["peer_der"]` is the client's certificate.

Covered: only TLS 1.3 with a trusted certificate and ALPN "h2" reaches the app; anything else gets nothing. Not
covered: what a proven client may do (the app asks the roster, and `close_connections` acts on its changes); the
number of connections that are still shaking hands, which only time bounds.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Self
from urllib.parse import unquote

import zttp
from uvicorn import Config
from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.zttp_h2_impl import RequestResponseCycle, ZttpH2Protocol
from uvicorn.server import ServerState

from mycoswarm.base.errors import SetupError, UnreachableError
from mycoswarm.swarm.credit import GREETING, ReceiveCredit, SendCredit

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0  # a Pi Zero signs and checks in well under a second
GRACE_S = 1.0  # for requests to end by themselves when the server stops
MAX_PER_PEER = 128  # connections of one certificate; a coordinator has one for each ring and two more
IDLE_S = 3600  # an idle connection is kept warm for the next request

_READ_BYTES = 1 << 16
_PARTING_S = 0.25  # for each later step of stopping, so that all of it takes less than 2 s


class _LeftError(OSError):
    """The client has left; ASGI 2.4 wants an OSError, and starlette turns it into its ClientDisconnect."""


class PeerCycle(RequestResponseCycle):
    """One request and its response, whose `send` waits for credit."""

    sending: SendCredit
    on_read: Callable[[int, int], None]

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the app; what it raises because its client has left, or this node stops, is not an error."""

        async def quiet(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except (Exception, asyncio.CancelledError) as exc:
                if isinstance(exc, asyncio.CancelledError):
                    self.abort_stream()
                    self.disconnected = True
                elif not self.disconnected:
                    raise
                log.info("%s ended because a side left: %r", scope["path"], exc)

        await super().run_asgi(quiet)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the response; waits as long as the client does not take it.

        Raises:
            OSError: the client has left (as ASGI 2.4 wants it).
        """
        self._check_connected()
        body = message.get("body", b"") if message["type"] == "http.response.body" and self.response_started else b""
        if not isinstance(body, bytes) or not body or self.bodyless:
            await super().send(message)
            return
        at = 0
        while at < len(body):
            try:
                room = await self.sending.take(self.stream)
            except UnreachableError as exc:
                raise _LeftError("the client is gone") from exc
            self._check_connected()
            part, at = body[at : at + room], at + room
            is_last = at >= len(body) and not message.get("more_body", False)
            await super().send({"type": "http.response.body", "body": part, "more_body": not is_last})

    async def receive(self) -> ASGIReceiveEvent:
        """Give out what has come of the request, and its room back to the client."""
        message = await super().receive()
        if message["type"] == "http.request" and message["body"]:
            self.on_read(self.stream.stream_id, len(message["body"]))
        return message

    def _check_connected(self) -> None:
        if self.disconnected:
            raise _LeftError("the client is gone")


class PeerProtocol(ZttpH2Protocol, asyncio.BufferedProtocol):
    """One client's connection."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state, asyncio.get_running_loop())
        self.peer_der = b""
        self.receiving = ReceiveCredit()
        self.sending = SendCredit(self.conn)
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self._view = memoryview(bytearray(_READ_BYTES))

    # For asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """TLS is up: let HTTP/2 in and nothing else."""
        self.transport = transport
        tls = transport.get_extra_info("ssl_object")
        self.peer_der = (tls.getpeercert(True) if tls else None) or b""
        others = sum(isinstance(each, PeerProtocol) and each.peer_der == self.peer_der for each in self.connections)
        if tls is None or tls.selected_alpn_protocol() != "h2" or others >= MAX_PER_PEER:
            transport.abort()
            return
        super().connection_made(transport)
        transport.write(GREETING)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if not self.transport.is_closing():
            self.data_received(self._view[:nbytes])  # type: ignore[arg-type]  # zttp takes any buffer

    def eof_received(self) -> None:
        """The client has closed: TLS would drop what apps still write, and log each time."""
        self.sending.close()
        for cycle in self.cycles.values():
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: every app on it learns so."""
        self.sending.close()
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self.sending.pause()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        super().resume_writing()
        self.sending.resume()

    # What uvicorn calls

    def flush(self) -> None:
        """Write what zttp has queued while parsing."""
        self._write(self.receiving.outgoing(self.conn.data_to_send()))

    def handle_events(self) -> None:
        """Act on what has been parsed."""
        for event in self.events():
            match event:
                case zttp.Request():
                    self.handle_request(event)
                case zttp.Data(stream_id=stream_id, data=data):
                    self._handle_data(stream_id, data)
                case zttp.EndOfMessage(stream_id=stream_id):
                    self._end_request(stream_id)
                case zttp.RstStream():
                    self.receiving.close(event.stream_id)
                    self._forget(event.stream_id)
                    self.handle_rst_stream(event)
                    self.sending.credited(event.stream_id)
                case zttp.WindowUpdate(stream_id=stream_id):
                    self.sending.credited(stream_id)
                case zttp.Settings():
                    self.sending.stir()
                case zttp.GoAway():
                    self.shutdown()

    def handle_request(self, event: zttp.Request) -> None:
        """Start the app for a request."""
        try:
            scope = self._scope(event)
        except UnicodeDecodeError as exc:
            raise zttp.RemoteProtocolError("a method or path is not ASCII") from exc
        cycle = PeerCycle(
            scope=scope,
            conn=self.conn,
            stream=self.conn.stream(event.stream_id),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
            resume_reading=self.resume_reading_if_idle,
        )
        cycle.sending, cycle.on_read = self.sending, self._consumed
        self.cycles[event.stream_id] = cycle
        if event.end_stream:
            self._end_request(event.stream_id)
        app = service_unavailable if self.shutdown_requested else self.app
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self, stream_id: int) -> None:
        """A request is done with."""
        self._forget(stream_id)
        self.receiving.close(stream_id)
        super().on_response_complete(stream_id)

    def abort(self) -> None:
        """Drop the connection now."""
        self.transport.abort()

    def _scope(self, event: zttp.Request) -> HTTPScope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "2",
            "server": self.server,
            "client": self.client,
            "scheme": "https",
            "method": event.method.decode("ascii"),
            "root_path": "",
            "path": unquote(event.path.decode("ascii")),
            "raw_path": event.path,
            "query_string": event.query,
            "headers": [(name.lower(), value) for name, value in event.headers],
            "state": {**self.app_state, "peer_der": self.peer_der},
            "extensions": {},
        }

    def _handle_data(self, stream_id: int, data: bytes) -> None:
        cycle = self.cycles.get(stream_id)
        if cycle is None or cycle.response_complete:
            return
        self.receiving.received(len(data))
        cycle.body += data
        cycle.message_event.set()

    def _end_request(self, stream_id: int) -> None:
        cycle = self.cycles.get(stream_id)
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _consumed(self, stream_id: int, count: int) -> None:
        self._write(self.receiving.consumed(stream_id, count))

    def _forget(self, stream_id: int) -> None:
        """Nobody will read what is left of this request."""
        cycle = self.cycles.get(stream_id)
        if cycle is not None and cycle.body:
            self._write(self.receiving.dropped(len(cycle.body)))
            cycle.body = bytearray()

    def _write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)


class PeerServer:
    """Serves `app` on bound sockets while entered; `async with PeerServer(app, context, bind(...)) as server`."""

    def __init__(self, app: ASGI3Application, context: ssl.SSLContext, sockets: Sequence[socket.socket]) -> None:
        self._app, self._context, self._sockets = app, context, tuple(sockets)
        self._state = ServerState()
        self._listeners: list[asyncio.AbstractServer] = []

    @property
    def port(self) -> int:
        """The port of the first socket."""
        return int(self._sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        config = Config(
            self._app,
            http=PeerProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
        )
        config.load()
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            listener = await loop.create_server(
                lambda: PeerProtocol(config, self._state, {}),
                sock=sock,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=_PARTING_S,
            )
            self._listeners.append(listener)
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Stop: no new connections, `GRACE_S` for open requests, then cancel and abort what is left."""
        for listener in self._listeners:
            listener.close()
        for connection in self._connections():
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=GRACE_S)
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PARTING_S)
        await self._drain()

    def close_connections(self, predicate: Callable[[bytes], bool]) -> int:
        """Drop every live connection whose certificate (DER) the predicate picks; returns how many."""
        picked = [connection for connection in self._connections() if predicate(connection.peer_der)]
        for connection in picked:
            connection.abort()
        return len(picked)

    def _connections(self) -> list[PeerProtocol]:
        return [connection for connection in self._state.connections if isinstance(connection, PeerProtocol)]

    async def _drain(self) -> None:
        """Let TLS say goodbye, within `_PARTING_S`, and cut off who does not answer."""
        for is_patient in (True, False):
            left = self._connections()
            if not left:
                return
            if not is_patient:
                for connection in left:
                    connection.abort()
            await asyncio.wait([connection.gone for connection in left], timeout=_PARTING_S)


def bind(hosts: Sequence[str], port: int) -> tuple[socket.socket, ...]:
    """Bind and listen on every host (IPv4 or IPv6, with scope) at one port; port 0 takes any that is free.

    Raises:
        SetupError: the port is taken, or may not be used.
    """
    sockets: list[socket.socket] = []
    try:
        for host in hosts:
            sockets.append(_bind(host, port))
            port = sockets[0].getsockname()[1]
    except OSError as exc:
        for sock in sockets:
            sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise SetupError(
                f"port {port} on {host} is already in use",
                hint=f"Stop the program that listens on port {port}, or choose another port in the settings.",
                code="port_in_use",
            ) from exc
        raise SetupError(
            f"cannot listen on {host} port {port}: {exc.strerror or exc}",
            hint="Choose an address of this machine and a port above 1023.",
            code="cannot_listen",
        ) from exc
    return tuple(sockets)


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a restart waits for TIME_WAIT to pass
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        sock.bind(address)
        sock.listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
