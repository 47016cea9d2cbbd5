"""The tools that a chat request offers, how the model may call them, and calls that come back in its messages."""

import re
from typing import Any

import msgspec

from mycoswarm.api.objection import MAX_DEPTH, is_shallow, unsupported, wrong
from mycoswarm.wire.tool import ToolChoice, ToolSpec, tool_json
from mycoswarm.wire.toolcall import MAX_CALLS

MAX_TOOLS = 128  # as OpenAI's API
MAX_DESCRIPTION = 8192  # characters
MAX_SCHEMA_BYTES = 64 << 10  # of one tool
MAX_OFFER_BYTES = 1 << 20  # of all: they travel twice in an order, for the template and for the grammar
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as OpenAI's API; grammars and templates take it as it is
_FUNCTION = {"name", "description", "parameters", "strict"}
_MODES = ("auto", "required")

Tools = tuple[dict[str, Any], ...]


def read_tools(tools: list[Any], choice: str | dict[str, Any] | None, is_parallel: bool) -> tuple[Tools, ToolChoice]:
    """The tools as chat templates take them. With the choice "none" there are none: the model is not told of them.

    Raises:
        InputError: a wrong tool, or a choice that does not fit the tools.
        UnsupportedError: a kind of tool or choice that this software does not serve.
    """
    if len(tools) > MAX_TOOLS:
        raise wrong("tools", f"tools holds {len(tools)} tools; at most {MAX_TOOLS}")
    specs = [_spec(f"tools[{index}]", tool) for index, tool in enumerate(tools)]
    names = [spec.name for spec in specs]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise wrong("tools", f"tools names {double[0]} more than once")
    mode, name = _choice(choice)
    if name is not None and name not in names:
        raise wrong("tool_choice", f"tool_choice names {name[:64]!r}, which is none of the tools")
    if mode == "required" and not specs:
        raise wrong("tool_choice", "tool_choice asks for a call, and there are no tools")
    if mode == "none":
        return (), ToolChoice()
    told = ToolChoice(mode="required" if mode == "required" else "auto", name=name, is_parallel=is_parallel)
    offered = tuple(map(tool_json, specs))
    if (size := len(msgspec.json.encode(offered))) > MAX_OFFER_BYTES:
        raise wrong("tools", f"tools has {size} bytes; at most {MAX_OFFER_BYTES}")
    return offered, told


def read_calls(where: str, calls: Any) -> list[dict[str, Any]]:
    """The calls of an assistant's message, with nothing in them that templates do not know.

    Raises:
        InputError: they are none.
    """
    field = f"{where}.tool_calls"
    if not isinstance(calls, list) or len(calls) > MAX_CALLS:
        raise wrong(field, f"{field} must be a list of at most {MAX_CALLS} tool calls")
    read = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        name, arguments = (function.get(key) for key in ("name", "arguments")) if isinstance(function, dict) else (0, 0)
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise wrong(field, f"{field} must hold calls with a function's name and its arguments as texts")
        named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        read.append({**named, "type": "function", "function": {"name": name, "arguments": arguments}})
    return read


def _spec(where: str, tool: Any) -> ToolSpec:
    kind, function = (tool.get("type"), tool.get("function")) if isinstance(tool, dict) else (None, None)
    if kind != "function":
        raise unsupported("tools", f"{where} is of type {str(kind)[:40]!r}; only functions are supported")
    if not isinstance(function, dict):
        raise wrong("tools", f"{where}.function is missing")
    for key in sorted(function.keys() - _FUNCTION):
        raise unsupported("tools", f"{where}.function.{key[:80]} is not supported")
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wrong("tools", f"{where}.function.name must be 1 to 64 letters, digits, _ or -")
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION:
        raise wrong("tools", f"{where}.function.description must be a text of at most {MAX_DESCRIPTION} characters")
    schema = function.get("parameters")
    schema = {"type": "object", "properties": {}} if schema is None or schema == {} else schema
    if not isinstance(schema, dict) or schema.get("type") != "object" or not is_shallow(schema):
        deep = f"nested at most {MAX_DEPTH} deep"
        raise wrong("tools", f"{where}.function.parameters must be the JSON schema of an object, {deep}")
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        raise wrong("tools", f"{where}.function.parameters is larger than {MAX_SCHEMA_BYTES >> 10} KiB")
    return ToolSpec(name, description, schema)


def _choice(choice: str | dict[str, Any] | None) -> tuple[str, str | None]:
    if choice in (None, "none", *_MODES):
        return str(choice or "auto"), None
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        said = choice.get("type") if isinstance(choice, dict) else choice
        raise unsupported("tool_choice", f"tool_choice {str(said)[:40]!r} is not supported")
    return "required", name
