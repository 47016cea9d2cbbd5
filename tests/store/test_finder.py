"""The search server that the owner registered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.store.database import Store
from mycoswarm.store.finder import Finder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "node.db")
    yield found
    found.close()


def test_there_is_none_until_it_is_set_and_it_is_kept(store: Store) -> None:
    finder = Finder(store)
    assert finder.server() is None
    with pytest.raises(NotFoundError):
        finder.unset()
    finder.set("HTTP://Searx.Lan:8080/", by="owner", now=5.0)
    again = Finder(store).server()
    assert again is not None and (again.url, again.set_at, again.set_by) == ("http://searx.lan:8080", 5.0, "owner")
    finder.set("http://127.0.0.1:8888/searx", by="key desk", now=6.0)
    changed = Finder(store).server()
    assert changed is not None and changed.url == "http://127.0.0.1:8888/searx"
    finder.unset()
    assert finder.server() is None and Finder(store).server() is None


@pytest.mark.parametrize("url", ["searx.lan", "ftp://x", "http://u:secret@x", "http://x/?q=1", "http://x y", ""])
def test_what_is_no_address_is_refused_and_not_repeated(store: Store, url: str) -> None:
    with pytest.raises(InputError) as caught:
        Finder(store).set(url, by="owner", now=5.0)
    assert caught.value.code == "bad_url" and "secret" not in caught.value.message
    assert "search server" in caught.value.message and Finder(store).server() is None
