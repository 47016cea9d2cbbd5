"""Candidates: what was heard on the network, by whoever chose to say it. A pure table; the clock is passed in.

Announcing is not trust. Anybody on the LAN can announce anything, so the table is bounded in all (256), per node id (4)
and per second, holds only what passed strict reading, and lets nothing it heard block work: it can only raise
Conditions to be looked at. What was seen over authenticated channels comes in by `meet` and may block.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Literal

from mycoswarm.swarm.card import WIRE_VERSION
from mycoswarm.swarm.condition import Condition
from mycoswarm.swarm.identity import Identity, is_name

MAX_HEARD = 256  # as many as a roster may hold
MAX_PER_NODE = 4  # one, a copy, and what a restart left behind
MAX_NEW_PER_S = 50.0  # a whole lab switched on at once is heard within seconds
BURST = 100.0
EXPIRY_S = 1500.0  # mDNS records live 1125 s (zeroconf's floor) and are asked for again before they end
_ROLES = ("unclaimed", "coordinator", "worker")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX16 = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node says to all. `swarm` is the first 16 characters of its swarm's id, or None while unclaimed.

    `door_port` is where it takes enrolments now, or None. All of it is a hint.
    """

    node_id: str
    instance_id: str
    name: str
    role: Literal["unclaimed", "coordinator", "worker"]
    swarm: str | None
    peer_port: int | None
    door_port: int | None
    version: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An announcement and when it was heard, first and last, in seconds of the caller's clock."""

    announcement: Announcement
    first_heard_s: float
    last_heard_s: float

    def peer_addresses(self) -> tuple[str, ...]:
        """Where its peer listener may be, as "host:port"."""
        return _at(self.announcement.addresses, self.announcement.peer_port)

    def door_addresses(self) -> tuple[str, ...]:
        """Where its enrolment door may be, as "host:port"."""
        return _at(self.announcement.addresses, self.announcement.door_port)


def announcement_of(
    identity: Identity, *, instance_id: str, peer_port: int | None, door_port: int | None
) -> Announcement:
    """Say what a node announces of itself; its addresses are discovery's to fill in."""
    membership = identity.membership
    return Announcement(
        node_id=identity.node_id,
        instance_id=instance_id,
        name=identity.name,
        role=identity.role,
        swarm=membership.swarm_id[:16] if membership is not None else None,
        peer_port=peer_port,
        door_port=door_port,
        version=WIRE_VERSION,
    )


def to_text(announcement: Announcement) -> dict[str, str]:
    """Write an announcement's TXT properties; its addresses travel as A and AAAA records."""
    text = {
        "id": announcement.node_id,
        "run": announcement.instance_id,
        "name": announcement.name,
        "role": announcement.role,
        "swarm": announcement.swarm,
        "peer": announcement.peer_port,
        "door": announcement.door_port,
        "version": announcement.version,
    }
    return {key: str(value) for key, value in text.items() if value is not None}


def from_text(text: dict[str, str], addresses: tuple[str, ...]) -> Announcement | None:
    """Read TXT properties strictly; None for anything that no node of ours would say."""
    node_id, instance_id, name = text.get("id", ""), text.get("run", ""), text.get("name", "")
    role, swarm = text.get("role", ""), text.get("swarm")
    peer, door, version = (_number(text.get(key)) for key in ("peer", "door", "version"))
    if not (_HEX32.fullmatch(node_id) and _HEX16.fullmatch(instance_id) and is_name(name) and role in _ROLES):
        return None
    if (swarm is None) != (role == "unclaimed") or (swarm is not None and not _HEX16.fullmatch(swarm)):
        return None
    if (
        version is None
        or len(addresses) > 16
        or any(text.get(key) and not _number(text[key]) for key in ("peer", "door"))
    ):
        return None
    return Announcement(
        node_id=node_id,
        instance_id=instance_id,
        name=name,
        role=role,  # type: ignore[arg-type]  # one of _ROLES, checked above
        swarm=swarm,
        peer_port=peer,
        door_port=door,
        version=version,
        addresses=addresses,
    )


class CandidateTable:
    """Everything heard and not yet expired, and every run of a node met over an authenticated channel."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], Candidate] = {}
        self._met: dict[str, dict[str, tuple[float, float]]] = {}
        self._allowance = BURST
        self._counted_s: float | None = None
        self._refused_s: float | None = None

    def hear(self, announcement: Announcement, now: float) -> bool:
        """Take in an announcement; say whether the table changed (not merely a time in it)."""
        self._expire(now)
        key = (announcement.node_id, announcement.instance_id)
        known = self._heard.get(key)
        if known is None:
            runs = [other for other in self._heard if other[0] == announcement.node_id]
            if not self._has_room(len(runs), now):
                self._refused_s = now
                return False
        first = known.first_heard_s if known else now
        self._heard[key] = Candidate(announcement, first, now)
        return known is None or known.announcement != announcement

    def forget(self, node_id: str, instance_id: str) -> bool:
        """Drop one run of a node, which said goodbye or whose records expired; say whether it was there."""
        return self._heard.pop((node_id, instance_id), None) is not None

    def meet(self, node_id: str, instance_id: str, now: float) -> None:
        """Take in that a card of this run was read over an authenticated channel. Call it for roster nodes only."""
        runs = self._met.setdefault(node_id, {})
        first, _ = runs.get(instance_id, (now, now))
        runs[instance_id] = (first, now)
        while len(runs) > MAX_PER_NODE:
            del runs[min(runs, key=lambda run: runs[run][1])]

    def candidates(self, now: float) -> tuple[Candidate, ...]:
        """All that is heard, by name."""
        self._expire(now)
        return tuple(sorted(self._heard.values(), key=lambda c: (c.announcement.name, c.announcement.node_id)))

    def find(self, text: str, now: float) -> tuple[Candidate, ...]:
        """Candidates by their name or the start of their node id (4 characters and more)."""
        return tuple(
            each
            for each in self.candidates(now)
            if each.announcement.name == text or (len(text) >= 4 and each.announcement.node_id.startswith(text))
        )

    def peer_addresses(self, node_id: str, now: float) -> tuple[str, ...]:
        """Where a node may be, as "host:port", last heard first. Hints: identity decides."""
        mine = [each for each in self.candidates(now) if each.announcement.node_id == node_id]
        mine.sort(key=lambda each: -each.last_heard_s)
        return tuple(dict.fromkeys(address for each in mine for address in each.peer_addresses()))

    def conditions(self, now: float) -> tuple[Condition, ...]:
        """Say what is wrong among what was heard and met."""
        self._expire(now)
        found = [*self._copies(now), *self._announced_copies(), *self._rival_coordinators()]
        if self._refused_s is not None and now - self._refused_s < 60:
            found.append(
                Condition(
                    "too_many_announcements",
                    f"more nodes announce themselves than the table of {MAX_HEARD} takes; some are not shown",
                    "Look for a machine on this network that makes up announcements.",
                )
            )
        return tuple(found)

    def _copies(self, now: float) -> list[Condition]:
        """A run seen again after a later one began is no restart: two machines hold one key."""
        found = []
        for node_id, runs in self._met.items():
            spans = sorted(span for span in runs.values() if now - span[1] < EXPIRY_S)
            if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)):
                message = f"node {node_id} is alive in two places at once: its data folder was copied"
                hint = "Switch the copy off, or remove its data folder and adopt it anew. Until then it gets no work."
                found.append(Condition("copied_node", message, hint, (node_id,), blocks_work=True))
        return found

    def _announced_copies(self) -> list[Condition]:
        """Runs of one id whose addresses have nothing in common, or that are both still being heard."""
        found = []
        for node_id in dict.fromkeys(key[0] for key in self._heard):
            runs = sorted(
                (each for key, each in self._heard.items() if key[0] == node_id), key=lambda each: each.first_heard_s
            )
            for earlier, later in itertools.pairwise(runs):
                apart = not set(earlier.announcement.addresses) & set(later.announcement.addresses)
                if apart or earlier.last_heard_s > later.first_heard_s:
                    message = f"two machines announce the node id {node_id}"
                    hint = "One of them is a copy or pretends to be this node. Work goes only where the key is proven."
                    found.append(Condition("announced_twice", message, hint, (node_id,)))
                    break
        return found

    def _rival_coordinators(self) -> list[Condition]:
        found = []
        held: dict[str, dict[str, str]] = {}
        for each in self._heard.values():
            said = each.announcement
            if said.role == "coordinator" and said.swarm is not None:
                held.setdefault(said.swarm, {})[said.node_id] = said.name
        for swarm, coordinators in held.items():
            if len(coordinators) > 1:
                names = " and ".join(sorted(coordinators.values()))
                message = f"{names} both say that they coordinate the swarm {swarm}"
                hint = "A swarm has one coordinator. Switch the other off; nodes follow only the one in their roster."
                found.append(Condition("two_coordinators", message, hint, tuple(sorted(coordinators))))
        return found

    def _has_room(self, runs: int, now: float) -> bool:
        elapsed = 0.0 if self._counted_s is None else max(0.0, now - self._counted_s)
        self._counted_s = now
        self._allowance = min(BURST, self._allowance + elapsed * MAX_NEW_PER_S)
        if self._allowance < 1 or runs >= MAX_PER_NODE or len(self._heard) >= MAX_HEARD:
            return False
        self._allowance -= 1
        return True

    def _expire(self, now: float) -> None:
        for key in [key for key, each in self._heard.items() if now - each.last_heard_s >= EXPIRY_S]:
            del self._heard[key]


def _at(hosts: tuple[str, ...], port: int | None) -> tuple[str, ...]:
    if port is None:
        return ()
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)


def _number(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        return None
    return int(text)
