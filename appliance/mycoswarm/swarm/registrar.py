"""The registrar: the coordinator's one hand on its swarm. It founds it, takes nodes in and out, and mints tokens.

Every change is signed and on disk before anybody hears of it. Methods may be called from any thread; they wait for the
disk, so a daemon calls them beside its event loop.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from mycoswarm.base.errors import EnrolmentError, NotFoundError
from mycoswarm.swarm.authority import Authority
from mycoswarm.swarm.enrolment import Grant
from mycoswarm.swarm.identity import Identity, Membership, already_enrolled, clean_name
from mycoswarm.swarm.key import fingerprint_of, node_id_of, public_of
from mycoswarm.swarm.roster import (
    Entry,
    HeldRoster,
    Roster,
    SignedRoster,
    added,
    changed,
    expelled,
    forget_roster,
    seal_roster,
)
from mycoswarm.swarm.token import JoinToken, TokenBook

_log = logging.getLogger(__name__)


class Registrar:
    """The swarm as its coordinator, `identity`, holds it.

    `on_change` hears of each new roster, with the ids of those whose live connections must close, in whichever thread
    made the change.
    """

    def __init__(
        self,
        identity: Identity,
        authority: Authority,
        *,
        on_change: Callable[[SignedRoster, frozenset[str]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take up the swarm of this coordinator.

        Raises:
            NotFoundError: this node coordinates no swarm, or another than the authority's.
            StorageError: the stored roster or tokens cannot be read.
        """
        membership = identity.membership
        if membership is None or membership.role != "coordinator" or membership.swarm_id != authority.swarm_id:
            raise NotFoundError("this node is no coordinator", hint="Found a swarm here with `mycoswarm-node init`.")
        self.identity = identity
        self._lock = threading.Lock()
        self._held = HeldRoster(identity.folder, swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)
        self._clock = clock
        self.on_change = on_change
        self.authority = authority
        self.tokens = TokenBook(identity.folder)

    @classmethod
    def found(cls, folder: Path, identity: Identity) -> Self:
        """Found a swarm on this unclaimed node: its authority, its roster with this node in it, and the role.

        Raises:
            EnrolmentError: this node belongs to a swarm already.
            StorageError: something cannot be written; the node is unclaimed as before.
            SetupError: a key file may be read by others.
        """
        if identity.membership is not None:
            raise already_enrolled(identity.membership.swarm_id)
        authority = Authority.create(folder)
        mine = Entry(node_id=identity.node_id, name=identity.name, role="coordinator", fingerprint=identity.fingerprint)
        roster = Roster(swarm_id=authority.swarm_id, number=1, entries=(mine,))
        forget_roster(identity.folder)
        held = HeldRoster(identity.folder, swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)
        held.accept(seal_roster(roster, authority.sign))
        identity.enrol(
            Membership(
                swarm_id=authority.swarm_id,
                role="coordinator",
                coordinator_id=identity.node_id,
                authority_pem=authority.certificate_pem,
                certificate_pem=authority.issue(identity.key.public_der),
            )
        )
        return cls(identity, authority)

    @classmethod
    def load(cls, folder: Path, identity: Identity) -> Self:
        """Take up the swarm that was founded here.

        Raises:
            NotFoundError: this node is no coordinator.
            StorageError: something cannot be read.
            SetupError: a key file may be read by others.
        """
        return cls(identity, Authority.load(folder))

    @property
    def roster(self) -> Roster:
        """The roster as it is now."""
        return self._held.roster

    @property
    def signed_roster(self) -> SignedRoster:
        """The same, signed, as it goes to the nodes."""
        assert self._held.signed is not None  # founded with one
        return self._held.signed

    def mint_token(self, addresses: tuple[str, ...], *, lifetime_s: float = 3600.0, uses: int = 1) -> JoinToken:
        """Make a join token. `addresses` are this node's enrolment door, "host:port".

        Raises:
            InputError: no address, too many tokens, or bounds.
            StorageError: it cannot be written.
        """
        if not addresses:
            raise NotFoundError("this node has no address that others could reach", hint="Connect it to a network.")
        token_id, secret = self.tokens.mint(self._clock(), lifetime_s=lifetime_s, uses=uses)
        return JoinToken(
            swarm_id=self.authority.swarm_id,
            coordinator_id=self.identity.node_id,
            token_id=token_id,
            secret=secret,
            addresses=addresses[:16],
        )

    def token_public(self, token_id: str) -> bytes:
        """Give the public key that proofs of a token's secret are checked with.

        Raises:
            EnrolmentError: no such token, or an expired one.
        """
        return self.tokens.public_of(token_id, self._clock())

    def redeem(self, token_id: str, public: bytes) -> None:
        """Use a token up for the holder of this key.

        Raises:
            EnrolmentError: no such token, expired, or used by others already.
            StorageError: it cannot be written.
        """
        self.tokens.redeem(token_id, fingerprint_of(public), self._clock())

    def admit(self, public: bytes, name: str, addresses: tuple[str, ...], tags: tuple[str, ...] = ()) -> Grant:
        """Take in the node with this key, which has been proven: its certificate and the new roster. A name that is
        taken gets a number.

        Raises:
            TrustError: not a key that nodes use.
            InputError: the roster is full, or an address is too long.
            StorageError: it cannot be written; the node is not in.
        """
        public = public_of(public)
        fingerprint = fingerprint_of(public)
        node_id = node_id_of(fingerprint)
        if node_id == self.identity.node_id:
            raise EnrolmentError("a coordinator does not enrol itself")
        entry = Entry(
            node_id=node_id,
            name=clean_name(name),
            role="worker",
            fingerprint=fingerprint,
            tags=tags,
            addresses=addresses,
        )
        certificate = self.authority.issue(public)
        with self._lock:
            roster, entry = added(self.roster, entry)
            self._put(roster)
        _log.info("node %s is in as %s", node_id, entry.name)
        return Grant(
            authority_pem=self.authority.certificate_pem, certificate_pem=certificate, roster=self.signed_roster
        )

    def expel(self, node_id: str) -> frozenset[str]:
        """Take a node out; gives the ids whose live connections must close now.

        Raises:
            NotFoundError: it is not in.
            InputError: it is the coordinator.
            StorageError: it cannot be written; the node is still in.
        """
        with self._lock:
            entry = self.roster.find(node_id)
            gone = self._put(expelled(self.roster, node_id))
        if entry is not None:
            self.tokens.revoke(entry.fingerprint, self._clock())
        _log.info("node %s is expelled", node_id)
        return gone

    def change(
        self,
        node_id: str,
        *,
        name: str | None = None,
        tags: tuple[str, ...] | None = None,
        addresses: tuple[str, ...] | None = None,
    ) -> None:
        """Give a node another name, other tags or addresses.

        Raises:
            NotFoundError: it is not in.
            InputError: a name that is taken, or a bad name, tag or address.
            StorageError: it cannot be written.
        """
        with self._lock:
            self._put(changed(self.roster, node_id, name=name, tags=tags, addresses=addresses))

    def retag(self, name: str, add: tuple[str, ...], remove: tuple[str, ...]) -> Entry:
        """Put tags on the node of this name or id and take others off; gives its entry as it is then.

        Raises:
            NotFoundError: it is not in, or has no tag that is to go.
            InputError: a bad tag, or too many.
            StorageError: it cannot be written.
        """
        with self._lock:
            entry = self.roster.named(name)
            if missing := sorted(set(remove) - set(entry.tags)):
                has = f"It has {', '.join(entry.tags)}." if entry.tags else "It has none."
                raise NotFoundError(f"{entry.name} has no tag {missing[0][:40]!r}", hint=has)
            tags = tuple(sorted({*entry.tags, *add} - set(remove)))
            if tags != entry.tags:
                self._put(changed(self.roster, entry.node_id, tags=tags))
            return self.roster.named(entry.node_id)

    def _put(self, roster: Roster) -> frozenset[str]:
        signed = seal_roster(roster, self.authority.sign)
        gone = self._held.accept(signed)
        if self.on_change is not None:
            self.on_change(signed, gone)
        return gone
