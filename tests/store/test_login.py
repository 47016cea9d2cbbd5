"""Sessions of browsers and the first setup code."""

from pathlib import Path

import pytest

from mycoswarm.base.errors import ApiKeyError
from mycoswarm.store.apikey import Keys
from mycoswarm.store.database import Store
from mycoswarm.store.login import CODE_S, IDLE_S, MAX_SESSIONS, Logins


class Book:
    """A database with its keys and sessions, opened anew at will."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "node.db"
        self.open()

    def open(self) -> None:
        self.store = Store(self.path)
        self.keys = Keys(self.store)
        self.logins = Logins(self.store, self.keys)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_a_session_stands_for_its_key_and_survives_a_restart(book: Book) -> None:
    secret = book.keys.create("desk", 5.0, is_owner=True)
    token, key = book.logins.open(secret, 10.0)
    assert key.name == "desk" and len(token) > 40
    book.store.close()
    book.open()
    found = book.logins.find(token, 11.0)
    assert found is not None and found.is_owner
    assert book.logins.find(token + "x", 11.0) is None and book.logins.find("", 11.0) is None
    assert token.encode() not in book.path.read_bytes()
    with pytest.raises(ApiKeyError):
        book.logins.open("msk-none", 10.0)


def test_a_session_ends_with_its_key_even_where_another_takes_the_name(book: Book) -> None:
    token, _ = book.logins.open(book.keys.create("desk", 5.0), 10.0)
    book.keys.revoke("desk")
    assert book.logins.find(token, 11.0) is None
    book.keys.create("desk", 6.0, is_owner=True)
    assert book.logins.find(token, 12.0) is None


def test_a_session_ends_when_it_is_closed_or_idle_too_long(book: Book) -> None:
    secret = book.keys.create("desk", 5.0)
    one, _ = book.logins.open(secret, 10.0)
    other, _ = book.logins.open(secret, 10.0)
    book.logins.close(one)
    assert book.logins.find(one, 11.0) is None and book.logins.find(other, 11.0) is not None
    assert book.logins.find(other, 11.0 + IDLE_S) is None
    book.logins.note_use(other, 10.0 + IDLE_S - 1)
    assert book.logins.find(other, 11.0 + IDLE_S) is not None
    book.store.close()
    book.open()
    assert book.logins.find(other, 11.0 + IDLE_S) is not None and book.logins.find(one, 11.0) is None


def test_the_session_used_longest_ago_makes_room(book: Book) -> None:
    secret = book.keys.create("desk", 5.0)
    tokens = [book.logins.open(secret, 10.0 + number)[0] for number in range(MAX_SESSIONS + 1)]
    assert book.logins.find(tokens[0], 20.0) is None
    assert all(book.logins.find(token, 20.0) for token in tokens[1:])


def test_a_key_that_opens_sessions_without_end_ends_its_own_and_no_others(book: Book) -> None:
    boss, guest = book.keys.create("boss", 5.0, is_owner=True), book.keys.create("guest", 5.0)
    owners, _ = book.logins.open(boss, 10.0)
    tokens = [book.logins.open(guest, 20.0 + number)[0] for number in range(MAX_SESSIONS + 5)]
    assert book.logins.find(owners, 600.0) is not None
    assert [book.logins.find(token, 600.0) is None for token in tokens[:7]] == [True] * 6 + [False]


def test_a_session_that_was_idle_too_long_does_not_come_back_by_being_shown(book: Book) -> None:
    token, _ = book.logins.open(book.keys.create("desk", 5.0), 10.0)
    book.logins.note_use(token, 11.0 + IDLE_S)
    assert book.logins.find(token, 12.0 + IDLE_S) is None


def test_a_setup_code_works_once_and_makes_an_owners_key(book: Book) -> None:
    old = book.logins.new_code(10.0)
    code = book.logins.new_code(10.0)
    assert code.count("-") == 2 and code.replace("-", "").encode() not in book.path.read_bytes()
    for wrong in ("", "x", old, code[:-1]):
        with pytest.raises(ApiKeyError):
            book.logins.redeem(wrong, 11.0)
    token, key, secret = book.logins.redeem(f" {code.lower()} ", 11.0)
    assert key.is_owner and key.name == "dashboard" and book.keys.check(secret) == key
    assert book.logins.find(token, 12.0) == key
    with pytest.raises(ApiKeyError):
        book.logins.redeem(code, 12.0)
    assert book.logins.redeem(book.logins.new_code(13.0), 14.0)[1].name == "dashboard-2"


def test_a_setup_code_ends_with_time(book: Book) -> None:
    code = book.logins.new_code(10.0)
    with pytest.raises(ApiKeyError):
        book.logins.redeem(code, 11.0 + CODE_S)
    assert [key.name for key in book.keys.entries()] == []
