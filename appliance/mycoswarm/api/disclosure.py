"""The peer routes by which the coordinator checks a node's ledger: the tickets it took, and its own verdict on it.

For the coordinator alone: other workers learn nothing of what ran here. Neither answer holds a prompt.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.base.errors import InputError, TrustError

MAX_SEQ = (1 << 62) - 1


class Reader(Protocol):
    """A roster entry, as far as this module asks."""

    @property
    def role(self) -> str:
        """ "coordinator" or "worker"."""


class Disclosures(Protocol):
    """What this node says of its ledger; see daemon/archivist.py."""

    def tickets(self, after: int) -> msgspec.Struct:
        """A page of tickets for layers after this row; blocks."""

    def tool_tickets(self, after: int) -> msgspec.Struct:
        """The same for tools."""

    def verdict(self) -> Awaitable[msgspec.Struct]:
        """What the node itself finds; BusyError while it is at it already."""


def disclosure_routes(who: Callable[[bytes], Reader | None], ledger: Disclosures) -> list[Route]:
    """Build `GET /peer/ledger/tickets?after=SEQ`, `GET /peer/ledger/tool-tickets?after=SEQ` and
    `GET /peer/ledger/verdict`."""

    def check(request: Request) -> None:
        der = request.scope["state"].get("peer_der", b"")
        reader = who(der) if der else None
        if reader is None or reader.role != "coordinator":
            raise TrustError("only the swarm's coordinator reads this ledger", code="not_the_coordinator")

    async def page(request: Request, read: Callable[[int], msgspec.Struct]) -> Response:
        check(request)
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) < 20 and int(after) <= MAX_SEQ):
            raise InputError(f"after is {after[:40]!r}, and must be a row's number")
        return _json(await asyncio.to_thread(read, int(after)))

    async def tickets(request: Request) -> Response:
        return await page(request, ledger.tickets)

    async def tool_tickets(request: Request) -> Response:
        return await page(request, ledger.tool_tickets)

    async def verdict(request: Request) -> Response:
        check(request)
        return _json(await ledger.verdict())

    return [
        Route("/peer/ledger/tickets", tickets, methods=["GET"]),
        Route("/peer/ledger/tool-tickets", tool_tickets, methods=["GET"]),
        Route("/peer/ledger/verdict", verdict, methods=["GET"]),
    ]


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
