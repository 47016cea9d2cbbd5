"""The owner's routes for the ledger: look, prove, take along. No answer holds a prompt but where one is asked for that
the owner lets the ledger keep, and the export, whose digests are over all that is kept.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Protocol

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.departure import EventStream
from mycoswarm.api.refusal import bug, error_body
from mycoswarm.base.errors import InputError, SwarmError

USUAL = 50
MAX_LISTED = 1000
MAX_WORD = 200
MAX_ROW = (1 << 62) - 1
CHUNK_BYTES = 256 << 10  # of an export, read in one go, and a line more

log = logging.getLogger(__name__)


class Shelf(Protocol):
    """This node's ledger for reading; all of it blocks. See daemon/librarian.py."""

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


def chronicle_routes(shelf: Shelf, verifier: Verifier) -> list[Route]:
    """Build the routes under `/api/ledger`."""

    async def listed(request: Request) -> Response:
        query = request.query_params
        limit, before = _number(query, "limit", USUAL, MAX_LISTED), _number(query, "after", None, MAX_ROW)
        kind = _word(query, "kind")
        if kind is not None:
            return _json(await asyncio.to_thread(lambda: shelf.rows(kind, limit=limit or USUAL, before=before)))
        key, outcome = _word(query, "key"), _word(query, "outcome")
        asked = lambda: shelf.requests(limit=limit or USUAL, before=before, key=key, outcome=outcome)  # noqa: E731
        return _json(await asyncio.to_thread(asked))

    async def shown(request: Request) -> Response:
        wanted, with_prompt = request.path_params["id"], request.query_params.get("prompt") == "yes"
        return _json(await asyncio.to_thread(lambda: shelf.request(wanted, with_prompt=with_prompt)))

    async def exposed(request: Request) -> Response:
        return _json(await asyncio.to_thread(shelf.exposure, request.path_params["id"]))

    async def verify(request: Request) -> Response:
        return _LineStream(_events(verifier.verify()), {})

    async def export(request: Request) -> Response:
        return _LineStream(_exported(shelf.export()), {})

    return [
        Route("/api/ledger", listed, methods=["GET"]),
        Route("/api/ledger/verify", verify, methods=["POST"]),
        Route("/api/ledger/export", export, methods=["GET"]),
        Route("/api/ledger/{id}", shown, methods=["GET"]),
        Route("/api/ledger/{id}/exposure", exposed, methods=["GET"]),
    ]


class _LineStream(EventStream):
    """JSON lines, whose source is closed when the client hangs up."""

    media_type = "application/x-ndjson"


async def _events(source: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    try:
        async for event in source:
            yield _line(event)
    except SwarmError as error:
        yield _line(error_body(error))
    except Exception:
        log.exception("verifying the ledger failed: a bug of ours")
        yield _line(error_body(bug()))
    finally:
        await source.aclose()


async def _exported(lines: Iterator[str]) -> AsyncGenerator[bytes, None]:
    """The lines, a few at a time. An export that fails ends with a line that is no row, so it cannot pass as whole."""
    try:
        while chunk := await asyncio.to_thread(_chunk, lines):
            yield chunk
    except SwarmError as error:
        yield _line(error_body(error))


def _chunk(lines: Iterator[str]) -> bytes:
    held = bytearray()
    while len(held) < CHUNK_BYTES and (line := next(lines, None)) is not None:
        held += line.encode() + b"\n"
    return bytes(held)


def _json(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value), media_type="application/json")


def _line(value: dict[str, Any]) -> bytes:
    """A JSON line. All signs but ASCII are escaped: rows that were altered may hold text that is not UTF-8."""
    return json.dumps(value).encode() + b"\n"


def _number(query: QueryParams, name: str, usual: int | None, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= most):
        raise InputError(f"{name} must be a whole number from 1 to {most}")
    return int(text)


def _word(query: QueryParams, name: str) -> str | None:
    text = query.get(name)
    if text is not None and not 0 < len(text) <= MAX_WORD:
        raise InputError(f"{name} must be a text of 1 to {MAX_WORD} characters")
    return text
