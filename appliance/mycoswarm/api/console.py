"""The console: HTTP/1.1 for people and clients. This room holds the app; daemon.py starts and stops its servers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mycoswarm.api.assortment import assortment
from mycoswarm.api.completion import Completions
from mycoswarm.api.embedding import Embeddings
from mycoswarm.api.gate import Doorway, Gate, bounded
from mycoswarm.api.refusal import on_bug, on_http_error, on_swarm_error
from mycoswarm.base.errors import NotFoundError, SwarmError, TrustError
from mycoswarm.catalog.facts import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleServices:
    """What the console needs. `models` gives every model that the swarm holds with the names of its holders.
    `elsewhere`: models by the names of the endpoints that a rule could send to."""

    completions: Completions
    embeddings: Embeddings
    doorway: Doorway
    models: Callable[[], list[tuple[ModelFacts, tuple[str, ...]]]]
    health: Callable[[], dict[str, Any]]
    elsewhere: Callable[[], dict[str, tuple[str, ...]]]


def console_app(
    services: ConsoleServices, owner_routes: Sequence[Route] = (), open_routes: Sequence[Route] = ()
) -> ASGIApp:
    """Build the app that clients reach over TCP: every request needs a key, and the owner's routes an owner's key.

    `open_routes` take any key, and the paths that the gate leaves open none: the dashboard's files and its sign-in.
    """
    return Gate(_app(services, [*open_routes, *(_for_owners(route) for route in owner_routes)]), services.doorway)


def socket_app(services: ConsoleServices, owner_routes: Sequence[Route]) -> ASGIApp:
    """Build the app behind the owner's 0600 unix socket: the file's permissions are the key."""
    app = _app(services, owner_routes)

    async def as_owner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {}).update(key=None, key_name=None)
            receive = bounded(receive)
        await app(scope, receive, send)

    return as_owner


def _app(services: ConsoleServices, more: Sequence[Route]) -> Starlette:
    async def health(request: Request) -> Response:
        return JSONResponse(services.health())

    def listed() -> list[dict[str, Any]]:
        return assortment(services.models(), services.elsewhere())

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": listed()})

    async def model(request: Request) -> Response:
        wanted = request.path_params["name"]
        for one in listed():
            if one["id"] == wanted:
                return JSONResponse(one)
        raise NotFoundError(f"no node holds a model named {wanted[:200]!r}", hint="`/v1/models` lists what there is.")

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/chat/completions", services.completions.chat, methods=["POST"]),
            Route("/v1/completions", services.completions.text, methods=["POST"]),
            Route("/v1/embeddings", services.embeddings.serve, methods=["POST"]),
            *more,
        ],
        exception_handlers={SwarmError: on_swarm_error, HTTPException: on_http_error, Exception: on_bug},
    )


class _OwnersOnly:
    """In front of one route's endpoint, so that no way of writing its path leads past it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = scope["state"]["key"]
        if key is None or not key.is_owner:
            raise TrustError(
                "this is for the owner, and the key is not an owner's",
                hint="Make one with `mycoswarm-node keys create NAME --owner`, or use the command line there.",
                code="not_an_owner_key",
            )
        await self._app(scope, receive, send)


def _for_owners(route: Route) -> Route:
    return Route(route.path, route.endpoint, methods=route.methods, middleware=[Middleware(_OwnersOnly)])
