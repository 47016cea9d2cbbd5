"""The roster only moves forward, stays bounded, and takes nothing that its authority has not signed."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from household import make_node, make_swarm, take_in
from mycoswarm.base.errors import InputError, NotFoundError, StorageError, SwarmError, TrustError
from mycoswarm.swarm.authority import Authority
from mycoswarm.swarm.enrolment import MAX_LINE_BYTES, Grant, encode_message
from mycoswarm.swarm.folder import Folder
from mycoswarm.swarm.identity import is_name
from mycoswarm.swarm.key import SigningKey
from mycoswarm.swarm.roster import (
    MAX_ADDRESSES,
    MAX_BODY_BYTES,
    MAX_ENTRIES,
    MAX_TAGS,
    Entry,
    HeldRoster,
    Roster,
    SignedRoster,
    added,
    changed,
    departed,
    expelled,
    free_name,
    open_roster,
    roster_fault,
    seal_roster,
)


def entry(number: int, *, role: str = "worker", name: str | None = None) -> Entry:
    fingerprint = f"{number:064x}"[::-1]
    return Entry(node_id=fingerprint[:32], name=name or f"n{number}", role=role, fingerprint=fingerprint)  # type: ignore[arg-type]


def fresh(swarm_id: str = "a" * 64) -> Roster:
    return Roster(swarm_id=swarm_id, number=1, entries=(entry(1, role="coordinator", name="pi"),))


def test_a_taken_name_gets_a_number_and_a_node_that_comes_again_keeps_its_own() -> None:
    roster, box = added(fresh(), entry(2, name="pi"))
    assert box.name == "pi-2" and roster.number == 2
    roster, third = added(roster, entry(3, name="pi"))
    assert third.name == "pi-3"
    roster, again = added(roster, entry(2, name="pi-2"))
    assert again.name == "pi-2" and len(roster.entries) == 3


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.integers(0, 30))
def test_a_free_name_is_always_a_name_and_free(name: str, clashes: int) -> None:
    taken: set[str] = set()
    for _ in range(clashes):
        found = free_name(name, taken)
        assert is_name(found) and found not in taken
        taken.add(found)


def test_expelling_says_whose_connections_must_close() -> None:
    roster, _ = added(fresh(), entry(2))
    after = expelled(roster, entry(2).node_id)
    assert departed(roster, after) == {entry(2).node_id}
    assert departed(after, roster) == frozenset()
    with pytest.raises(NotFoundError):
        expelled(after, entry(2).node_id)
    with pytest.raises(InputError, match="coordinator"):
        expelled(after, entry(1).node_id)


def test_a_rename_to_a_taken_name_and_bad_tags_are_refused() -> None:
    roster, box = added(fresh(), entry(2))
    with pytest.raises(InputError):
        changed(roster, box.node_id, name="pi")
    with pytest.raises(InputError):
        changed(roster, box.node_id, tags=("Not A Tag",))
    again = changed(roster, box.node_id, name="attic", tags=("gpu",))
    assert again.named("attic").tags == ("gpu",) and again.named(box.node_id[:6]).name == "attic"
    with pytest.raises(NotFoundError):
        again.named("cellar")


def test_a_roster_is_bounded() -> None:
    roster = fresh()
    for number in range(2, MAX_ENTRIES + 1):
        roster, _ = added(roster, entry(number))
    with pytest.raises(InputError):
        added(roster, entry(MAX_ENTRIES + 1))


def test_the_largest_roster_fits_its_own_bound_and_a_grant(tmp_path: Path) -> None:
    full = {"tags": tuple(f"{n:032d}" for n in range(MAX_TAGS)), "addresses": ("x" * 128,) * MAX_ADDRESSES}
    entries = [msgspec.structs.replace(entry(n, name=f"{n:063d}"), **full) for n in range(2, MAX_ENTRIES + 1)]
    authority = Authority.create(tmp_path)
    roster = msgspec.structs.replace(fresh(authority.swarm_id), entries=(*fresh().entries, *entries))
    signed = seal_roster(roster, authority.sign)
    assert len(signed.body) < MAX_BODY_BYTES
    grant = Grant(authority_pem=authority.certificate_pem, certificate_pem="x" * 1000, roster=signed)
    assert len(encode_message(grant)) < MAX_LINE_BYTES


@pytest.mark.parametrize(
    "breaks",
    [
        lambda r: msgspec.structs.replace(r, number=0),
        lambda r: msgspec.structs.replace(r, entries=()),
        lambda r: msgspec.structs.replace(r, entries=(*r.entries, *r.entries)),
        lambda r: msgspec.structs.replace(r, entries=(*r.entries, entry(2, role="coordinator"))),
        lambda r: msgspec.structs.replace(r, entries=(*r.entries, entry(2, name="Bad Name"))),
        lambda r: msgspec.structs.replace(r, entries=(*r.entries, msgspec.structs.replace(entry(2), node_id="0" * 32))),
    ],
)
def test_an_impossible_roster_is_neither_sealed_nor_opened(tmp_path: Path, breaks: Callable[[Roster], Roster]) -> None:
    authority = Authority.create(tmp_path)
    roster = breaks(fresh(authority.swarm_id))
    assert roster_fault(roster) is not None
    with pytest.raises(InputError):
        seal_roster(roster, authority.sign)
    body = msgspec.json.encode(roster)
    forged = SignedRoster(body, authority.sign(b"mycoswarm roster 1\n" + body))
    with pytest.raises(TrustError):
        open_roster(forged, swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)


def test_a_roster_of_another_swarm_or_badly_signed_is_refused(tmp_path: Path) -> None:
    mine, other = Authority.create(tmp_path / "a"), Authority.create(tmp_path / "b")
    signed = seal_roster(fresh(mine.swarm_id), mine.sign)
    opened = open_roster(signed, swarm_id=mine.swarm_id, authority_pem=mine.certificate_pem)
    assert opened == fresh(mine.swarm_id)
    untagged = SignedRoster(signed.body, mine.sign(signed.body))
    foreign = seal_roster(fresh(mine.swarm_id), other.sign)
    misplaced = seal_roster(fresh(other.swarm_id), mine.sign)
    for bad in (untagged, foreign, misplaced, SignedRoster(signed.body + b" ", signed.signature)):
        with pytest.raises(TrustError):
            open_roster(bad, swarm_id=mine.swarm_id, authority_pem=mine.certificate_pem)
    with pytest.raises(TrustError):
        open_roster(signed, swarm_id=mine.swarm_id, authority_pem=other.certificate_pem)


_KEY = SigningKey.generate()


class _Fixed:
    """An authority made once: hypothesis runs many examples."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.authority = Authority.create(Path(folder))


_FIXED = _Fixed()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=25))
def test_a_held_roster_never_goes_back(offers: list[tuple[int, bool]]) -> None:
    authority = _FIXED.authority
    with tempfile.TemporaryDirectory() as folder:
        held = HeldRoster(Folder(Path(folder)), swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)
        for number, is_honest in offers:
            roster = msgspec.structs.replace(fresh(authority.swarm_id), number=number)
            sign = authority.sign if is_honest else _KEY.sign
            before = held.roster.number
            try:
                held.accept(seal_roster(roster, sign))
            except TrustError:
                assert held.roster.number == before and (not is_honest or number < before)
            else:
                assert is_honest and held.roster.number == number >= before
        again = HeldRoster(Folder(Path(folder)), swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)
        assert again.roster == held.roster


def test_two_different_rosters_of_one_number_are_not_taken(tmp_path: Path) -> None:
    authority = _FIXED.authority
    held = HeldRoster(Folder(tmp_path), swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)
    first, _ = added(fresh(authority.swarm_id), entry(2))
    second, _ = added(fresh(authority.swarm_id), entry(3))
    assert held.accept(seal_roster(first, authority.sign)) == frozenset()
    assert held.accept(seal_roster(first, authority.sign)) == frozenset()
    with pytest.raises(TrustError, match="not newer"):
        held.accept(seal_roster(second, authority.sign))
    (tmp_path / "roster.json").write_bytes(b"{}")
    with pytest.raises(StorageError):
        HeldRoster(Folder(tmp_path), swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_any_bytes_for_a_roster_are_a_trust_error(body: bytes, signature: bytes) -> None:
    authority = _FIXED.authority
    with pytest.raises(SwarmError):
        open_roster(SignedRoster(body, signature), swarm_id=authority.swarm_id, authority_pem=authority.certificate_pem)


def test_tags_are_put_on_and_taken_off_by_name_or_id(tmp_path: Path) -> None:
    registrar, _ = make_swarm(tmp_path)
    box = make_node(tmp_path, "box")
    take_in(registrar, box)
    assert registrar.retag("box", ("quiet", "gpu"), ()).tags == ("gpu", "quiet")
    number = registrar.roster.number
    assert registrar.retag(box.node_id, ("gpu",), ()).tags == ("gpu", "quiet")
    assert registrar.roster.number == number  # nothing changed, nobody is told
    assert registrar.retag("box", ("night",), ("gpu",)).tags == ("night", "quiet")
    for name, add, remove in (("attic", ("gpu",), ()), ("box", (), ("gpu",)), ("box", ("Big GPU",), ())):
        with pytest.raises(SwarmError):
            registrar.retag(name, add, remove)
    assert registrar.roster.named("box").tags == ("night", "quiet")


def test_the_registrar_tells_of_every_change_with_whom_to_cut_off(tmp_path: Path) -> None:
    registrar, _ = make_swarm(tmp_path)
    box = make_node(tmp_path, "box")
    told: list[tuple[SignedRoster, frozenset[str]]] = []
    registrar.on_change = lambda signed, gone: told.append((signed, gone))
    take_in(registrar, box)
    registrar.change(box.node_id, tags=("quiet",))
    assert registrar.expel(box.node_id) == {box.node_id}
    assert [gone for _, gone in told] == [frozenset(), frozenset(), {box.node_id}]
    assert registrar.roster.number == 4 and told[-1][0] == registrar.signed_roster
