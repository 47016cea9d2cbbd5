"""Sessions of browsers, and the code that opens the first one: kept as hashes, so that a restart ends none of them.

A session stands for the API key that it was opened with and has no rights of its own: it ends with the key.
"""

import hashlib
import hmac
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mycoswarm.base.errors import ApiKeyError, StorageError
from mycoswarm.store.apikey import Key, Keys
from mycoswarm.store.database import Store

MAX_SESSIONS = 500  # of the key that has the most, the one used longest ago makes room: no guest ends an owner's
IDLE_S = 30 * 86400.0
CODE_S = 7 * 86400.0
CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # read off a screen: no 0, O, 1 or I
CODE_LENGTH = 12  # 60 bits
FIRST_KEY = "dashboard"


@dataclass(frozen=True, slots=True)
class _Session:
    key_name: str
    key_made_at: float
    used_at: float


class Logins:
    """All sessions of one node, held in memory too, so that a request costs no disk."""

    def __init__(self, store: Store, keys: Keys) -> None:
        """Read them.

        Raises:
            StorageError: they could not be read.
        """
        self._store, self._keys = store, keys
        self._changing = threading.Lock()
        rows = store.read("SELECT digest, key_name, key_made_at, used_at FROM sessions")
        self._known = {bytes(row[0]): _Session(str(row[1]), float(row[2]), float(row[3])) for row in rows}

    def open(self, secret: str, now: float) -> tuple[str, Key]:
        """Begin a session with an API key; gives its token, which cannot be had again. Blocks.

        Raises:
            ApiKeyError: the key is not known.
            StorageError: it could not be written.
        """
        key = self._keys.check(secret)
        if key is None:
            raise ApiKeyError("the API key is not known here", hint="`mycoswarm-node keys list` shows which there are.")
        return self._begin(key, now), key

    def find(self, token: str, now: float) -> Key | None:
        """The key of a session; None where there is none, where it was idle too long, or its key is no more."""
        session = self._known.get(_digest(token))
        if session is None or now - session.used_at > IDLE_S:
            return None
        key = self._keys.find(session.key_name)
        return key if key is not None and key.made_at == session.key_made_at else None

    def note_use(self, token: str, now: float) -> None:
        """Remember when a session was last used, to the hour. Blocks.

        Raises:
            StorageError: it could not be written.
        """
        digest = _digest(token)
        with self._changing:
            session = self._known.get(digest)
            if session is None or not now - IDLE_S <= session.used_at <= now - 3600:
                return  # one that was idle too long is over, whoever shows it beside a key
            self._store.write("UPDATE sessions SET used_at = ? WHERE digest = ?", (now, digest))
            self._known = {**self._known, digest: replace(session, used_at=now)}

    def close(self, token: str) -> None:
        """End a session. Blocks.

        Raises:
            StorageError: it could not be written; it goes on.
        """
        digest = _digest(token)
        with self._changing:
            self._store.write("DELETE FROM sessions WHERE digest = ?", (digest,))
            self._known = {each: one for each, one in self._known.items() if each != digest}

    def new_code(self, now: float) -> str:
        """Make the one-time code that opens the dashboard where there is no key yet; an older one ends. Blocks.

        Raises:
            StorageError: it could not be written.
        """
        code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
        with self._store.transaction() as transaction:
            transaction.write("DELETE FROM setup_codes")
            transaction.write("INSERT INTO setup_codes (digest, made_at) VALUES (?, ?)", (_digest(code), now))
        return "-".join(code[start : start + 4] for start in range(0, CODE_LENGTH, 4))

    def redeem(self, code: str, now: float) -> tuple[str, Key, str]:
        """Take the code, make an owner's key, and begin a session with it: its token, the key and the key's secret.

        Raises:
            ApiKeyError: the code is wrong, used or too old.
            StorageError: it could not be written; the code still holds.
        """
        digest = _digest("".join(code.upper().split()).replace("-", ""))
        with self._changing:
            rows = self._store.read("SELECT digest, made_at FROM setup_codes")
            if not any(hmac.compare_digest(bytes(row[0]), digest) and now - float(row[1]) <= CODE_S for row in rows):
                raise ApiKeyError(
                    "the setup code is wrong, used or too old", hint="Make one with `mycoswarm-node keys setup-code`."
                )
            taken = {key.name for key in self._keys.entries()}
            name = next(
                name for number in range(1, len(taken) + 2) if (name := _numbered(FIRST_KEY, number)) not in taken
            )
            secret = self._keys.create(name, now, is_owner=True)
            self._store.write("DELETE FROM setup_codes")
        key = self._keys.find(name)
        if key is None:
            raise StorageError("the new key is not there")
        return self._begin(key, now), key, secret

    def _begin(self, key: Key, now: float) -> str:
        token = secrets.token_urlsafe(32)
        digest = _digest(token)
        with self._changing:
            kept = {each: one for each, one in self._known.items() if now - one.used_at <= IDLE_S}
            while len(kept) >= MAX_SESSIONS:
                del kept[_last_of_most(kept)]
            gone = self._known.keys() - kept.keys()
            with self._store.transaction() as transaction:
                for each in gone:
                    transaction.write("DELETE FROM sessions WHERE digest = ?", (each,))
                transaction.write(
                    "INSERT INTO sessions (digest, key_name, key_made_at, used_at) VALUES (?, ?, ?, ?)",
                    (digest, key.name, key.made_at, now),
                )
            session = _Session(key.name, key.made_at, now)
            self._known = {**kept, digest: session}
        return token


def _last_of_most(sessions: Mapping[bytes, _Session]) -> bytes:
    """Of the key with the most sessions, the one used longest ago."""
    most, _ = Counter(one.key_name for one in sessions.values()).most_common(1)[0]
    return min(
        (each for each, one in sessions.items() if one.key_name == most), key=lambda each: sessions[each].used_at
    )


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
