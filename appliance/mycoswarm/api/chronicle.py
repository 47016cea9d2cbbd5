"""The owner's routes for the ledger: look, prove, take along. No answer holds a prompt but where one is asked for that
the owner lets the ledger keep, and the export, whose digests are over all that is kept.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Protocol

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.body import most
from mycoswarm.api.departure import LineStream
from mycoswarm.api.feed import feed, line
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import InputError, SwarmError

USUAL = 50
MAX_LISTED = 1000
MAX_WORD = 200
MAX_ROW = (1 << 62) - 1
CHUNK_BYTES = 256 << 10  # of an export, read in one go, and a line more


class Reader(Protocol):
    """This node's ledger for reading; all of it blocks. See daemon/archivist.py."""

    def requests(self, *, limit: int, before: int | None, key: str | None, outcome: str | None) -> dict[str, Any]:
        """The newest requests in one line each, below row `before`."""

    def rows(self, kind: str, *, limit: int, before: int | None) -> dict[str, Any]:
        """The newest rows of a kind, below row `before`."""

    def request(self, beginning: str, *, with_prompt: bool) -> dict[str, Any]:
        """All rows of one request."""

    def exposure(self, beginning: str) -> dict[str, Any]:
        """Every machine that could have read a request's prompt."""

    def export(self) -> Iterator[str]:
        """The whole ledger as lines."""


class Verifier(Protocol):
    """See daemon/auditor.py."""

    def verify(self) -> AsyncGenerator[dict[str, Any], None]:
        """Verify this node's ledger and, on the coordinator, the others'; tells what it finds as it goes."""


def chronicle_routes(reader: Reader, verifier: Verifier) -> list[Route]:
    """Build the routes under `/api/ledger`."""

    async def listed(request: Request) -> Response:
        query = request.query_params
        limit, before = most(query, "limit", MAX_LISTED) or USUAL, most(query, "after", MAX_ROW)
        kind = _word(query, "kind")
        if kind is not None:
            return _json(await asyncio.to_thread(lambda: reader.rows(kind, limit=limit, before=before)))
        key, outcome = _word(query, "key"), _word(query, "outcome")
        return _json(
            await asyncio.to_thread(lambda: reader.requests(limit=limit, before=before, key=key, outcome=outcome))
        )

    async def shown(request: Request) -> Response:
        wanted, with_prompt = request.path_params["id"], request.query_params.get("prompt") == "yes"
        return _json(await asyncio.to_thread(lambda: reader.request(wanted, with_prompt=with_prompt)))

    async def exposed(request: Request) -> Response:
        return _json(await asyncio.to_thread(reader.exposure, request.path_params["id"]))

    async def verify(request: Request) -> Response:
        return LineStream(feed(verifier.verify()), {})

    async def export(request: Request) -> Response:
        return LineStream(_exported(reader.export()), {})

    return [
        Route("/api/ledger", listed, methods=["GET"]),
        Route("/api/ledger/verify", verify, methods=["POST"]),
        Route("/api/ledger/export", export, methods=["GET"]),
        Route("/api/ledger/{id}", shown, methods=["GET"]),
        Route("/api/ledger/{id}/exposure", exposed, methods=["GET"]),
    ]


async def _exported(lines: Iterator[str]) -> AsyncGenerator[bytes, None]:
    """The lines, a few at a time. An export that fails ends with a line that is no row, so it cannot pass as whole."""
    try:
        while chunk := await asyncio.to_thread(_chunk, lines):
            yield chunk
    except SwarmError as error:
        yield line(error_body(error))


def _chunk(lines: Iterator[str]) -> bytes:
    held = bytearray()
    while len(held) < CHUNK_BYTES and (line := next(lines, None)) is not None:
        held += line.encode() + b"\n"
    return bytes(held)


def _json(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value), media_type="application/json")


def _word(query: QueryParams, name: str) -> str | None:
    text = query.get(name)
    if text is not None and not 0 < len(text) <= MAX_WORD:
        raise InputError(f"{name} must be a text of 1 to {MAX_WORD} characters")
    return text
