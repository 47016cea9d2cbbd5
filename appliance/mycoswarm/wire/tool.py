"""Tools in words: what one is, a call of it as a model wrote it, and what came of the call."""

from typing import Any

import msgspec


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as models are shown it. `parameters` is the JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolCall(msgspec.Struct, frozen=True):
    """One call. `arguments` is JSON text exactly as the model wrote it: it may be none."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True):
    """What came of a call. `ok` False: `text` says why not. `node` is the name of where it ran, None: nowhere."""

    call_id: str
    text: str
    ok: bool
    node: str | None
    seconds: float
