"""An endpoint's answer read: every shape that real servers send, and whatever else may come."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import EndpointError
from mycoswarm.external.target import Target
from mycoswarm.external.transcript import MAX_CHARACTERS, Transcript
from mycoswarm.wire.report import Finished, Piece, TokenLogprob, TopLogprob

RACK = Target(name="rack", url="http://rack/v1", place="LAN", secret="sk-secret")
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}


def delta(text: str | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason, **more}]}


def stream(*chunks: Any, done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def read(
    data: bytes, *, step: int | None = None, is_streamed: bool = True, top: int | None = None, **more: Any
) -> tuple[list[Any], Finished]:
    made = Transcript(RACK, "r1", top_logprobs=top, event_bytes=10_000, **more)
    if not is_streamed:
        return list(made.whole(data)), made.finished()
    pieces: list[Any] = []
    for at in range(0, len(data), step or len(data) or 1):
        pieces += made.feed(data[at : at + (step or len(data))])
    if not made.is_over:
        pieces += made.end()
    return pieces, made.finished()


def text_of(data: bytes, **more: Any) -> str:
    return "".join(piece.text for piece in read(data, **more)[0])


def refused(data: bytes, **more: Any) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        read(data, **more)
    return caught.value


@given(st.integers(1, 40))
def test_a_stream_cut_anywhere_gives_the_same_text(step: int) -> None:
    data = stream(delta("Grüße"), delta(" 🍄"), delta(None, "stop"), USAGE)
    pieces, finished = read(data, step=step)
    assert "".join(piece.text for piece in pieces) == "Grüße 🍄"
    assert finished == Finished(request_id="r1", reason="stop", prompt_tokens=5, completion_tokens=2)


def test_a_text_completion_is_read_too() -> None:
    chunks = [{"choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in ("a", "b")]
    pieces, finished = read(stream(*chunks, {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}))
    assert [piece.text for piece in pieces] == ["a", "b"] and finished.reason == "length"


@pytest.mark.parametrize("choice", [{"message": {"role": "assistant", "content": "hi"}}, {"text": "hi"}])
def test_an_answer_in_one_piece_is_read_too(choice: dict[str, Any]) -> None:
    body = {"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": {"prompt_tokens": 3}}
    pieces, finished = read(json.dumps(body).encode(), is_streamed=False)
    assert [piece.text for piece in pieces] == ["hi"]
    assert (finished.prompt_tokens, finished.completion_tokens) == (3, 0)


def test_what_is_not_counted_is_zero_and_cached_tokens_are_told() -> None:
    assert read(stream(delta("a", "stop")))[1] == Finished(
        request_id="r1", reason="stop", prompt_tokens=0, completion_tokens=0
    )
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}}
    assert read(stream(delta("a", "stop"), usage))[1].cached_tokens == 4


def test_the_end_may_be_told_by_either_sign_but_not_by_none() -> None:
    assert text_of(stream(delta("a"))) == "a"
    assert text_of(stream(delta("a", "stop"), done=False)) == "a"
    assert text_of(stream(delta("a", "stop"), done=False)[:-2]) == "a"
    assert refused(stream(delta("a"), done=False)).code == "endpoint_broke_off"
    assert refused(b"").code == "endpoint_broke_off"
    assert refused(b"", is_streamed=False).code == "endpoint_garbled"


def test_text_after_the_end_is_not_passed_on() -> None:
    assert text_of(stream(delta("a", "stop"), delta("b"))) == "a"
    assert text_of(stream(delta("a")) + stream(delta("b"))) == "a"


def test_text_before_an_error_in_the_same_bytes_is_not_lost_with_it() -> None:
    made, pieces = Transcript(RACK, "r1", top_logprobs=None, event_bytes=10_000), []
    with pytest.raises(EndpointError):
        for piece in made.feed(stream(delta("a"), delta("b"), {"error": "no"})):
            pieces.append(piece.text)
    assert pieces == ["a", "b"]


def test_only_the_first_choice_counts() -> None:
    assert text_of(stream({"choices": [{"index": 1, "delta": {"content": "b"}}]}, delta("a", "stop"))) == "a"


def test_a_refusal_is_text_and_reasoning_is_left_out() -> None:
    said = {"choices": [{"delta": {"reasoning_content": "hm", "refusal": "no"}, "finish_reason": "stop"}]}
    assert text_of(stream(said)) == "no"


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        ({"error": {"message": "out of memory"}}, "endpoint_failed"),
        ({"error": "out of memory"}, "endpoint_failed"),
        (delta(None, "content_filter"), "endpoint_filtered"),
        (delta(None, "abort"), "endpoint_broke_off"),
        ({"choices": [{"delta": {"tool_calls": [{"id": "1"}]}}]}, "endpoint_tool_call"),
        ({"choices": [{"delta": {"content": ["a"]}}]}, "endpoint_garbled"),
        ({"choices": {"a": 1}}, "endpoint_garbled"),
        ({"choices": [], "usage": {"prompt_tokens": -1}}, "endpoint_garbled"),
        ({"choices": [], "usage": {"prompt_tokens": 1 << 60}}, "endpoint_garbled"),
        ([], "endpoint_garbled"),
        ("x" * 20_000, "endpoint_too_much"),
    ],
)
def test_what_goes_wrong_in_the_middle_is_typed(chunk: Any, code: str) -> None:
    error = refused(stream(delta("a"), chunk))
    assert error.code == code


@pytest.mark.parametrize(
    "bad", [b"data: {\n\n", b"data: \xff\n\n", b'data: {"choices": "\xc3("}\n\n', b"data: null\n\n"]
)
def test_what_is_not_json_is_garbled(bad: bytes) -> None:
    assert refused(bad).code == "endpoint_garbled"


def test_json_nested_without_end_is_garbled() -> None:
    deep = b'{"error": ' + b"[" * 4000
    assert refused(b"data: " + deep + b"\n\n").code == "endpoint_garbled"
    assert refused(deep * 20, is_streamed=False).code == "endpoint_garbled"


def test_a_key_repeated_in_an_error_of_the_stream_is_taken_out() -> None:
    assert "sk-secret" not in refused(stream({"error": {"message": "bad sk-secret"}})).message


def test_log_probabilities_of_chats_are_converted() -> None:
    entry = {"token": "\ufffd", "logprob": -0.5, "bytes": [240, 159], "top_logprobs": [{"token": "a", "logprob": -1.0}]}
    data = stream(delta("", "stop", logprobs={"content": [entry]}))
    expected = TokenLogprob(-1, b"\xf0\x9f", -0.5, (TopLogprob(-1, b"a", -1.0),))
    assert read(data, top=1)[0] == [Piece(request_id="r1", text="", token_ids=(), logprobs=(expected,))]
    assert read(data, top=0)[0][0].logprobs == (TokenLogprob(-1, b"\xf0\x9f", -0.5),)
    assert read(data)[0] == []


def test_log_probabilities_of_texts_are_converted() -> None:
    given_logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -2.0], "top_logprobs": [None, {"b": -2.0}]}
    data = stream({"choices": [{"text": "ab", "logprobs": given_logprobs, "finish_reason": "stop"}]})
    assert read(data, top=5)[0][0].logprobs == (TokenLogprob(-1, b"b", -2.0, (TopLogprob(-1, b"b", -2.0),)),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": ["a"], "token_logprobs": []},
        {"content": [{"token": "a", "logprob": "x"}]},
        {"content": [{"token": "a", "logprob": -1, "bytes": [256]}]},
    ],
)
def test_log_probabilities_that_are_none_are_garbled(wrong: dict[str, Any]) -> None:
    assert refused(stream(delta("a", "stop", logprobs=wrong)), top=1).code == "endpoint_garbled"


def test_a_log_probability_without_bounds_is_garbled() -> None:
    data = b'data: {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -1e999}]}}]}\n\n'
    assert refused(data, top=1).code == "endpoint_garbled"


CHOICE = ["choices", "index", "delta", "message", "content", "text", "tool_calls", "finish_reason", "refusal"]
LOGPROBS = ["logprobs", "tokens", "token_logprobs", "top_logprobs", "token", "logprob", "bytes"]
KEYS = st.sampled_from([*CHOICE, *LOGPROBS, "error", "usage", "prompt_tokens", "other"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("stop"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow  # many shapes
@given(st.lists(JSON.map(lambda value: b"data: " + msgspec.json.encode(value) + b"\n\n") | st.binary()), st.booleans())
def test_whatever_comes_is_pieces_or_a_typed_error(parts: list[bytes], is_streamed: bool) -> None:
    try:
        pieces, finished = read(b"".join(parts), is_streamed=is_streamed, top=2)
    except EndpointError:
        return
    assert all(piece.text or piece.logprobs for piece in pieces) and finished.reason in ("stop", "length")


def test_an_answer_that_is_longer_than_any_context_is_cut_off() -> None:
    made = Transcript(RACK, "r1", top_logprobs=None, event_bytes=1 << 21)
    chunk = stream(delta("x" * (1 << 20)), done=False)
    with pytest.raises(EndpointError) as caught:
        for _ in range(MAX_CHARACTERS // (1 << 20) + 1):
            list(made.feed(chunk))
    assert caught.value.code == "endpoint_too_much"
