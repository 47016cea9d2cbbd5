"""Dialogues as text: every one goes through the chat template that the GGUF carries."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dialogues import Sheaf
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE = (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8")
BEGINS, ENDS = "<|im_start|>assistant\n", "<|im_end|>"


def render(messages: Sequence[Any], tools: Sequence[Any] = (), *, add_generation_prompt: bool = False) -> str:
    """The text of a conversation, the way transformers and mycoSwarm render a chat template."""
    return _template().render(messages=messages, tools=list(tools) or None, add_generation_prompt=add_generation_prompt)


def render_sheaf(made: Sheaf) -> tuple[str, list[str]]:
    """(the text of the shared system block, the text of each dialogue after it)."""
    start = [{"role": "system", "content": made.system}] if made.system else []
    before = render(start, made.tools)
    whole = [render([*start, *dialogue.messages], made.tools) for dialogue in made.dialogues]
    return before, [text.removeprefix(before) for text in whole]


def spoken(text: str) -> list[tuple[str, bool]]:
    """`text` in parts, each with whether the assistant says it (its end mark included)."""
    parts: list[tuple[str, bool]] = []
    head, *answers = text.split(BEGINS)
    parts.append((head, False))
    for answer in answers:
        says, rest = answer.split(ENDS, 1)
        parts += [(BEGINS, False), (says + ENDS, True), (rest, False)]
    return parts


@cache
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE)
