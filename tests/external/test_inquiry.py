"""What an endpoint is asked: our own console reads it back as the same request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.api.question import MAX_TOKEN_ID, Envelope, read_chat, read_completion
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker
from mycoswarm.external.inquiry import inquiry
from mycoswarm.wire.request import MAX_TOP_LOGPROBS, Prompt, Sampling
from mycoswarm.wire.tool import ToolChoice

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXTS}),
    min_size=1,
    max_size=3,
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_k=st.integers(0, 1000),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
    repeat_penalty=st.floats(0.5, 2),
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.floats(-2, 2),
    seed=st.none() | st.integers(0, 2**32 - 1),
    stop=st.lists(TEXTS.filter(bool), max_size=4).map(tuple),
    logit_bias=st.dictionaries(st.integers(0, MAX_TOKEN_ID), st.floats(-100, 100), max_size=3),
    top_logprobs=st.none() | st.integers(0, MAX_TOP_LOGPROBS),
    json_schema=st.none() | st.just({}) | st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
    max_tokens=st.integers(1, 10_000),
)
ASK = Prompt(messages=({"role": "user", "content": "Hello"},))

ENVELOPE = Envelope(request_id="r", asker=Asker())


def body_of(prompt: Prompt = ASK, **sampling: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(inquiry("spore", prompt, Sampling(**sampling)))
    return read


@given(MESSAGES, SAMPLINGS)
def test_a_chat_that_another_swarm_reads_is_the_same_chat(messages: list[dict[str, Any]], sampling: Sampling) -> None:
    prompt = Prompt(messages=tuple(messages))
    read = read_chat(inquiry("spore", prompt, sampling), ENVELOPE)
    assert (read.job.prompt, read.job.sampling, read.job.model) == (prompt, sampling, "spore")
    assert read.stream and read.include_usage


@given(TEXTS, SAMPLINGS)
def test_a_text_that_another_swarm_reads_is_the_same_text(text: str, sampling: Sampling) -> None:
    read = read_completion(inquiry("spore", Prompt(text=text), sampling), ENVELOPE)
    assert (read.job.prompt, read.job.sampling) == (Prompt(text=text), sampling)


def test_only_fields_of_openai_are_named_where_nothing_else_is_wanted() -> None:
    assert set(body_of()) == {"model", "messages", "stream", "stream_options", "temperature", "top_p"}


def test_tools_are_passed_on() -> None:
    tool = {"type": "function", "function": {"name": "clock"}}
    assert body_of(Prompt(messages=ASK.messages, tools=(tool,)))["tools"] == [tool]


def test_how_to_choose_among_tools_is_passed_on_and_read_back() -> None:
    schema = {"type": "object", "properties": {"place": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "clock", "description": "Time.", "parameters": schema}}
    prompt = Prompt(messages=ASK.messages, tools=(tool,))
    for choice in (
        ToolChoice(),
        ToolChoice(is_parallel=False),
        ToolChoice(mode="required"),
        ToolChoice(mode="required", name="clock"),
    ):
        body = inquiry("spore", prompt, Sampling(), choice)
        job = read_chat(body, ENVELOPE).job
        assert (job.prompt, job.choice) == (prompt, choice)
    assert "tool_choice" not in json.loads(inquiry("spore", prompt, Sampling(), ToolChoice()))


def test_a_schema_is_asked_for_strictly_and_any_json_plainly() -> None:
    asked = body_of(json_schema={"type": "object"})["response_format"]
    assert asked["json_schema"]["strict"] is True and asked["json_schema"]["schema"] == {"type": "object"}
    assert body_of(json_schema={})["response_format"] == {"type": "json_object"}


def test_half_a_character_in_a_message_is_a_typed_error() -> None:
    with pytest.raises(InputError):
        inquiry("spore", Prompt(messages=({"role": "user", "content": "\ud800"},)), Sampling())


def test_a_request_without_a_prompt_is_a_typed_error() -> None:
    with pytest.raises(InputError):
        inquiry("spore", Prompt(), Sampling())
