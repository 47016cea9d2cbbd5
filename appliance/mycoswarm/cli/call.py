"""Speaks to the daemon of a data folder over its unix socket."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mycoswarm.base.errors import BusyError, SwarmError, UnreachableError

SOCKET_NAME = "owner.sock"
ANSWER_S = 30.0


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
            self.ask("GET", "/healthz", timeout_s=2.0)
        except SwarmError:
            return False
        return True

    def ask(self, method: str, path: str, body: Any = None, *, timeout_s: float = ANSWER_S) -> Any:
        """Send one request and give back the JSON of its answer.

        Raises:
            UnreachableError: no daemon answers.
            SwarmError: what the daemon said, with its code and hint.
        """
        return json.loads(b"".join(self._lines(method, path, body, {}, timeout_s)))

    def stream(
        self, method: str, path: str, body: Any, headers: dict[str, str] | None = None, *, timeout_s: float = 600.0
    ) -> Iterator[bytes]:
        """Send one request and give the lines of its answer as they come.

        Raises:
            UnreachableError: no daemon answers, or it stopped answering.
            SwarmError: what the daemon said, with its code and hint.
        """
        return self._lines(method, path, body, headers or {}, timeout_s)

    def _lines(self, method: str, path: str, body: Any, headers: dict[str, str], timeout_s: float) -> Iterator[bytes]:
        connection = _UnixConnection(self._path, timeout_s)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {"content-type": "application/json", **headers})
            response = connection.getresponse()
            if response.status >= 400:
                raise as_error(response.read())
            yield from response
        except (OSError, http.client.HTTPException) as exc:
            raise UnreachableError(
                "no mycoswarm-node answers here"
                if isinstance(exc, FileNotFoundError | ConnectionRefusedError)
                else f"the daemon stopped answering: {exc or type(exc).__name__}",
                hint="Start it with `mycoswarm-node run` (same --data folder) and try again.",
            ) from exc
        finally:
            connection.close()


def as_error(data: bytes) -> SwarmError:
    """Turn an error body back into an error."""
    try:
        told = json.loads(data)["error"]
        message, hint, code = str(told["message"]), told.get("hint"), str(told.get("code") or "swarm_error")
    except (ValueError, KeyError, TypeError):
        return SwarmError(f"the daemon failed: {data[:200].decode('utf-8', 'replace')}")
    if code == BusyError.code:
        return BusyError(message, retry_after_s=1, hint=hint)
    return SwarmError(message, hint=hint, code=code)
