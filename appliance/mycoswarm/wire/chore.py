"""What crosses a tool stream, one JSON line each: the node's nonce, the coordinator's order, the node's answer."""

from typing import Annotated

import msgspec

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.ticket import Sealed

MAX_ARGUMENTS = 256 << 10  # characters; a file of 200 KB can be written with one call
MAX_MEANS = 32 << 10  # characters
MAX_TEXT = 256 << 10  # characters of a result


class Greeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line", tag="nonce"):
    """Node to coordinator, first: the ticket for this stream must name this nonce."""

    nonce: str


class Chore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="line", tag="chore"):
    """Coordinator to node: do this. `ticket` holds the digests of `arguments` and of `means`: what the owner set for
    this tool."""

    ticket: Sealed
    arguments: str
    means: Annotated[str, msgspec.Meta(max_length=MAX_MEANS)] = ""


class Farewell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="line", tag="farewell"):
    """Coordinator to node: the run is over, remove its workspace. `ticket` is one for the tool `release`."""

    ticket: Sealed


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="line", tag="done"):
    """Node to coordinator: what came of it. `ok` False: `text` says why and `code` in what way."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    ok: bool
    seconds: float
    code: Annotated[str, msgspec.Meta(max_length=64)] = ""  # it goes into the coordinator's ledger


class Failed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="line", tag="failed"):
    """Node to coordinator: it did nothing, or could not finish."""

    code: str
    message: str
    hint: str = ""


ToolLine = Greeting | Chore | Farewell | Done | Failed

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ToolLine)


def write_chore(line: ToolLine) -> bytes:
    """One line, newline included."""
    return _encoder.encode(line) + b"\n"


def read_chore(line: bytes) -> ToolLine:
    """Read one line.

    Raises:
        ProtocolError: none of ours.
    """
    try:
        told: ToolLine = _decoder.decode(line)
        return told
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError(f"a line of a tool stream cannot be read: {exc}") from exc
