"""Tools as words: what is offered to a model, how it may call, what it called, and what came of it."""

import hashlib
from typing import Any, Literal, Self

import msgspec

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 9  # letters and digits: Mistral's chat templates refuse any other id


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool that is offered. `parameters` is the JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolCall(msgspec.Struct, frozen=True):
    """One call that a model made. `arguments`: the JSON text of an object, exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True):
    """What a call gave. `node`: where it ran, None where nowhere. `labels`: whoever reads it carries these. `ran`: the
    furthest place that has read the call."""

    call_id: str
    text: str
    ok: bool
    node: str | None
    seconds: float
    labels: tuple[str, ...] = ()
    ran: str | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """How a model may call: "auto" leaves it the choice, "required" leaves none. `name`: this tool only.

    `is_strict`: a call that it begins by itself is held to the tools' schemas; None: if its certificate is poor.
    """

    mode: Literal["auto", "required"] = "auto"
    name: str | None = None
    is_parallel: bool = True
    is_strict: bool | None = None

    def settled(self, is_poor: bool) -> Self:
        """The same, where it is known whether the model's certificate is poor."""
        return self if self.is_strict is not None else msgspec.structs.replace(self, is_strict=is_poor)


AS_IT_LIKES = ToolChoice()


def tool_json(spec: ToolSpec) -> dict[str, Any]:
    """A tool in OpenAI's form, which chat templates are written for."""
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


def call_id(request_id: str, number: int) -> str:
    """The id of an answer's call of this number, the same whenever it is asked for."""
    value = int.from_bytes(hashlib.blake2b(f"{request_id}/{number}".encode(), digest_size=8).digest())
    letters = []
    for _ in range(_ID_LENGTH):
        value, place = divmod(value, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)
