"""How calls in tags are read, and their arguments turned into JSON: the forms without JSON of wire/dialect.py.

An argument stands there as text. What it is says the tool's schema: where a string may stand and nothing else fits, it
is the text as it is. A text that is not what the schema wants stays a string: the tool will say what is wrong with it.

Values end where their end tag stands and the form goes on behind it, so most texts that hold such a tag are read right.
Not covered: a value that holds its own end tag and what would follow it, or the end of a call: then all of it is text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.cursor import MAX_VALUE_CHARACTERS, Cursor, Reading
from mycoswarm.wire.reader import MAX_HEAD, Found

CALL, CALL_END = "<tool_call>", "</tool_call>"
FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
KEY, KEY_END = "<arg_key>", "</arg_key>"
VALUE, VALUE_END = "<arg_value>", "</arg_value>"
_MAX_STEPS = 16  # through $ref, anyOf and the like, to what a schema allows
_KINDS: dict[type, set[str]] = {
    dict: {"object"},
    list: {"array"},
    str: {"string"},
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    type(None): {"null"},
}
_PYTHONS = {"True": "true", "False": "false", "None": "null"}  # what these models' own templates make of such values

Schema = Mapping[str, Any]


def read_functions(cursor: Cursor) -> Reading[Found]:
    """`<function=NAME>` with its parameters, in a `<tool_call>` or (as Qwen3-Coder at times writes) without it.

    Raises:
        ProtocolError: it is text after all.
    """
    is_wrapped = bool((yield from cursor.sees((CALL,))))
    if is_wrapped:
        yield from cursor.literal(CALL)
        yield from cursor.blanks()
    yield from cursor.literal(FUNCTION)
    name = yield from cursor.until((">",), MAX_HEAD)
    yield from cursor.literal(">")
    pairs = []
    while True:
        yield from cursor.blanks()
        if (yield from cursor.sees((FUNCTION_END,))):
            break
        yield from cursor.literal(PARAMETER)
        key = yield from cursor.until((">",), MAX_HEAD)
        yield from cursor.literal(">")
        text = yield from _value(cursor, PARAMETER_END, (PARAMETER, FUNCTION_END))
        if text.startswith("\n"):  # the line breaks are the form's; written without them, all is the value's
            text = text[1:].removesuffix("\n")
        pairs.append((key.strip(), text))
    yield from cursor.literal(FUNCTION_END)
    at = cursor.at
    yield from cursor.blanks()
    if is_wrapped or (yield from cursor.sees((CALL_END,))):
        yield from cursor.literal(CALL_END)
    else:
        cursor.at = at
    return [(name.strip(), tuple(pairs))]


def read_keys(cursor: Cursor) -> Reading[Found]:
    """A `<tool_call>` with the name, and a pair of `<arg_key>` and `<arg_value>` for each argument.

    Raises:
        ProtocolError: it is text after all.
    """
    yield from cursor.literal(CALL)
    name = yield from cursor.until((KEY, CALL_END), MAX_HEAD)
    pairs = []
    while True:
        yield from cursor.blanks()
        if (yield from cursor.sees((CALL_END,))):
            break
        yield from cursor.literal(KEY)
        key = yield from cursor.until((KEY_END,), MAX_HEAD)
        yield from cursor.literal(KEY_END)
        yield from cursor.blanks()
        yield from cursor.literal(VALUE)
        pairs.append((key.strip(), (yield from _value(cursor, VALUE_END, (KEY, CALL_END)))))
    yield from cursor.literal(CALL_END)
    return [(name.strip(), tuple(pairs))]


def _value(cursor: Cursor, end: str, followers: Sequence[str]) -> Reading[str]:
    """Pass a value and its end tag, behind which one of `followers` stands; gives the value.

    Raises:
        ProtocolError: the call ends before, the text does, or the value is too long.
    """
    start, longest = cursor.at, max(len(end), len(CALL_END))
    while True:
        found = min((at for tag in (end, CALL_END) if (at := cursor.text.find(tag, cursor.at)) >= 0), default=None)
        if found is None or found - start > MAX_VALUE_CHARACTERS:
            length = len(cursor.text)
            if cursor.is_over or found is not None or length - start > MAX_VALUE_CHARACTERS + longest:
                cursor.at = max(cursor.at, min(length, start + MAX_VALUE_CHARACTERS))
                raise ProtocolError("this value has no end")
            cursor.at = max(cursor.at, length - longest + 1)
            yield
            continue
        if not cursor.text.startswith(end, found):
            cursor.at = found + len(CALL_END)
            raise ProtocolError("the call ends within a value")
        cursor.at = found + len(end)
        yield from cursor.blanks()
        if (yield from cursor.sees(followers)):
            return cursor.text[start:found]


def arguments_of(pairs: Sequence[tuple[str, str]], schema: Schema) -> str:
    """The JSON object of arguments that were written as texts; of a name that comes twice, the last counts."""
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    further = schema.get("additionalProperties")
    written = {key: _typed(text, kinds_of(known.get(key, further), schema)) for key, text in pairs}
    return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {text}" for key, text in written.items()) + "}"


def kinds_of(schema: Any, root: Schema) -> set[str]:
    """The types of JSON that a schema lets through, at its top; empty where it does not say."""
    kinds: set[str] = set()
    waiting = [schema]
    for _ in range(_MAX_STEPS):
        if not waiting:
            break
        one = waiting.pop()
        if not isinstance(one, Mapping):
            continue
        said = one.get("type")
        kinds |= {kind for kind in (said if isinstance(said, list) else [said]) if isinstance(kind, str)}
        if said is None:
            values = [one["const"]] if "const" in one else one.get("enum")
            for value in values if isinstance(values, list) else ():
                kinds |= _KINDS.get(type(value), set())
        if isinstance(reference := one.get("$ref"), str):
            waiting.append(pointed(root, reference))
        for key in ("anyOf", "oneOf", "allOf"):
            if isinstance(choices := one.get(key), list):
                waiting += choices
    return kinds


def pointed(root: Schema, reference: str) -> Any:
    """What a `$ref` names within a schema, None where nothing."""
    target: Any = root
    for part in reference.split("/")[1:]:
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
    return target


def _typed(text: str, kinds: set[str]) -> str:
    """JSON of one argument's text, whose type is one of these, or (none) any."""
    bare = text.strip()
    if kinds != {"string"}:
        bare = _PYTHONS.get(bare, bare)
        try:
            value = msgspec.json.decode(bare)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            value = ""  # none that is not a string
        found = _KINDS[type(value)] | ({"integer"} if isinstance(value, float) and value.is_integer() else set())
        if not isinstance(value, str) and (not kinds or found & kinds):
            return bare
    return json.dumps(text, ensure_ascii=False)
