"""A daemon's socket without a daemon: a real unix-socket HTTP server that gives canned answers."""

import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mycoswarm.cli.call import SOCKET_NAME, Call


@dataclass
class Canned:
    """What the server answers, and what it was asked: (method, path, body, headers) each. `act` may replace it, and
    `bodies` has other answers for some paths."""

    status: int = 200
    body: bytes = b"{}"
    length: int | None = None  # said in the header; None: the true one
    act: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None
    bodies: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False
    block_on_close = True


@contextmanager
def answering(folder: Path, canned: Canned) -> Iterator[Call]:
    """Serve `canned` on the socket of a data folder."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            canned.asked.append((self.command, self.path, data, dict(self.headers)))
            if canned.act is not None:
                canned.act(self)
                return
            body = canned.bodies.get(self.path, canned.body)
            self.send_response(canned.status)
            self.send_header("content-length", str(len(body) if canned.length is None else canned.length))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # http.server's names

        def log_message(self, *said: Any) -> None:
            pass

        def address_string(self) -> str:
            return "owner"

    (folder / SOCKET_NAME).unlink(missing_ok=True)
    with _Server(str(folder / SOCKET_NAME), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Call(folder)
        finally:
            server.shutdown()
            thread.join()
