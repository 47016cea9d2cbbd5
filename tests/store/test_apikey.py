"""API keys in a real SQLite file."""

from pathlib import Path

import pytest

from mycoswarm.base.errors import InputError, NotFoundError, StorageError
from mycoswarm.store.apikey import Keys
from mycoswarm.store.database import Store


def test_a_key_works_until_it_is_revoked(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    secret = keys.create("laptop", now=10.0)
    assert keys.check(secret) == "laptop"
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
    assert Keys(store).check(secret) == "laptop"
    store.close()
    assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "<b>"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "node.db")
    with pytest.raises(InputError):
        Keys(store).create(name, now=0.0)
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
