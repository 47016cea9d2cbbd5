"""An endpoint's tool calls, in the shapes that servers send, as the same events as those of our own models."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import EndpointError
from mycoswarm.external.target import Target
from mycoswarm.external.transcript import Transcript
from mycoswarm.wire.tool import ToolCall, call_id
from mycoswarm.wire.toolcall import MAX_CALLS

RACK = Target(name="rack", url="http://rack/v1", place="LAN")
NAMES = frozenset({"add", "clock"})


def part(index: int | None, name: str | None = None, arguments: str | None = None) -> dict[str, Any]:
    return {"index": index, "id": "theirs", "type": "function", "function": {"name": name, "arguments": arguments}}


def chunk(*parts: dict[str, Any], text: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text, "tool_calls": list(parts)}, "finish_reason": reason}]}


def stream(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks) + b"data: [DONE]\n\n"


def read(data: bytes, *, step: int | None = None, names: frozenset[str] = NAMES, most: int = MAX_CALLS) -> list[Any]:
    """Texts, and calls as (id, name, arguments); last the reason."""
    made = Transcript(RACK, "r1", top_logprobs=None, event_bytes=10_000, offered=names, most_calls=most)
    told: list[Any] = []
    for at in range(0, len(data), step or len(data)):
        told += made.feed(data[at : at + (step or len(data))])
    said = [(one.id, one.name, one.arguments) if isinstance(one, ToolCall) else one.text for one in told]
    return [*said, made.finished().reason]


FIRST = (call_id("r1", 0), "add", '{"a": 1}')
SECOND = (call_id("r1", 1), "clock", "{}")
PARTS = stream(
    chunk(text="Let me see."),
    chunk(part(0, "add", "")),
    chunk(part(0, None, '{"a"')),
    chunk(part(0, None, ": 1}"), part(1, "clock")),
    chunk(reason="tool_calls"),
)


@given(st.integers(1, 60))
def test_calls_in_parts_come_out_whole_however_the_stream_is_cut(step: int) -> None:
    assert read(PARTS, step=step) == ["Let me see.", FIRST, SECOND, "stop"]


def test_whole_calls_and_such_without_index_or_reason_are_read_too() -> None:
    both = chunk(part(None, "add", '{"a": 1}'), part(None, "clock", "{}"))
    assert read(stream(both)) == [FIRST, SECOND, "stop"]
    assert read(stream({**both, "choices": [{**both["choices"][0], "finish_reason": "stop"}]})) == [
        FIRST,
        SECOND,
        "stop",
    ]


def test_an_answer_in_one_piece_is_read_too() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [part(None, "add", '{"a": 1}')]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    made = Transcript(RACK, "r1", top_logprobs=None, event_bytes=10_000, offered=NAMES)
    assert list(made.whole(json.dumps(body).encode())) == [ToolCall(*FIRST)]


def test_what_is_no_call_becomes_text_as_with_our_own_models() -> None:
    assert read(stream(chunk(part(0, "shell", "{}")))) == ['{"name": "shell", "arguments": {}}', "stop"]
    cut = stream(chunk(part(0, "add", '{"a": ')), chunk(reason="length"))
    assert read(cut) == ['{"name": "add", "arguments": {"a": }', "length"]
    assert read(stream(chunk(part(0, "add", "[1]")))) == ['{"name": "add", "arguments": [1]}', "stop"]


def test_one_call_is_passed_on_where_one_was_asked_for() -> None:
    assert read(PARTS, most=1) == ["Let me see.", FIRST, "stop"]


def test_calls_after_the_end_do_not_count() -> None:
    assert read(stream(chunk(text="a", reason="stop"), chunk(part(0, "add", "{}")))) == ["a", "stop"]


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        ([chunk(part(n, "add", "{}")) for n in range(MAX_CALLS + 5)], "endpoint_garbled"),
        ([chunk(part(0, "add", "x" * 9000))] * 40, "endpoint_garbled"),
        ([chunk(part(-1, "add", "{}"))], "endpoint_garbled"),
        ([{"choices": [{"delta": {"tool_calls": [{"function": "x"}]}}]}], "endpoint_garbled"),
    ],
)
def test_calls_without_end_or_sense_are_typed_errors(chunks: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(EndpointError) as caught:
        read(stream(*chunks))
    assert caught.value.code == code


def test_a_call_where_no_tool_was_offered_is_a_typed_error() -> None:
    with pytest.raises(EndpointError) as caught:
        read(PARTS, names=frozenset())
    assert caught.value.code == "endpoint_tool_call"
