"""Registered endpoints in a real SQLite file; their addresses; their keys, which show nowhere."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


NORMAL = {
    "http://rack": "http://rack",
    "http://rack/": "http://rack",
    "HTTPS://API.Example.:443/V1//": "https://api.example/V1",
    "http://rack:80/v1": "http://rack/v1",
    "http://rack:443/v1": "http://rack:443/v1",
    "http://rack:08000/v1": "http://rack:8000/v1",
    "http://192.168.1.5:8000/v1": "http://192.168.1.5:8000/v1",
    "http://[FE80:0::1]:8000": "http://[fe80::1]:8000",
    "http://xn--mnchen-3ya.example/a%20b": "http://xn--mnchen-3ya.example/a%20b",
    "http://my_box/v1": "http://my_box/v1",
}


@pytest.mark.parametrize("text", NORMAL)
def test_an_address_has_one_normal_form(text: str) -> None:
    assert normal_url(text) == NORMAL[text] == normal_url(NORMAL[text])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rack",
        "rack:8000",
        "//rack",
        "ftp://rack",
        "file:///etc/passwd",
        "http:rack",
        "http:///v1",
        "http://",
        "http://:80",
        "http://rack:",
        "http://rack:0",
        "http://rack:65536",
        "http://rack:-1",
        "http://rack:8a",
        "http://user@rack",
        "http://user:word@rack",
        "http://rack?x",
        "http://rack?",
        "http://rack#",
        "http://rack/a b",
        "http://rack\n",
        "http://rack/\r\nX: y",
        "http://räck",
        "http://rack\\@evil",
        "http://-rack",
        "http://ra..ck",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.0.0.1",
        "http://0x7f000001",
        "http://0177.0.0.1",
        "http://1.2.3.4.5",
        "http://1.2.3.256",
        "http://0.0.0.0",
        "http://224.0.0.251",
        "http://[::]",
        "http://[::1",
        "http://::1",
        "http://[::1]x",
        "http://[fe80::1%25eth0]",
        "http://[rack]",
        "http://rack/a/../b",
        "http://rack/a/%2e%2E/b",
        "http://rack/./b",
        "http://rack//b",
        "http://rack/%zz",
        "http://rack/" + "a" * 2048,
        "http://" + "a" * 64,
        "http://rack/<b>",
    ],
)
def test_what_is_no_address_is_a_typed_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        normal_url(text)
    assert caught.value.code == "bad_url"


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.:\[\]@%/?#\\-]{1,30}", fullmatch=True))
def test_any_text_is_a_typed_error_or_has_a_form_that_everybody_reads_alike(text: str) -> None:
    try:
        url = normal_url(text)
    except InputError:
        return
    parts = urlsplit(url)
    assert normal_url(url) == url and parts.geturl() == url
    assert read_url(url).host == (parts.hostname or "")  # what is registered can be gone to
    assert parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    assert not parts.query and not parts.fragment


def test_every_path_that_is_registered_can_be_gone_to() -> None:
    path = "/v1;a=1,(b)!$&'*+:~%20/x"
    assert read_url(normal_url(f"http://rack{path}")).path == path


def test_a_key_that_was_taken_out_stands_in_no_file_not_even_in_the_write_ahead_log(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    endpoints = Endpoints(store)
    endpoints.add("rack", "http://rack:8000/v1", place="LAN", by="owner", now=1.0, secret="sk-first")
    assert any(b"sk-first" in file.read_bytes() for file in tmp_path.iterdir())
    endpoints.remove("rack")
    assert not any(b"sk-first" in file.read_bytes() for file in tmp_path.iterdir())
    store.close()
