"""Requests made to cost more than they are worth are typed errors, before anything else has to wait for them."""

import time

import pytest

from mycoswarm.base.errors import InputError
from mycoswarm.stage.prompt import MAX_TOKEN_CHARACTERS, PromptReader
from mycoswarm.stage.schema import schema_grammar
from mycoswarm.wire.request import Prompt
from stage.fakes import FakeVocabulary

TEMPLATE = "{% for m in messages %}{{ m.content }}{{ m.tool_calls | default('') | tojson }}{% endfor %}"
READER = PromptReader(FakeVocabulary(("<|im_end|>",), ("<tool_call>",), template=TEMPLATE), most_tokens=100)


@pytest.mark.parametrize("text", ["<" * 4_000_000, "<|im_end|>" * 400_000, " " * 4_000_000])
def test_a_prompt_that_cannot_fit_is_refused_unread(text: str) -> None:
    began = time.monotonic()
    for prompt in (Prompt(text=text), Prompt(messages=({"role": "user", "content": text},))):
        with pytest.raises(InputError) as caught:
            READER.read(prompt)
        assert caught.value.code == "context_length_exceeded"
    assert time.monotonic() - began < 1


def test_a_prompt_that_might_fit_is_read() -> None:
    assert len(READER.read(Prompt(text="a" * 100 * MAX_TOKEN_CHARACTERS))) > 0


@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
@pytest.mark.parametrize("nest", ['{"a":%s}', "[%s]"])
def test_a_tool_call_nested_without_end_is_a_typed_error_or_a_text(depth: int, nest: str) -> None:
    before, after = nest.split("%s")
    arguments = before * depth + "1" + after * depth
    reader = PromptReader(FakeVocabulary((), (), template=TEMPLATE + "{# arguments | items #}"))
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    try:
        assert reader.read(Prompt(messages=(message,)))
    except InputError as error:
        assert "nested" in error.message


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": list(range(50_000))},
        {"enum": ["x" * 500_000]},
        {"type": ["string", "integer"] * 20_000},
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(2_000)}},
        {"const": "x" * 300_000},
    ],
    ids=["choices", "a long choice", "types", "properties", "a long constant"],
)
def test_a_schema_whose_grammar_would_stall_the_ring_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"too large|more than"):
        schema_grammar(schema)
