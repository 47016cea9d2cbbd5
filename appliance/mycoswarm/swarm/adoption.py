"""Adoption: the owner picks a node at the coordinator, and both screens show the same six digits. Without sockets.

    coordinator                                      unclaimed node
    TLS 1.3, the listener's key: must be of the node id that the owner picked
    Offer: authority, own key, H(nonce C)    ──▶
                                             ◀──     Reply: own key (= the TLS key), nonce N
    Reveal: nonce C, authority's signature   ──▶     checks H(nonce C) and the signature
    shows code                                       shows code
                     the owner compares, and confirms on both
                                             ◀──     Agreed: node's signature
    Grant: certificate, roster               ──▶     checks and stores
                                             ◀──     Stored

    code = H(authority's key, coordinator's key, node's TLS key, commitment, nonce C, nonce N) mod 10^6

Why the code can be short (commit, then reveal: Vaudenay 2005, as in Bluetooth's numeric comparison): whoever is between
must have an exchange with each side, under a key of its own in at least one of them. Whatever it puts into either code
it has fixed before it learns the honest side's nonce: towards the coordinator its reply comes before nonce C is
revealed, towards the node its commitment comes before nonce N is sent. So each pair of exchanges is one blind guess:
the codes agree once in 10^6, and else the owner sees two codes. Offers to a node are limited (`MAX_OFFERS` in
`OFFER_WINDOW_S`), so that guesses cannot be piled up behind an owner who reads slowly: ten are one chance in 10^5.

A node confirms nothing by itself, and offers run out after `ADOPTION_S`. A rogue coordinator can show a code and cannot
make the owner confirm it; a rogue node cannot take the place of the one whose screen the owner reads.
Not covered: an owner who confirms without comparing.
"""

import asyncio
import hashlib
import secrets

from mycoswarm.base.errors import BusyError, EnrolmentError, ProtocolError, TrustError, UnreachableError
from mycoswarm.swarm.enrolment import (
    NONCE_BYTES,
    VERSION,
    Agreed,
    Enrolled,
    Grant,
    Offer,
    Reply,
    Reveal,
    check_nonce,
    check_version,
    open_grant,
    transcript,
)
from mycoswarm.swarm.identity import Identity, already_enrolled, clean_name
from mycoswarm.swarm.key import fingerprint_of, is_signed, node_id_of, public_of
from mycoswarm.swarm.registrar import Registrar

ADOPTION_S = 180.0  # to walk from one screen to the other
MAX_PENDING = 4  # offers shown side by side
MAX_OFFERS = 10
OFFER_WINDOW_S = 600.0
CODE_DIGITS = 6


class Adopter:
    """The coordinator's side of one exchange. `door_public`: the node's key as the TLS handshake showed it."""

    def __init__(self, registrar: Registrar, identity: Identity, *, node_id: str, door_public: bytes) -> None:
        """Begin.

        Raises:
            EnrolmentError: another node than the one picked listens.
        """
        if node_id_of(fingerprint_of(door_public)) != node_id:
            raise EnrolmentError("another node than the one you picked answers", code="wrong_node")
        self._registrar = registrar
        self._public = identity.key.public_der
        self._door_public = door_public
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._reply: Reply | None = None
        self._parts: tuple[bytes, ...] = ()
        self.offer = Offer(
            version=VERSION,
            authority_pem=registrar.authority.certificate_pem,
            public=self._public,
            name=identity.name,
            commitment=_commitment(self._nonce),
        )

    def reveal(self, reply: Reply) -> Reveal:
        """Take the node's reply, and only then open the commitment.

        Raises:
            EnrolmentError: the node names another key than its TLS listener's.
            ProtocolError: a second reply, or an impossible one.
        """
        if self._reply is not None:
            raise ProtocolError("a node replied twice to one offer")
        if reply.public != self._door_public:
            raise EnrolmentError("the node names another key than the one it listens with", code="wrong_key")
        self._reply = reply
        self._parts = _parts(self.offer, self._door_public, reply, self._nonce)
        authority = self._registrar.authority
        return Reveal(nonce=self._nonce, signature=authority.sign(transcript("adoption offer", *self._parts)))

    @property
    def code(self) -> str:
        """The six digits, once the commitment is open."""
        return _code(self._parts)

    @property
    def name(self) -> str:
        """What the node calls itself; once it is taken in, what it is called in the swarm."""
        entry = self._registrar.roster.find(node_id_of(fingerprint_of(self._door_public)))
        if entry is not None:
            return entry.name
        return clean_name(self._reply.name) if self._reply else ""

    def grant(self, agreed: Agreed) -> Grant:
        """Take the node in: its owner has confirmed there, and, as the caller knows, here. Waits for the disk.

        Raises:
            EnrolmentError: the signature is not the node's.
            InputError: the roster is full.
            StorageError: it cannot be written; the node is not in.
            ProtocolError: before a reply.
        """
        if self._reply is None:
            raise ProtocolError("a node agreed before it replied")
        if not is_signed(self._door_public, transcript("adoption agreed", *self._parts), agreed.signature):
            raise EnrolmentError("the node's agreement is not signed with its key", code="wrong_key")
        return self._registrar.admit(self._door_public, self._reply.name, self._reply.addresses)

    def take_back(self) -> None:
        """Take the node out again: it refused what was granted. Waits for the disk.

        Raises:
            StorageError: it cannot be written.
        """
        self._registrar.expel(node_id_of(fingerprint_of(self._door_public)))


class Adoptee:
    """The unclaimed node's side of one exchange."""

    def __init__(self, identity: Identity, offer: Offer, *, addresses: tuple[str, ...] = ()) -> None:
        """Take an offer.

        Raises:
            EnrolmentError: this node belongs to a swarm already, or another version.
            ProtocolError: an impossible offer.
        """
        if identity.membership is not None:
            raise already_enrolled(identity.membership.swarm_id)
        check_version(offer.version)
        try:
            self._authority = public_of(offer.authority_pem)
            coordinator = public_of(offer.public)
        except TrustError as exc:
            raise ProtocolError(f"an offer cannot be read: {exc.message}") from exc
        if coordinator != offer.public or len(offer.commitment) != hashlib.sha256().digest_size:
            raise ProtocolError("an offer is not in the form it should have")
        self._identity = identity
        self._offer = offer
        self._parts: tuple[bytes, ...] = ()
        self.swarm_id = fingerprint_of(self._authority)
        self.coordinator_id = node_id_of(fingerprint_of(coordinator))
        self.name = clean_name(offer.name)
        self.reply = Reply(
            public=identity.key.public_der,
            name=identity.name,
            addresses=addresses,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )

    def reveal(self, reveal: Reveal) -> str:
        """Check the opened commitment; gives the code to show.

        Raises:
            EnrolmentError: the nonce is not the one committed to, or the offer is not of that swarm's authority.
        """
        if _commitment(check_nonce(reveal.nonce)) != self._offer.commitment:
            raise EnrolmentError("the coordinator changed its nonce: somebody may be in between", code="wrong_nonce")
        parts = _parts(self._offer, self._identity.key.public_der, self.reply, reveal.nonce)
        if not is_signed(self._authority, transcript("adoption offer", *parts), reveal.signature):
            raise EnrolmentError("the coordinator does not hold its swarm's key", code="wrong_coordinator")
        self._parts = parts
        return _code(parts)

    def agree(self) -> Agreed:
        """Say that the owner confirmed the code here.

        Raises:
            EnrolmentError: this node has found a swarm since.
            ProtocolError: before the code was known.
        """
        if not self._parts:
            raise ProtocolError("nothing was revealed that could be agreed to", side="local")
        if self._identity.membership is not None:
            raise already_enrolled(self._identity.membership.swarm_id)
        return Agreed(signature=self._identity.key.sign(transcript("adoption agreed", *self._parts)))

    def enrolled(self, grant: Grant) -> Enrolled:
        """Check what was granted.

        Raises:
            EnrolmentError: it does not hold.
        """
        return open_grant(grant, identity=self._identity, swarm_id=self.swarm_id, coordinator_public=self._offer.public)


class Adoption:
    """An adoption that waits for its owner, on either screen. `peer_id` and `peer_name` are the other side's.

    `confirm` or `refuse` is the owner's word and counts once. `outcome` ends when the exchange does.
    """

    def __init__(self, *, code: str, peer_id: str, peer_name: str, swarm_id: str) -> None:
        self.code = code
        self.peer_id = peer_id
        self.peer_name = peer_name
        self.swarm_id = swarm_id
        loop = asyncio.get_running_loop()
        self._decision: asyncio.Future[bool] = loop.create_future()
        self._outcome: asyncio.Future[str] = loop.create_future()

    def __repr__(self) -> str:
        """Leave the code out: it is for screens, not for logs."""
        return f"Adoption(with {self.peer_name}, {self.peer_id})"

    @property
    def is_pending(self) -> bool:
        """Whether the exchange still runs."""
        return not self._outcome.done()

    @property
    def is_confirmed(self) -> bool:
        """Whether the owner confirmed on this screen."""
        return self._decision.done() and not self._decision.cancelled() and self._decision.result()

    def confirm(self) -> None:
        """The owner has compared the codes, and they are the same."""
        if not self._decision.done():
            self._decision.set_result(True)

    def refuse(self) -> None:
        """The owner does not want it, or the codes differ."""
        if not self._decision.done():
            self._decision.set_result(False)

    async def outcome(self) -> str:
        """Wait until the exchange has ended, `ADOPTION_S` at most; gives the name that the node goes by in the swarm.

        Raises:
            EnrolmentError: refused on either screen, or something did not hold.
            UnreachableError: the other side went away, or nobody confirmed in time.
            StorageError: one side could not write it down.
        """
        return await asyncio.shield(self._outcome)

    async def decided(self) -> bool:
        """Wait for the owner's word on this screen."""
        return await asyncio.shield(self._decision)

    def end(self, result: str | Exception) -> None:
        """For who runs the exchange: it has ended, with the node's name or an error."""
        if self._outcome.done():
            return
        if isinstance(result, str):
            self._outcome.set_result(result)
        else:
            self._outcome.set_exception(result)
            self._outcome.exception()  # nobody has to ask
        if not self._decision.done():
            self._decision.cancel()


class OfferLimit:
    """Counts the offers that a node takes, so that blind guesses cannot be piled up. The clock is passed in."""

    def __init__(self) -> None:
        self._taken: list[float] = []

    def take(self, pending: int, now: float) -> None:
        """Count one more offer.

        Raises:
            BusyError: too many, at once or in the window.
        """
        self._taken = [moment for moment in self._taken if now - moment < OFFER_WINDOW_S]
        if len(self._taken) >= MAX_OFFERS:
            wait_s = int(OFFER_WINDOW_S - (now - self._taken[0])) + 1
            raise BusyError("this node was offered adoption too often", retry_after_s=wait_s)
        if pending >= MAX_PENDING:
            raise BusyError("this node shows other offers already", retry_after_s=int(ADOPTION_S))
        self._taken.append(now)


def lost(what: str) -> UnreachableError:
    """Build the error of an adoption that the other side or the clock ended."""
    return UnreachableError(what, hint="Start the adoption again on the coordinator, and confirm on both screens.")


def refused(where: str) -> EnrolmentError:
    """Build the error of an adoption that an owner refused."""
    return EnrolmentError(
        f"the adoption was refused {where}", hint="Start it again if that was a mistake.", code="refused"
    )


def _commitment(nonce: bytes) -> bytes:
    return hashlib.sha256(transcript("adoption commitment", nonce)).digest()


def _parts(offer: Offer, node_public: bytes, reply: Reply, nonce: bytes) -> tuple[bytes, ...]:
    said = "\n".join((offer.name, reply.name, *reply.addresses)).encode()
    authority = public_of(offer.authority_pem)
    return (authority, offer.public, node_public, offer.commitment, nonce, check_nonce(reply.nonce), said)


def _code(parts: tuple[bytes, ...]) -> str:
    """Six digits of 256 bits: the remainder's bias is below 10^-70."""
    number = int.from_bytes(hashlib.sha256(transcript("adoption code", *parts)).digest(), "big")
    return f"{number % 10**CODE_DIGITS:0{CODE_DIGITS}d}"
