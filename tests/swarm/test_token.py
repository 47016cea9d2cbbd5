"""Join tokens: every slip of the pen is noticed, and the book keeps its promises over restarts."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import EnrolmentError, InputError, StorageError
from mycoswarm.swarm.folder import Folder
from mycoswarm.swarm.token import MAX_TOKENS, JoinToken, TokenBook, parse_token

TOKEN = JoinToken("ab" * 32, "cd" * 16, "ef" * 6, bytes(range(16)), ("192.168.1.5:6928", "[fd00::5]:6928"))
NOW = 1_800_000_000.0


def test_a_token_survives_being_written_and_read() -> None:
    assert parse_token(TOKEN.text) == TOKEN
    assert parse_token(f"  {TOKEN.text[:40]}\n  {TOKEN.text[40:]} ") == TOKEN
    assert parse_token(TOKEN.text[:5] + TOKEN.text[5:].upper()) == TOKEN


def test_a_token_does_not_show_its_secret_in_logs() -> None:
    assert TOKEN.secret.hex() not in repr(TOKEN) and "\\x" not in repr(TOKEN)


@given(st.integers(0, len(TOKEN.text) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_mistyped_character_is_noticed(place: int, character: str) -> None:
    text = TOKEN.text[:place] + character + TOKEN.text[place + 1 :]
    if text != TOKEN.text:
        with contextlib.suppress(EnrolmentError):
            assert parse_token(text) == TOKEN  # the last character may hold spare bits


@given(st.one_of(st.text(max_size=300), st.text("abcdefgh234567", max_size=300).map(lambda t: "mss1-" + t)))
def test_any_text_is_a_token_or_an_enrolment_error(text: str) -> None:
    with pytest.raises(EnrolmentError):
        parse_token(text)


def test_a_token_works_as_often_as_it_says_until_it_expires(tmp_path: Path) -> None:
    book = TokenBook(Folder(tmp_path))
    token_id, secret = book.mint(NOW, lifetime_s=60, uses=2)
    assert secret not in (tmp_path / "tokens.json").read_bytes()
    assert book.open_until(NOW) == NOW + 60
    book.redeem(token_id, "a" * 64, NOW)
    book = TokenBook(Folder(tmp_path))  # a restart
    book.redeem(token_id, "a" * 64, NOW)  # the same key again: an answer was lost
    book.redeem(token_id, "b" * 64, NOW)
    with pytest.raises(EnrolmentError, match="used"):
        book.redeem(token_id, "c" * 64, NOW)
    assert book.open_until(NOW) is None
    with pytest.raises(EnrolmentError, match="expired"):
        book.redeem(token_id, "a" * 64, NOW + 60)
    with pytest.raises(EnrolmentError, match="not know"):
        book.public_of("00", NOW)


def test_what_an_expelled_key_used_is_gone(tmp_path: Path) -> None:
    book = TokenBook(Folder(tmp_path))
    token_id, _ = book.mint(NOW, lifetime_s=60)
    book.redeem(token_id, "a" * 64, NOW)
    book.revoke("a" * 64, NOW)
    with pytest.raises(EnrolmentError):
        book.redeem(token_id, "a" * 64, NOW)


@pytest.mark.slow
def test_the_book_is_bounded_and_drops_what_expired(tmp_path: Path) -> None:
    book = TokenBook(Folder(tmp_path))
    for _ in range(MAX_TOKENS):
        book.mint(NOW, lifetime_s=60)
    with pytest.raises(InputError):
        book.mint(NOW, lifetime_s=60)
    book.mint(NOW + 61, lifetime_s=60)
    for lifetime_s, uses in ((0, 1), (60, 0), (30 * 86400, 1)):
        with pytest.raises(InputError):
            book.mint(NOW, lifetime_s=lifetime_s, uses=uses)


def test_a_damaged_book_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("[{}]")
    with pytest.raises(StorageError):
        TokenBook(Folder(tmp_path))
