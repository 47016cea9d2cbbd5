"""The frame of a small OpenAI-compatible server: what it says is its user's."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class OpenAIHandler(BaseHTTPRequestHandler):
    """Lists one model, and has what `do_POST` needs to answer with."""

    model = ""

    def do_GET(self) -> None:  # http.server's name
        self.say({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    def heard(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("content-length", "0")))

    def say(self, value: dict[str, Any]) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        """Begin a stream of events."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()

    def event(self, body: dict[str, Any]) -> None:
        """Send one piece of it."""
        frame = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": self.model, **body}
        self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""


class OpenAIServer:
    """Serves on 127.0.0.1 inside `with`."""

    def __init__(self, handler: type[OpenAIHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Its base, as OpenAI's clients take it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
