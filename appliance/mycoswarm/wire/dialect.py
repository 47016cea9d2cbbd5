"""The forms in which models write tool calls, as a table: how each is told by the chat template, read, and enforced.

 hermes    <tool_call>{"name": N, "arguments": {...}}</tool_call>                         Hermes, Qwen 2.5 and 3, spore
 functions <tool_call><function=N><parameter=K>V</parameter>...</function></tool_call>    Qwen3-Coder, Nemotron 3
 keys      <tool_call>N<arg_key>K</arg_key><arg_value>V</arg_value>...</tool_call>        GLM 4.5 to 5
 llama     [<|python_tag|>]{"name": N, "parameters": {...}}[; {...}]                      Llama 3.1, 3.2, 3.3
 mistral   [TOOL_CALLS][{"name": N, "arguments": {...}}, ...]                             Mistral 7B v0.3, Nemo
           [TOOL_CALLS]N[ARGS]{...}, also with [CALL_ID]... before [ARGS]                 Mistral Small 3.2, Magistral
 deepseek  <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>N, fenced JSON ...  DeepSeek V3, R1
           <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>N<｜tool▁sep｜>{...}<｜tool▁call▁end｜>...   DeepSeek V3.1
 harmony   <|channel|>commentary to=functions.N <|constrain|>json<|message|>{...}         gpt-oss
 plain     the whole answer is {"name": N, "arguments": {...}}, a list of such, or that in a fence: templates that show
           tools and no form of a call

The marks come from the chat templates that these models' publishers ship. Some are control tokens, which are no text of
an answer otherwise: `shown` lists them. Templates that write calls in any other form are not read: asking such a model
with tools is an error.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from mycoswarm.base.errors import UnsupportedError
from mycoswarm.wire import reader, tag
from mycoswarm.wire.cursor import Cursor, Reading
from mycoswarm.wire.request import CallForm, CallTool, CallWay, Prompt
from mycoswarm.wire.tool import ToolChoice

MAX_PARALLEL = 16  # calls at once, where a grammar makes them: without an end it would invite a model to go on
_TAGS = ("<tool_call>", "</tool_call>")
_OTHERS = ("<function=", "<arg_key>", "<invoke", "<tool_calls>")  # of forms with the same marks
_TOOLS = re.compile(r"\btools\b")

Reader = Callable[[Cursor], Reading[reader.Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One form. It is a template's where all of `marks` stand in it and none of `unless`.

    `openings` begin a call wherever they stand, `starts` only where an answer begins. `read` begins there; it gives the
    calls, or raises ProtocolError where it is text. `ways` are for grammars: the first is how a required call is
    written, all of them what a model may begin by itself. Texts stand directly behind an opening; an empty one first
    lets white space stand between. `has_channels`: all answers are in this form, whether they call or not.
    """

    name: str
    marks: tuple[str, ...]
    unless: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    read: Reader
    ways: tuple[CallWay, ...]
    has_channels: bool = False

    def form(self, prompt: Prompt, choice: ToolChoice) -> CallForm | None:
        """What decoding is held to; None where the model may do as it likes."""
        if choice.mode == "auto" and not choice.is_strict:
            return None
        offered = [tool["function"] for tool in prompt.tools if choice.name in (None, tool["function"]["name"])]
        most = MAX_PARALLEL if choice.is_parallel and choice.name is None else 1
        if choice.mode == "required":
            ways: tuple[CallWay, ...] = (_required(self.ways[0], most),)
        else:
            ways = tuple(msgspec.structs.replace(way, most=most if way.first else 1) for way in self.ways)
        return CallForm(tools=tuple(CallTool(name=tool["name"], schema=_schema(tool)) for tool in offered), ways=ways)


def _required(way: CallWay, most: int) -> CallWay:
    """The same, with its opening as a text of its own: before each call, or once before all."""
    opening, most = way.opening, 1 if way.is_last else most
    if way.first:
        first = (opening + way.first[0], *way.first[1:])
        return msgspec.structs.replace(way, opening="", is_start=False, first=first, most=most)
    before = (opening + way.before[0], *way.before[1:])
    return msgspec.structs.replace(way, opening="", is_start=False, before=before, most=most)


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


def _schema(tool: dict[str, object]) -> dict[str, object]:
    """A tool's schema, where a tool without parameters gets an empty object and no other."""
    schema = tool.get("parameters")
    schema = dict(schema) if isinstance(schema, dict) else {}
    if not schema.keys() - {"type", "properties"} and not schema.get("properties"):
        schema |= {"additionalProperties": False}
    return {"type": "object", "properties": {}, **schema}


def _named(key: str) -> tuple[str, ...]:
    return "{", json.dumps("name") + ":", '"NAME",', json.dumps(key) + ":"


def _bare(key: str, *marks: str) -> tuple[CallWay, ...]:
    """The ways of an answer that is one call in JSON, alone, behind a mark, in a fence or in a list."""
    brace, *rest = _named(key)
    alone = CallWay(opening=brace, is_start=True, is_last=True, before=("", *rest), after=("}",))
    within = (("[{", ("", *rest), ("]",)), ("```json\n", ("", brace, *rest), ("```",)))
    replace = msgspec.structs.replace
    return (
        alone,
        *(replace(alone, opening=mark, is_start=False, before=("", brace, *rest)) for mark in marks),
        *(replace(alone, opening=opening, before=before, last=last) for opening, before, last in within),
    )


def _harmony() -> tuple[CallWay, ...]:
    """The recipient stands in the channel, or before it."""
    behind, ahead = ("NAME <|constrain|>json<|message|>",), ("NAME<|channel|>commentary <|constrain|>json<|message|>",)
    channels = (f"<|channel|>{name} to=functions." for name in ("commentary", "analysis"))
    return (
        *(CallWay(opening=channel, before=behind, is_last=True) for channel in channels),
        CallWay(opening="to=functions.", before=ahead, is_last=True, is_start=True),
        CallWay(opening="<|start|>assistant to=functions.", before=ahead, is_last=True),
    )


def _deepseek(head: str, tail: str) -> CallWay:
    before, after = (reader.ONE + head,), (tail + reader.ONE_END,)
    return CallWay(opening=reader.BEGIN, first=("",), before=before, after=after, last=(reader.END,))


_MEMBER = (
    "<parameter=KEY>\n",
    "\n" + tag.PARAMETER_END,
)  # as Qwen3-Coder writes it; it is read without the breaks too
_DEEPSEEK_SHOWN = (reader.BEGIN, reader.END, reader.ONE, reader.SEPARATOR, reader.ONE_END)
DIALECTS = (
    Dialect(
        name="harmony",
        marks=("<|channel|>", "<|message|>", '"functions."'),
        openings=reader.TURNS,
        starts=("to=functions.",),
        shown=("<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>"),
        read=reader.read_harmony,
        ways=_harmony(),
        has_channels=True,
    ),
    Dialect(
        name="deepseek",
        marks=(reader.BEGIN, reader.SEPARATOR, "```json"),
        openings=(reader.BEGIN,),
        shown=_DEEPSEEK_SHOWN,
        read=reader.read_deepseek,
        ways=(_deepseek(f"function{reader.SEPARATOR}NAME\n```json\n", "\n```"),),
    ),
    Dialect(
        name="deepseek",
        marks=(reader.BEGIN, reader.SEPARATOR),
        openings=(reader.BEGIN,),
        shown=_DEEPSEEK_SHOWN,
        read=reader.read_deepseek,
        ways=(_deepseek(f"NAME{reader.SEPARATOR}", ""),),
    ),
    Dialect(
        name="mistral",
        marks=("[TOOL_CALLS]", "[ARGS]"),
        openings=("[TOOL_CALLS]",),
        shown=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
        read=reader.read_mistral,
        ways=(CallWay(opening="[TOOL_CALLS]", before=("NAME[ARGS]",)),),
    ),
    Dialect(
        name="mistral",
        marks=("[TOOL_CALLS]",),
        openings=("[TOOL_CALLS]",),
        shown=("[TOOL_CALLS]",),
        read=reader.read_mistral,
        ways=(
            CallWay(
                opening="[TOOL_CALLS]",
                first=("", "["),
                before=_named("arguments"),
                after=("}",),
                between=(",",),
                last=("]",),
            ),
        ),
    ),
    Dialect(
        name="functions",
        marks=(*_TAGS, tag.FUNCTION, tag.PARAMETER),
        openings=("<tool_call>", tag.FUNCTION),
        shown=_TAGS,
        read=tag.read_functions,
        ways=(
            CallWay(
                opening="<tool_call>",
                before=("", "<function=NAME>"),
                member=_MEMBER,
                after=(tag.FUNCTION_END, "</tool_call>"),
            ),
            CallWay(
                opening=tag.FUNCTION,
                before=("NAME>",),
                member=_MEMBER,
                after=(tag.FUNCTION_END,),
            ),
        ),
    ),
    Dialect(
        name="keys",
        marks=(*_TAGS, tag.KEY, tag.VALUE),
        openings=("<tool_call>",),
        shown=(*_TAGS, tag.KEY, tag.KEY_END, tag.VALUE, tag.VALUE_END),
        read=tag.read_keys,
        ways=(
            CallWay(
                opening="<tool_call>",
                before=("NAME",),
                member=("<arg_key>KEY</arg_key>", tag.VALUE, tag.VALUE_END),
                after=("</tool_call>",),
            ),
        ),
    ),
    Dialect(
        name="hermes",
        marks=_TAGS,
        unless=_OTHERS,
        openings=("<tool_call>",),
        shown=_TAGS,
        read=reader.read_tagged,
        ways=(CallWay(opening="<tool_call>", before=("", *_named("arguments")), after=("}", "</tool_call>")),),
    ),
    *(
        Dialect(
            name="llama",
            marks=marks,
            unless=_OTHERS,
            openings=("<|python_tag|>",),
            starts=("{", "[", reader.FENCE),
            shown=("<|python_tag|>",),
            read=reader.read_bare,
            ways=_bare("parameters", "<|python_tag|>"),
        )
        for marks in (("<|python_tag|>",), ('"parameters": dictionary of argument',))
    ),
    Dialect(
        name="plain",
        marks=("tools",),
        unless=(*_OTHERS, "tool_call", "tool_list"),
        starts=("{", "[", reader.FENCE),
        read=reader.read_bare,
        ways=_bare("arguments"),
    ),
)
