"""A small OpenAI-compatible server that remembers everything it was sent: what must not arrive can be looked for."""

import json

from openai_server import OpenAIHandler, OpenAIServer

WORDS = ("From ", "the ", "rack", ".")


class Rack(OpenAIServer):
    """`with Rack() as rack`: serves on 127.0.0.1 while inside. `heard`: the bodies it was sent, `keys`: their keys."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.keys: list[str | None] = []
        rack = self

        class Handler(OpenAIHandler):
            model = "big"

            def do_POST(self) -> None:  # noqa: N802  # http.server's name
                rack.keys.append(self.headers.get("authorization"))
                rack.heard.append(self.heard())
                if self.path.endswith("/embeddings"):
                    texts = json.loads(rack.heard[-1])["input"]
                    data = [{"index": index, "embedding": [len(text), 1.0]} for index, text in enumerate(texts)]
                    self.say({"object": "list", "data": data, "usage": {"prompt_tokens": 5}})
                    return
                self.begin()
                for word in WORDS:
                    self.event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)}
                self.event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

        super().__init__(Handler)
