"""An endpoint's complaints: typed, short, clean, and without our key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import BusyError, EndpointError, SwarmError
from mycoswarm.external.complaint import MAX_WORDS, cleaned, complaint, in_answer
from mycoswarm.external.target import Target

KEY = "sk-very.secret+1"
RACK = Target(name="rack", url="http://rack/v1", place="LAN", model="llama-9", secret=KEY)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (301, "", "endpoint_redirects"),
        (308, "", "endpoint_redirects"),
        (401, '{"error": {"message": "no such key"}}', "endpoint_refused_key"),
        (403, "", "endpoint_refused_key"),
        (404, '{"object": "error", "message": "The model `llama-9` does not exist."}', "endpoint_model_not_found"),
        (404, '{"error": {"message": "model \\"x\\" not found"}}', "endpoint_model_not_found"),
        (404, '{"error": "llama-9 is unknown"}', "endpoint_model_not_found"),
        (404, '{"detail": "Not Found"}', "endpoint_failed"),
        (404, "<html>nginx</html>", "endpoint_failed"),
        (400, '{"error": {"message": "context too long"}}', "endpoint_failed"),
        (500, "oops", "endpoint_failed"),
        (206, "", "endpoint_failed"),
    ],
)
def test_a_status_becomes_a_typed_error(status: int, body: str, code: str) -> None:
    error = complaint(RACK, status, body.encode())
    assert isinstance(error, EndpointError) and error.code == code and "rack" in error.message


def test_the_endpoints_own_words_are_repeated() -> None:
    assert "context too long" in complaint(RACK, 400, b'{"error": {"message": "context too long"}}').message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 10), ("7", 7), ("0", 1), ("-3", 10), ("1e9", 10), ("9" * 40, 3600), ("²", 10), ("Wed, 21 Oct", 10)],
)
def test_a_busy_endpoint_says_for_how_long_within_bounds(header: str | None, seconds: int) -> None:
    error = complaint(RACK, 429, b"", header)
    assert isinstance(error, BusyError) and error.retry_after_s == seconds


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        f"Bearer {KEY}!",
        "sk-very\u200b.secret+1",
        "sk-\x00very.secret+1",
        "sk-very.\nsecret+1",
        "s k-very.secret+1",
        "sk-very" + KEY + ".secret+1",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_a_key_that_the_endpoint_repeats_is_taken_out(status: int, echo: str) -> None:
    for body in (echo, json.dumps({"error": {"message": echo}}), json.dumps({"detail": echo})):
        message = complaint(RACK, status, body.encode()).message
        assert KEY not in message.replace(" ", "").replace("\u200b", ""), message


def test_no_control_character_comes_through() -> None:
    assert cleaned("a\x1b[31m\u202eb\r\nc\x00d\u2028e\ud800", RACK) == "a[31mb cd e"


@given(st.integers(200, 599), st.binary(max_size=300), st.none() | st.text(max_size=20))
def test_any_body_becomes_a_bounded_error(status: int, body: bytes, header: str | None) -> None:
    error = complaint(RACK, status, body, header)
    assert isinstance(error, SwarmError) and len(error.message) < MAX_WORDS + 200 and error.message.isprintable()


PLAIN = st.none() | st.booleans() | st.floats() | st.text(max_size=9)
NAMES = st.sampled_from(["message", "detail", "error", "code"])
JSON = PLAIN | st.lists(PLAIN) | st.dictionaries(NAMES, PLAIN | st.dictionaries(NAMES, PLAIN))


@given(JSON)
def test_any_error_object_in_an_answer_becomes_one(error: object) -> None:
    assert in_answer(RACK, error).code == "endpoint_failed"


def test_a_long_message_is_cut() -> None:
    assert len(cleaned("x" * 10**6, RACK)) == MAX_WORDS + 1
