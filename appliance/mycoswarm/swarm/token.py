"""Join tokens: one text that lets one node join one swarm, once, for a while. And the coordinator's book of them.

The text holds the fingerprint of the swarm's authority, the coordinator's node id and addresses, and a secret of 128
bits. The book stores only the public key grown from the secret: whoever steals the book can join nothing.
Covered: typing errors (checksum), expiry, reuse, guessing (128 bits). Not covered: a stolen text before its first use,
and a coordinator whose wall clock is set back, where tokens live longer.
"""

import base64
import binascii
import secrets
import threading
import zlib
from dataclasses import dataclass

import msgspec

from mycoswarm.base.errors import EnrolmentError, InputError, StorageError
from mycoswarm.swarm.dial import parse_address
from mycoswarm.swarm.folder import Folder
from mycoswarm.swarm.key import secret_public

PREFIX = "mss1-"
MAX_TOKENS = 64
MAX_LIFETIME_S = 7 * 86400.0
_MAX_TEXT = 2048
_MAX_ADDRESSES = 16
_MAX_USES = 256  # as many as a roster may hold
_SECRET_BYTES, _ID_BYTES = 16, 6
_FIXED_BYTES = 32 + 16 + _ID_BYTES + _SECRET_BYTES
_FILE = "tokens.json"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What the text says. `addresses` are the coordinator's enrolment door, "host:port"."""

    swarm_id: str
    coordinator_id: str
    token_id: str
    secret: bytes
    addresses: tuple[str, ...]

    def __repr__(self) -> str:
        """Leave the secret out: representations end up in logs."""
        return f"JoinToken({self.token_id} of swarm {self.swarm_id[:16]})"

    @property
    def text(self) -> str:
        """The token as people copy it."""
        fixed = bytes.fromhex(self.swarm_id + self.coordinator_id + self.token_id) + self.secret
        data = fixed + ",".join(self.addresses).encode()
        data += zlib.crc32(data).to_bytes(4, "big")
        return PREFIX + base64.b32encode(data).decode().rstrip("=").lower()


def parse_token(text: str) -> JoinToken:
    """Read a token's text.

    Raises:
        EnrolmentError: it is none, or was mistyped or cut off.
    """
    broken = EnrolmentError(
        "this is no whole join token",
        hint=f"Copy all of it, from {PREFIX} on; or make a fresh one with `mycoswarm-node token` on the coordinator.",
        code="bad_token",
    )
    body = "".join(text.split())
    if not body.startswith(PREFIX) or len(body) > _MAX_TEXT:
        raise broken
    body = body.removeprefix(PREFIX).upper()
    try:
        data = base64.b32decode(body + "=" * (-len(body) % 8))
        data, checksum = data[:-4], data[-4:]
        if len(data) < _FIXED_BYTES or zlib.crc32(data).to_bytes(4, "big") != checksum:
            raise broken
        addresses = tuple(data[_FIXED_BYTES:].decode("ascii").split(","))
        if len(addresses) > _MAX_ADDRESSES:
            raise broken
        for address in addresses:
            parse_address(address)
    except (binascii.Error, ValueError, InputError) as exc:
        raise broken from exc
    return JoinToken(
        swarm_id=data[:32].hex(),
        coordinator_id=data[32:48].hex(),
        token_id=data[48:54].hex(),
        secret=data[54:_FIXED_BYTES],
        addresses=addresses,
    )


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the coordinator keeps of a token. `used_by` are key fingerprints; `expires_s` is wall clock time."""

    token_id: str
    public: bytes
    expires_s: float
    uses: int
    used_by: tuple[str, ...] = ()


class TokenBook:
    """The coordinator's tokens, in a file. `now` is wall clock time, in seconds since 1970."""

    def __init__(self, folder: Folder) -> None:
        """Read the file, where there is one.

        Raises:
            StorageError: it cannot be read.
        """
        self._folder = folder
        self._lock = threading.Lock()
        self._records: dict[str, TokenRecord] = {}
        stored = folder.read(_FILE)
        if stored is not None:
            try:
                records = msgspec.json.decode(stored, type=tuple[TokenRecord, ...])
            except msgspec.MsgspecError as exc:
                hint = f"Remove {folder.path / _FILE}; tokens that are not used yet are lost with it."
                raise StorageError(f"the stored join tokens are damaged: {exc}", hint=hint) from exc
            self._records = {record.token_id: record for record in records}

    def mint(self, now: float, *, lifetime_s: float, uses: int = 1) -> tuple[str, bytes]:
        """Make a token; gives its id and its secret, which is stored nowhere.

        Raises:
            InputError: too many tokens, or a lifetime or number of uses out of bounds.
            StorageError: the book cannot be written.
        """
        if not 0 < lifetime_s <= MAX_LIFETIME_S or not 0 < uses <= _MAX_USES:
            raise InputError(f"a token lives up to {MAX_LIFETIME_S / 86400:.0f} days and works 1 to {_MAX_USES} times")
        with self._lock:
            live = self._live(now)
            if len(live) >= MAX_TOKENS:
                raise InputError(f"there are {MAX_TOKENS} unused join tokens already", hint="Use one of them, or wait.")
            token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_bytes(_SECRET_BYTES)
            live[token_id] = TokenRecord(
                token_id=token_id, public=secret_public(secret), expires_s=now + lifetime_s, uses=uses
            )
            self._store(live)
        return token_id, secret

    def public_of(self, token_id: str, now: float) -> bytes:
        """Give the public key that proofs of this token's secret are checked with.

        Raises:
            EnrolmentError: no such token, or an expired one.
        """
        return self._record(token_id, now).public

    def redeem(self, token_id: str, fingerprint: str, now: float) -> None:
        """Use a token up for the holder of this key. The same key may come again, where an answer was lost.

        Raises:
            EnrolmentError: no such token, expired, or used by others already.
            StorageError: the book cannot be written; nothing was used up.
        """
        with self._lock:
            record = self._record(token_id, now)
            if fingerprint in record.used_by:
                return
            if len(record.used_by) >= record.uses:
                raise EnrolmentError("this join token was used already", code="token_used")
            live = self._live(now)
            live[token_id] = msgspec.structs.replace(record, used_by=(*record.used_by, fingerprint))
            self._store(live)

    def revoke(self, fingerprint: str, now: float) -> None:
        """Drop every token that this key used: an expelled node does not come back with it.

        Raises:
            StorageError: the book cannot be written.
        """
        with self._lock:
            live = self._live(now)
            kept = {key: record for key, record in live.items() if fingerprint not in record.used_by}
            if kept != self._records:
                self._store(kept)

    def open_until(self, now: float) -> float | None:
        """Say when the last token that still lets somebody in expires; None where there is none."""
        open_ = [r.expires_s for r in self._records.values() if r.expires_s > now and len(r.used_by) < r.uses]
        return max(open_, default=None)

    def _record(self, token_id: str, now: float) -> TokenRecord:
        record = self._records.get(token_id)
        if record is None:
            raise EnrolmentError("the coordinator does not know this join token", code="unknown_token")
        if record.expires_s <= now:
            raise EnrolmentError("this join token has expired", code="token_expired")
        return record

    def _live(self, now: float) -> dict[str, TokenRecord]:
        return {key: record for key, record in self._records.items() if record.expires_s > now}

    def _store(self, records: dict[str, TokenRecord]) -> None:
        self._folder.write(_FILE, msgspec.json.encode(tuple(records.values())))
        self._records = records
