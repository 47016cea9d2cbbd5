"""Admission by token without sockets: recorded, altered and misplaced words let nobody in."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from household import make_node, make_swarm
from mycoswarm.base.errors import EnrolmentError, ProtocolError, SwarmError
from mycoswarm.swarm.admission import Admitter, Joiner
from mycoswarm.swarm.enrolment import Message, decode_message, encode_message
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.token import JoinToken


@dataclass
class Pair:
    registrar: Registrar
    pi: Identity
    box: Identity
    token: JoinToken

    def sides(self) -> tuple[Joiner, Admitter]:
        public = self.pi.key.public_der
        return Joiner(self.box, self.token, door_public=public), Admitter(self.registrar, door_public=public)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    registrar, pi = make_swarm(tmp_path)
    return Pair(registrar, pi, make_node(tmp_path, "box"), registrar.mint_token(("127.0.0.1:1",)))


def test_a_recorded_claim_is_worth_nothing_in_another_exchange(pair: Pair) -> None:
    joiner, admitter = pair.sides()
    claim = joiner.claim(admitter.proof(joiner.request))
    _, later = pair.sides()
    later.proof(joiner.request)  # the same request again: another nonce
    with pytest.raises(EnrolmentError, match="secret"):
        later.grant(claim)
    joiner.enrolled(admitter.grant(claim))
    with pytest.raises(ProtocolError):
        admitter.grant(claim)


def test_a_recorded_proof_does_not_pass_for_the_coordinator(pair: Pair) -> None:
    joiner, admitter = pair.sides()
    proof = admitter.proof(joiner.request)
    again, _ = pair.sides()
    for bad in (
        proof,
        msgspec.structs.replace(proof, signature=b""),
        msgspec.structs.replace(proof, authority_pem="x"),
    ):
        with pytest.raises(EnrolmentError):
            again.claim(bad)


def test_a_request_with_another_key_or_name_does_not_fit_its_claim(pair: Pair, tmp_path: Path) -> None:
    other = make_node(tmp_path, "other")
    for change in ({"name": "mallory"}, {"public": other.key.public_der}, {"addresses": ("10.0.0.1:1",)}):
        joiner, admitter = pair.sides()
        proof = admitter.proof(msgspec.structs.replace(joiner.request, **change))
        with pytest.raises(EnrolmentError):
            joiner.claim(proof)
    assert len(pair.registrar.roster.entries) == 1


def test_the_coordinator_says_nothing_to_other_versions_and_unknown_tokens(pair: Pair) -> None:
    joiner, admitter = pair.sides()
    for change in ({"version": 2}, {"token_id": "00"}, {"public": b"x"}, {"nonce": b"short"}):
        with pytest.raises(SwarmError):
            admitter.proof(msgspec.structs.replace(joiner.request, **change))


def test_an_address_that_is_too_long_is_refused_before_it_reaches_the_roster(pair: Pair) -> None:
    public = pair.pi.key.public_der
    joiner = Joiner(pair.box, pair.token, door_public=public, addresses=("x" * 500,))
    admitter = Admitter(pair.registrar, door_public=public)
    with pytest.raises(EnrolmentError):
        admitter.grant(joiner.claim(admitter.proof(joiner.request)))
    assert len(pair.registrar.roster.entries) == 1


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_any_line_is_a_word_or_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_message(line)


def test_a_word_survives_being_written_and_read(pair: Pair) -> None:
    joiner, admitter = pair.sides()
    proof = admitter.proof(joiner.request)
    words: list[Message] = [joiner.request, proof, joiner.claim(proof)]
    for word in words:
        assert decode_message(encode_message(word)) == word
