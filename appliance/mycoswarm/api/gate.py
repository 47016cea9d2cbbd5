"""Who may come in at the console: a known Host, no foreign Origin, a key. Pure ASGI, in front of every route.

Covered: web pages that reach 127.0.0.1 from a browser (DNS rebinding by the Host check, cross-site requests by the
Origin check and the key), guessing keys (256 bits), bodies without end. Not covered: sniffing on a LAN without TLS.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mycoswarm.api.refusal import error_response
from mycoswarm.api.session import Porch
from mycoswarm.base.errors import ApiKeyError, InputError, StorageError, SwarmError, TrustError
from mycoswarm.store.apikey import Key

# Who may knock without a key: monitors, and browsers that are to be shown the sign-in form and to use it.
OPEN_PATHS = frozenset({"/healthz", "/", "/login"})
OPEN_FOLDER = "/web/"
MAX_BODY_BYTES = 8 << 20  # two million words of prompt
# Clients read an answer only when they have sent their whole body; to close earlier would lose it. So much is read and
# thrown away before a refusal, for so long.
MAX_DRAINED_BYTES = 64 << 20
DRAIN_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doorway:
    """`names` are the host names and addresses we answer to. `check` gives the key of a secret, or None. `note` is told
    the key's name at every use. `porch`: where browsers sign in, None where they cannot."""

    names: Callable[[], frozenset[str]]
    check: Callable[[str], Key | None]
    note: Callable[[str], Awaitable[None]]
    porch: Porch | None = None


class Gate:
    """Lets a request through to the app, or answers it with a typed error.

    The app finds the key in `scope["state"]`, as `key` and `key_name`; both None where the path is open to all. `holds`
    there says whether what let the request in still would: an answer without end asks as it goes on.
    """

    def __init__(self, app: ASGIApp, doorway: Doorway) -> None:
        self._app, self._doorway = app, doorway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # there are none
            return
        try:
            key = self._admitted(scope, Headers(scope=scope))
        except SwarmError as error:
            await _drain(receive)
            await error_response(error)(scope, receive, send)
            return
        if key is not None:
            try:
                await self._doorway.note(key.name)
            except StorageError as error:
                log.warning("the use of key %r could not be noted: %s", key.name, error.message)
            if self._doorway.porch is not None:
                await self._doorway.porch.note(scope["headers"])
        state = {"key": key, "key_name": key.name if key else None, "holds": lambda: self._still_admitted(scope)}
        scope.setdefault("state", {}).update(state)
        await self._app(scope, bounded(receive), send)

    def _still_admitted(self, scope: Scope) -> bool:
        try:
            self._admitted(scope, Headers(scope=scope))
        except SwarmError:
            return False
        return True

    def _admitted(self, scope: Scope, headers: Headers) -> Key | None:
        host = host_of(headers.get("host", ""))
        if host not in self._doorway.names():
            raise TrustError(
                f"this node is not called {host[:80]!r}",
                hint="Use the address that `mycoswarm-node run` prints, or add the name to `advertise`.",
                code="unknown_host",
            )
        # The port counts: another program on this machine may serve pages too.
        if any(each.partition("://")[2].lower() != headers["host"].lower() for each in headers.getlist("origin")):
            raise TrustError(
                "a web page of another site asked for this", hint="Open the dashboard itself.", code="foreign_origin"
            )
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER):
            return None
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        secret = secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not secret and self._doorway.porch is not None:
            key = self._doorway.porch.key_of(scope["headers"], scope["method"])
            if key is not None:
                return key
        if not secret:
            raise ApiKeyError("the request has no API key")
        key = self._doorway.check(secret)
        if key is None:
            raise ApiKeyError("the API key is not known here")
        return key


def host_of(text: str) -> str:
    """Give the host of a Host header, without port and brackets, in small letters and in an address's usual form."""
    host = text.partition("]")[0][1:] if text.startswith("[") else text.rpartition(":")[0] or text
    host = host.lower().rstrip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def bounded(receive: Receive) -> Receive:
    """Refuse a body longer than `MAX_BODY_BYTES`."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            if message.get("more_body"):
                await _drain(receive)
            raise InputError(
                f"the request is larger than {MAX_BODY_BYTES >> 20} MiB", hint="Shorten the prompt.", code="too_large"
            )
        return message

    return limited


async def _drain(receive: Receive) -> None:
    total = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while total < MAX_DRAINED_BYTES:
                message = await receive()
                total += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
