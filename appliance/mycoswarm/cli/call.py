"""Speaks to the daemon of a data folder over its unix socket."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mycoswarm.base.errors import (
    ApiKeyError,
    InputError,
    NotFoundError,
    ProtocolError,
    SwarmError,
    TrustError,
    UnreachableError,
)

SOCKET_NAME = "owner.sock"
ALIVE_S = 2.0
ANSWER_S = 30.0
SILENCE_S = 600.0  # a long prompt on a slow card; while a model loads, the daemon says so every few seconds

# The `type` of an error body, as api/refusal.py writes it, and what is raised for it here.
_KINDS: Mapping[str, type[SwarmError]] = {
    "authentication_error": ApiKeyError,
    "permission_error": TrustError,
    "not_found_error": NotFoundError,
    "invalid_request_error": InputError,
}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Call:
    """One daemon. Each request opens and closes its own connection."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SOCKET_NAME

    def is_alive(self) -> bool:
        """Whether a daemon serves this folder."""
        try:
            self.ask("GET", "/healthz", timeout_s=ALIVE_S)
        except SwarmError:
            return False
        return True

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = ANSWER_S,
    ) -> Any:
        """Send one request and give back the JSON of its answer. The daemon may be silent for `timeout_s`.

        Raises:
            UnreachableError: no daemon answers, or it stopped answering.
            InputError: something that HTTP cannot carry.
            SwarmError: what the daemon said, with its code and hint.
        """
        data = b"".join(self.stream(method, path, body, headers, timeout_s=timeout_s))
        return decode(data)

    def stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = SILENCE_S,
    ) -> Iterator[bytes]:
        """Send one request and give the lines of its answer as they come; a generator that closes hangs up.

        Raises:
            UnreachableError: no daemon answers, or it stopped answering.
            InputError: something that HTTP cannot carry.
            SwarmError: what the daemon said, with its code and hint.
        """
        connection = _UnixConnection(self._path, timeout_s)
        try:
            _send(connection, method, path, body, headers or {})
            response = connection.getresponse()
            if response.status >= 400:
                raise as_error(response.read())
            yield from response
            if response.length:  # what is left of the length it gave: its lines just end there
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as exc:
            raise self._unreachable(exc, timeout_s) from exc
        finally:
            connection.close()

    def _unreachable(self, exc: Exception, timeout_s: float) -> SwarmError:
        again = "Start it with `mycoswarm-node run` (same --data folder) and try again."
        if isinstance(exc, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
            return UnreachableError("no mycoswarm-node answers here", hint=again)
        if isinstance(exc, PermissionError):
            return TrustError(
                f"{self._path.parent} is another user's", hint="Run this as the user that runs mycoswarm-node."
            )
        if isinstance(exc, TimeoutError):
            hint = "It may be busy: try again, and look at its log."
            return UnreachableError(f"the daemon said nothing for {timeout_s:g} s", hint=hint)
        return UnreachableError(f"the daemon stopped answering: {exc or type(exc).__name__}", hint=again)


def decode(data: bytes) -> Any:
    """Read a JSON value that the daemon wrote.

    Raises:
        ProtocolError: it is none: cut off, or another program's.
    """
    try:
        return json.loads(data)
    except ValueError as exc:
        raise ProtocolError(
            "the daemon's answer cannot be read", hint="Restart it, so that it is the same version as this command."
        ) from exc


def as_error(data: bytes) -> SwarmError:
    """Turn an error body back into an error."""
    try:
        told = json.loads(data)["error"]
        message, hint, code = str(told["message"]), told.get("hint"), str(told.get("code") or SwarmError.code)
        kind = _KINDS.get(str(told.get("type")), SwarmError)
    except (ValueError, KeyError, TypeError, AttributeError):
        return SwarmError(f"the daemon failed: {data[:200].decode('utf-8', 'replace')}")
    return kind(message, hint=None if hint is None else str(hint), code=code)


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: Mapping[str, str]
) -> None:
    data = None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, data, {"content-type": "application/json", **headers})
    except (ValueError, http.client.InvalidURL) as exc:
        raise InputError(f"this cannot be sent: {exc}", hint="Use plain letters, digits and signs.") from exc
