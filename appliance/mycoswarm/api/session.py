"""Browsers come in with a session: a cookie that no script reads, opened with an API key or the first setup code.

Covered: other sites (the cookie is SameSite=Strict, the gate looks at Origin, and each change needs the session's own
token in a header), scripts that steal the cookie (HttpOnly), guessing (few failures for one address and for all).
Not covered: who can listen on a LAN without TLS hears the cookie as he would hear a key.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mycoswarm.api.body import Given, json_route, only, read_body, text
from mycoswarm.api.visitor import HERE
from mycoswarm.base.errors import ApiKeyError, BusyError, InputError, StorageError, TrustError
from mycoswarm.store.apikey import Key
from mycoswarm.store.login import CODE_S, IDLE_S, Logins

COOKIE = "mycoswarm_session"
CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_FAILURES = 5  # of one address in a minute
MAX_FAILURES_OF_ALL = 60
MAX_ADDRESSES = 1024
WINDOW_S = 60.0
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{1,100}")  # as Logins draws them

log = logging.getLogger(__name__)


class Throttle:
    """Counts sign-ins that failed; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Hold that this address may try.

        Raises:
            BusyError: it, or all together, failed too often in the last minute.
        """
        since = self._clock() - WINDOW_S
        for each in list(self._failures):
            self._failures[each] = [at for at in self._failures[each] if at > since]
            if not self._failures[each]:
                del self._failures[each]
        own = self._failures.get(address, [])
        of_all = [at for times in self._failures.values() for at in times]
        for times, most in ((own, MAX_FAILURES), (of_all, MAX_FAILURES_OF_ALL)):
            if len(times) >= most:
                wait_s = max(1, round(min(times) - since))
                raise BusyError("too many sign-ins failed; wait a moment", retry_after_s=wait_s)

    def count(self, address: str) -> None:
        """A sign-in of this address begins; it counts as failed until it is forgiven, so many at once count, too."""
        self._failures.setdefault(address, []).append(self._clock())
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def forgive(self, address: str) -> None:
        """The last one counted has not failed."""
        if times := self._failures.get(address):
            times.pop()


@dataclass(frozen=True, slots=True)
class Porch:
    """Where browsers sign in. `wall_clock`: seconds since 1970."""

    logins: Logins
    throttle: Throttle
    wall_clock: Callable[[], float] = time.time

    def key_of(self, headers: list[tuple[bytes, bytes]], method: str) -> Key | None:
        """The key that a browser's request comes with; None where it shows no session.

        Raises:
            ApiKeyError: its session is over.
            TrustError: it would change something and lacks the session's token.
        """
        token = token_of(headers)
        if token is None:
            return None
        key = self.logins.find(token, self.wall_clock())
        if key is None:
            raise ApiKeyError("the session is over", hint="Sign in again.", code="session_over")
        if method not in SAFE_METHODS:
            given = next((value for name, value in headers if name == CSRF_HEADER.encode()), b"")
            if not hmac.compare_digest(given, csrf_of(token).encode()):
                raise TrustError("the request lacks its session's token", hint="Load the page anew.", code="bad_csrf")
        return key

    async def note(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Remember that a session was used."""
        token = token_of(headers)
        if token is not None:
            try:
                await asyncio.to_thread(self.logins.note_use, token, self.wall_clock())
            except StorageError as error:
                log.warning("the use of a session could not be noted: %s", error.message)


def session_routes(porch: Porch) -> list[Route]:
    """Build `/login`, which is open to all: GET tells whether there is a session; and the way out, `/api/session`."""

    async def sign_in(request: Request) -> Response:
        address = request.client.host if request.client else HERE
        given = await read_body(request)
        only(given, "key", "setup_code")
        is_code = "setup_code" in given
        shown, now = text(given, "setup_code" if is_code else "key"), porch.wall_clock()
        porch.throttle.check(address)
        porch.throttle.count(address)
        secret = None
        if is_code:
            token, key, secret = await asyncio.to_thread(porch.logins.redeem, shown, now)
        else:
            token, key = await asyncio.to_thread(porch.logins.open, shown, now)
        porch.throttle.forgive(address)
        log.info("a browser signed in with the key %r", key.name)
        answer = JSONResponse(_shown(key, token) | ({} if secret is None else {"new_key": secret}))
        _set_cookie(answer, request, token)
        return answer

    async def show(request: Request) -> Response:
        try:
            key = porch.key_of(request.scope["headers"], "GET")
        except ApiKeyError:
            key = None
        if key is None:
            return JSONResponse({"is_signed_in": False})
        return JSONResponse(_shown(key, token_of(request.scope["headers"])))

    async def sign_out(request: Request) -> Response:
        token = token_of(request.scope["headers"])
        if token is None:
            raise InputError("this request has no session", hint="API keys are ended with `keys revoke`.")
        await asyncio.to_thread(porch.logins.close, token)
        answer = JSONResponse({})
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    return [
        Route("/login", sign_in, methods=["POST"]),
        Route("/login", show, methods=["GET"]),
        Route("/api/session", sign_out, methods=["DELETE"]),
    ]


def setup_routes(porch: Porch) -> list[Route]:
    """Build `/api/setup-code`, for the owner: where there is no key yet, the owner's socket makes the first way in."""

    async def make(given: Given, by: str) -> Any:
        only(given)
        code = await asyncio.to_thread(porch.logins.new_code, porch.wall_clock())
        return {"setup_code": code, "holds_s": CODE_S}

    return [json_route("setup-code", "POST", make)]


def token_of(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The session's token in a request's headers.

    Read by hand, and nothing but our own cookie: browsers send those of all programs on this host along, whatever is in
    them, and http.cookies drops all where one is malformed, and takes seconds over one of many backslashes. Of several
    of our name the last is taken: browsers put the one with the longest path first, and ours has the shortest.
    """
    found = None
    for name, value in headers:
        if name == b"cookie":
            for each in value.split(b";"):
                cookie, _, token = each.strip().partition(b"=")
                if cookie == COOKIE.encode() and _TOKEN.fullmatch(token):
                    found = token.decode()
    return found


def csrf_of(token: str) -> str:
    """What each change must show besides the cookie: only pages of ours can have asked for it."""
    return hmac.new(token.encode(), b"mycoswarm csrf", hashlib.sha256).hexdigest()


def _shown(key: Key | None, token: str | None) -> dict[str, Any]:
    return {
        "is_signed_in": True,
        "key": None if key is None else key.name,
        "user": None if key is None else key.user,
        "is_owner": key is None or key.is_owner,
        "csrf": None if token is None else csrf_of(token),
    }


def _set_cookie(answer: Response, request: Request, token: str) -> None:
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(IDLE_S),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )
