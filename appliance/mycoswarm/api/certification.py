"""The owner's route for exams of models, streamed as JSON lines. Who hangs up ends the exam."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.body import only, read_body
from mycoswarm.api.departure import LineStream
from mycoswarm.api.feed import feed
from mycoswarm.api.visitor import envelope_of
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker
from mycoswarm.store.apikey import Key

MAX_NAME = 200

Certify = Callable[[str, Asker], AsyncGenerator[dict[str, Any], None]]


def certification_routes(certify: Certify, admit: Callable[[Key | None], None]) -> list[Route]:
    """Build the route `/api/models/NAME/certify`. `certify` examines a model for whoever asks; `admit` counts an exam
    against a key's limits, as one request, or raises BusyError."""

    async def serve(request: Request) -> Response:
        only(await read_body(request))
        name = request.path_params["name"]
        if not 0 < len(name) <= MAX_NAME:
            raise InputError(f"a model's name has 1 to {MAX_NAME} characters")
        envelope = envelope_of(request, "")
        if envelope.route:
            raise InputError("the cases of an exam go as the rules say, and take no X-Mycoswarm-Route")
        admit(request.scope["state"]["key"])
        return LineStream(feed(certify(name, envelope.asker)), {})

    return [Route("/api/models/{name:path}/certify", serve, methods=["POST"])]
