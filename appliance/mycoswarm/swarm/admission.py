"""Admission by join token: both sides of the exchange, without sockets.

    node                                            coordinator
    TLS 1.3, the listener's key: coordinator's node id must be the token's
    JoinRequest: token id, node key, nonce   ──▶    knows an open token of that id
    checks authority = the token's, signature  ◀──  JoinProof: authority, nonce, authority's signature
    JoinClaim: proof of the secret, signature  ──▶  checks both, uses the token up, takes the node in
    checks and stores                          ◀──  Grant: certificate, roster
    Stored                                     ──▶

Every signature and the proof are over the same transcript: token id, both node keys (the coordinator's as the TLS
handshake showed it), the authority's key, both nonces, the node's name and addresses. So a rogue coordinator fails at
JoinProof, before the node has shown anything of the secret; somebody in between fails there too, having another TLS
key; a node without the secret, or with a claim that was recorded, fails at JoinClaim. The secret itself never travels.
"""

import secrets

from mycoswarm.base.errors import EnrolmentError, InputError, ProtocolError, TrustError
from mycoswarm.swarm.enrolment import (
    NONCE_BYTES,
    VERSION,
    Enrolled,
    Grant,
    JoinClaim,
    JoinProof,
    JoinRequest,
    check_nonce,
    check_version,
    open_grant,
    transcript,
)
from mycoswarm.swarm.identity import Identity, already_enrolled
from mycoswarm.swarm.key import fingerprint_of, is_proven, is_signed, node_id_of, public_of, secret_proof
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.token import JoinToken


class Joiner:
    """The node's side of one exchange. `door_public`: the key that the TLS handshake showed."""

    def __init__(
        self, identity: Identity, token: JoinToken, *, door_public: bytes, addresses: tuple[str, ...] = ()
    ) -> None:
        """Begin.

        Raises:
            EnrolmentError: this node belongs to a swarm already, or another than the token's coordinator listens.
        """
        if identity.membership is not None:
            raise already_enrolled(identity.membership.swarm_id)
        if node_id_of(fingerprint_of(door_public)) != token.coordinator_id:
            raise EnrolmentError("another machine than the token's coordinator answers", code="wrong_coordinator")
        self._identity = identity
        self._token = token
        self._door_public = door_public
        self.request = JoinRequest(
            version=VERSION,
            token_id=token.token_id,
            public=identity.key.public_der,
            name=identity.name,
            addresses=addresses,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )

    def claim(self, proof: JoinProof) -> JoinClaim:
        """Check that the coordinator is the token's, and only then prove the secret to it.

        Raises:
            EnrolmentError: it is not.
        """
        try:
            authority = public_of(proof.authority_pem)
        except TrustError as exc:
            raise EnrolmentError(f"the coordinator's proof cannot be read: {exc.message}") from exc
        parts = _parts(self.request, self._door_public, authority, check_nonce(proof.nonce))
        if fingerprint_of(authority) != self._token.swarm_id:
            raise EnrolmentError("the coordinator that answers is of another swarm than the token", code="wrong_swarm")
        if not is_signed(authority, transcript("join door", *parts), proof.signature):
            raise EnrolmentError("the coordinator that answers does not hold its swarm's key", code="wrong_coordinator")
        return JoinClaim(
            proof=secret_proof(self._token.secret, transcript("join secret", *parts)),
            signature=self._identity.key.sign(transcript("join node", *parts)),
        )

    def enrolled(self, grant: Grant) -> Enrolled:
        """Check what was granted.

        Raises:
            EnrolmentError: it does not hold.
        """
        return open_grant(
            grant, identity=self._identity, swarm_id=self._token.swarm_id, coordinator_public=self._door_public
        )


class Admitter:
    """The coordinator's side of one exchange. `door_public`: its own key, which its TLS listener shows."""

    def __init__(self, registrar: Registrar, *, door_public: bytes) -> None:
        self._registrar = registrar
        self._door_public = door_public
        self._request: JoinRequest | None = None
        self._parts: tuple[bytes, ...] = ()
        self._is_spent = False

    def proof(self, request: JoinRequest) -> JoinProof:
        """Prove to who asks that this is the token's coordinator.

        Raises:
            EnrolmentError: no such open token, or another version.
            TrustError: not a node's key.
            ProtocolError: an impossible request.
        """
        check_version(request.version)
        self._registrar.token_public(request.token_id)
        if public_of(request.public) != request.public:
            raise ProtocolError("a node's key is not in the form it should have")
        authority = self._registrar.authority
        nonce = secrets.token_bytes(NONCE_BYTES)
        check_nonce(request.nonce)
        self._request = request
        self._parts = _parts(request, self._door_public, public_of(authority.certificate_pem), nonce)
        return JoinProof(
            authority_pem=authority.certificate_pem,
            nonce=nonce,
            signature=authority.sign(transcript("join door", *self._parts)),
        )

    def grant(self, claim: JoinClaim) -> Grant:
        """Check the claim, use the token up and take the node in. Waits for the disk.

        Raises:
            EnrolmentError: the claim does not hold, or the token is used up.
            InputError: the roster is full.
            StorageError: nothing can be written; the token may be used up for this key, which may come again.
            ProtocolError: a claim before a request.
        """
        request = self._request
        if request is None or self._is_spent:
            raise ProtocolError("a claim came before a request, or twice")
        self._is_spent = True
        public = self._registrar.token_public(request.token_id)
        if not is_proven(public, transcript("join secret", *self._parts), claim.proof):
            raise EnrolmentError("the join token's secret does not hold", code="wrong_secret")
        if not is_signed(request.public, transcript("join node", *self._parts), claim.signature):
            raise EnrolmentError("the node does not hold the key that it showed", code="wrong_key")
        self._registrar.redeem(request.token_id, request.public)
        try:
            return self._registrar.admit(request.public, request.name, request.addresses)
        except InputError as exc:
            raise EnrolmentError(f"the node cannot be taken in: {exc.message}", hint=exc.hint) from exc

    def take_back(self) -> None:
        """Take the node out again: it refused what was granted. Waits for the disk.

        Raises:
            StorageError: it cannot be written.
        """
        if self._request is not None:
            self._registrar.expel(node_id_of(fingerprint_of(self._request.public)))


def _parts(request: JoinRequest, door_public: bytes, authority: bytes, nonce: bytes) -> tuple[bytes, ...]:
    said = "\n".join((request.token_id, request.name, *request.addresses)).encode()
    return (said, door_public, request.public, authority, request.nonce, nonce)
