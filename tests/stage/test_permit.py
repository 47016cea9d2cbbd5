"""Tickets: what holds and what does not. Signatures are faked: the body reversed."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import TicketError
from mycoswarm.stage.permit import MAX_ADMITTED, Permits, PiecePermits, read_sealed, seal_ticket, write_sealed
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.ticket import Sealed, Ticket, Warrant

WARRANT = Warrant(rule="all", rule_id=1, version=3, labels=("private",), receipt="e" * 64)
PLAN = RingPlan(
    ring_id="ring",
    model_digest="d" * 64,
    n_layer=6,
    holder_id="holder",
    stages=(StagePlan(node_id="a", first=0, last=2), StagePlan(node_id="b", first=2, last=6)),
    conditions=Conditions(n_ctx=256),
)
OPENING = Ticket(
    swarm_id="swarm", node_id="a", nonce="n", sequence=0, lifetime_s=60, warrant=WARRANT, plan=PLAN, request_id=None
)
REQUEST = msgspec.structs.replace(OPENING, sequence=1, request_id="r", lifetime_s=10)


def sign(body: bytes) -> bytes:
    return body[::-1]


def is_signed(sealed: Sealed) -> bool:
    return sealed.signature == sealed.body[::-1]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_permits(clock: Callable[[], float]) -> Permits:
    return Permits(node_id="a", swarm_id="swarm", nonce="n", is_signed=is_signed, clock=clock)


def opened(clock: Callable[[], float]) -> Permits:
    permits = make_permits(clock)
    permits.open(seal_ticket(OPENING, sign))
    return permits


def test_a_sound_ticket_opens_the_ring_and_another_admits_a_request() -> None:
    permits = make_permits(Clock())
    assert permits.open(seal_ticket(OPENING, sign)) == OPENING
    assert not permits.is_admitted("r")
    assert permits.admit("r", seal_ticket(REQUEST, sign)) == REQUEST
    assert permits.is_admitted("r")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"swarm_id": "other"}, "another swarm"),
        ({"node_id": "b"}, "another node"),
        ({"node_id": "z"}, "another node"),
        ({"nonce": "m"}, "another stream"),
        ({"sequence": 1}, "replay"),
        ({"lifetime_s": 0}, "live"),
        ({"lifetime_s": -1}, "live"),
        ({"lifetime_s": 1e9}, "live"),
        ({"plan": msgspec.structs.replace(PLAN, n_layer=7)}, "cannot be"),
        ({"plan": msgspec.structs.replace(PLAN, stages=PLAN.stages[:0])}, "cannot be"),
    ],
)
def test_a_ticket_that_is_off_in_one_field_opens_nothing(changes: dict[str, object], what: str) -> None:
    permits = make_permits(Clock())
    with pytest.raises(TicketError, match=what):
        permits.open(seal_ticket(msgspec.structs.replace(OPENING, **changes), sign))
    permits.open(seal_ticket(OPENING, sign))  # and costs the right one nothing


def test_a_node_without_work_in_the_plan_runs_nothing() -> None:
    permits = Permits(node_id="c", swarm_id="swarm", nonce="n", is_signed=is_signed, clock=Clock())
    with pytest.raises(TicketError, match="no work"):
        permits.open(seal_ticket(msgspec.structs.replace(OPENING, node_id="c"), sign))


@given(st.data())
def test_an_altered_ticket_is_refused(data: st.DataObject) -> None:
    sealed = seal_ticket(OPENING, sign)
    place = data.draw(st.integers(0, len(sealed.body) - 1))
    bit = data.draw(st.integers(0, 7))
    body = bytearray(sealed.body)
    body[place] ^= 1 << bit
    with pytest.raises(TicketError):
        make_permits(Clock()).open(Sealed(bytes(body), sealed.signature))


@given(st.binary(max_size=300))
def test_signed_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(TicketError):
        make_permits(Clock()).open(Sealed(body, sign(body)))


@given(st.binary(max_size=300))
def test_what_is_not_a_sealed_ticket_is_not_read(data: bytes) -> None:
    with pytest.raises(TicketError):
        read_sealed(data)


def test_a_sealed_ticket_survives_writing_and_reading() -> None:
    sealed = seal_ticket(OPENING, sign)
    assert read_sealed(write_sealed(sealed)) == sealed


def test_a_replayed_ticket_admits_nothing() -> None:
    permits = opened(Clock())
    permits.admit("r", seal_ticket(REQUEST, sign))
    with pytest.raises(TicketError, match="replay"):
        permits.admit("r", seal_ticket(REQUEST, sign))
    with pytest.raises(TicketError):
        permits.open(seal_ticket(OPENING, sign))


def test_a_request_needs_its_own_ticket_for_this_ring() -> None:
    permits = opened(Clock())
    with pytest.raises(TicketError, match="without"):
        permits.admit("r", None)
    with pytest.raises(TicketError, match="another request"):
        permits.admit("s", seal_ticket(REQUEST, sign))
    other = msgspec.structs.replace(REQUEST, sequence=2, plan=msgspec.structs.replace(PLAN, ring_id="other"))
    with pytest.raises(TicketError, match="another ring"):
        permits.admit("r", seal_ticket(other, sign))


def test_a_requests_time_ends_and_the_ring_lives_as_long_as_its_longest_ticket() -> None:
    clock = Clock()
    permits = opened(clock)
    permits.admit("r", seal_ticket(REQUEST, sign))
    clock.now += 9.9
    assert permits.is_admitted("r") and permits.expired() == []
    clock.now += 0.2
    assert not permits.is_admitted("r")
    assert permits.expired() == ["r"] and permits.expired() == []
    permits.admit("s", seal_ticket(msgspec.structs.replace(REQUEST, sequence=2, request_id="s", lifetime_s=100), sign))
    clock.now += 60
    assert not permits.is_over
    clock.now += 60
    assert permits.is_over


def test_the_table_of_admitted_requests_is_bounded() -> None:
    permits = opened(Clock())
    for number in range(1, MAX_ADMITTED + 1):
        name = f"r{number}"
        permits.admit(name, seal_ticket(msgspec.structs.replace(REQUEST, sequence=number, request_id=name), sign))
    extra = msgspec.structs.replace(REQUEST, sequence=MAX_ADMITTED + 1)
    with pytest.raises(TicketError, match="too many"):
        permits.admit("r", seal_ticket(extra, sign))


def test_a_holder_gives_pieces_for_the_tickets_model_and_node_while_it_lives() -> None:
    clock = Clock()
    permits = PiecePermits(swarm_id="swarm", is_signed=is_signed, clock=clock)
    sealed = seal_ticket(OPENING, sign)
    _, stage = permits.check(sealed, "a", "d" * 64)
    assert (stage.first, stage.last) == (0, 2)
    with pytest.raises(TicketError, match="another node"):
        permits.check(sealed, "b", "d" * 64)
    with pytest.raises(TicketError, match="another model"):
        permits.check(sealed, "a", "e" * 64)
    with pytest.raises(TicketError, match="signature"):
        permits.check(Sealed(sealed.body, b"no"), "a", "d" * 64)
    clock.now += 59
    permits.check(sealed, "a", "d" * 64)
    clock.now += 2
    with pytest.raises(TicketError, match="over"):
        permits.check(sealed, "a", "d" * 64)
