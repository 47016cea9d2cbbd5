"""Tools as models and nodes speak of them."""

from typing import Any

import msgspec


class ToolSpec(msgspec.Struct, frozen=True):
    """What a model is told of a tool. `parameters`: the JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolCall(msgspec.Struct, frozen=True):
    """One call. `arguments`: JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True):
    """What came of a call. `ok` False: `text` says what went wrong. `node`: where it ran, None where nothing ran."""

    call_id: str
    text: str
    ok: bool
    node: str | None
    seconds: float
