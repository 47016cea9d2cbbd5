"""The made-up dialogues: the same for the same seed, held apart from the scored ones, and truthful about results."""

from itertools import islice
from random import Random

import pytest
from dialogues import KINDS, Dialogue, held_out, is_held_out, sheaf
from jinja2.sandbox import ImmutableSandboxedEnvironment
from text import TEMPLATE, render, render_sheaf, spoken

TOOL_KINDS = ("calculator", "clock", "list_nodes", "read_file")


def users(dialogue: Dialogue) -> list[str]:
    return [str(message["content"]) for message in dialogue.messages if message["role"] == "user"]


def test_the_same_seed_makes_the_same_dialogues() -> None:
    first, second = Random("x"), Random("x")
    assert [sheaf(first, 4) for _ in range(50)] == [sheaf(second, 4) for _ in range(50)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_held_out_dialogues(kind: str) -> None:
    assert list(islice(held_out(1, kind), 20)) == list(islice(held_out(1, kind), 20))
    assert list(islice(held_out(1, kind), 20)) != list(islice(held_out(2, kind), 20))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scored_text_is_one_that_no_training_dialogue_has(kind: str) -> None:
    assert all(is_held_out(asked) for dialogue in islice(held_out(1, kind), 50) for asked in users(dialogue))


def test_no_training_text_is_held_out() -> None:
    rng = Random("train")
    single = [dialogue for _ in range(100) for dialogue in sheaf(rng, 6).dialogues if "recall" not in dialogue.kind]
    assert single
    assert not any(is_held_out(asked) for dialogue in single for asked in users(dialogue))


@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_the_answer_after_a_call_holds_what_the_tool_said(kind: str) -> None:
    for dialogue in islice(held_out(3, kind), 50):
        result, answer = str(dialogue.messages[2]["content"]), str(dialogue.messages[3]["content"])
        words = answer.rstrip(".").split()
        assert words[-1].rstrip(",") in result


@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_an_argument_is_in_the_question_piece_by_piece(kind: str) -> None:
    for dialogue in islice(held_out(4, kind), 50):
        calls = dialogue.messages[1]["tool_calls"]
        assert isinstance(calls, list)
        name, arguments = calls[0]["function"]["name"], calls[0]["function"]["arguments"]
        assert name == kind
        if kind != "calculator":
            assert all(value in users(dialogue)[0] for value in arguments.values())


def test_a_conversation_begins_with_the_block_that_its_sheaf_shares() -> None:
    rng = Random(8)
    for _ in range(30):
        made = sheaf(rng, 3)
        before, after = render_sheaf(made)
        start = [{"role": "system", "content": made.system}] if made.system else []
        for dialogue, text in zip(made.dialogues, after, strict=True):
            assert before + text == render([*start, *dialogue.messages], made.tools)
            assert "".join(part for part, _ in spoken(text)) == text


def test_the_template_renders_tools_calls_and_results() -> None:
    dialogue = next(held_out(1, "calculator"))
    text = render(dialogue.messages, dialogue.tools, add_generation_prompt=True)
    assert text.startswith('<|im_start|>system\n<tools>{"name": "')
    assert '<tool_call>{"name": "calculator", "arguments": {"expression": "' in text
    assert "<tool_response>" + str(dialogue.messages[2]["content"]) + "</tool_response><|im_end|>\n" in text
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_the_template_takes_arguments_as_json_text_and_needs_no_tools() -> None:
    function = {"name": "clock", "arguments": '{"place": "Rome"}'}
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    assert render([call]) == (
        '<|im_start|>assistant\n<tool_call>{"name": "clock", "arguments": {"place": "Rome"}}</tool_call><|im_end|>\n'
    )
    assert render([{"role": "user", "content": "hi"}]) == "<|im_start|>user\nhi<|im_end|>\n"


def test_the_template_renders_in_a_plain_sandbox() -> None:
    bare = ImmutableSandboxedEnvironment().from_string(TEMPLATE)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    assert bare.render(messages=messages, add_generation_prompt=True) == render(messages, add_generation_prompt=True)
