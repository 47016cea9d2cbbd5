"""A node's card: what it says of itself, over the authenticated channel only. Nothing in it is learnt from mDNS."""

import importlib.metadata
import secrets
from typing import Annotated, Any

import msgspec

from mycoswarm.base.errors import InputError, ProtocolError, UnsupportedError
from mycoswarm.swarm.dial import parse_address
from mycoswarm.swarm.identity import is_name

WIRE_VERSION = 2  # of frames, orders, reports and tickets together; raised when any of them changes
MAX_CARD_BYTES = 4 << 20  # dozens of models with their chat templates
_MAX_ADDRESSES = 32
_MAX_MODELS = 1024
_MAX_BYTES = 1 << 60  # of memory, which sums and speeds are reckoned with


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node, now. `facts` is its machine as `detect --json` writes it; `models` are facts of the files it holds.

    `instance_id` is drawn at each start of the daemon: one node id with two of them at once is a copied key.
    """

    node_id: str
    instance_id: str
    name: str
    addresses: tuple[str, ...]
    wire_version: int
    llama_version: str
    shard_format: int
    facts: dict[str, Any] = {}
    models: tuple[dict[str, Any], ...] = ()
    free_memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=_MAX_BYTES)] | None = None


def encode_card(card: Card) -> bytes:
    """Write a card.

    Raises:
        ProtocolError: longer than `MAX_CARD_BYTES`.
    """
    data = msgspec.json.encode(card)
    if len(data) > MAX_CARD_BYTES:
        raise ProtocolError(f"this node's card has {len(data)} bytes", side="local", hint="Take models off its shelf.")
    return data


def decode_card(data: bytes, *, node_id: str) -> Card:
    """Read the card of the node whose certificate the channel showed.

    Raises:
        ProtocolError: not a card, or another node's.
    """
    if len(data) > MAX_CARD_BYTES:
        raise ProtocolError(f"a card of more than {MAX_CARD_BYTES} bytes")
    try:
        card = msgspec.json.decode(data, type=Card)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ProtocolError(f"a card cannot be read: {exc}") from exc
    if card.node_id != node_id:
        raise ProtocolError(f"node {node_id} showed the card of {card.node_id}")
    if len(card.addresses) > _MAX_ADDRESSES or len(card.models) > _MAX_MODELS:
        raise ProtocolError(f"the card of node {node_id} lists too much")
    if not is_name(card.name) or max(len(card.instance_id), len(card.llama_version)) > 64:
        raise ProtocolError(f"the card of node {node_id} is out of bounds")
    try:
        for address in card.addresses:
            parse_address(address)
    except InputError as exc:
        raise ProtocolError(f"the card of node {node_id} names an address that is none") from exc
    return card


def check_versions(mine: Card, theirs: Card) -> None:
    """Hold that two nodes can work in one ring.

    Raises:
        UnsupportedError: they cannot; it names the node to update.
    """
    for what, ours, other in (
        ("wire version", mine.wire_version, theirs.wire_version),
        ("llama.cpp", mine.llama_version, theirs.llama_version),
        ("shard format", mine.shard_format, theirs.shard_format),
    ):
        if ours != other:
            older = theirs.name if _parts(other) < _parts(ours) else mine.name
            raise UnsupportedError(
                f"{mine.name} has {what} {ours} and {theirs.name} has {other}: they cannot share a ring",
                hint=f"Update mycoSwarm on {older}.",
                code="version_mismatch",
            )


def llama_version() -> str:
    """Give the version of the installed llama.cpp binding without loading it; "none" where it is missing."""
    return _installed("llama_cpp_python")


def own_version() -> str:
    """Give the version of this program; "none" where it is run without having been installed."""
    return _installed("mycoswarm")


def new_instance_id() -> str:
    """Draw the id of one run of the daemon."""
    return secrets.token_hex(8)


def _parts(version: str | int) -> tuple[int, ...]:
    return tuple(int(part) for part in str(version).split(".") if part.isascii() and part.isdigit())


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
