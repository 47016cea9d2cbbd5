"""Which characters some bytes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.sandbox.charset import decoded, seen

EURO = "Größe 5 €"


@pytest.mark.parametrize("name", ["utf-8", "windows-1252", "iso-8859-15", "utf-16-le"])
def test_a_set_that_was_declared_is_taken(name: str) -> None:
    assert decoded(EURO.encode(name), name.upper()) == EURO


def test_a_byte_order_mark_counts_more_than_what_was_declared() -> None:
    assert decoded(EURO.encode("utf-8-sig"), "iso-8859-1") == EURO
    assert decoded(EURO.encode("utf-16"), "utf-8") == EURO


@pytest.mark.parametrize(
    "head", ['<meta charset="iso-8859-2">', "<META content='text/html; charset=ISO-8859-2' http-equiv=x>"]
)
def test_a_page_says_its_own_set(head: str) -> None:
    assert decoded((head + "ł").encode("iso-8859-2"), is_markup=True) == head + "ł"
    assert decoded((head + "ł").encode("iso-8859-2")) == head + "³"  # a text is no page: Windows-1252


def test_latin_1_means_windows_1252() -> None:
    assert decoded(b"\x80", "iso-8859-1") == "€"


@pytest.mark.parametrize("name", ["unicode_escape", "idna", "punycode", "utf-7", "zlib", "x" * 50, "\udc80", "no such"])
def test_a_set_that_is_none_is_passed_over(name: str) -> None:
    assert decoded(b"\\u0041+AGE-", name) == "\\u0041+AGE-"


def test_a_text_that_was_cut_within_a_character_is_read_up_to_there() -> None:
    assert decoded("abcé".encode()[:-1], is_cut=True) == "abc"
    assert decoded("café".encode("cp1252")) == "café"


def test_what_is_not_seen_goes() -> None:
    assert seen("a\r\nb\rc\u200b\u202e\x00\x1b\U000e0041\ud800d\te\u200df") == "a\nb\ncd\te\u200df"


@given(st.binary(max_size=300), st.text(max_size=30), st.booleans())
def test_any_bytes_become_a_text_that_can_be_written(data: bytes, declared: str, is_markup: bool) -> None:
    seen(decoded(data, declared, is_markup=is_markup)).encode("utf-8")
