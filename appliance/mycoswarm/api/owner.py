"""The owner's routes: what the command line asks of the daemon, over the 0600 unix socket in the data folder.

Over the console they answer keys of the owner only.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.body import (
    Given,
    asker,
    count,
    json_route,
    maybe_count,
    maybe_text,
    number,
    only,
    read_body,
    sure,
    text,
    texts,
)
from mycoswarm.api.departure import LineStream
from mycoswarm.api.explanation import explanation_of
from mycoswarm.api.feed import begun, feed
from mycoswarm.api.question import Envelope, read_chat, read_labels
from mycoswarm.chat.job import Asker
from mycoswarm.chat.life import Chat
from mycoswarm.store.apikey import Terms

Answer = Awaitable[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerServices:
    """What the owner can do. Each gives something that JSON can hold, or raises a SwarmError."""

    node: Callable[[], dict[str, Any]]
    nodes: Callable[[], Answer]
    found: Callable[[str | None], Answer]
    token: Callable[[float, int], Answer]
    join: Callable[[str], Answer]
    leave: Callable[[], Answer]
    adopt: Callable[[str], Answer]
    adoptions: Callable[[], dict[str, Any]]
    answer_adoption: Callable[[str, bool], Answer]
    expel: Callable[[str], Answer]
    tag: Callable[[str, tuple[str, ...], tuple[str, ...]], Answer]
    keys: Callable[[], Answer]
    create_key: Callable[[str, Terms], Answer]
    revoke_key: Callable[[str], Answer]
    add_model: Callable[[str, str | None], AsyncGenerator[dict[str, Any], None]]
    pull_model: Callable[[str, str | None, str], AsyncGenerator[dict[str, Any], None]]
    remove_model: Callable[[str], Answer]
    models: Callable[[], Answer]
    chat: Chat


def owner_routes(services: OwnerServices) -> list[Route]:
    """Build the routes under `/api`."""

    def route(path: str, method: str, act: Callable[[Given], Answer]) -> Route:
        return json_route(path, method, lambda given, by: act(given))

    async def node(given: Given) -> Any:
        return services.node()

    async def adoptions(given: Given) -> Any:
        return services.adoptions()

    async def answer_adoption(given: Given) -> Any:
        return await services.answer_adoption(text(given, "code"), sure(given, "accept"))

    async def tag(given: Given) -> Any:
        only(given, "node", "add", "remove")
        return await services.tag(text(given, "node"), texts(given, "add"), texts(given, "remove"))

    async def explain(given: Given) -> Any:
        return await _explained(services.chat, given)

    async def add_model(request: Request) -> Response:
        given = await read_body(request)
        events = services.add_model(text(given, "path"), maybe_text(given, "name"))
        return LineStream(feed(events), {})

    async def pull_model(request: Request) -> Response:
        given = await read_body(request)
        only(given, "source", "name")
        events = services.pull_model(text(given, "source"), maybe_text(given, "name"), asker(request))
        return LineStream(feed(await begun(events)), {})

    return [
        route("node", "GET", node),
        route("nodes", "GET", lambda given: services.nodes()),
        route("init", "POST", lambda given: services.found(maybe_text(given, "name"))),
        route("token", "POST", lambda given: services.token(number(given, "lifetime_s"), count(given, "uses"))),
        route("join", "POST", lambda given: services.join(text(given, "token"))),
        route("leave", "POST", lambda given: services.leave()),
        route("adoptions", "GET", adoptions),
        route("adopt", "POST", lambda given: services.adopt(text(given, "node"))),
        route("adopt/answer", "POST", answer_adoption),
        route("expel", "POST", lambda given: services.expel(text(given, "node"))),
        route("tags", "POST", tag),
        route("keys", "GET", lambda given: services.keys()),
        route("keys", "POST", lambda given: services.create_key(text(given, "name"), _terms(given))),
        route("keys/{name:path}", "DELETE", lambda given: services.revoke_key(text(given, "name"))),
        route("models", "GET", lambda given: services.models()),
        Route("/api/models", add_model, methods=["POST"]),
        Route("/api/models/pull", pull_model, methods=["POST"]),
        route("models/{name:path}", "DELETE", lambda given: services.remove_model(text(given, "name"))),
        route("explain", "POST", explain),
    ]


async def _explained(chat: Chat, given: Given) -> dict[str, Any]:
    route = maybe_text(given, "route")
    added = read_labels(",".join(texts(given, "labels")))
    given = {name: value for name, value in given.items() if name not in ("route", "labels")}
    body = {"messages": [{"role": "user", "content": ""}], **given}
    envelope = Envelope(request_id="explain", asker=Asker(client="127.0.0.1", added=added), route=route)
    return explanation_of(await chat.explain(read_chat(msgspec.json.encode(body), envelope).job))


def _terms(given: Given) -> Terms:
    """What a new key may do; the store knows the bounds."""
    return Terms(
        labels=texts(given, "labels"),
        user=maybe_text(given, "user"),
        is_owner=sure(given, "is_owner") if "is_owner" in given else False,
        requests_per_minute=maybe_count(given, "requests_per_minute"),
        tokens_per_day=maybe_count(given, "tokens_per_day"),
    )
