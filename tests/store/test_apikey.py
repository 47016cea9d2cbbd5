"""API keys in a real SQLite file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mycoswarm.base.errors import InputError, NotFoundError, StorageError
from mycoswarm.routing.rule import read_rule
from mycoswarm.store.apikey import MAX_LABELS, MAX_REQUESTS_PER_MINUTE, MAX_TOKENS_PER_DAY, Key, Keys, Terms
from mycoswarm.store.database import Store


def test_a_key_works_until_it_is_revoked(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    secret = keys.create("laptop", now=10.0)
    assert keys.check(secret) == Key("laptop", 10.0)
    assert keys.check(secret + "x") is None and keys.check("") is None
    keys.revoke("laptop")
    assert keys.check(secret) is None
    with pytest.raises(NotFoundError):
        keys.revoke("laptop")
    store.close()


def test_a_key_survives_a_restart_and_its_secret_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    store = Store(path)
    secret = Keys(store).create("laptop", now=10.0)
    store.close()
    store = Store(path)
    assert Keys(store).check(secret) == Key("laptop", 10.0)
    store.close()
    assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "<b>"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "node.db")
    with pytest.raises(InputError):
        Keys(store).create(name, now=0.0)
    store.close()


def test_what_a_key_may_do_survives_a_restart(tmp_path: Path) -> None:
    terms = Terms(labels=("private", "a-1"), user="ana", is_owner=True, requests_per_minute=5, tokens_per_day=10**12)
    store = Store(tmp_path / "node.db")
    secret = Keys(store).create("laptop", 10.0, **terms)
    Keys(store).create("phone", 11.0, labels=("b", "a", "b"))
    store.close()
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    assert keys.check(secret) == Key("laptop", 10.0, **terms)
    assert keys.entries() == [Key("laptop", 10.0, **terms), Key("phone", 11.0, labels=("b", "a"))]
    store.close()


@pytest.mark.parametrize(
    "terms",
    [
        Terms(labels=("",)),
        Terms(labels=("Private",)),
        Terms(labels=("a b",)),
        Terms(labels=("x" * 33,)),
        Terms(labels=tuple(f"l{number}" for number in range(MAX_LABELS + 1))),
        Terms(user=""),
        Terms(user="a\nb"),
        Terms(requests_per_minute=0),
        Terms(requests_per_minute=MAX_REQUESTS_PER_MINUTE + 1),
        Terms(tokens_per_day=-1),
        Terms(tokens_per_day=MAX_TOKENS_PER_DAY + 1),
    ],
)
def test_bad_terms_are_refused_and_make_no_key(tmp_path: Path, terms: Terms) -> None:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    with pytest.raises(InputError):
        keys.create("laptop", 0.0, **terms)
    assert keys.entries() == []
    store.close()


@pytest.mark.slow
def test_keys_may_be_made_and_revoked_while_others_are_checked(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    secret = keys.create("fixed", 0.0)

    def churn(number: int) -> None:
        for turn in range(10):
            keys.create(f"{number}-{turn}", 0.0)
            keys.note_use(f"{number}-{turn}", 5.0)
            keys.revoke(f"{number}-{turn}")

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(churn, number) for number in range(4)]
        while not all(each.done() for each in work):
            found = keys.check(secret)
            assert found is not None and found.name == "fixed"
        for each in work:
            each.result()
    assert [key.name for key in keys.entries()] == ["fixed"]
    store.close()


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    keys.create("a", now=0.0)
    with pytest.raises(InputError):
        keys.create("a", now=0.0)
    store.close()


def test_use_is_noted_at_most_once_a_minute(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    keys.create("a", now=0.0)
    for now in (100.0, 130.0, 161.0):
        keys.note_use("a", now)
    assert keys.entries()[0].used_at == 161.0
    keys.note_use("a", 170.0)
    assert keys.entries()[0].used_at == 161.0
    store.close()


def test_a_file_that_is_no_database_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError):
        Store(path)


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    Store(tmp_path / "node.db").close()
    assert (tmp_path / "node.db").stat().st_mode & 0o077 == 0


def test_a_label_is_what_rules_can_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    with pytest.raises(InputError, match="no label"):
        Keys(store).create("desk", 1.0, labels=("-private",))
    store.close()
    with pytest.raises(InputError, match="cannot be"):
        read_rule({"name": "r", "when": {"labels": {"any": ["-private"]}}})
