"""Registered endpoints in a real SQLite file; their addresses; their keys, which show nowhere."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.external.target import read_url
from mycoswarm.store.database import Store
from mycoswarm.store.endpoint import MAX_ENDPOINTS, MAX_MODELS, Endpoint, Endpoints, normal_url

SECRET = "sk-very-secret-0123456789"
GOOD: dict[str, Any] = {"place": "LAN", "by": "ana", "now": 5.0}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "node.db")
    yield made
    made.close()


def test_an_endpoint_survives_a_restart_with_its_key(store: Store) -> None:
    models = ("llama", "qwen", "llama")
    added = Endpoints(store).add("rack", "HTTP://Rack.Local:8000/v1/", secret=SECRET, models=models, **GOOD)
    wanted = Endpoint(
        name="rack",
        url="http://rack.local:8000/v1",
        place="LAN",
        models=("llama", "qwen"),
        has_secret=True,
        added_at=5.0,
        added_by="ana",
    )
    assert added == wanted
    again = Endpoints(store)
    assert again.get("rack") == wanted and again.entries() == (wanted,) and again.secret("rack") == SECRET


def test_endpoints_are_listed_by_name_and_removed(store: Store) -> None:
    endpoints = Endpoints(store)
    for name in ("b", "a"):
        endpoints.add(name, "https://api.example/v1", **{**GOOD, "place": "outside"})
    assert [(each.name, each.place, each.has_secret) for each in endpoints.entries()] == [
        ("a", "outside", False),
        ("b", "outside", False),
    ]
    endpoints.remove("a")
    assert [each.name for each in Endpoints(store).entries()] == ["b"] == [each.name for each in endpoints.entries()]
    for act in (endpoints.get, endpoints.secret, endpoints.remove):
        with pytest.raises(NotFoundError):
            act("a")


def test_a_key_shows_in_no_repr_no_error_and_no_log(
    store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoints = Endpoints(store)
    endpoint = endpoints.add("rack", "http://rack/v1", secret=SECRET, **GOOD)
    shown = [repr(endpoint), str(endpoint), repr(endpoints), str(endpoints.entries())]
    wrong: list[tuple[Any, ...]] = [
        ("rack", "http://rack/v1", SECRET),
        ("new", "http://rack/v1", SECRET + " \n"),
        ("new", f"http://user:{SECRET}@rack/v1", None),
        ("new", f"http://rack/v1?key={SECRET}", None),
        ("new", f"http://rack/v1#{SECRET}", None),
        ("new", f"http://rack:{SECRET}/", None),
        ("new", f"http://[{SECRET}]/", None),
        ("new", f"{SECRET}", None),
    ]
    for name, url, secret in wrong:
        with pytest.raises(InputError) as caught:
            endpoints.add(name, url, secret=secret, **GOOD)
        shown += [caught.value.message, caught.value.hint, repr(caught.value)]
    with pytest.raises(InputError) as caught:
        endpoints.add("new", "http://rack/v1", secret=SECRET + "ä", **GOOD)
    store.write("DROP TABLE endpoints")
    with pytest.raises(SwarmError) as failed:
        endpoints.add("new", "http://rack/v1", secret=SECRET + SECRET, **GOOD)
    shown += [str(caught.value), str(failed.value), repr(failed.value.__cause__), caplog.text]
    assert not [text for text in shown if SECRET in text]


def test_a_key_that_is_gone_is_not_left_in_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    Endpoints(store).add("rack", "http://rack/v1", secret=SECRET, **GOOD)
    store.close()
    assert SECRET.encode() in (tmp_path / "node.db").read_bytes()
    store = Store(tmp_path / "node.db")
    Endpoints(store).remove("rack")
    store.close()
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_name_is_taken_once_and_there_are_at_most_64(store: Store) -> None:
    endpoints = Endpoints(store)
    for number in range(MAX_ENDPOINTS):
        endpoints.add(f"e{number}", "http://rack/v1", **GOOD)
    for name in ("e0", "one-more"):
        with pytest.raises(InputError):
            endpoints.add(name, "http://rack/v1", **GOOD)
    assert len(Endpoints(store).entries()) == MAX_ENDPOINTS


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "Rack"},
        {"name": "x" * 33},
        {"name": "a/b"},
        {"place": "lan"},
        {"place": "this-machine"},
        {"secret": ""},
        {"secret": "two words"},
        {"secret": "a\r\nX-Other: b"},
        {"secret": "x" * 4097},
        {"models": ("",)},
        {"models": ("a\nb",)},
        {"models": ("x" * 201,)},
        {"models": tuple(f"m{number}" for number in range(MAX_MODELS + 1))},
        {"by": ""},
        {"by": "\ud800"},
    ],
)
def test_what_no_endpoint_has_is_refused(store: Store, wrong: dict[str, Any]) -> None:
    endpoints = Endpoints(store)
    with pytest.raises(InputError):
        endpoints.add(**{"name": "rack", "url": "http://rack/v1", **GOOD, **wrong})
    assert endpoints.entries() == ()


def test_an_address_is_kept_in_its_normal_form_and_can_be_gone_to(store: Store) -> None:
    path = "/v1;a=1,(b)!$&'*+:~%20/x"
    added = Endpoints(store).add("rack", f"HTTP://Rack.:80{path}/", **GOOD)
    assert added.url == f"http://rack{path}" == normal_url(added.url)
    assert read_url(added.url).path == path


def test_a_key_that_was_taken_out_stands_in_no_file_not_even_in_the_write_ahead_log(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    endpoints = Endpoints(store)
    endpoints.add("rack", "http://rack:8000/v1", place="LAN", by="owner", now=1.0, secret="sk-first")
    assert any(b"sk-first" in file.read_bytes() for file in tmp_path.iterdir())
    endpoints.remove("rack")
    assert not any(b"sk-first" in file.read_bytes() for file in tmp_path.iterdir())
    store.close()
