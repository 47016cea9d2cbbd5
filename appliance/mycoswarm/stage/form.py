"""Tool calls as grammars in llama.cpp's GBNF: what they let through are calls in a model's own form.

Arguments that stand between tags are texts, not JSON: a string's text has any character, but neither its end tag nor
that of the call; with a minLength or maxLength, no "<" either.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mycoswarm.base.errors import InputError, UnsupportedError
from mycoswarm.stage.schema import SchemaWriter, literal, unsupported, written
from mycoswarm.wire.request import CallForm, CallTool, CallWay
from mycoswarm.wire.tag import pointed

_CALL_END = "</tool_call>"
_MAX_DEPTH = 16  # of $ref, anyOf and the like around one argument
_SCHEMA = {"type", "properties", "required", "additionalProperties", "description", "title", "$schema", "$defs"}
_SCHEMA |= {"definitions", "strict"}


def form_grammar(form: CallForm, way: CallWay, lead: str = "") -> str:
    """The grammar of calls in this way, behind the text `lead`.

    Where the model may answer in text, what a grammar cannot keep is let go: then a tool's arguments are any JSON
    object, or any text between the tags. A model may call a tool with such a schema, and is not kept from it.

    Raises:
        UnsupportedError: a tool's schema has a keyword that a grammar cannot keep; the message names it.
        InputError: not a sound form, or one too large.
    """
    if not form.tools or way.most < 1:
        raise InputError("this form of calls cannot be used: it has no tool to call", code="bad_schema")
    try:
        return _grammar(form, way, lead)
    except InputError:
        if not form.is_free:
            raise
    bare = tuple(CallTool(name=tool.name, schema={}) for tool in form.tools)
    return _grammar(CallForm(tools=bare, ways=form.ways), way, lead)  # it was too large: the names alone are not


def _grammar(form: CallForm, way: CallWay, lead: str) -> str:
    rules, calls = [], []
    for number, tool in enumerate(form.tools):
        arguments = "any-members" if way.member else "object"
        more: list[str] = []
        if tool.schema:
            try:
                arguments, more = _arguments(tool, way, f"t{number}r")
            except (InputError, UnsupportedError):
                if not form.is_free:
                    raise
        parts = [*(quoted(text.replace("NAME", tool.name)) for text in way.before), arguments, *map(quoted, way.after)]
        rules += [*more, f"t{number} ::= {' space '.join(parts)}"]
        calls.append(f"t{number}")
    if way.member:
        rules += _text_rules((way.member[-1].strip(), _CALL_END))
        key = _around(way, '" [^<>\\n]+ "')
        rules.append(f"any-members ::= ({key.format('text')} space)*")
    rules.append(f"call ::= {' | '.join(calls)}")
    between = " ".join(["space", *(f"{quoted(text)} space" for text in way.between), "call"])
    others = [f"({between}){{0,{way.most - 1}}}"] if way.most > 1 else []
    ends = [f"space {quoted(text)}" for text in way.last]
    begins = [quoted(lead), *(f"{quoted(text)} space" for text in way.first)]
    return written(" ".join([*begins, "call", *others, *ends]), rules)


def quoted(text: str) -> str:
    """A text as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _around(way: CallWay, key: str) -> str:
    """One argument between its texts; `{}` stands for its value, and this GBNF for the name within them."""
    before = [quoted(text).replace("KEY", key) for text in way.member[:-1]]
    return f"{' space '.join(before)} {{}} {quoted(way.member[-1])}"


def _arguments(tool: CallTool, way: CallWay, prefix: str) -> tuple[str, list[str]]:
    writer = SchemaWriter(tool.schema, prefix)
    if not way.member:
        return writer.rule(tool.schema, 0), writer.rules
    schema = tool.schema
    properties, needed = schema.get("properties", {}), schema.get("required", [])
    for key in schema.keys() - _SCHEMA:
        raise unsupported(f"{key} (where arguments stand between tags)")
    if schema.get("additionalProperties") not in (None, False):
        raise unsupported("additionalProperties (where arguments stand between tags)")
    if not isinstance(properties, Mapping) or not isinstance(needed, list) or {*map(str, needed)} - properties.keys():
        raise InputError("this JSON schema cannot be used: properties must be an object, and have all of required")
    members = []
    for name, child in properties.items():
        key = quoted(name)[1:-1].replace("{", "{{").replace("}", "}}")
        member = _around(way, key).format(f"({_value(writer, child, schema, 0)})")
        members.append(f"{member} space" if name in needed else f"({member} space)?")
    return f"({' '.join(members)})" if members else '""', writer.rules


def _value(writer: SchemaWriter, schema: Any, root: Mapping[str, Any], depth: int) -> str:
    """An expression for an argument as text."""
    if depth > _MAX_DEPTH:
        raise unsupported(f"$ref and anyOf more than {_MAX_DEPTH} deep")
    if not isinstance(schema, Mapping):
        return "text"
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return " | ".join(quoted(value) if isinstance(value, str) else literal(value) for value in values)
    if isinstance(reference := schema.get("$ref"), str):
        return _value(writer, pointed(root, reference), root, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(key)
        if isinstance(choices, list) and choices and not (key == "allOf" and len(choices) > 1):
            return " | ".join(_value(writer, choice, root, depth + 1) for choice in choices)
    said = schema.get("type")
    kinds = said if isinstance(said, list) else [said]
    others = [kind for kind in kinds if kind not in ("string", None)]
    found = [writer.rule({**schema, "type": others}, depth)] if others else []
    if others != kinds:
        writer.rule(schema if said else {**schema, "type": "string"}, depth)  # names what cannot be kept
        is_bound = schema.keys() & {"format", "minLength", "maxLength"}
        found.append(writer.string(schema, '""', "[^<]") if is_bound else "text")
    return " | ".join(found)


def _text_rules(stops: Sequence[str]) -> list[str]:
    """Rules for a text without any of these: one for each beginning of them that may just have been written."""
    states = sorted({stop[:length] for stop in stops for length in range(len(stop))}, key=len)
    names = {state: "text" if not state else f"text{number}" for number, state in enumerate(states)}
    rules = []
    for state, name in names.items():
        ways, met = [], ""
        for character in sorted(set("".join(stops))):
            grown = state + character
            follow = next(grown[at:] for at in range(len(grown) + 1) if grown[at:] in names or grown[at:] in stops)
            if follow:
                met += character
                ways += [] if follow in stops else [f'"{character}" {names[follow]}']
        rules.append(f"{name} ::= | {' | '.join([*ways, f'[^{met}] text'])}")
    return rules
