"""Who asks, out of what the console's door found out and what the request says beside its body."""

import pytest
from starlette.requests import Request

from mycoswarm.api.visitor import HERE, envelope_of
from mycoswarm.base.errors import InputError
from mycoswarm.store.apikey import Key

KEY = Key("desk", 1.0, labels=("private",), user="kid")


def asked(*headers: tuple[str, str], key: Key | None = KEY) -> Request:
    """A request as it comes to a route."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "headers": raw, "client": ("192.168.1.7", 50), "state": {"key": key}})


def test_a_key_brings_its_labels_and_the_request_adds_its_own() -> None:
    asker = envelope_of(asked(("x-mycoswarm-labels", "homework, a"), ("x-mycoswarm-labels", "b")), "r").asker
    assert (asker.key_name, asker.user, asker.client) == ("desk", "kid", "192.168.1.7")
    assert (asker.labels, asker.added) == ({"private"}, {"homework", "a", "b"})


def test_the_owner_has_no_key_and_is_here() -> None:
    request = asked(key=None)
    request.scope["client"] = None
    asker = envelope_of(request, "r").asker
    assert (asker.key_name, asker.user, asker.labels, asker.client) == (None, None, frozenset(), HERE)


def test_a_label_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="no label"):
        envelope_of(asked(("x-mycoswarm-labels", "Private")), "r")
