"""A server of model files on 127.0.0.1 that speaks the hub's API over TLS, and can lie, cut off and send elsewhere."""

import contextlib
import hashlib
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509

from certificates import Authority
from mycoswarm.external.target import Resolve

HOSTS = ("hub.example", "cdn.example")
COMMIT = "c" * 40
CHUNK_BYTES = 16 << 10


@dataclass
class Hub:
    """What it has and does. `/o/r/resolve/REVISION/FILE` sends on to the file with its hash and size, as the hub does;
    `/plain/FILE` is the file itself.

    `cuts`: after so many bytes of a body it closes the connection, once for each. `gate` holds bodies back after their
    first chunk while it is not set. `sends_to`: in the place of the file's address. `more`: headers over the usual.
    """

    data: bytes = b""
    port: int = 0
    tag: str | None = '"v1"'
    cuts: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    status: int = 200
    sends_to: str | None = None
    hub_headers: dict[str, str] = field(default_factory=dict)
    file_headers: dict[str, str] = field(default_factory=dict)
    has_ranges: bool = True
    length: int | None = None  # said; None is the true one
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # host, path, headers

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def url(self) -> str:
        """It as the hub, by a name that `resolve` knows."""
        return f"https://hub.example:{self.port}"

    @property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def ranges(self) -> list[str | None]:
        """What was asked of the file itself, whole (None) or in part."""
        return [headers.get("range") for _, path, headers in self.asked if "/resolve/" not in path]

    def resolve(self) -> Resolve:
        """A resolver that leads both names here, and others nowhere."""

        async def resolve(host: str, port: int) -> Sequence[str]:
            if host in (*HOSTS, "127.0.0.1", "localhost"):
                return [f"127.0.0.1:{port}"]
            raise socket.gaierror(socket.EAI_NONAME, "no such name")

        return resolve


@contextmanager
def serving(authority: Authority, data: bytes, host: str = "127.0.0.1") -> Iterator[Hub]:
    """Serve while the block runs. `host`: an address of this machine."""
    hub = Hub(data)

    class Handler(_Handler):
        held = hub

    names = [*map(x509.DNSName, (*HOSTS, "localhost")), x509.IPAddress(ipaddress.ip_address(host))]
    server = _Server((host, 0), Handler)
    server.context = authority.server(*names)
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """The handshake is in the connection's own thread: a client that hangs holds no other."""
        request.settimeout(10)
        with contextlib.suppress(OSError), self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with contextlib.suppress(OSError):
            super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    held: Hub

    def do_GET(self) -> None:  # http.server's name
        hub = self.held
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.asked.append((headers.get("host", ""), self.path, headers))
        if hub.status != 200:
            self._head(hub.status, {"Content-Length": "0"})
        elif "/resolve/" in self.path:
            file = self.path.rpartition("/")[2]
            self._head(
                302,
                {
                    "Location": hub.sends_to or f"https://cdn.example:{hub.port}/cdn/{file}?signed=secret",
                    "X-Linked-Etag": f'"{hub.sha256}"',
                    "X-Linked-Size": str(len(hub.data)),
                    "X-Repo-Commit": COMMIT,
                    "Content-Length": "0",
                    **hub.hub_headers,
                },
            )
        else:
            self._file(headers)

    def _file(self, headers: dict[str, str]) -> None:
        hub, first = self.held, 0
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if asked and hub.has_ranges and headers.get("if-range") in (None, hub.tag):
            first = int(asked[1])
        total = len(hub.data)
        if asked and first >= total:
            self._head(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        told = {"Content-Length": str(total - first if hub.length is None else hub.length)}
        if hub.tag is not None:
            told["ETag"] = hub.tag
        if first:
            told["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
        self._head(206 if first else 200, told | hub.file_headers)
        self._body(hub.data[first:])

    def _body(self, data: bytes) -> None:
        hub = self.held
        cut = hub.cuts.pop(0) if hub.cuts else None
        data = data[:cut] if cut is not None else data
        with contextlib.suppress(OSError):
            for at in range(0, len(data), CHUNK_BYTES):
                self.wfile.write(data[at : at + CHUNK_BYTES])
                hub.gate.wait(20)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""
