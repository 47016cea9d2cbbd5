"""Enrolment: the words with which a node and a coordinator come to trust each other, and how a node takes up a swarm.

Two ways lead in: a join token (admission.py) and adoption (adoption.py). Both speak JSON lines over TLS 1.3 with
self-signed node keys, at a door of their own: the peer listener refuses at the handshake everything that the swarm's
authority has not issued, and must never learn exceptions. The door is open only while it is needed.

Python's ssl cannot take an unverified client certificate, so only the listening side shows its key in the handshake.
The other side signs, with its node key, a transcript that holds the listener's TLS key and a nonce of the listener's:
somebody in between has another TLS key, and the signature does not fit.
"""

from dataclasses import dataclass

import msgspec

from mycoswarm.base.errors import EnrolmentError, ProtocolError, TrustError
from mycoswarm.swarm.identity import Identity, Membership
from mycoswarm.swarm.key import fingerprint_of, public_of
from mycoswarm.swarm.roster import HeldRoster, Roster, SignedRoster, forget_roster, open_roster

VERSION = 1
NONCE_BYTES = 32
MAX_LINE_BYTES = 2 << 20  # a grant holds a roster, in base64


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="word"):
    """Base of all words at the door. `public` is a node key's SubjectPublicKeyInfo, DER."""


class JoinRequest(Message, frozen=True, tag="join"):
    """Node to coordinator, first: which token, and who asks."""

    version: int
    token_id: str
    public: bytes
    name: str
    addresses: tuple[str, ...]
    nonce: bytes


class JoinProof(Message, frozen=True, tag="proof"):
    """Coordinator to node: the authority's signature over this very exchange."""

    authority_pem: str
    nonce: bytes
    signature: bytes


class JoinClaim(Message, frozen=True, tag="claim"):
    """Node to coordinator: it knows the secret, and holds its node key. Both over this very exchange."""

    proof: bytes
    signature: bytes


class Offer(Message, frozen=True, tag="offer"):
    """Coordinator to node, first: who offers adoption, and a commitment to a nonce."""

    version: int
    authority_pem: str
    public: bytes
    name: str
    commitment: bytes


class Reply(Message, frozen=True, tag="reply"):
    """Node to coordinator: who it is, and its nonce."""

    public: bytes
    name: str
    addresses: tuple[str, ...]
    nonce: bytes


class Reveal(Message, frozen=True, tag="reveal"):
    """Coordinator to node: the nonce behind the commitment, and the authority's signature over this very exchange."""

    nonce: bytes
    signature: bytes


class Agreed(Message, frozen=True, tag="agreed"):
    """Node to coordinator: its owner confirmed the code. Signed with its node key over this very exchange."""

    signature: bytes


class Grant(Message, frozen=True, tag="grant"):
    """Coordinator to node, last but one: all that a member holds."""

    authority_pem: str
    certificate_pem: str
    roster: SignedRoster


class Stored(Message, frozen=True, tag="stored"):
    """Node to coordinator, last: it is on disk."""


class Refusal(Message, frozen=True, tag="refusal"):
    """Either to the other, instead of the next word: no, and why."""

    code: str
    message: str
    hint: str


AnyMessage = JoinRequest | JoinProof | JoinClaim | Offer | Reply | Reveal | Agreed | Grant | Stored | Refusal

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyMessage)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a node has of its swarm after enrolment; `name` is what it goes by there."""

    membership: Membership
    name: str
    roster: Roster
    signed_roster: SignedRoster


def encode_message(message: Message) -> bytes:
    """Write one word as one line."""
    return _encoder.encode(message) + b"\n"


def decode_message(line: bytes) -> Message:
    """Read one word.

    Raises:
        ProtocolError: not one of ours.
    """
    try:
        message: Message = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ProtocolError(f"the other side does not speak our enrolment: {exc}") from exc
    return message


def transcript(purpose: str, *parts: bytes) -> bytes:
    """Write what is signed: the purpose, then each part with its length, so that no two lists read the same."""
    return f"mycoswarm {purpose} {VERSION}\n".encode() + b"".join(len(p).to_bytes(4, "big") + p for p in parts)


def check_version(version: int) -> None:
    """Hold that both sides speak the same enrolment.

    Raises:
        EnrolmentError: they do not.
    """
    if version != VERSION:
        hint = "Update mycoSwarm on both machines to the same version."
        raise EnrolmentError(f"the other side enrols by version {version}, this one by {VERSION}", hint=hint)


def check_nonce(nonce: bytes) -> bytes:
    """Give the nonce back.

    Raises:
        ProtocolError: not of the right length.
    """
    if len(nonce) != NONCE_BYTES:
        raise ProtocolError(f"a nonce of {len(nonce)} bytes where {NONCE_BYTES} belong")
    return nonce


def open_grant(grant: Grant, *, identity: Identity, swarm_id: str, coordinator_public: bytes) -> Enrolled:
    """Check a grant against what was proven before: the swarm, its coordinator's key, and this node's own key.

    Raises:
        EnrolmentError: it is not for this node, or not of that swarm and coordinator.
    """
    try:
        if fingerprint_of(public_of(grant.authority_pem)) != swarm_id:
            raise EnrolmentError("the certificate comes from another swarm than the one that was proven")
        roster = open_roster(grant.roster, swarm_id=swarm_id, authority_pem=grant.authority_pem)
    except EnrolmentError:
        raise
    except TrustError as exc:
        raise EnrolmentError(f"what the coordinator granted does not hold: {exc.message}") from exc
    coordinator, mine = roster.coordinator, roster.find(identity.node_id)
    if coordinator is None or coordinator.fingerprint != fingerprint_of(coordinator_public):
        raise EnrolmentError("the roster names another coordinator than the one that was proven")
    if mine is None or mine.fingerprint != identity.fingerprint or mine.role != "worker":
        raise EnrolmentError("the roster does not hold this node")
    membership = Membership(
        swarm_id=swarm_id,
        role="worker",
        coordinator_id=coordinator.node_id,
        authority_pem=grant.authority_pem,
        certificate_pem=grant.certificate_pem,
    )
    return Enrolled(membership, mine.name, roster, grant.roster)


def take_up(identity: Identity, enrolled: Enrolled) -> None:
    """Store on this node that it belongs to the swarm: the roster first, then, as the last step, the membership.

    Raises:
        EnrolmentError: the certificate does not hold, or this node has a swarm already.
        StorageError: it cannot be written; the node is unclaimed as before.
    """
    membership = enrolled.membership
    with identity.enrolling:
        identity.check(membership)
        forget_roster(identity.folder)
        held = HeldRoster(identity.folder, swarm_id=membership.swarm_id, authority_pem=membership.authority_pem)
        held.accept(enrolled.signed_roster)
        identity.enrol(membership, name=enrolled.name)
