"""The roster: who belongs to the swarm. Signed by its authority, numbered, bounded, held by every node.

A certificate only opens the door; this says who may do what. A newer number wins; an older, badly signed or impossible
roster changes nothing. Not covered: a coordinator restored from an old backup, whose roster numbers start again below
those that the nodes hold (they refuse it, which is right, but the owner must renumber).
"""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from mycoswarm.base.errors import InputError, NotFoundError, StorageError, TrustError
from mycoswarm.swarm.folder import Folder
from mycoswarm.swarm.identity import is_name
from mycoswarm.swarm.key import fingerprint_of, is_signed, node_id_of, public_of

MAX_ENTRIES = 256  # a household or a lab; every node holds it whole
MAX_TAGS = 16
MAX_ADDRESSES = 16
MAX_BODY_BYTES = 1 << 20  # 256 entries with the longest of everything in them stay below it
_TAG = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FILE = "roster.json"
_TAGGED = b"mycoswarm roster 1\n"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node. `addresses` ("host:port" of its peer listener, as it said when it enrolled) are hints, never trust."""

    node_id: str
    name: str
    role: Literal["coordinator", "worker"]
    fingerprint: str
    tags: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Roster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All nodes of one swarm, at one number."""

    swarm_id: str
    number: int
    entries: tuple[Entry, ...] = ()

    def find(self, node_id: str) -> Entry | None:
        """Give a node's entry by its id."""
        return next((entry for entry in self.entries if entry.node_id == node_id), None)

    def named(self, text: str) -> Entry:
        """Give a node's entry by its name or the start of its id.

        Raises:
            NotFoundError: none, or several.
        """
        found = [entry for entry in self.entries if entry.name == text]
        found = found or [entry for entry in self.entries if len(text) >= 4 and entry.node_id.startswith(text)]
        if len(found) != 1:
            what = "more than one node's id starts" if found else "no node has this name or an id that starts"
            raise NotFoundError(f"{what} with {text!r}", hint="See `mycoswarm-node nodes`.")
        return found[0]

    def holds(self, fingerprint: str) -> bool:
        """Say whether the holder of this key belongs to the swarm."""
        return any(entry.fingerprint == fingerprint for entry in self.entries)

    @property
    def coordinator(self) -> Entry | None:
        """The coordinator's entry."""
        return next((entry for entry in self.entries if entry.role == "coordinator"), None)


class SignedRoster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A roster's exact bytes and the authority's signature over them."""

    body: bytes
    signature: bytes


def seal_roster(roster: Roster, sign: Callable[[bytes], bytes]) -> SignedRoster:
    """Write and sign a roster.

    Raises:
        InputError: it breaks its own rules.
    """
    fault = roster_fault(roster)
    if fault is not None:
        raise InputError(fault)
    body = msgspec.json.encode(roster)
    return SignedRoster(body, sign(_TAGGED + body))


def open_roster(signed: SignedRoster, *, swarm_id: str, authority_pem: str) -> Roster:
    """Check a roster's signature, swarm and rules, and read it.

    Raises:
        TrustError: any of these does not hold.
    """
    if fingerprint_of(public_of(authority_pem)) != swarm_id:
        raise TrustError("the authority is not this swarm's")
    if len(signed.body) > MAX_BODY_BYTES or not is_signed(authority_pem, _TAGGED + signed.body, signed.signature):
        raise TrustError("a roster is not signed by this swarm's authority", code="bad_roster")
    try:
        roster = msgspec.json.decode(signed.body, type=Roster)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise TrustError(f"a signed roster cannot be read: {exc}", code="bad_roster") from exc
    fault = roster_fault(roster) or (None if roster.swarm_id == swarm_id else "the roster is another swarm's")
    if fault is not None:
        raise TrustError(fault, code="bad_roster")
    return roster


def roster_fault(roster: Roster) -> str | None:
    """Say what breaks the rules of rosters, or None where it is sound."""
    if roster.number < 1 or len(roster.entries) > MAX_ENTRIES:
        return f"a roster has a number from 1 on and at most {MAX_ENTRIES} nodes"
    if len({e.node_id for e in roster.entries}) + len({e.name for e in roster.entries}) != 2 * len(roster.entries):
        return "a node or a name stands twice in the roster"
    if sum(entry.role == "coordinator" for entry in roster.entries) != 1:
        return "a roster has exactly one coordinator"
    return next((fault for fault in map(_entry_fault, roster.entries) if fault), None)


def added(roster: Roster, entry: Entry) -> tuple[Roster, Entry]:
    """Take a node in, or anew, at the next number; a name that is taken gets a number. Says the entry as it stands.

    Raises:
        InputError: the roster is full or the entry breaks its rules.
    """
    others = tuple(held for held in roster.entries if held.node_id != entry.node_id)
    entry = msgspec.structs.replace(entry, name=free_name(entry.name, {held.name for held in others}))
    return _sound(roster, (*others, entry)), entry


def expelled(roster: Roster, node_id: str) -> Roster:
    """Take a node out, at the next number.

    Raises:
        NotFoundError: it is not in.
        InputError: it is the coordinator.
    """
    entry = _required(roster, node_id)
    if entry.role == "coordinator":
        raise InputError(f"{entry.name} is the coordinator and cannot be expelled")
    return _sound(roster, tuple(held for held in roster.entries if held.node_id != node_id))


def changed(
    roster: Roster,
    node_id: str,
    *,
    name: str | None = None,
    tags: tuple[str, ...] | None = None,
    addresses: tuple[str, ...] | None = None,
) -> Roster:
    """Give a node another name, other tags or addresses, at the next number. A name that is taken is refused.

    Raises:
        NotFoundError: it is not in.
        InputError: a name that is taken, or a bad name, tag or address.
    """
    entry = _required(roster, node_id)
    fresh = msgspec.structs.replace(
        entry,
        name=entry.name if name is None else name,
        tags=entry.tags if tags is None else tags,
        addresses=entry.addresses if addresses is None else addresses,
    )
    return _sound(roster, tuple(fresh if held is entry else held for held in roster.entries))


def departed(before: Roster, after: Roster) -> frozenset[str]:
    """Give the ids of the nodes whose live connections must close now: gone, or under another key."""
    return frozenset(entry.node_id for entry in before.entries if not after.holds(entry.fingerprint))


def free_name(name: str, taken: set[str]) -> str:
    """Give `name`, or where it is taken the first of name-2, name-3 ... that is free."""
    number = 2
    fresh = name
    while fresh in taken:
        tail = f"-{number}"
        fresh = name[: 63 - len(tail)].rstrip("-") + tail
        number += 1
    return fresh


class HeldRoster:
    """The roster that a node holds, in its file: it only ever moves forward."""

    def __init__(self, folder: Folder, *, swarm_id: str, authority_pem: str) -> None:
        """Read the file, where there is one.

        Raises:
            StorageError: the file is damaged or cannot be read.
        """
        self._folder = folder
        self._swarm_id = swarm_id
        self._authority_pem = authority_pem
        self.signed: SignedRoster | None = None
        self.roster = Roster(swarm_id=swarm_id, number=0)
        stored = folder.read(_FILE)
        if stored is not None:
            try:
                self.signed = msgspec.json.decode(stored, type=SignedRoster)
                self.roster = open_roster(self.signed, swarm_id=swarm_id, authority_pem=authority_pem)
            except (msgspec.MsgspecError, TrustError) as exc:
                raise StorageError(f"the stored roster is damaged: {exc}", hint="Restore it from a backup.") from exc

    def accept(self, signed: SignedRoster) -> frozenset[str]:
        """Take a newer roster, on disk first; say whose live connections must close.

        Raises:
            TrustError: badly signed, impossible, older, or of the same number and different.
            StorageError: it cannot be written; the one from before counts.
        """
        roster = open_roster(signed, swarm_id=self._swarm_id, authority_pem=self._authority_pem)
        if roster == self.roster:
            return frozenset()
        if roster.number <= self.roster.number:
            raise TrustError(
                f"roster {roster.number} is not newer than {self.roster.number}, which this node holds",
                hint="Was the coordinator restored from an old backup? Change its roster until its number is ahead.",
                code="old_roster",
            )
        self._folder.write(_FILE, msgspec.json.encode(signed))
        gone = departed(self.roster, roster)
        self.signed, self.roster = signed, roster
        return gone


def forget_roster(folder: Folder) -> None:
    """Remove the stored roster of a swarm that this node is no member of, or not yet.

    Raises:
        StorageError: it cannot be removed.
    """
    folder.remove(_FILE)


def _required(roster: Roster, node_id: str) -> Entry:
    entry = roster.find(node_id)
    if entry is None:
        raise NotFoundError(f"no node {node_id} is in the roster", hint="See `mycoswarm-node nodes`.")
    return entry


def _sound(roster: Roster, entries: tuple[Entry, ...]) -> Roster:
    fresh = Roster(swarm_id=roster.swarm_id, number=roster.number + 1, entries=entries)
    fault = roster_fault(fresh)
    if fault is not None:
        raise InputError(fault)
    return fresh


def _entry_fault(entry: Entry) -> str | None:
    if not _FINGERPRINT.fullmatch(entry.fingerprint) or entry.node_id != node_id_of(entry.fingerprint):
        return f"the id of node {entry.name!r} is not that of its key"
    if not is_name(entry.name):
        return f"{entry.name!r} cannot be a node's name"
    if len(entry.tags) > MAX_TAGS or not all(_TAG.fullmatch(tag) for tag in entry.tags):
        return f"the tags of {entry.name} are more than {MAX_TAGS}, or not small letters, digits and hyphens"
    if len(entry.addresses) > MAX_ADDRESSES or any(not 0 < len(a) <= 128 for a in entry.addresses):
        return f"the addresses of {entry.name} are more than {MAX_ADDRESSES} or too long"
    return None
