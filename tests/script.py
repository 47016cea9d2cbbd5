"""An OpenAI-compatible server that plays models by script: what each says, step by step, and all that it was sent."""

import json
from collections.abc import Sequence
from typing import Any

from openai_server import OpenAIHandler, OpenAIServer

Step = str | list[tuple[str, dict[str, Any]]]  # what it says, or the calls that it makes: names and arguments


def begin(*steps: Step) -> list[Step]:
    """The steps of one model; the last is said again and again."""
    return list(steps)


class Script(OpenAIServer):
    """`with Script(lead=[...]) as script`: models by their names. A step follows from how many results it has read."""

    def __init__(self, **models: Sequence[Step]) -> None:
        self.heard: list[dict[str, Any]] = []
        self.models: dict[str, Sequence[Step]] = dict(models)
        script = self

        class Handler(OpenAIHandler):
            def do_GET(self) -> None:  # noqa: N802  # http.server's name
                self.say({"object": "list", "data": [{"id": name, "object": "model"} for name in script.models]})

            def do_POST(self) -> None:  # noqa: N802  # http.server's name
                body = json.loads(self.heard())
                script.heard.append(body)
                steps = script.models[body["model"]]
                done = sum(message["role"] == "assistant" for message in body["messages"])
                step = steps[min(done, len(steps) - 1)]
                self.begin()
                self.event({"choices": [_said(step, done)]})
                usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
                self.event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

        super().__init__(Handler)

    def text(self) -> str:
        """All that it was sent, as one text."""
        return json.dumps(self.heard, ensure_ascii=False)


def _said(step: Step, done: int) -> dict[str, Any]:
    if isinstance(step, str):
        return {"index": 0, "delta": {"content": step}, "finish_reason": "stop"}
    calls = [
        {
            "index": index,
            "id": f"s{done}c{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(step)
    ]
    return {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
