"""Tool calls as grammars: llama.cpp itself is asked which answers a form lets through."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mycoswarm.catalog
from mycoswarm.base.errors import InputError, UnsupportedError
from mycoswarm.stage.llama import Model
from mycoswarm.stage.sampler import Sampler
from mycoswarm.stage.schema import form_grammar
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.dialect import DIALECTS, Dialect
from mycoswarm.wire.request import CallForm, CallShape, Prompt, Sampling
from mycoswarm.wire.tool import ToolChoice, ToolSpec, tool_json

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
ADD = ToolSpec("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
NOW = ToolSpec("now", "", {"type": "object", "properties": {}})
PROMPT = Prompt(messages=(), tools=(tool_json(ADD), tool_json(NOW)))
HERMES = next(dialect for dialect in DIALECTS if dialect.name == "hermes")
ONE = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TWO = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


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
    assert allows(spore, HERMES.form(PROMPT, ToolChoice(mode="required")), text)


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
    assert not allows(spore, HERMES.form(PROMPT, ToolChoice(mode="required")), text)


def test_one_call_or_one_tool_may_be_asked_for(spore: Vocabulary) -> None:
    single = HERMES.form(PROMPT, ToolChoice(mode="required", is_parallel=False))
    assert allows(spore, single, ONE) and allows(spore, single, TWO) and not allows(spore, single, ONE + TWO)
    named = HERMES.form(PROMPT, ToolChoice(mode="required", name="now"))
    assert allows(spore, named, TWO) and not allows(spore, named, ONE)
    assert HERMES.form(PROMPT, ToolChoice()) is None


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_calls_of_every_form_pass(spore: Vocabulary, dialect: Dialect) -> None:
    form = dialect.form(PROMPT, ToolChoice(mode="required"))
    assert form is not None
    calls = [
        " ".join([*shape.before, said, *shape.after])
        for shape, said in zip(form.shapes, ('{"a": 5}', "{}"), strict=True)
    ]
    several = " ".join([*form.first, " ".join([calls[0], *form.between, calls[1]]), *form.last])
    assert allows(spore, form, several) is (form.most > 1)
    assert allows(spore, form, " ".join([*form.first, calls[1], *form.last]))


def test_a_control_token_is_its_text_in_a_form(spore: Vocabulary) -> None:
    form = CallForm(shapes=(CallShape(before=("<|im_start|>",), schema=ADD.parameters),))
    (start,) = spore.tokenize("<|im_start|>", special=True)
    sampler = Sampler(spore, Sampling(call_form=form))
    try:
        for token in [start, *spore.tokenize('{"a": 1}', special=False), spore.eos_id or 0]:
            sampler.accept(token)
    finally:
        sampler.close()


def shape(**schema: Any) -> CallShape:
    return CallShape(before=("<",), schema={"type": "object", "properties": {"a": schema}})


def test_a_form_that_cannot_be_kept_is_a_typed_error() -> None:
    with pytest.raises(UnsupportedError, match="pattern"):
        form_grammar(CallForm(shapes=(shape(pattern="x"),)))
    with pytest.raises(InputError, match="no tool"):
        form_grammar(CallForm(shapes=()))
    with pytest.raises(InputError, match="too large"):
        form_grammar(CallForm(shapes=(shape(enum=["x" * 3000]),) * 100))


def test_schemas_that_refer_to_themselves_do_not_meet(spore: Vocabulary) -> None:
    tree = {"type": "object", "properties": {"b": {"$ref": "#"}}}
    form = CallForm(shapes=(CallShape(before=("<",), schema=tree), shape(type="integer")), most=2)
    assert allows(spore, form, '< {"b": {"b": {}}} < {"a": 1}') and not allows(spore, form, '< {"b": {"a": 1}}')
