"""Where this node stands: alone, a swarm's coordinator, or a worker. Everything that trust hangs on, in one value."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mycoswarm.base.errors import NotFoundError
from mycoswarm.swarm.authority import verify
from mycoswarm.swarm.identity import Identity, Role
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.roster import Entry, HeldRoster, Roster, SignedRoster


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A node's place. `sign` speaks for the swarm; None on workers.

    An unclaimed node is a swarm of one: its own key signs, its own certificate is the only one it trusts, so the same
    code serves it and nobody else gets in.
    """

    identity: Identity
    role: Role
    swarm_id: str
    coordinator_id: str
    certificate_pem: str
    authority_pem: str
    sign: Callable[[bytes], bytes] | None
    registrar: Registrar | None
    held: HeldRoster | None

    def roster(self) -> tuple[Roster, SignedRoster | None]:
        """The roster that counts now."""
        if self.registrar is not None:
            return self.registrar.roster, self.registrar.signed_roster
        if self.held is not None:
            return self.held.roster, self.held.signed
        mine = Entry(
            node_id=self.identity.node_id,
            name=self.identity.name,
            role="coordinator",
            fingerprint=self.identity.fingerprint,
        )
        return Roster(swarm_id=self.swarm_id, number=1, entries=(mine,)), None

    def is_signed(self, body: bytes, signature: bytes) -> bool:
        """Whether the swarm's authority signed this."""
        return verify(self.authority_pem, body, signature)

    @property
    def decides(self) -> bool:
        """Whether prompts are decided here."""
        return self.sign is not None

    def coordinating(self) -> Registrar:
        """The swarm's registrar.

        Raises:
            NotFoundError: this node is no coordinator.
        """
        if self.registrar is None:
            raise NotFoundError(
                "this node is no coordinator", hint="Run this on the coordinator, or found a swarm here with `init`."
            )
        return self.registrar


def read_standing(folder: Path, identity: Identity) -> Standing:
    """Read where the node stands.

    Raises:
        StorageError: a file is damaged.
        SetupError: a key file may be read by others.
    """
    member = identity.membership
    if member is None:
        return Standing(
            identity=identity,
            role="unclaimed",
            swarm_id=identity.fingerprint,
            coordinator_id=identity.node_id,
            certificate_pem=identity.self_signed_pem,
            authority_pem=identity.self_signed_pem,
            sign=identity.key.sign,
            registrar=None,
            held=None,
        )
    registrar = Registrar.load(folder, identity) if member.role == "coordinator" else None
    held = None
    if registrar is None:
        held = HeldRoster(identity.folder, swarm_id=member.swarm_id, authority_pem=member.authority_pem)
    return Standing(
        identity=identity,
        role=member.role,
        swarm_id=member.swarm_id,
        coordinator_id=member.coordinator_id,
        certificate_pem=member.certificate_pem,
        authority_pem=member.authority_pem,
        sign=registrar.authority.sign if registrar else None,
        registrar=registrar,
        held=held,
    )
