"""A small OpenAI-compatible server that remembers everything it was sent: what must not arrive can be looked for."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

WORDS = ("From ", "the ", "rack", ".")


class Rack:
    """`with Rack() as rack`: serves on 127.0.0.1 while inside. `heard`: the bodies it was sent, `keys`: their keys."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.keys: list[str | None] = []
        rack = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # http.server's name
                self._say(json.dumps({"object": "list", "data": [{"id": "big", "object": "model"}]}).encode())

            def do_POST(self) -> None:  # http.server's name
                rack.keys.append(self.headers.get("authorization"))
                rack.heard.append(self.rfile.read(int(self.headers.get("content-length", "0"))))
                if self.path.endswith("/embeddings"):
                    texts = json.loads(rack.heard[-1])["input"]
                    data = [{"index": index, "embedding": [len(text), 1.0]} for index, text in enumerate(texts)]
                    self._say(json.dumps({"object": "list", "data": data, "usage": {"prompt_tokens": 5}}).encode())
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for word in WORDS:
                    self._event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
                self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)}
                self._event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

            def _event(self, body: dict[str, object]) -> None:
                frame = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "big", **body}
                self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")

            def _say(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
