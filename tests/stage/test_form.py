"""Tool calls as grammars: llama.cpp itself is asked which answers a form lets through."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mycoswarm.catalog
from mycoswarm.base.errors import InputError, UnsupportedError
from mycoswarm.stage.form import form_grammar
from mycoswarm.stage.llama import Model
from mycoswarm.stage.sampler import Sampler
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.dialect import DIALECTS, Dialect
from mycoswarm.wire.request import CallForm, CallTool, CallWay, Prompt, Sampling
from mycoswarm.wire.tool import ToolChoice, ToolSpec, tool_json

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
ADD = ToolSpec("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
NOW = ToolSpec("now", "", {"type": "object", "properties": {}})
PROMPT = Prompt(messages=(), tools=(tool_json(ADD), tool_json(NOW)))
HERMES = next(dialect for dialect in DIALECTS if dialect.name == "hermes")
ONE = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TWO = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


REQUIRED = ToolChoice(mode="required")
IN_JSON = [dialect for dialect in DIALECTS if not dialect.ways[0].member]
IN_TAGS = [dialect for dialect in DIALECTS if dialect.ways[0].member]


@pytest.fixture(scope="module")
def spore() -> Iterator[Vocabulary]:
    model = Model.load([SPORE], gpu=False)
    yield Vocabulary(model)
    model.close()


def allows(spore: Vocabulary, form: CallForm | None, text: str) -> bool:
    """Whether the form lets exactly this text through, and an end after it."""
    sampler = Sampler(spore, Sampling(call_form=form))
    assert spore.eos_id is not None
    try:
        for token in [*spore.tokenize(text, special=False), spore.eos_id]:
            sampler.accept(token)
    except InputError as exc:
        assert exc.code == "grammar_mismatch"
        return False
    finally:
        sampler.close()
    return True


@pytest.mark.parametrize("text", [ONE, TWO, f"{ONE}\n{TWO}", f"{TWO}{ONE}{ONE}"])
def test_calls_of_the_offered_tools_pass(spore: Vocabulary, text: str) -> None:
    assert allows(spore, HERMES.form(PROMPT, REQUIRED), text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"Well: {ONE}",
        f"{ONE} so",
        ONE.replace("add", "sub"),
        ONE.replace("1", "x"),
        ONE.replace('"a": 1', ""),
        TWO.replace("{}", '{"a": 1}'),
        ONE.removesuffix("</tool_call>"),
    ],
)
def test_all_else_is_not_let_through(spore: Vocabulary, text: str) -> None:
    assert not allows(spore, HERMES.form(PROMPT, REQUIRED), text)


def test_one_call_or_one_tool_may_be_asked_for(spore: Vocabulary) -> None:
    single = HERMES.form(PROMPT, ToolChoice(mode="required", is_parallel=False))
    assert allows(spore, single, ONE) and allows(spore, single, TWO) and not allows(spore, single, ONE + TWO)
    named = HERMES.form(PROMPT, ToolChoice(mode="required", name="now"))
    assert allows(spore, named, TWO) and not allows(spore, named, ONE)
    assert HERMES.form(PROMPT, ToolChoice()) is None


@pytest.mark.parametrize("dialect", IN_JSON, ids=lambda dialect: dialect.name)
def test_the_calls_of_every_form_in_json_pass(spore: Vocabulary, dialect: Dialect) -> None:
    form = dialect.form(PROMPT, REQUIRED)
    assert form is not None
    (way,) = form.ways
    calls = [
        " ".join([*(text.replace("NAME", name) for text in way.before), said, *way.after])
        for name, said in (("add", '{"a": 5}'), ("now", "{}"))
    ]
    several = " ".join([*way.first, " ".join([calls[0], *way.between, calls[1]]), *way.last])
    assert allows(spore, form, several) is (way.most > 1)
    assert allows(spore, form, " ".join([*way.first, calls[1], *way.last]))


NOTE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "level": {"type": "integer", "minimum": 0, "maximum": 9},
        "room": {"enum": ["hall", "a {room}", 3]},
        "short": {"type": "string", "maxLength": 3},
        "day": {"type": ["string", "null"], "format": "date"},
        "more": {"$ref": "#/$defs/more"},
        "free": {},
    },
    "required": ["text", "level"],
    "$defs": {"more": {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "integer"}}]}},
}
NOTES = Prompt(messages=(), tools=(tool_json(ToolSpec("note", "", NOTE)),))


def in_tags(dialect: Dialect, **values: str) -> str:
    """As the form's templates write it."""
    if dialect.name == "functions":
        pairs = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in values.items())
        return f"<tool_call>\n<function=note>\n{pairs}</function>\n</tool_call>"
    pairs = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n" for key, text in values.items())
    return f"<tool_call>note\n{pairs}</tool_call>"


@pytest.mark.parametrize("dialect", IN_TAGS, ids=lambda dialect: dialect.name)
def test_calls_in_tags_keep_the_schema(spore: Vocabulary, dialect: Dialect) -> None:
    form = dialect.form(NOTES, REQUIRED)
    good: list[dict[str, str]] = [
        {"text": "a <b>\n</par> </tool </ </<", "level": "5"},
        {"text": "", "level": "0", "room": "a {room}", "short": "a", "day": "2026-01-31", "more": "true", "free": "x"},
        {"text": '{"a"', "level": "9", "room": "3", "day": "null", "more": "[1, 2]", "free": ""},
    ]
    for values in good:
        assert allows(spore, form, in_tags(dialect, **values)), values
        assert allows(spore, form, in_tags(dialect, **values) + "\n" + in_tags(dialect, **values))
    end = dialect.ways[0].member[-1].strip()
    bad: list[dict[str, str]] = [
        {"text": "a"},
        {"level": "5"},
        {"text": "a", "level": "10"},
        {"text": "a", "level": "five"},
        {"text": f"a{end}", "level": "5"},
        {"text": "a</tool_call>", "level": "5"},
        {"text": "a", "level": "5", "room": "attic"},
        {"text": "a", "level": "5", "short": "abcd"},
        {"text": "a", "level": "5", "short": "a<b"},
        {"text": "a", "level": "5", "day": "monday"},
        {"text": "a", "level": "5", "more": "1"},
        {"text": "a", "level": "5", "other": "1"},
    ]
    for values in bad:
        assert not allows(spore, form, in_tags(dialect, **values)), values
    assert allows(spore, dialect.form(PROMPT, REQUIRED), in_tags(dialect).replace("note", "now"))


def test_a_control_token_is_its_text_in_a_form(spore: Vocabulary) -> None:
    form = form_of(ADD.parameters, before="<|im_start|>")
    (start,) = spore.tokenize("<|im_start|>", special=True)
    sampler = Sampler(spore, Sampling(call_form=form))
    try:
        for token in [start, *spore.tokenize('{"a": 1}', special=False), spore.eos_id or 0]:
            sampler.accept(token)
    finally:
        sampler.close()


def form_of(*schemas: dict[str, Any], before: str = "<", most: int = 1, **more: Any) -> CallForm:
    tools = tuple(CallTool(name=f"t{number}", schema=schema) for number, schema in enumerate(schemas))
    return CallForm(tools=tools, ways=(CallWay(before=(before,), most=most, **more),))


def having(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


TAGS = {"member": ("<parameter=KEY>", "</parameter>")}


def test_a_form_that_cannot_be_kept_is_a_typed_error() -> None:
    for more in ({}, TAGS):
        for schema in (having(pattern="x"), having(type="string", pattern="x"), {**having(), "minProperties": 1}):
            with pytest.raises(UnsupportedError, match=r"pattern|minProperties"):
                grammar(form_of(schema, **more))
    for schema in ({**having(), "additionalProperties": True}, having(allOf=[{"$ref": "#/properties/a"}])):
        with pytest.raises(UnsupportedError, match=r"additionalProperties|deep"):
            grammar(form_of(schema, **TAGS))
    for schema in ({"properties": 5}, *({**having(), "required": one} for one in (["b"], [[]], [{}], 5))):
        with pytest.raises(InputError, match="cannot be used"):
            grammar(form_of(schema, **TAGS))
    with pytest.raises(InputError, match="no tool"):
        grammar(form_of())
    with pytest.raises(InputError, match="too large"):
        grammar(form_of(*(having(enum=["x" * 3000]),) * 100))


def grammar(form: CallForm) -> str:
    return form_grammar(form, form.ways[0])


@pytest.mark.parametrize("more", [{}, TAGS], ids=["json", "tags"])
def test_what_a_free_call_cannot_be_held_to_is_let_go_and_the_rest_is_held(
    spore: Vocabulary, more: dict[str, Any]
) -> None:
    for schemas in ((having(pattern="x"), having(type="integer")), (having(enum=["x" * 3000]),) * 100):
        held = form_of(*schemas, before="NAME", opening="", **more)
        free = CallForm(tools=held.tools, ways=(CallWay(opening="!", before=("NAME",), **more),))
        written = spore.model.grammar(form_grammar(free, free.ways[0], "!"))
        text = "!t0<parameter=b>y</parameter>" if more else '!t0{"b": "y"}'
        for token in spore.tokenize(text, special=False):
            written.accept(token)  # one that does not fit would end this process
        written.close()


def test_schemas_that_refer_to_themselves_do_not_meet(spore: Vocabulary) -> None:
    tree = {"type": "object", "properties": {"b": {"$ref": "#"}}}
    form = form_of(tree, having(type="integer"), most=2)
    assert allows(spore, form, '< {"b": {"b": {}}} < {"a": 1}') and not allows(spore, form, '< {"b": {"a": 1}}')
