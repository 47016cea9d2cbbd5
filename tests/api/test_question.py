"""OpenAI's bodies: what is not served is named; nothing that a client sends is a bug of ours."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.api.question import Envelope, Question, read_chat, read_completion, read_route
from mycoswarm.base.errors import InputError, UnsupportedError
from mycoswarm.chat.job import Asker
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.wire.line import decode_order, encode_line
from mycoswarm.wire.order import Generate
from mycoswarm.wire.request import Generation

HI = [{"role": "user", "content": "hi"}]

ENVELOPE = Envelope(request_id="r", asker=Asker(key_name="k"))


def chat(**fields: Any) -> Question:
    given_body = {"model": "spore", "messages": HI, **fields}
    return read_chat(json.dumps(given_body).encode(), ENVELOPE)


def text(**fields: Any) -> Question:
    given_body = {"model": "spore", "prompt": "Once", **fields}
    return read_completion(json.dumps(given_body).encode(), ENVELOPE)


UNSUPPORTED = {
    "n": 2,
    "tools": [{"type": "web_search"}],
    "tool_choice": {"type": "allowed_tools"},
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "modalities": ["audio"],
    "audio": {"voice": "x", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "reasoning_effort": "low",
    "verbosity": "low",
    "web_search_options": {},
    "service_tier": "flex",
    "store": True,
    "a_field_of_tomorrow": 1,
}


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_an_unsupported_field_of_a_chat_is_named(field: str) -> None:
    with pytest.raises(UnsupportedError, match=field) as caught:
        chat(**{field: UNSUPPORTED[field]})
    assert caught.value.param == field and caught.value.status == 400


@pytest.mark.parametrize(("field", "value"), [("best_of", 2), ("echo", True), ("suffix", "x"), ("messages", HI)])
def test_an_unsupported_field_of_a_completion_is_named(field: str, value: object) -> None:
    with pytest.raises(UnsupportedError, match=field):
        text(**{field: value})


def test_several_prompts_are_not_served() -> None:
    with pytest.raises(UnsupportedError, match="2 texts"):
        text(prompt=["a", "b"])
    with pytest.raises(InputError, match="prompt"):
        text(prompt=[1, 2])


def test_harmless_values_and_nulls_may_be_sent() -> None:
    question = chat(n=1, store=False, tools=[], tool_choice="none", service_tier="auto", logprobs=None, audio=None)
    assert question.job.sampling.temperature == 1.0 and not question.stream


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", -1),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", 2),
        ("frequency_penalty", 3),
        ("presence_penalty", -3),
        ("repeat_penalty", 0),
        ("max_tokens", 0),
        ("max_completion_tokens", -5),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"99999999999": 1}),
        ("logit_bias", {"1": 101}),
        ("stop", ["s"] * 17),
        ("top_logprobs", 3),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
        ("response_format", {"type": "grammar"}),
        ("stream_options", {"include_thoughts": True}),
        ("temperature", "hot"),
        ("messages", []),
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": 5}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        ("messages", [{"role": "user", "content": "x", "audio": {"id": "y"}}]),
        ("messages", [{"role": "assistant", "tool_calls": "x"}]),
        ("model", 5),
    ],
)
def test_a_wrong_value_is_a_typed_error_that_names_the_field(field: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        chat(**{field: value})
    named = "max_tokens" if field == "max_completion_tokens" else "logprobs" if field == "top_logprobs" else field
    assert named in caught.value.message and caught.value.status == 400


def test_deep_json_is_refused_where_it_would_be_walked() -> None:
    schema: Any = {}
    for _ in range(70):
        schema = {"items": schema}
    with pytest.raises(InputError, match="deep"):
        chat(response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    with pytest.raises(InputError, match="not JSON"):
        read_chat(b"[" * 100_000 + b"]" * 100_000, ENVELOPE)


def test_messages_become_what_templates_expect() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    question = chat(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
            {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
            {"role": "tool", "content": "noon", "tool_call_id": "c1"},
        ]
    )
    assert question.job.prompt.messages == (
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "c1"},
    )
    assert question.job.characters == len("be brief") + len("{}") + len("noon")


def test_the_route_header_narrows() -> None:
    assert read_route(None) == Narrowing()
    assert read_route(" split; stages=2 ; nodes=attic, cellar") == Narrowing(
        mode="split", stages=2, nodes=("attic", "cellar")
    )
    for wrong in ("fast", "stages=0", "stages=x", "nodes=", "split=1", "stages=\u0663"):
        with pytest.raises(InputError):
            read_route(wrong)


@given(st.text(max_size=60))
def test_any_route_header_is_read_or_refused(header: str) -> None:
    try:
        read_route(header)
    except InputError as error:
        assert error.status == 400


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["user", "text", "json_schema", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "schema", "json_schema", "5", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
NAMES = (
    "model stream stream_options temperature top_p top_k seed stop logit_bias max_tokens response_format messages"
    " prompt max_completion_tokens logprobs top_logprobs n tools user"
)
fields = st.sampled_from(NAMES.split())


def check(body: bytes) -> None:
    for read in (read_chat, read_completion):
        try:
            question = read(body, ENVELOPE)
        except InputError as error:
            assert 400 <= error.status < 500 and error.message and error.hint
            continue
        job = question.job
        order = Generate(generation=Generation(request_id="r", prompt=job.prompt, sampling=job.sampling))
        assert decode_order(encode_line(order).rstrip(b"\n")) == order  # what is let in can travel


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.dictionaries(fields, values, max_size=6), st.booleans())
def test_any_json_is_read_or_is_a_typed_error(body: dict[str, Any], is_near: bool) -> None:
    near = {"model": "spore", "messages": HI, "prompt": "Once"} if is_near else {}
    for leave_out in ("messages", "prompt") if is_near else ("",):
        check(msgspec.json.encode({k: v for k, v in {**near, **body}.items() if k != leave_out}))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda t: json.dumps({"model": t}).encode()))
def test_any_bytes_are_read_or_are_a_typed_error(body: bytes) -> None:
    check(body)


@pytest.mark.parametrize("name", ["\\ud800", "\\udc00", "\\udc00\\ud800"])
def test_half_characters_are_refused(name: str) -> None:
    body = f'{{"model": "spore", "messages": [{{"role": "user", "content": "{name}"}}]}}'.encode()
    with pytest.raises(InputError, match="not JSON"):
        read_chat(body, ENVELOPE)
