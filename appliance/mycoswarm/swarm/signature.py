"""Signatures of release files, as minisign writes them: Ed25519 over the file's BLAKE2b-512.

A public key is one line of base64: "Ed", a key id of 8 bytes, 32 bytes of key. A signature file has four lines: a
comment that nobody vouches for, base64 of "ED", the key id and 64 bytes of signature, a trusted comment, and a second
signature, over the first and the trusted comment. The older kind, "Ed", signs the file itself, which would have to be
in memory whole; it is refused.
"""

import base64
import binascii
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mycoswarm.base.errors import TrustError

MAX_TEXT_CHARACTERS = 16_384
_KEY_BYTES, _ID_BYTES, _SIGNATURE_BYTES = 32, 8, 64
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose files may take this program's place."""

    key_id: bytes
    key: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature file, read and not yet checked. `comment` is the trusted one."""

    key_id: bytes
    signature: bytes
    comment: str
    over_all: bytes

    def check(self, key: PublicKey, digest: bytes) -> str:
        """Hold it against a file's BLAKE2b-512; gives the trusted comment.

        Raises:
            TrustError: another key's, or of another file, or the comment was altered.
        """
        if self.key_id != key.key_id:
            raise _distrust(f"it is of key {_shown(self.key_id)}, and {_shown(key.key_id)} is trusted")
        try:
            key.key.verify(self.signature, digest)
            key.key.verify(self.over_all, self.signature + self.comment.encode())
        except InvalidSignature as exc:
            raise _distrust("the file, or what the signature says of it, was altered") from exc
        return self.comment


def read_public_key(text: str) -> PublicKey:
    """Read a public key: the line alone, or its file.

    Raises:
        TrustError: it is none.
    """
    lines = [line for line in _lines(text) if not line.startswith(_UNTRUSTED.strip())]
    if len(lines) != 1:
        raise _distrust("the public key is not one line")
    raw = _decoded(lines[0])
    if len(raw) != 2 + _ID_BYTES + _KEY_BYTES or raw[:2] != b"Ed":
        raise _distrust("the public key is not one of minisign")
    return PublicKey(raw[2 : 2 + _ID_BYTES], Ed25519PublicKey.from_public_bytes(raw[2 + _ID_BYTES :]))


def read_signature(text: str) -> Signature:
    """Read a signature file.

    Raises:
        TrustError: it is none, or of the older kind.
    """
    lines = _lines(text)
    if len(lines) != 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise _distrust("the signature is not a file of minisign")
    raw, over_all = _decoded(lines[1]), _decoded(lines[3])
    if raw[:2] == b"Ed":
        raise _distrust("the signature is of minisign's older kind: sign with `minisign -S`, not with -l")
    if raw[:2] != b"ED" or len(raw) != 2 + _ID_BYTES + _SIGNATURE_BYTES or len(over_all) != _SIGNATURE_BYTES:
        raise _distrust("the signature is not one of minisign")
    comment = lines[2].removeprefix(_TRUSTED)
    return Signature(raw[2 : 2 + _ID_BYTES], raw[2 + _ID_BYTES :], comment, over_all)


def _lines(text: str) -> list[str]:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise _distrust("it is too long to be one of minisign")
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]


def _decoded(line: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _distrust("there is something in it that is not base64") from exc


def _shown(key_id: bytes) -> str:
    return key_id[::-1].hex().upper()  # as minisign prints it: a number, least byte first in the file


def _distrust(why: str) -> TrustError:
    return TrustError(
        f"the signature does not hold: {why}",
        hint="Nothing was changed. Fetch the file and its signature again, from where you know them.",
        code="bad_signature",
    )
