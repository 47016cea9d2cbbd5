"""The forms in which models write tool calls, as a table: how each is told by the chat template, read, and enforced.

 hermes    <tool_call>{"name": N, "arguments": {...}}</tool_call>                         Hermes, Qwen 2.5 and 3, spore
 llama     [<|python_tag|>]{"name": N, "parameters": {...}}[; {...}]                      Llama 3.1, 3.2, 3.3
 mistral   [TOOL_CALLS][{"name": N, "arguments": {...}}, ...]                             Mistral 7B v0.3, Nemo
           [TOOL_CALLS]N[ARGS]{...}, also with [CALL_ID]... before [ARGS]                 Mistral Small 3.2, Magistral
 deepseek  <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>N, fenced JSON ...  DeepSeek V3, R1
           <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>N<｜tool▁sep｜>{...}<｜tool▁call▁end｜>...   DeepSeek V3.1
 harmony   <|channel|>commentary to=functions.N <|constrain|>json<|message|>{...}         gpt-oss
 plain     the whole answer is {"name": N, "arguments": {...}}, a list of such, or that in a fence: templates that show
           tools and no form of a call

The marks come from the chat templates that these models' publishers ship. Some are control tokens, which are no text of
an answer otherwise: `shown` lists them. Forms that are no JSON (the XML of Qwen3-Coder and
GLM), and those of other templates that write calls, are not read: asking such a model with tools is an error.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from mycoswarm.base.errors import ProtocolError, UnsupportedError
from mycoswarm.wire.cursor import Cursor, Reading
from mycoswarm.wire.request import CallForm, CallShape, Prompt
from mycoswarm.wire.tool import ToolChoice

MAX_PARALLEL = 16  # calls at once, where a grammar makes them: without an end it would invite a model to go on
_MAX_HEAD = 256  # characters of what stands before a call's arguments; names have 64 at most
_BEGIN, _END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_ONE, _SEPARATOR, _ONE_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_TURNS = ("<|channel|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>")
_FENCE = "```"
_OTHERS = ("<function=", "<arg_key>", "<invoke", "<tool_calls>")  # of forms with the same marks that are not read
_TOOLS = re.compile(r"\btools\b")
_RECIPIENT = re.compile(r"to=functions\.([\w.-]+)")

Found = list[tuple[str, str]]  # names and arguments
Reader = Callable[[Cursor], Reading[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One form. It is a template's where all of `marks` stand in it and none of `unless`.

    `openings` begin a call wherever they stand, `starts` only where an answer begins. `read` begins there; it gives the
    calls, or raises ProtocolError where it is text. For grammars a call is the texts of `before` (NAME stands for the
    tool's name), JSON of its schema, and those of `after`; white space may stand between them. `between` None: a
    model makes one call at a time. `has_channels`: all answers are in this form, whether they call or not.
    """

    name: str
    marks: tuple[str, ...]
    unless: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    read: Reader
    first: tuple[str, ...] = ()
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    between: tuple[str, ...] | None = ()
    last: tuple[str, ...] = ()
    has_channels: bool = False

    def form(self, prompt: Prompt, choice: ToolChoice) -> CallForm | None:
        """What decoding is held to where a call is required; None where the model may choose."""
        if choice.mode == "auto":
            return None
        shapes = []
        for tool in (tool["function"] for tool in prompt.tools):
            if choice.name in (None, tool["name"]):
                before = tuple(text.replace("NAME", tool["name"]) for text in self.before)
                shapes.append(CallShape(before=before, schema=_bare_schema(tool), after=self.after))
        return CallForm(
            shapes=tuple(shapes),
            first=self.first,
            between=self.between or (),
            last=self.last,
            most=1 if self.between is None or not choice.is_parallel or choice.name else MAX_PARALLEL,
        )


def dialect_of(template: str | None, model: str) -> Dialect:
    """The form in which a model with this chat template calls tools.

    Raises:
        UnsupportedError: its template knows no tools, or a form that is not read (code "no_tool_calls").
    """
    found = find_dialect(template)
    if found is None:
        why = "its chat template knows no tools"
        if template and _TOOLS.search(template):
            why = "its chat template has a form of tool calls that this software does not read"
        raise UnsupportedError(
            f"model {model[:200]} cannot call tools: {why}",
            hint="Send the request without tools, or take a model that is made for them, such as Qwen3.",
            code="no_tool_calls",
        )
    return found


def find_dialect(template: str | None) -> Dialect | None:
    """The first form whose marks are in a chat template; None where none is, or where there is no template."""
    for dialect in DIALECTS if template else ():
        assert template is not None
        if all(mark in template for mark in dialect.marks):
            return None if any(mark in template for mark in dialect.unless) else dialect
    return None


def is_arguments(text: str) -> bool:
    """Whether a text is an object in JSON."""
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


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
    found = []
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


def _read_tagged(cursor: Cursor) -> Reading[Found]:
    yield from cursor.literal("<tool_call>")
    yield from cursor.blanks()
    text = yield from cursor.value()
    yield from cursor.blanks()
    yield from cursor.literal("</tool_call>")
    return _calls(text)


def _read_bare(cursor: Cursor) -> Reading[Found]:
    """The whole answer is calls: whatever else stands in it makes it text."""
    is_marked = bool((yield from cursor.sees(("<|python_tag|>",))))
    if is_marked:
        yield from cursor.literal("<|python_tag|>")
    is_fenced = bool((yield from cursor.sees((_FENCE,))))
    if is_fenced:
        yield from cursor.literal(_FENCE)
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
        yield from cursor.literal(_FENCE)
        yield from cursor.blanks()
    if (yield from cursor.char()) or not cursor.is_whole:
        raise ProtocolError("the answer goes on behind its JSON, or was cut there")
    return found


def _read_mistral(cursor: Cursor) -> Reading[Found]:
    yield from cursor.literal("[TOOL_CALLS]")
    yield from cursor.blanks()
    if (yield from cursor.char()) in ("[", "{") and not (yield from cursor.sees(("[ARGS]", "[CALL_ID]"))):
        return _calls((yield from cursor.value()))
    name = yield from cursor.until(("{", "["), _MAX_HEAD)
    if (yield from cursor.sees(("[CALL_ID]",))):
        yield from cursor.literal("[CALL_ID]")
        yield from cursor.until(("[ARGS]",), _MAX_HEAD)
    if (yield from cursor.sees(("[ARGS]",))):
        yield from cursor.literal("[ARGS]")
    yield from cursor.blanks()
    return [(name.strip(), _arguments((yield from cursor.value())))]


def _read_deepseek(cursor: Cursor) -> Reading[Found]:
    yield from cursor.literal(_BEGIN)
    found: Found = []
    while True:
        yield from cursor.blanks()
        if found and (yield from cursor.sees((_END,))):
            yield from cursor.literal(_END)
            return found
        if found and not (yield from cursor.char()) and cursor.is_whole:
            return found
        yield from cursor.literal(_ONE)
        name = yield from cursor.until((_SEPARATOR,), _MAX_HEAD)
        yield from cursor.literal(_SEPARATOR)
        is_fenced = name.strip() == "function"
        if is_fenced:
            name = yield from cursor.until((_FENCE,), _MAX_HEAD)
            yield from cursor.literal(_FENCE)
            yield from cursor.until(("{",), len("json") + 4)
        yield from cursor.blanks()
        found.append((name.strip(), _arguments((yield from cursor.value()))))
        yield from cursor.blanks()
        if is_fenced:
            yield from cursor.literal(_FENCE)
            yield from cursor.blanks()
        yield from cursor.literal(_ONE_END)


def _read_harmony(cursor: Cursor) -> Reading[Found]:
    """One message's head: calls are read to their end, thoughts are left out, and of all else the body is text."""
    if (yield from cursor.sees(_TURNS[2:])):
        cursor.at += len((yield from cursor.sees(_TURNS[2:])))
        return []
    try:
        head = yield from cursor.until(("<|message|>",), _MAX_HEAD)
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
        if (yield from cursor.char()) and not (yield from cursor.sees(_TURNS)):
            raise ProtocolError("text stands behind the arguments")
        return [(recipient[1], _arguments(text))]
    if "analysis" in head:
        yield from _pass_over(cursor)
    return []


def _pass_over(cursor: Cursor) -> Reading[None]:
    """Leave out a message, however long, up to where the next one begins."""
    while True:
        found = [at for mark in _TURNS if (at := cursor.text.find(mark, cursor.at)) >= 0]
        cursor.at = min(found, default=max(cursor.at, len(cursor.text) - max(map(len, _TURNS)) + 1))
        if found or cursor.is_over:
            cursor.at = cursor.at if found else len(cursor.text)
            return
        cursor.take()
        yield


def _bare_schema(tool: dict[str, object]) -> dict[str, object]:
    """A tool's schema, where a tool without parameters gets an empty object and no other."""
    schema = tool.get("parameters")
    schema = dict(schema) if isinstance(schema, dict) else {}
    if not schema.keys() - {"type", "properties"} and not schema.get("properties"):
        schema |= {"additionalProperties": False}
    return {"type": "object", "properties": {}, **schema}


def _named(key: str) -> tuple[str, ...]:
    return "{", json.dumps("name") + ":", '"NAME",', json.dumps(key) + ":"


DIALECTS = (
    Dialect(
        name="harmony",
        marks=("<|channel|>", "<|message|>", '"functions."'),
        openings=_TURNS,
        starts=("to=functions.",),
        shown=("<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>"),
        read=_read_harmony,
        before=("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>",),
        between=None,
        has_channels=True,
    ),
    Dialect(
        name="deepseek",
        marks=(_BEGIN, _SEPARATOR, "```json"),
        openings=(_BEGIN,),
        shown=(_BEGIN, _END, _ONE, _SEPARATOR, _ONE_END),
        read=_read_deepseek,
        first=(_BEGIN,),
        before=(f"{_ONE}function{_SEPARATOR}NAME\n```json\n",),
        after=(f"\n```{_ONE_END}",),
        last=(_END,),
    ),
    Dialect(
        name="deepseek",
        marks=(_BEGIN, _SEPARATOR),
        openings=(_BEGIN,),
        shown=(_BEGIN, _END, _ONE, _SEPARATOR, _ONE_END),
        read=_read_deepseek,
        first=(_BEGIN,),
        before=(f"{_ONE}NAME{_SEPARATOR}",),
        after=(_ONE_END,),
        last=(_END,),
    ),
    Dialect(
        name="mistral",
        marks=("[TOOL_CALLS]", "[ARGS]"),
        openings=("[TOOL_CALLS]",),
        shown=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
        read=_read_mistral,
        before=("[TOOL_CALLS]NAME[ARGS]",),
    ),
    Dialect(
        name="mistral",
        marks=("[TOOL_CALLS]",),
        openings=("[TOOL_CALLS]",),
        shown=("[TOOL_CALLS]",),
        read=_read_mistral,
        first=("[TOOL_CALLS]", "["),
        before=_named("arguments"),
        after=("}",),
        between=(",",),
        last=("]",),
    ),
    Dialect(
        name="hermes",
        marks=("<tool_call>", "</tool_call>"),
        unless=_OTHERS,
        openings=("<tool_call>",),
        shown=("<tool_call>", "</tool_call>"),
        read=_read_tagged,
        before=("<tool_call>", *_named("arguments")),
        after=("}", "</tool_call>"),
    ),
    *(
        Dialect(
            name="llama",
            marks=marks,
            unless=_OTHERS,
            openings=("<|python_tag|>",),
            starts=("{", "[", _FENCE),
            shown=("<|python_tag|>",),
            read=_read_bare,
            before=_named("parameters"),
            after=("}",),
            between=None,
        )
        for marks in (("<|python_tag|>",), ('"parameters": dictionary of argument',))
    ),
    Dialect(
        name="plain",
        marks=("tools",),
        unless=(*_OTHERS, "tool_call", "tool_list"),
        starts=("{", "[", _FENCE),
        read=_read_bare,
        before=_named("arguments"),
        after=("}",),
        between=None,
    ),
)
