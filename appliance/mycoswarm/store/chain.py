"""The chain of the ledger: rows, their digests, what is signed, and their form as lines for others to check. Pure.

The formula, for who checks an exported ledger with a program of their own. `text(x)` is the number of bytes of x in
UTF-8, as 8 bytes with the highest first, then those bytes; for a null it is 8 bytes of 255.

    digest    = hex(SHA-256("mycoswarm ledger row 1\\n" + at as IEEE 754 double, highest byte first
                            + text(kind) + text(request_id) + text(body) + text(previous)
                            + seq as 8 bytes, highest first))
    signature = ECDSA on P-256 with SHA-256 by the node's key over "mycoswarm ledger signature 1\\n" + digest
    head's    = the same over "mycoswarm ledger head 1\\n" + seq in decimal + "\\n" + digest

`seq` counts 1, 2, 3 without a gap; `previous` is the digest of the row before, 64 zeros for the first; `body` is the
JSON text as it stands, byte for byte. The head names the newest row. An export is one JSON object a line: the rows in
order, each with its signature in hex, and last `{"head": {"seq", "digest", "signature"}}`.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mycoswarm.base.errors import InputError

if TYPE_CHECKING:
    from hashlib import _Hash

GENESIS = "0" * 64  # what the first row has for the digest of the row before it
MAX_BODY_BYTES = 16 << 20  # twice what a request may hold, so that one with its prompt fits

_NULL = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the ledger. `at` is seconds since 1970; `body` is JSON text.

    Text that is not UTF-8 in the file (somebody changed it) is held with surrogate escapes, so it can be shown.
    """

    seq: int
    at: float
    kind: str
    request_id: str | None
    body: str
    previous: str
    digest: str
    signature: bytes

    def content(self) -> dict[str, Any]:
        """What the body says.

        Raises:
            InputError: the body was changed and is no JSON object any more.
        """
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"row {self.seq} of the ledger is not JSON: {exc}", code="ledger_altered") from exc
        if not isinstance(content, dict):
            raise InputError(f"row {self.seq} of the ledger is no JSON object", code="ledger_altered")
        return content


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row's number and digest, signed on their own, so that cut-off rows are missed."""

    seq: int
    digest: str
    signature: bytes


def canonical(body: Mapping[str, Any]) -> str:
    """Write a body: JSON with sorted keys, no spaces, no escapes that are not needed.

    Raises:
        InputError: JSON cannot hold it, or it is too large.
    """
    try:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        size_bytes = len(text.encode())
    except (TypeError, ValueError, RecursionError) as exc:  # text with half a surrogate pair is a ValueError, too
        raise InputError(f"the ledger cannot keep this: {exc}") from exc
    if size_bytes > MAX_BODY_BYTES:
        raise InputError(f"the ledger keeps at most {MAX_BODY_BYTES >> 20} MiB in a row", code="too_large")
    return text


def unnumbered(row: Row) -> "_Hash":
    """Digest all of a row but its number."""
    state = hashlib.sha256(b"mycoswarm ledger row 1\n" + struct.pack(">d", row.at))
    for field in (row.kind, row.request_id, row.body, row.previous):
        if field is None:
            state.update(_NULL)
        else:
            data = field.encode("utf-8", "surrogateescape")
            state.update(len(data).to_bytes(8, "big") + data)
    return state


def numbered(state: "_Hash", seq: int) -> str:
    """Finish the digest of a row as number `seq`; `state` may be used again."""
    state = state.copy()
    state.update(struct.pack(">q", seq))
    return state.hexdigest()


def row_words(digest: str) -> bytes:
    """Give what a row's signature is over."""
    return b"mycoswarm ledger signature 1\n" + digest.encode("utf-8", "surrogateescape")


def head_words(seq: int, digest: str) -> bytes:
    """Give what the head's signature is over."""
    return b"mycoswarm ledger head 1\n%d\n" % seq + digest.encode("utf-8", "surrogateescape")


def write_line(entry: Row | Head) -> str:
    """Write a row or the head as one line of an export, without its end."""
    fields = {**asdict(entry), "signature": entry.signature.hex()}
    return json.dumps(fields if isinstance(entry, Row) else {"head": fields}, sort_keys=True, separators=(",", ":"))


def read_line(line: str) -> Row | Head:
    """Read one line of an export.

    Raises:
        InputError: it is no row and no head.
    """
    try:
        fields = json.loads(line)
        if fields.keys() == {"head"}:
            fields = fields["head"]
            return Head(_whole(fields["seq"]), _text(fields["digest"]), bytes.fromhex(fields["signature"]))
        request_id = fields["request_id"]
        return Row(
            seq=_whole(fields["seq"]),
            at=float(fields["at"]),
            kind=_text(fields["kind"]),
            request_id=None if request_id is None else _text(request_id),
            body=_text(fields["body"]),
            previous=_text(fields["previous"]),
            digest=_text(fields["digest"]),
            signature=bytes.fromhex(fields["signature"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as exc:
        raise InputError(f"a line is no row of a ledger: {exc!r}") from exc


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise InputError("a row's number is no whole number of 64 bits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError("a field of a row is no text")
    value.encode("utf-8", "surrogateescape")  # ValueError where no file could hold it
    return value
