"""External endpoints: OpenAI-compatible servers that the owner registered, each with its own key.

Covered: a server's key is given out by `Endpoints.secret` alone; it stands in no repr, no error and no log, and is
overwritten in the file when it is removed. An address is kept in one normal form without a user, a query or
another way to write a number. Not covered: who reads the node's own files reads the keys, for they must be sent as
they are. And where an address leads is not believed here: that is looked at for each call.
"""

import json
import re
import threading
from dataclasses import dataclass
from typing import Literal, cast

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.base.url import read_base
from mycoswarm.store.database import Store

MAX_ENDPOINTS = 64
MAX_MODELS = 256

_NAME = re.compile(r"[a-z0-9-]{1,32}")
_SECRET = re.compile(r"[!-~]{1,4096}")  # what may stand in a header

EndpointPlace = Literal["LAN", "outside"]

ENDPOINT_PLACES: tuple[EndpointPlace, ...] = ("LAN", "outside")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One registered server. `place` is where the owner expects it; `models` are those it serves, () where that is not
    known. `url` is what comes before `/chat/completions`, in its normal form; without a path it means `/v1`.
    `added_at`: seconds since 1970."""

    name: str
    url: str
    place: EndpointPlace
    models: tuple[str, ...]
    has_secret: bool
    added_at: float
    added_by: str


class Endpoints:
    """All endpoints of one node, held in memory. Blocking where it writes; thread-safe."""

    def __init__(self, store: Store) -> None:
        """Read the endpoints.

        Raises:
            StorageError: they could not be read.
        """
        self._store = store
        self._changing = threading.Lock()
        found = store.read("SELECT name, url, place, models, secret, added_at, added_by FROM endpoints")
        # Replaced as a whole on each change, so that readers need no lock.
        self._known: dict[str, tuple[Endpoint, str | None]] = {
            str(name): (
                Endpoint(
                    name=str(name),
                    url=str(url),
                    place=cast(EndpointPlace, place),  # the table holds no other
                    models=tuple(json.loads(models)),
                    has_secret=secret is not None,
                    added_at=float(at),
                    added_by=str(by),
                ),
                secret,
            )
            for name, url, place, models, secret, at, by in found
        }

    def add(
        self,
        name: str,
        url: str,
        *,
        place: str,
        by: str,
        now: float,
        secret: str | None = None,
        models: tuple[str, ...] = (),
    ) -> Endpoint:
        """Register a server.

        Raises:
            InputError: a bad or taken name, a bad address, place, key or model, or too many endpoints.
            StorageError: it could not be written.
        """
        endpoint = Endpoint(
            name=_checked_name(name),
            url=normal_url(url),
            place=_checked_place(place),
            models=_checked_models(models),
            has_secret=_checked_secret(secret) is not None,
            added_at=now,
            added_by=_checked_words(by, "who adds an endpoint"),
        )
        with self._changing:
            if name in self._known:
                raise InputError(f"an endpoint named {name!r} exists", hint="Take another name, or remove that first.")
            if len(self._known) >= MAX_ENDPOINTS:
                raise InputError(f"there are {MAX_ENDPOINTS} endpoints already", hint="Remove one first.")
            self._store.write(
                "INSERT INTO endpoints (name, url, place, models, secret, added_at, added_by)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, endpoint.url, place, json.dumps(endpoint.models), secret, now, by),
            )
            self._known = {**self._known, name: (endpoint, secret)}
        return endpoint

    def remove(self, name: str) -> None:
        """Take a server, and its key, out of the register.

        Raises:
            NotFoundError: no endpoint of that name.
            StorageError: it could not be written.
        """
        with self._changing:
            self._find(name)
            self._store.write("DELETE FROM endpoints WHERE name = ?", (name,))
            self._known = {known: entry for known, entry in self._known.items() if known != name}
            self._store.forget()

    def get(self, name: str) -> Endpoint:
        """One endpoint.

        Raises:
            NotFoundError: no endpoint of that name.
        """
        return self._find(name)[0]

    def entries(self) -> tuple[Endpoint, ...]:
        """All endpoints by name."""
        return tuple(endpoint for _, (endpoint, _) in sorted(self._known.items()))

    def registered(self, name: str) -> tuple[Endpoint, str | None]:
        """One endpoint and its key, of one and the same registration.

        Raises:
            NotFoundError: no endpoint of that name.
        """
        return self._find(name)

    def secret(self, name: str) -> str | None:
        """The key that a server wants, for the one header that it is sent in; None where it wants none.

        Raises:
            NotFoundError: no endpoint of that name.
        """
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[Endpoint, str | None]:
        found = self._known.get(name)
        if found is None:
            raise NotFoundError(
                f"there is no endpoint named {name[:80]!r}", hint="`mycoswarm-node endpoints list` shows them."
            )
        return found


def normal_url(text: str) -> str:
    """Give an endpoint's address in its one normal form.

    Raises:
        InputError: no such address; the message does not show it.
    """
    return str(read_base(text))


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} is no name for an endpoint", hint="Take 1 to 32 small letters, digits or hyphens."
        )
    return name


def _checked_place(place: str) -> EndpointPlace:
    found = next((one for one in ENDPOINT_PLACES if one == place), None)
    if found is None:
        raise InputError(f"{place[:80]!r} is no place for an endpoint", hint=f"Take {' or '.join(ENDPOINT_PLACES)}.")
    return found


def _checked_models(models: tuple[str, ...]) -> tuple[str, ...]:
    if len(models) > MAX_MODELS:
        raise InputError(f"an endpoint has at most {MAX_MODELS} models named")
    return tuple(dict.fromkeys(_checked_words(model, "the name of a model") for model in models))


def _checked_words(text: str, what: str) -> str:
    if not 0 < len(text) <= 200 or not text.isprintable():
        raise InputError(f"{what} is 1 to 200 characters on one line")
    return text


def _checked_secret(secret: str | None) -> str | None:
    if secret is not None and not _SECRET.fullmatch(secret):
        raise InputError(
            "this cannot be a server's key", hint="Take it as the server shows it: without spaces, at most 4096 signs."
        )
    return secret
