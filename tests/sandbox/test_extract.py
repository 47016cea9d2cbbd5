"""What was brought in from the web, as a model reads it."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaflets import pdf
from mycoswarm.base.errors import SwarmError
from mycoswarm.sandbox.extract import MAX_HITS, MAX_PART, hits_text, page_text
from mycoswarm.sandbox.haul import Haul

AT = "https://example.org/a/page"


def haul(body: bytes | str, kind: str = "text/html; charset=utf-8", status: int = 200, **more: Any) -> Haul:
    return Haul(AT, status, kind, body.encode() if isinstance(body, str) else body, **more)


def code_of(given: Haul, part: int = 1) -> str:
    with pytest.raises(SwarmError) as caught:
        page_text(given, part)
    return caught.value.code


def test_a_page_comes_under_its_address_and_title_with_its_links() -> None:
    text = page_text(haul('<title>T</title><p>Go <a href="b">there</a>.'), 1)
    assert text == (
        "Address: https://example.org/a/page\nTitle: T\n\nGo there [#1].\n\nLinks:\n[#1] https://example.org/a/b"
    )


def test_a_long_page_comes_in_parts_each_with_its_own_links() -> None:
    html = "".join(f"<p>{'word ' * 700}<a href='/{number}'>x</a>" for number in range(12))
    first, last = page_text(haul(html), 1), page_text(haul(html), 3)
    assert "[part 1 of 3; part 2 goes on]" in first and "[part 3 of 3]" in last
    assert "https://example.org/0" in first and "https://example.org/11" not in first
    assert "https://example.org/11" in last and "https://example.org/0\n" not in last
    assert len(first) < MAX_PART + 1000
    assert code_of(haul(html), 4) == "bad_arguments"


def test_what_was_cut_says_so() -> None:
    assert "only the first 2 MiB were read" in page_text(haul("x" * (2 << 20), "text/plain", is_cut=True), 1)


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        ("text/plain; charset=iso-8859-15", "5 €\r\n".encode("iso-8859-15"), "5 €"),
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("application/ld+json", b"[1]", "[1]"),
        ("text/csv", b"a,b", "a,b"),
        ("", b"<!DOCTYPE html><p>found", "found"),
        ("", b"plain < text", "plain < text"),
        ("application/octet-stream", pdf("of paper"), "[page 1]\nof paper"),
        ("application/pdf", pdf("one", "two"), "[page 1]\none\n\n[page 2]\ntwo"),
        ("TEXT/HTML;Charset='ISO-8859-2'", "<p>ł".encode("iso-8859-2"), "ł"),
    ],
)
def test_each_kind_of_text_is_read(kind: str, body: bytes, found: str) -> None:
    assert page_text(haul(body, kind), 1).partition("\n\n")[2].strip() == found


def test_what_is_no_text_or_no_page_is_a_typed_error() -> None:
    assert code_of(haul(b"\x89PNG\0", "image/png")) == "not_text"
    assert code_of(haul(b"\x89PNG\0", "")) == "not_text"
    assert code_of(haul(b"no", "application/pdf")) == "bad_pdf"
    assert code_of(haul("gone", status=404)) == "page_status"


def test_an_empty_page_says_so() -> None:
    assert page_text(haul(""), 1).endswith("[no text]")


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from(["text/html", "application/pdf", "", "text/x", "a/b"]) | st.text(max_size=20),
)
def test_any_bytes_of_any_kind_are_a_text_or_a_typed_error(body: bytes, kind: str) -> None:
    with contextlib.suppress(SwarmError):
        page_text(haul(body, kind), 1).encode("utf-8")


def hits(*results: Any, status: int = 200) -> Haul:
    return haul(json.dumps({"query": "q", "results": list(results)}), "application/json", status)


def test_hits_are_numbered_with_title_address_and_text() -> None:
    hit = {"title": "A  page", "url": "https://example.org/", "content": "What\nit says", "engine": "x", "score": 1.0}
    found = hits_text(hits(hit, {"url": "https://b.example/", "title": None}))
    assert (
        found == "1. A page\n   https://example.org/\n   What it says\n\n2. https://b.example/\n   https://b.example/"
    )


def test_hits_are_bounded_and_clean() -> None:
    hit = {"title": "t\u202e" * 5000, "url": "https://example.org/" + "x" * 5000, "content": "\x1b[2J" + "w " * 5000}
    text = hits_text(hits(*[hit] * 30, {"url": "javascript:x", "title": "never"}))
    assert text.count("https://") == MAX_HITS and len(text) < MAX_HITS * 1300
    assert "\x1b" not in text and "\u202e" not in text
    assert hits_text(hits({"url": "javascript:x"})) == "[nothing was found]"


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (hits(status=403), "search_no_json", "settings.yml"),
        (hits(status=429), "search_failed", "status 429"),
        (haul("<html>"), "search_failed", "no list"),
        (haul('{"results": [1]}'), "search_failed", "no list"),
        (haul("[" * 100_000), "search_failed", "no list"),
    ],
)
def test_a_server_that_finds_nothing_for_us_says_what_to_do(given: Haul, code: str, words: str) -> None:
    with pytest.raises(SwarmError, match=words) as caught:
        hits_text(given)
    assert caught.value.code == code and "example.org" not in caught.value.message
