"""JSON bodies of the owner's routes, read once at the edge, and the route that takes and gives JSON."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mycoswarm.base.errors import InputError

BODY_S = 60.0
MAX_TEXT = 4096
MAX_NUMBER = 1e15
OWNER = "owner"  # how the owner at the machine itself is named where it counts who did something

Given = dict[str, Any]
Act = Callable[[Given, str], Awaitable[Any]]


def json_route(path: str, method: str, act: Act) -> Route:
    """A route under `/api`: `act` is given the body, with what the path names put over it, and who asks."""

    async def serve(request: Request) -> Response:
        given = await read_body(request) if method != "GET" else dict(request.query_params)
        return JSONResponse(await act({**given, **request.path_params}, asker(request)))

    return Route(f"/api/{path}", serve, methods=[method])


def asker(request: Request) -> str:
    """Who asks: the name of the key, or the owner at the machine itself."""
    name = request.scope.get("state", {}).get("key_name")
    return OWNER if name is None else f"key {name}"


async def read_body(request: Request) -> Given:
    """The body as a JSON object; none at all is an empty one.

    Raises:
        InputError: it is something else, or does not arrive in `BODY_S`.
    """
    try:
        async with asyncio.timeout(BODY_S):
            data = await request.body()
    except TimeoutError as exc:
        raise InputError(f"the request's body did not arrive in {BODY_S:g} s", code="timeout") from exc
    try:
        given = msgspec.json.decode(data) if data else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InputError(f"the body is not JSON: {exc}") from exc
    if not isinstance(given, dict):
        raise InputError("the body must be a JSON object")
    return given


def text(given: Given, name: str) -> str:
    """A text that must be there.

    Raises:
        InputError: it is not there, no text, or too long.
    """
    value = given.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise _wrong(name, "must be a text")
    return value


def maybe_text(given: Given, name: str) -> str | None:
    """A text that may be left out.

    Raises:
        InputError: it is no text, or too long.
    """
    return None if given.get(name) is None else text(given, name)


def texts(given: Given, name: str) -> tuple[str, ...]:
    """A list of texts that may be left out.

    Raises:
        InputError: it is something else.
    """
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _wrong(name, "must be a list of texts")
    return tuple(value)


def number(given: Given, name: str) -> float:
    """A number above 0 that must be there.

    Raises:
        InputError: it is not there, no number, or out of bounds.
    """
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_NUMBER:
        raise _wrong(name, "must be a number above 0")
    return float(value)


def count(given: Given, name: str) -> int:
    """A whole number above 0 that must be there.

    Raises:
        InputError: it is not there, no whole number, or out of bounds.
    """
    value = number(given, name)
    if not value.is_integer():
        raise _wrong(name, "must be a whole number")
    return int(value)


def maybe_count(given: Given, name: str) -> int | None:
    """A whole number above 0 that may be left out.

    Raises:
        InputError: it is no whole number, or out of bounds.
    """
    return None if given.get(name) is None else count(given, name)


def most(given: Mapping[str, Any], name: str, limit: int) -> int | None:
    """A whole number from 1 to `limit` that may be left out; out of a query it comes as text.

    Raises:
        InputError: it is something else.
    """
    value = given.get(name)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit):
        raise _wrong(name, f"must be a whole number from 1 to {limit}")
    return value


def sure(given: Given, name: str) -> bool:
    """A yes or no that must be there.

    Raises:
        InputError: it is neither.
    """
    value = given.get(name)
    if not isinstance(value, bool):
        raise _wrong(name, "must be true or false")
    return value


def only(given: Given, *names: str) -> None:
    """Refuse what nobody would look at: a misspelt field must not pass as one left out.

    Raises:
        InputError: there is another field.
    """
    if unknown := sorted(set(given) - set(names)):
        raise _wrong(unknown[0], f"is no field here; there are {', '.join(names) or 'none'}")


def _wrong(name: str, why: str) -> InputError:
    error = InputError(f"{name[:80]} {why}")
    error.param = name[:80]
    return error
