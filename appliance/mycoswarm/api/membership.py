"""The peer route by which the coordinator brings a node the newest roster."""

import asyncio
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.base.errors import ProtocolError, TrustError
from mycoswarm.swarm.roster import MAX_BODY_BYTES, Roster, SignedRoster
from mycoswarm.swarm.tls import fingerprint


def membership_routes(
    roster: Callable[[], Roster],
    accept: Callable[[SignedRoster], frozenset[str]],
    changed: Callable[[frozenset[str]], None],
) -> list[Route]:
    """Build `POST /peer/roster`, and `GET /peer/ping` to time the way.

    `accept` checks and stores; `changed` closes the connections of those who left.
    """

    async def take(request: Request) -> Response:
        caller = fingerprint(request.scope["state"].get("peer_der", b""))
        known = roster()
        # A node that has no roster yet takes its first from whoever its authority's certificate let in: the
        # signature decides what counts, this only keeps other workers from wasting its time.
        if known.coordinator is not None and known.coordinator.fingerprint != caller:
            raise TrustError("only the swarm's coordinator brings rosters", code="not_the_coordinator")
        data = b""
        async for chunk in request.stream():
            data += chunk
            if len(data) > 2 * MAX_BODY_BYTES:
                raise ProtocolError("a roster that long cannot be")
        try:
            signed = msgspec.json.decode(data, type=SignedRoster)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise ProtocolError(f"the roster cannot be read: {exc}") from exc
        changed(await asyncio.to_thread(accept, signed))
        return Response(status_code=204)

    async def ping(request: Request) -> Response:
        return Response(status_code=204)

    return [Route("/peer/roster", take, methods=["POST"]), Route("/peer/ping", ping, methods=["GET"])]
