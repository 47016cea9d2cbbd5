"""Tickets for tools: what holds and what does not. Signatures are faked: the body reversed."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mycoswarm.base.errors import TicketError
from mycoswarm.sandbox.clearance import check, digest_of, seal
from mycoswarm.stage.permit import seal_ticket
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.ticket import RELEASE, Sealed, Ticket, ToolTicket, Warrant

ARGUMENTS = '{"code": "1"}'
TICKET = ToolTicket(
    swarm_id="swarm",
    node_id="a",
    nonce="n",
    sequence=0,
    lifetime_s=60,
    warrant=Warrant(rule="all", task="tool:run_python"),
    tool="run_python",
    digest=digest_of(ARGUMENTS),
    run_id="r",
    workspace_id="r",
)


def sign(body: bytes) -> bytes:
    return body[::-1]


def read(sealed: Sealed, arguments: str = ARGUMENTS, means: str = "") -> ToolTicket:
    return check(
        sealed,
        arguments,
        means,
        is_signed=lambda one: one.signature == one.body[::-1],
        swarm_id="swarm",
        node_id="a",
        nonce="n",
    )


def test_one_that_holds_is_read() -> None:
    assert read(seal(TICKET, sign)) == TICKET


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"swarm_id": "other"}, "another swarm"),
        ({"node_id": "b"}, "another node"),
        ({"nonce": "old"}, "replay"),
        ({"sequence": 1}, "replay"),
        ({"lifetime_s": 0.0}, "live for"),
        ({"lifetime_s": float("inf")}, "live for|cannot be read"),
        ({"within_s": 1e9}, "run for"),
        ({"tool": "run_shell"}, "not what was decided"),
        ({"tool": "format_disk", "warrant": Warrant(rule="all", task="tool:format_disk")}, "no tool called"),
        ({"tool": "list_nodes", "warrant": Warrant(rule="all", task="tool:list_nodes")}, "no tool called"),
        ({"digest": digest_of("{}")}, "other arguments"),
    ],
)
def test_one_that_does_not_hold_says_in_what(change: dict[str, Any], why: str) -> None:
    with pytest.raises(TicketError, match=why):
        read(seal(msgspec.structs.replace(TICKET, **change), sign))


def test_one_that_was_altered_or_signed_by_another_is_refused() -> None:
    sealed = seal(TICKET, sign)
    body = sealed.body.replace(b'"all"', b'"any"')
    makers: list[Callable[[], Sealed]] = [
        lambda: Sealed(body, sealed.signature),
        lambda: Sealed(sealed.body, b"x"),
        lambda: Sealed(b"[" * 20_000, sign(b"")),
    ]
    for make in makers:
        with pytest.raises(TicketError):
            read(make())
    with pytest.raises(TicketError, match="other arguments"):
        read(sealed, '{"code": "2"}')


def test_a_tool_of_a_server_needs_the_server_that_the_ticket_is_for() -> None:
    warrant = Warrant(rule="all", task="tool:time__now")
    ticket = msgspec.structs.replace(TICKET, tool="time__now", warrant=warrant, means=digest_of("{1}"))
    assert read(seal(ticket, sign), means="{1}") == ticket
    for means, why in (("{2}", "set up otherwise"), ("", "no tool called")):
        with pytest.raises(TicketError, match=why):
            read(seal(ticket, sign), means=means)
    with pytest.raises(TicketError, match="set up otherwise"):
        read(seal(TICKET, sign), means="{1}")
    for name in ("list_nodes", "format_disk"):
        named = msgspec.structs.replace(ticket, tool=name, warrant=Warrant(rule="all", task=f"tool:{name}"))
        with pytest.raises(TicketError, match="no tool called"):
            read(seal(named, sign), means="{1}")


def test_a_ring_s_ticket_opens_no_tool() -> None:
    plan = RingPlan(
        ring_id="ring",
        model_digest="d",
        n_layer=1,
        holder_id="a",
        stages=(StagePlan(node_id="a", first=0, last=1),),
        conditions=Conditions(n_ctx=256),
    )
    ring = Ticket(
        swarm_id="swarm", node_id="a", nonce="n", sequence=0, lifetime_s=60, warrant=TICKET.warrant, plan=plan
    )
    with pytest.raises(TicketError, match="cannot be read as one for a tool"):
        read(seal_ticket(ring, sign))


def test_a_release_needs_no_tool() -> None:
    ticket = msgspec.structs.replace(TICKET, tool=RELEASE, warrant=Warrant(rule=""), digest=digest_of(""))
    assert read(seal(ticket, sign), "").tool == RELEASE
