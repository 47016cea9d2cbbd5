"""An OpenAI-compatible server that plans by script: it spawns a sub-agent for each line of the task, then sums up."""

import json
from typing import Any

from openai_server import OpenAIHandler, OpenAIServer


class Planner(OpenAIServer):
    """`with Planner("scout") as planner`: serves on 127.0.0.1 while inside. `heard`: the messages it was sent."""

    def __init__(self, agent: str) -> None:
        self.heard: list[list[dict[str, Any]]] = []
        planner = self

        class Handler(OpenAIHandler):
            model = "planner"

            def do_POST(self) -> None:  # noqa: N802  # http.server's name
                messages = json.loads(self.heard())["messages"]
                planner.heard.append(messages)
                self.begin()
                if messages[-1]["role"] == "user":
                    self._spawn(messages[-1]["content"].split("; "))
                else:
                    told = [json.loads(m["content"]) for m in messages if m["role"] == "tool"]
                    text = " / ".join(one.get("data") or f"failed: {one['error']}" for one in told)
                    self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
                self.event({"choices": [], "usage": usage})
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
                self.event({"choices": [choice]})

        super().__init__(Handler)
