"""The owner's routes: what the command line asks of the daemon, over the 0600 unix socket in the data folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mycoswarm.api.question import read_chat
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import InputError, SwarmError
from mycoswarm.chat import Chat
from mycoswarm.routing.decision import Decision, Outcome, Refusal
from mycoswarm.store.apikey import Terms

MAX_TEXT = 4096
MAX_NUMBER = 1e15

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
    keys: Callable[[], Answer]
    create_key: Callable[[str, Terms], Answer]
    revoke_key: Callable[[str], Answer]
    add_model: Callable[[str, str | None], AsyncIterator[dict[str, Any]]]
    remove_model: Callable[[str], Answer]
    models: Callable[[], Answer]
    chat: Chat


def owner_routes(services: OwnerServices) -> list[Route]:
    """Build the routes under `/api`."""

    def route(path: str, method: str, act: Callable[[dict[str, Any]], Answer]) -> Route:
        async def serve(request: Request) -> Response:
            given = await _body(request) if method != "GET" else {}
            return JSONResponse(await act({**given, **request.path_params}))

        return Route(f"/api/{path}", serve, methods=[method])

    async def node(given: dict[str, Any]) -> Any:
        return services.node()

    async def adoptions(given: dict[str, Any]) -> Any:
        return services.adoptions()

    async def answer_adoption(given: dict[str, Any]) -> Any:
        return await services.answer_adoption(_text(given, "code"), _sure(given, "accept"))

    async def explain(given: dict[str, Any]) -> Any:
        return _explained(services.chat, given)

    async def add_model(request: Request) -> Response:
        given = await _body(request)
        events = services.add_model(_text(given, "path"), _name(given))
        return StreamingResponse(_lines(events), media_type="application/x-ndjson")

    return [
        route("node", "GET", node),
        route("nodes", "GET", lambda given: services.nodes()),
        route("init", "POST", lambda given: services.found(_name(given))),
        route("token", "POST", lambda given: services.token(_number(given, "lifetime_s"), _count(given, "uses"))),
        route("join", "POST", lambda given: services.join(_text(given, "token"))),
        route("leave", "POST", lambda given: services.leave()),
        route("adoptions", "GET", adoptions),
        route("adopt", "POST", lambda given: services.adopt(_text(given, "node"))),
        route("adopt/answer", "POST", answer_adoption),
        route("expel", "POST", lambda given: services.expel(_text(given, "node"))),
        route("keys", "GET", lambda given: services.keys()),
        route("keys", "POST", lambda given: services.create_key(_text(given, "name"), _terms(given))),
        route("keys/{name:path}", "DELETE", lambda given: services.revoke_key(_text(given, "name"))),
        route("models", "GET", lambda given: services.models()),
        Route("/api/models", add_model, methods=["POST"]),
        route("models/{name:path}", "DELETE", lambda given: services.remove_model(_text(given, "name"))),
        route("explain", "POST", explain),
    ]


def explanation_of(outcome: Outcome) -> dict[str, Any]:
    """A decision or refusal as JSON: the rule, the reason, and for each node why it is in or out."""
    explained = outcome.explanation
    shown: dict[str, Any] = {
        "allowed": isinstance(outcome, Decision),
        "rule": explained.rule,
        "reason": explained.reason,
        "passed_rules": [{"rule": rule, "because": why} for rule, why in explained.passed],
        "nodes": [{"name": v.name, "chosen": v.chosen, "reason": v.reason} for v in explained.verdicts],
    }
    if isinstance(outcome, Decision):
        shown["stages"] = [{"node": s.node.name, "layers": [s.first, s.last]} for s in outcome.placed.shares]
        shown["predicted_tokens_per_s"] = outcome.tokens_per_s
        shown["note"] = outcome.placed.note
    elif isinstance(outcome, Refusal):
        shown["code"] = outcome.code
    return shown


def _explained(chat: Chat, given: dict[str, Any]) -> dict[str, Any]:
    route = _text(given, "route") if given.get("route") is not None else None
    given = {name: value for name, value in given.items() if name != "route"}
    body = {"messages": [{"role": "user", "content": ""}], **given}
    question = read_chat(msgspec.json.encode(body), request_id="explain", key_name=None, route=route)
    outcome, _ = chat.explain(question.job)
    return explanation_of(outcome)


async def _lines(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            yield msgspec.json.encode(event) + b"\n"
    except SwarmError as error:
        yield msgspec.json.encode(error_body(error)) + b"\n"


async def _body(request: Request) -> dict[str, Any]:
    data = await request.body()
    try:
        given = msgspec.json.decode(data) if data else {}
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise InputError(f"the body is not JSON: {exc}") from exc
    if not isinstance(given, dict):
        raise InputError("the body must be a JSON object")
    return given


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise InputError(f"{name} must be a text")
    return value


def _terms(given: dict[str, Any]) -> Terms:
    """What a new key may do; the store knows the bounds."""
    labels = given.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError("labels must be a list of texts")
    return Terms(
        labels=tuple(labels),
        user=_text(given, "user") if given.get("user") is not None else None,
        is_owner=_sure(given, "is_owner") if "is_owner" in given else False,
        requests_per_minute=_limit(given, "requests_per_minute"),
        tokens_per_day=_limit(given, "tokens_per_day"),
    )


def _limit(given: dict[str, Any], name: str) -> int | None:
    return None if given.get(name) is None else _count(given, name)


def _number(given: dict[str, Any], name: str) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_NUMBER:
        raise InputError(f"{name} must be a number above 0")
    return float(value)


def _name(given: dict[str, Any]) -> str | None:
    return None if given.get("name") is None else _text(given, "name")


def _count(given: dict[str, Any], name: str) -> int:
    value = _number(given, name)
    if not value.is_integer():
        raise InputError(f"{name} must be a whole number")
    return int(value)


def _sure(given: dict[str, Any], name: str) -> bool:
    value = given.get(name)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false")
    return value
