"""How calls in JSON are read, one function for each form of wire/dialect.py.

Each begins where its form opens, and gives the calls. Where it fails, what stands there is text.
"""

import re

import msgspec

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.cursor import Cursor, Reading

Pairs = tuple[tuple[str, str], ...]  # arguments by name, as they were written
Found = list[tuple[str, str | Pairs]]  # names and arguments: the text of a JSON object, or not yet JSON

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
ONE, SEPARATOR, ONE_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
TURNS = ("<|channel|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>")
FENCE = "```"
MAX_HEAD = 256  # characters of what stands before a call's arguments; names have 64 at most
_RECIPIENT = re.compile(r"to=functions\.([\w.-]+)")


class _Entry(msgspec.Struct, frozen=True):
    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


_entries = msgspec.json.Decoder(list[_Entry]).decode


def _calls(text: str, *, needs_arguments: bool = False) -> Found:
    """The calls in a JSON text: one, or a list of them."""
    try:
        entries = _entries(text if text[0] == "[" else f"[{text}]")
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise ProtocolError("this JSON is no tool call") from exc
    if not entries:
        raise ProtocolError("this list holds no tool call")
    found: Found = []
    for entry in entries:
        given = bytes(entry.arguments) or bytes(entry.parameters)
        if not given and needs_arguments:
            raise ProtocolError("this object has a name and no arguments")
        found.append((entry.name, _arguments(given.decode() or "{}")))
    return found


def _arguments(text: str) -> str:
    """The text of a JSON object. Some models write it as a text within the JSON: that one is taken out."""
    text = text.strip()
    try:
        value = msgspec.json.decode(text)
        if isinstance(value, str):
            text = value.strip()
            value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise ProtocolError("the arguments are no JSON") from exc
    if not isinstance(value, dict):
        raise ProtocolError("the arguments are no object")
    return text


def read_tagged(cursor: Cursor) -> Reading[Found]:
    """JSON between `<tool_call>` and its end.

    Raises:
        ProtocolError: it is text after all.
    """
    yield from cursor.literal("<tool_call>")
    yield from cursor.blanks()
    text = yield from cursor.value()
    yield from cursor.blanks()
    yield from cursor.literal("</tool_call>")
    return _calls(text)


def read_bare(cursor: Cursor) -> Reading[Found]:
    """The whole answer is calls: whatever else stands in it makes it text.

    Raises:
        ProtocolError: it is text after all.
    """
    is_marked = bool((yield from cursor.sees(("<|python_tag|>",))))
    if is_marked:
        yield from cursor.literal("<|python_tag|>")
    is_fenced = bool((yield from cursor.sees((FENCE,))))
    if is_fenced:
        yield from cursor.literal(FENCE)
        yield from cursor.until(("\n",), len("json") + 1)
    found: Found = []
    while True:
        yield from cursor.blanks()
        text = yield from cursor.value()
        found += _calls(text, needs_arguments=not is_marked)
        yield from cursor.blanks()
        if (yield from cursor.char()) != ";":
            break
        yield from cursor.literal(";")
    if is_fenced:
        yield from cursor.literal(FENCE)
        yield from cursor.blanks()
    if (yield from cursor.char()) or not cursor.is_whole:
        raise ProtocolError("the answer goes on behind its JSON, or was cut there")
    return found


def read_mistral(cursor: Cursor) -> Reading[Found]:
    """Behind `[TOOL_CALLS]`: a list in JSON, or a name and its arguments.

    Raises:
        ProtocolError: it is text after all.
    """
    yield from cursor.literal("[TOOL_CALLS]")
    yield from cursor.blanks()
    if (yield from cursor.char()) in ("[", "{") and not (yield from cursor.sees(("[ARGS]", "[CALL_ID]"))):
        return _calls((yield from cursor.value()))
    name = yield from cursor.until(("{", "["), MAX_HEAD)
    if (yield from cursor.sees(("[CALL_ID]",))):
        yield from cursor.literal("[CALL_ID]")
        yield from cursor.until(("[ARGS]",), MAX_HEAD)
    if (yield from cursor.sees(("[ARGS]",))):
        yield from cursor.literal("[ARGS]")
    yield from cursor.blanks()
    return [(name.strip(), _arguments((yield from cursor.value())))]


def read_deepseek(cursor: Cursor) -> Reading[Found]:
    """A block of calls, each a name and its arguments, in a fence or bare.

    Raises:
        ProtocolError: it is text after all.
    """
    yield from cursor.literal(BEGIN)
    found: Found = []
    while True:
        yield from cursor.blanks()
        if found and (yield from cursor.sees((END,))):
            yield from cursor.literal(END)
            return found
        if found and not (yield from cursor.char()) and cursor.is_whole:
            return found
        yield from cursor.literal(ONE)
        name = yield from cursor.until((SEPARATOR,), MAX_HEAD)
        yield from cursor.literal(SEPARATOR)
        is_fenced = name.strip() == "function"
        if is_fenced:
            name = yield from cursor.until((FENCE,), MAX_HEAD)
            yield from cursor.literal(FENCE)
            yield from cursor.until(("{",), len("json") + 4)
        yield from cursor.blanks()
        found.append((name.strip(), _arguments((yield from cursor.value()))))
        yield from cursor.blanks()
        if is_fenced:
            yield from cursor.literal(FENCE)
            yield from cursor.blanks()
        yield from cursor.literal(ONE_END)


def read_harmony(cursor: Cursor) -> Reading[Found]:
    """One message's head: calls are read to their end, thoughts are left out, and of all else the body is text.

    Raises:
        ProtocolError: all of it is text.
    """
    if (yield from cursor.sees(TURNS[2:])):
        cursor.at += len((yield from cursor.sees(TURNS[2:])))
        return []
    try:
        head = yield from cursor.until(("<|message|>",), MAX_HEAD)
    except ProtocolError:
        if cursor.is_over:  # cut before anything was said
            return []
        raise
    yield from cursor.literal("<|message|>")
    recipient = _RECIPIENT.search(head)
    if recipient:
        yield from cursor.blanks()
        text = yield from cursor.value()
        yield from cursor.blanks()
        if (yield from cursor.char()) and not (yield from cursor.sees(TURNS)):
            raise ProtocolError("text stands behind the arguments")
        return [(recipient[1], _arguments(text))]
    if "analysis" in head:
        yield from _pass_over(cursor)
    return []


def _pass_over(cursor: Cursor) -> Reading[None]:
    """Leave out a message, however long, up to where the next one begins."""
    while True:
        found = [at for mark in TURNS if (at := cursor.text.find(mark, cursor.at)) >= 0]
        cursor.at = min(found, default=max(cursor.at, len(cursor.text) - max(map(len, TURNS)) + 1))
        if found or cursor.is_over:
            cursor.at = cursor.at if found else len(cursor.text)
            return
        cursor.take()
        yield
