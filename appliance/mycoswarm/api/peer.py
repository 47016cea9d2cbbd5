"""The peer listener's HTTP: rings, pieces and the card, for nodes of the swarm alone.

The certificate only opens the door: every request asks the roster who it is, and answers 403 to one who is not in it.
Only the coordinator opens rings, and each ring and request needs its ticket (stage/host.py). Pieces of a model go only
to a node that shows a ticket naming it, for a layer range that needs that piece.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mycoswarm.base.errors import BusyError, NotFoundError, SwarmError, TicketError, TrustError
from mycoswarm.catalog.piece import open_piece, pieces_for
from mycoswarm.stage.delivery import TICKET_HEADER, Library
from mycoswarm.stage.failure import describe
from mycoswarm.stage.host import Host, HostServices
from mycoswarm.stage.permit import PiecePermits, read_sealed
from mycoswarm.wire.line import encode_line
from mycoswarm.wire.plan import StagePlan
from mycoswarm.wire.ticket import Sealed

MAX_RINGS = 16  # stages on one node at a time; memory ends long before, and the coordinator counts that
BUSY_S = 10

_log = logging.getLogger(__name__)


class Caller(Protocol):
    """A roster entry, as far as this module asks."""

    @property
    def node_id(self) -> str:
        """Who it is."""

    @property
    def role(self) -> str:
        """ "coordinator" or "worker"."""


@dataclass(frozen=True, slots=True)
class PeerServices:
    """What the routes need of the rest of the node.

    `who` asks the roster for the holder of a certificate (DER). `card` gives this node's card as bytes.
    """

    who: Callable[[bytes], Caller | None]
    host: HostServices
    library: Library
    card: Callable[[], Awaitable[bytes]]


def peer_app(services: PeerServices, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The node's peer app: rings, pieces, card, and the given routes beside them."""
    peer = _Peer(services)
    own = [
        Route("/peer/rings", _RingStream(peer), methods=["POST"]),
        Route("/peer/pieces/{digest}/manifest", peer.manifest, methods=["GET"]),
        Route("/peer/pieces/{digest}/{name}", peer.piece, methods=["GET"]),
        Route("/peer/card", peer.card, methods=["GET"]),
    ]
    return Starlette(routes=[*own, *routes], exception_handlers={SwarmError: _answer_error})


class _Peer:
    """The routes of one node."""

    def __init__(self, services: PeerServices) -> None:
        self.services = services
        host = services.host
        self._permits = PiecePermits(swarm_id=host.swarm_id, is_signed=host.is_signed, clock=host.clock)
        self.rings = 0

    def caller(self, scope: Any) -> Caller:
        """Who asks.

        Raises:
            TrustError: nobody of this swarm.
        """
        der = scope["state"].get("peer_der", b"")
        caller = self.services.who(der) if der else None
        if caller is None:
            raise TrustError("this certificate's holder is not in the swarm's roster", code="not_in_roster")
        return caller

    async def manifest(self, request: Request) -> Response:
        """The list of a model's pieces."""
        digest = request.path_params["digest"]
        await self._check_ticket(request, digest)
        manifest = await asyncio.to_thread(self._manifest, digest)
        return Response(msgspec.json.encode(manifest), media_type="application/json")

    async def piece(self, request: Request) -> Response:
        """One piece, streamed out of the model's own file."""
        digest, name = request.path_params["digest"], request.path_params["name"]
        stage = await self._check_ticket(request, digest)
        manifest = await asyncio.to_thread(self._manifest, digest)
        facts = next((each for each in pieces_for(manifest, stage.first, stage.last) if each.name == name), None)
        if facts is None:
            raise TicketError(f"layers [{stage.first}, {stage.last}) do not need the piece {name[:64]!r}")
        path = await asyncio.to_thread(self.services.library.path, digest)
        if path is None:
            raise NotFoundError("this node does not hold that model")
        chunks = await asyncio.to_thread(open_piece, path, manifest, name)
        return StreamingResponse(_in_thread(chunks), headers={"content-length": str(facts.bytes)})

    async def card(self, request: Request) -> Response:
        """This node's card, for nodes of the swarm."""
        self.caller(request.scope)
        return Response(await self.services.card(), media_type="application/json")

    def _manifest(self, digest: str) -> Any:
        if self.services.library.path(digest) is None:
            raise NotFoundError("this node does not hold that model")
        return self.services.library.manifest(digest)

    async def _check_ticket(self, request: Request, digest: str) -> StagePlan:
        """The caller's layer range of that model, by the ticket it shows."""
        caller = self.caller(request.scope)
        sealed: Sealed | None = None
        try:
            sealed = self._shown_ticket(request)
            _, stage = self._permits.check(sealed, caller.node_id, digest)
        except TicketError as exc:
            await self.services.host.refuse(sealed, exc)
            raise
        return stage

    def _shown_ticket(self, request: Request) -> Sealed:
        try:
            shown = base64.b64decode(request.headers.get(TICKET_HEADER, ""), validate=True)
        except (binascii.Error, ValueError) as exc:
            raise TicketError("the ticket cannot be read") from exc
        if not shown:
            raise TicketError("pieces are given for tickets only")
        return read_sealed(shown)


class _RingStream:
    """`POST /peer/rings`: orders in the request's body, reports in the response's, both open at once."""

    def __init__(self, peer: _Peer) -> None:
        self._peer = peer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if self._peer.caller(scope).role != "coordinator":
                raise TrustError("only the swarm's coordinator opens rings", code="not_the_coordinator")
            if self._peer.rings >= MAX_RINGS:
                raise BusyError(f"this node runs {MAX_RINGS} stages already", retry_after_s=BUSY_S)
        except SwarmError as exc:
            if isinstance(exc, TrustError):
                await self._peer.services.host.refuse(None, exc)
            await peer_error(exc)(scope, receive, send)
            return
        self._peer.rings += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await Host(Duplex(receive, send), self._peer.services.host).run()
            await send({"type": "http.response.body", "body": b""})
        except OSError as exc:
            _log.debug("the coordinator left: %s", exc)
        finally:
            self._peer.rings -= 1


class Duplex:
    """An ASGI request and response as a channel."""

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive, self._send = receive, send
        self._is_over = False

    async def send(self, data: bytes) -> None:
        """Send a part of the response."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def receive(self) -> bytes | None:
        """Take the next part of the request; None at its end, and where the caller has left."""
        while not self._is_over:
            message = await self._receive()
            self._is_over = message["type"] != "http.request" or not message.get("more_body", False)
            body: bytes = message.get("body", b"")
            if body:
                return body
        return None


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a blocking iterator in threads, one chunk at a time."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SwarmError)
    return peer_error(error)


def peer_error(error: SwarmError) -> Response:
    """What a node of the swarm is answered where its request does not hold."""
    _log.info("a peer's request was refused: %s", error.message)
    return Response(encode_line(describe(error)), status_code=error.status, media_type="application/json")
