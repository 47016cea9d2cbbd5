"""API keys: shown once when made, kept as a hash, checked in constant time."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.store.database import Store

PREFIX = "msk-"  # so that a person, and a secret scanner, sees what it is
SECRET_BYTES = 32
MAX_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: never the secret. Times are seconds since 1970; `used_at` None is never."""

    name: str
    made_at: float
    used_at: float | None


class Keys:
    """All API keys of one node. The hashes are held in memory, so a check costs no disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digests = {str(name): bytes(digest) for name, digest in store.read("SELECT name, digest FROM keys")}

    def create(self, name: str, now: float) -> str:
        """Make a key and give back its secret, which cannot be had again.

        Raises:
            InputError: a bad or taken name, or too many keys.
            StorageError: it could not be written.
        """
        if not re.fullmatch(r"[\w.@ -]{1,64}", name):
            raise InputError(f"{name!r} is no name for a key", hint="Take 1 to 64 letters, digits, or any of . @ - _")
        if name in self._digests:
            raise InputError(f"a key named {name!r} exists", hint="Take another name, or revoke that key first.")
        if len(self._digests) >= MAX_KEYS:
            raise InputError(f"there are {MAX_KEYS} keys already", hint="Revoke some with `keys revoke NAME`.")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        digest = _digest(secret)
        self._store.write("INSERT INTO keys (name, digest, made_at) VALUES (?, ?, ?)", (name, digest, now))
        self._digests[name] = digest
        return secret

    def check(self, secret: str) -> str | None:
        """The name of the key with this secret, or None. Takes the same time whichever key it is."""
        digest, found = _digest(secret), None
        for name, known in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def note_use(self, name: str, now: float) -> None:
        """Remember when a key was last used, to the minute: an answer costs at most one write a minute for it.

        Raises:
            StorageError: it could not be written.
        """
        self._store.write(
            "UPDATE keys SET used_at = ? WHERE name = ? AND (used_at IS NULL OR used_at < ?)", (now, name, now - 60)
        )

    def entries(self) -> list[Key]:
        """All keys, oldest first.

        Raises:
            StorageError: they could not be read.
        """
        rows = self._store.read("SELECT name, made_at, used_at FROM keys ORDER BY made_at, name")
        return [Key(str(name), float(made), None if used is None else float(used)) for name, made, used in rows]

    def revoke(self, name: str) -> None:
        """End a key at once.

        Raises:
            NotFoundError: no key of that name.
            StorageError: it could not be written.
        """
        if not self._store.write("DELETE FROM keys WHERE name = ?", (name,)):
            raise NotFoundError(f"there is no key named {name!r}", hint="`mycoswarm-node keys list` shows them.")
        self._digests.pop(name, None)


def _digest(secret: str) -> bytes:
    # The secret has 256 random bits, so a slow password hash would protect nothing.
    return hashlib.sha256(secret.encode()).digest()
