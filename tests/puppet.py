"""An OpenAI-compatible server that says what a test has written for it, as slowly as the test likes."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from openai_server import OpenAIHandler, OpenAIServer

WAIT_S = 20.0


@dataclass
class Line:
    """An answer: its pieces, the first at once and each other when `go` has been released once more; or a tool's call,
    `(name, arguments)`, upon whose result it answers with `pieces`."""

    pieces: list[str]
    call: tuple[str, dict[str, Any]] | None = None
    is_slow: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Puppet(OpenAIServer):
    """`with Puppet() as puppet`: serves on 127.0.0.1 while inside. `lines`: answers by the words that ask for them.
    `heard`: the messages that it was sent. `left` is set where a client went away in mid-answer."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.heard: list[list[dict[str, Any]]] = []
        self.left = threading.Event()
        puppet = self

        class Handler(OpenAIHandler):
            model = "puppet"

            def do_POST(self) -> None:  # noqa: N802  # http.server's name
                messages = json.loads(self.heard())["messages"]
                puppet.heard.append(messages)
                asked = next(m["content"] for m in reversed(messages) if m["role"] == "user")
                line = puppet.lines.get(asked.partition("\n")[0], Line(["I have no line for that."]))
                try:
                    self._play(line, messages[-1]["role"] == "tool")
                except OSError:
                    puppet.left.set()

            def _play(self, line: Line, has_result: bool) -> None:
                self.begin()
                if line.call is not None and not has_result:
                    self._call(*line.call)
                else:
                    self._speak(line)
                usage = {"prompt_tokens": 5, "completion_tokens": len(line.pieces), "total_tokens": 9}
                self.event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

            def _speak(self, line: Line) -> None:
                for number, piece in enumerate(line.pieces):
                    if number and line.is_slow and not line.go.acquire(timeout=WAIT_S):
                        raise TimeoutError("nobody let it go on")
                    self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

            def _call(self, name: str, arguments: dict[str, Any]) -> None:
                function = {"name": name, "arguments": json.dumps(arguments)}
                calls = [{"index": 0, "id": "c0", "type": "function", "function": function}]
                self.event({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})

        super().__init__(Handler)
