"""Adoption without sockets: the code, and what a cheating side runs into."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from household import make_node, make_swarm
from mycoswarm.base.errors import BusyError, EnrolmentError, ProtocolError
from mycoswarm.swarm.adoption import MAX_OFFERS, MAX_PENDING, OFFER_WINDOW_S, Adoptee, Adopter, OfferLimit
from mycoswarm.swarm.enrolment import Agreed, Offer
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar


@dataclass
class Pair:
    registrar: Registrar
    pi: Identity
    box: Identity

    def adopter(self) -> Adopter:
        public = self.box.key.public_der
        return Adopter(self.registrar, self.pi, node_id=self.box.node_id, door_public=public)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(*make_swarm(tmp_path), make_node(tmp_path, "box"))


def test_both_sides_come_to_one_code_and_another_one_each_time(pair: Pair) -> None:
    codes = set()
    for _ in range(5):
        adopter = pair.adopter()
        adoptee = Adoptee(pair.box, adopter.offer)
        code = adoptee.reveal(adopter.reveal(adoptee.reply))
        assert code == adopter.code
        codes.add(code)
    assert len(codes) > 1


def test_a_full_adoption_gives_what_a_member_holds(pair: Pair) -> None:
    adopter = pair.adopter()
    adoptee = Adoptee(pair.box, adopter.offer, addresses=("127.0.0.1:6927",))
    adoptee.reveal(adopter.reveal(adoptee.reply))
    enrolled = adoptee.enrolled(adopter.grant(adoptee.agree()))
    assert enrolled.roster == pair.registrar.roster and enrolled.membership.coordinator_id == pair.pi.node_id
    adopter.take_back()
    assert pair.registrar.roster.find(pair.box.node_id) is None


def test_a_nonce_that_was_not_committed_to_is_refused(pair: Pair) -> None:
    adopter = pair.adopter()
    adoptee = Adoptee(pair.box, adopter.offer)
    reveal = adopter.reveal(adoptee.reply)
    with pytest.raises(EnrolmentError, match="nonce"):
        adoptee.reveal(msgspec.structs.replace(reveal, nonce=bytes(32)))
    with pytest.raises(ProtocolError):
        adoptee.reveal(msgspec.structs.replace(reveal, nonce=b"short"))
    with pytest.raises(ProtocolError):
        adoptee.agree()


@pytest.mark.parametrize("field", ["name", "public", "authority_pem", "commitment"])
def test_an_offer_changed_on_its_way_never_gets_to_a_code(pair: Pair, tmp_path: Path, field: str) -> None:
    other, rogue = make_swarm(tmp_path, "rogue")
    changes = {
        "name": "mallory",
        "public": rogue.key.public_der,
        "authority_pem": other.authority.certificate_pem,
        "commitment": bytes(32),
    }
    adopter = pair.adopter()
    offer: Offer = msgspec.structs.replace(adopter.offer, **{field: changes[field]})
    adoptee = Adoptee(pair.box, offer)
    with pytest.raises(EnrolmentError):
        adoptee.reveal(adopter.reveal(adoptee.reply))


def test_a_reply_changed_on_its_way_never_gets_to_a_code(pair: Pair, tmp_path: Path) -> None:
    other = make_node(tmp_path, "other")
    for change in ({"name": "mallory"}, {"nonce": bytes(32)}, {"public": other.key.public_der}):
        adopter = pair.adopter()
        adoptee = Adoptee(pair.box, adopter.offer)
        with pytest.raises(EnrolmentError):
            adoptee.reveal(adopter.reveal(msgspec.structs.replace(adoptee.reply, **change)))


def test_only_the_nodes_own_agreement_counts_and_only_for_this_exchange(pair: Pair) -> None:
    agreements = []
    for _ in range(2):
        adopter = pair.adopter()
        adoptee = Adoptee(pair.box, adopter.offer)
        adoptee.reveal(adopter.reveal(adoptee.reply))
        agreements.append((adopter, adoptee.agree()))
    (first, _), (_, other) = agreements
    for bad in (other, Agreed(signature=b"")):
        with pytest.raises(EnrolmentError):
            first.grant(bad)
    assert len(pair.registrar.roster.entries) == 1


def test_another_node_than_the_one_picked_gets_no_offer(pair: Pair) -> None:
    with pytest.raises(EnrolmentError):
        Adopter(pair.registrar, pair.pi, node_id=pair.box.node_id, door_public=pair.pi.key.public_der)


def test_offers_are_limited_at_once_and_over_time() -> None:
    limit = OfferLimit()
    with pytest.raises(BusyError):
        limit.take(MAX_PENDING, 0)
    for _ in range(MAX_OFFERS):
        limit.take(0, 0)
    with pytest.raises(BusyError) as caught:
        limit.take(0, 10)
    assert OFFER_WINDOW_S - 10 <= caught.value.retry_after_s <= OFFER_WINDOW_S
    limit.take(0, OFFER_WINDOW_S)
