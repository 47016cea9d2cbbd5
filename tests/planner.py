"""An OpenAI-compatible server that plans by script: it spawns a sub-agent for each line of the task, then sums up."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Planner:
    """`with Planner("scout") as planner`: serves on 127.0.0.1 while inside. `heard`: the messages it was sent."""

    def __init__(self, agent: str) -> None:
        self.heard: list[list[dict[str, Any]]] = []
        planner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # http.server's name
                body = json.dumps({"object": "list", "data": [{"id": "planner", "object": "model"}]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:  # http.server's name
                messages = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))["messages"]
                planner.heard.append(messages)
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                if messages[-1]["role"] == "user":
                    self._spawn(messages[-1]["content"].split("; "))
                else:
                    told = [json.loads(m["content"]) for m in messages if m["role"] == "tool"]
                    text = " / ".join(one.get("data") or f"failed: {one['error']}" for one in told)
                    self._event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
                self._event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

            def _spawn(self, parts: list[str]) -> None:
                calls = [
                    {
                        "index": index,
                        "id": f"c{index}",
                        "type": "function",
                        "function": {"name": "spawn", "arguments": json.dumps({"task": part, "agent": agent})},
                    }
                    for index, part in enumerate(parts)
                ]
                choice = {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
                self._event({"choices": [choice]})

            def _event(self, body: dict[str, object]) -> None:
                frame = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "planner", **body}
                self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")

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
