"""The owner's routes for one model: have it loaded or unloaded, and ask where it would fit.

Loading is told as JSON lines. What the rules refuse has a status of its own; who hangs up waits no longer, and what is
being loaded goes on.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mycoswarm.api.body import only, read_body
from mycoswarm.api.departure import LineStream
from mycoswarm.api.feed import begun, feed
from mycoswarm.api.question import read_route
from mycoswarm.api.visitor import envelope_of
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.store.apikey import Key

MAX_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class StockroomServices:
    """See daemon/stoker.py. `admit` counts a loading against a key's limits, as one request, or raises BusyError."""

    load: Callable[[str, Narrowing, Asker, str], AsyncGenerator[dict[str, Any], None]]
    unload: Callable[[str], Awaitable[dict[str, Any]]]
    fit: Callable[[str, Narrowing, Asker], Awaitable[dict[str, Any]]]
    admit: Callable[[Key | None], None]
    new_id: Callable[[], str]


def stockroom_routes(services: StockroomServices) -> list[Route]:
    """Build the routes `/api/models/NAME/load`, `/unload` and `/fit`. What is asked beside a body (labels, a route) is
    said as for an answer."""

    async def load(request: Request) -> Response:
        only(await read_body(request))
        envelope = envelope_of(request, services.new_id())
        narrowing = read_route(envelope.route)
        services.admit(request.scope["state"]["key"])
        events = services.load(_name(request), narrowing, envelope.asker, envelope.request_id)
        return LineStream(feed(await begun(events)), {})

    async def unload(request: Request) -> Response:
        only(await read_body(request))
        return JSONResponse(await services.unload(_name(request)))

    async def fit(request: Request) -> Response:
        envelope = envelope_of(request, "")
        return JSONResponse(await services.fit(_name(request), read_route(envelope.route), envelope.asker))

    return [
        Route("/api/models/{name:path}/load", load, methods=["POST"]),
        Route("/api/models/{name:path}/unload", unload, methods=["POST"]),
        Route("/api/models/{name:path}/fit", fit, methods=["GET"]),
    ]


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not 0 < len(name) <= MAX_NAME:
        raise InputError(f"a model's name has 1 to {MAX_NAME} characters")
    return name
