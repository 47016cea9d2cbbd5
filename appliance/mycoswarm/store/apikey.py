"""API keys: shown once when made, kept as a hash, checked in constant time."""

import hashlib
import hmac
import json
import re
import secrets
import threading
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.routing.clause import is_label
from mycoswarm.store.database import Store

PREFIX = "msk-"  # so that a person, and a secret scanner, sees what it is
SECRET_BYTES = 32
MAX_KEYS = 1000
MAX_LABELS = 16
MAX_REQUESTS_PER_MINUTE = 6000  # 100 a second: allowance.py remembers each request of the last minute
MAX_TOKENS_PER_DAY = 10**12

_NAME = re.compile(r"[\w.@ -]{1,64}")
_COLUMNS = "name, made_at, used_at, labels, user, is_owner, requests_per_minute, tokens_per_day"


class Terms(TypedDict, total=False):
    """What a key is made with besides its name; see `Key`. What is left out is none, no or without a limit."""

    labels: tuple[str, ...]
    user: str | None
    is_owner: bool
    requests_per_minute: int | None
    tokens_per_day: int | None


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: never the secret. Times are seconds since 1970; `used_at` None is never.

    `labels` are put on each of its requests. `user` is whom it was given to. `is_owner`: it may use the owner's routes
    over the network. A limit of None is no limit.
    """

    name: str
    made_at: float
    used_at: float | None = None
    labels: tuple[str, ...] = ()
    user: str | None = None
    is_owner: bool = False
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None


class Keys:
    """All API keys of one node. The hashes are held in memory, so a check costs no disk."""

    def __init__(self, store: Store) -> None:
        """Read the keys.

        Raises:
            StorageError: they could not be read.
        """
        self._store = store
        self._changing = threading.Lock()
        rows = store.read(f"SELECT digest, {_COLUMNS} FROM keys")  # noqa: S608  # our own column names
        # Replaced as a whole on each change, so that `check` may walk over it while another thread makes a key.
        self._known = {str(row[1]): (bytes(row[0]), _key(row[1:])) for row in rows}

    def create(self, name: str, now: float, **terms: Unpack[Terms]) -> str:
        """Make a key and give back its secret, which cannot be had again.

        Raises:
            InputError: a bad or taken name, label, user or limit, or too many keys.
            StorageError: it could not be written.
        """
        key = _checked(Key(name, now, **terms))
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        digest = _digest(secret)
        with self._changing:
            if name in self._known:
                raise InputError(f"a key named {name!r} exists", hint="Take another name, or revoke that key first.")
            if len(self._known) >= MAX_KEYS:
                raise InputError(f"there are {MAX_KEYS} keys already", hint="Revoke some with `keys revoke NAME`.")
            limits = (key.requests_per_minute, key.tokens_per_day)
            self._store.write(
                f"INSERT INTO keys (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # ours
                (digest, name, now, None, json.dumps(key.labels), key.user, key.is_owner, *limits),
            )
            self._known = {**self._known, name: (digest, key)}
        return secret

    def check(self, secret: str) -> Key | None:
        """The key with this secret, or None. Takes the same time whichever key it is. `used_at` may be a little old."""
        digest, found = _digest(secret), None
        for known, key in self._known.values():
            if hmac.compare_digest(known, digest):
                found = key
        return found

    def note_use(self, name: str, now: float) -> None:
        """Remember when a key was last used, to the minute: an answer costs at most one write a minute for it.

        Raises:
            StorageError: it could not be written.
        """
        with self._changing:
            digest, key = self._known.get(name, (b"", None))
            if key is None or (key.used_at is not None and key.used_at >= now - 60):
                return
            self._store.write("UPDATE keys SET used_at = ? WHERE name = ?", (now, name))
            self._known = {**self._known, name: (digest, replace(key, used_at=now))}

    def find(self, name: str) -> Key | None:
        """The key of this name, or None."""
        found = self._known.get(name)
        return found[1] if found else None

    def entries(self) -> list[Key]:
        """All keys, oldest first."""
        return sorted((key for _, key in self._known.values()), key=lambda key: (key.made_at, key.name))

    def revoke(self, name: str) -> None:
        """End a key at once.

        Raises:
            NotFoundError: no key of that name.
            StorageError: it could not be written.
        """
        with self._changing:
            if name not in self._known:
                raise NotFoundError(f"there is no key named {name!r}", hint="`mycoswarm-node keys list` shows them.")
            self._store.write("DELETE FROM keys WHERE name = ?", (name,))
            self._known = {known: entry for known, entry in self._known.items() if known != name}


def _checked(key: Key) -> Key:
    """Hold a new key against all bounds, and give it with each label once."""
    if not _NAME.fullmatch(key.name):
        raise InputError(f"{key.name!r} is no name for a key", hint="Take 1 to 64 letters, digits, or any of . @ - _")
    if key.user is not None and not _NAME.fullmatch(key.user):
        raise InputError(f"{key.user!r} is no name for a user", hint="Take 1 to 64 letters, digits, or any of . @ - _")
    labels = tuple(dict.fromkeys(key.labels))
    for label in labels:
        if not is_label(label):
            raise InputError(f"{label[:80]!r} is no label", hint="Take 1 to 32 small letters, digits or hyphens.")
    if len(labels) > MAX_LABELS:
        raise InputError(f"a key has at most {MAX_LABELS} labels", hint="Give it fewer.")
    for limit, most, words in (
        (key.requests_per_minute, MAX_REQUESTS_PER_MINUTE, "requests per minute"),
        (key.tokens_per_day, MAX_TOKENS_PER_DAY, "tokens per day"),
    ):
        if limit is not None and not 1 <= limit <= most:
            raise InputError(f"{limit} {words} is no limit", hint=f"Take 1 to {most}, or leave it out for no limit.")
    return replace(key, labels=labels)


def _key(row: tuple[Any, ...]) -> Key:
    name, made_at, used_at, labels, user, is_owner, requests_per_minute, tokens_per_day = row
    return Key(
        name=str(name),
        made_at=float(made_at),
        used_at=None if used_at is None else float(used_at),
        labels=tuple(json.loads(labels)),
        user=user,
        is_owner=bool(is_owner),
        requests_per_minute=requests_per_minute,
        tokens_per_day=tokens_per_day,
    )


def _digest(secret: str) -> bytes:
    # The secret has 256 random bits, so a slow password hash would protect nothing.
    return hashlib.sha256(secret.encode()).digest()
