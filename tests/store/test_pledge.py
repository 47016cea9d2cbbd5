"""Decisions on calls of tools against tools' tickets: what does not fit is found, and no call that never ran is."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.store.chain import Row
from mycoswarm.store.comparison import (
    Call,
    Comparison,
    Pledge,
    Taken,
    carried_out,
    pledge_for,
    pledge_of,
    read_ticket,
    request_of,
)
from mycoswarm.wire.ticket import RELEASE, Ticket, ToolTicket, Warrant
from store.test_comparison import decision as layers_decision
from store.test_comparison import ticket as layers_ticket

NAMES = {"attic": "the-attic", "cellar": "the-cellar"}


def decision(number: int, node_id: str = "attic", **more: Any) -> Pledge:
    """The decision in row `number`, on a call for one node."""
    call = Call(node_id=node_id, tool="run_python", arguments="a" * 64, workspace="run", unconfined=False, means="")
    fields: dict[str, Any] = {
        "row": number,
        "digest": f"{number:064x}",
        "request_id": "run",
        "rule": "there",
        "version": 3,
        "task": "tool:run_python",
        "labels": ["a", "b"],
        "model_digest": None,
        "shares": {},
        "call": call,
    }
    return Pledge(**fields | more)


def ticket(pledge: Pledge, **more: Any) -> ToolTicket:
    """The ticket for that decision."""
    assert pledge.call is not None
    warrant = Warrant(rule="there", version=3, task="tool:run_python", labels=("a", "b"), receipt=pledge.digest)
    fields: dict[str, Any] = {
        "swarm_id": "swarm",
        "node_id": pledge.call.node_id,
        "nonce": "n",
        "sequence": 0,
        "lifetime_s": 9.0,
        "warrant": warrant,
        "tool": "run_python",
        "digest": "a" * 64,
        "run_id": "run",
        "workspace_id": "run",
    }
    return ToolTicket(**fields | more)


def release(pledge: Pledge, **more: Any) -> ToolTicket:
    """The ticket that ends the workspace of that decision's run."""
    return ticket(pledge, tool=RELEASE, warrant=Warrant(rule="", task="release"), **more)


def compared(pledges: list[Pledge], tickets: list[tuple[str, Ticket | ToolTicket]]) -> Comparison:
    """All tickets, as (node, ticket), held against all decisions; each node was read whole."""
    done = Comparison("swarm", NAMES)
    for node_id in NAMES:
        done.begin(node_id)
    for row, (node_id, one) in enumerate(tickets, 1):
        taken = Taken(row=row, request_id=request_of(one), receipt=one.warrant.receipt, ticket=one, is_signed=True)
        done.take(node_id, taken, pledge_for(node_id, one, pledges))
    for node_id in NAMES:
        done.end(node_id)
    return done


def kinds(done: Comparison) -> list[tuple[str, int | None]]:
    return [(one.kind, one.row) for one in done.found]


def test_calls_that_were_decided_and_carried_out_are_no_finding_nor_is_the_end_of_their_workspace() -> None:
    one, two = decision(1), decision(2, "cellar")
    tickets = [("attic", ticket(one)), ("cellar", ticket(two)), ("attic", release(one)), ("cellar", release(two))]
    done = compared([one, two], tickets)
    assert [done.lacking(one), done.lacking(two)] == [(), ()]
    assert (done.found, done.tickets, done.decisions, done.unchecked) == ([], 4, 2, 0)


DIFFERENCES: dict[str, dict[str, Any]] = {
    "request": {"request_id": "another"},
    "rule": {"rule": "none"},
    "version of the rules": {"version": 4},
    "task": {"task": "tool:run_shell"},
    "labels": {"labels": ["a"]},
    "node": {"call": Call(node_id="cellar", tool="run_python", arguments="a" * 64)},
    "tool": {"call": Call(node_id="attic", tool="run_shell", arguments="a" * 64)},
    "arguments' digest": {"call": Call(node_id="attic", tool="run_python", arguments="b" * 64)},
    "workspace": {"call": Call(node_id="attic", tool="run_python", arguments="a" * 64, workspace="other")},
    "set-up": {"call": Call(node_id="attic", tool="run_python", arguments="a" * 64, means="other")},
    "no call for a node": {"call": None},
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_ticket_that_is_not_the_call_that_was_decided_is_named_with_what_differs(what: str) -> None:
    done = compared([decision(1, **DIFFERENCES[what])], [("attic", ticket(decision(1)))])
    (one,) = done.found
    assert (one.kind, one.node_id, one.row, one.request_id) == ("differs", "attic", 1, "run")
    assert what in one.words and "the-attic" in one.words


def test_a_call_that_lost_its_sandbox_on_the_way_differs_and_one_of_an_older_row_does_not() -> None:
    assert kinds(compared([decision(1)], [("attic", ticket(decision(1), unconfined=True))])) == [("differs", 1)]
    older = decision(1, call=Call(node_id="attic", tool="run_python", arguments="a" * 64))
    assert kinds(compared([older], [("attic", ticket(older, unconfined=True))])) == []


def test_a_call_that_no_decision_stands_for_and_one_that_was_sent_twice_are_found() -> None:
    one = decision(1)
    invented = ticket(decision(9))
    done = compared([one], [("attic", ticket(one)), ("attic", invented), ("attic", ticket(one, nonce="other"))])
    assert kinds(done) == [("no_decision", 2), ("no_decision", 3)]
    assert "second ticket" in done.found[1].words


def test_a_workspace_that_is_ended_on_a_node_where_its_run_never_was_is_found() -> None:
    one = decision(1)
    elsewhere = release(one, node_id="cellar")
    assert kinds(compared([one], [("cellar", elsewhere), ("attic", release(one, run_id="x"))])) == [
        ("no_decision", 1),
        ("differs", 2),
    ]
    assert kinds(compared([], [("attic", release(one))])) == [("no_decision", 1)]


def test_layers_on_the_word_of_a_tool_s_decision_are_found_and_the_other_way_round() -> None:
    call, layers = decision(1), layers_decision(2, ("attic",), request_id="run")
    mixed = layers_ticket(layers, "attic", warrant=Warrant(rule="there", receipt=call.digest))
    also = ticket(call, warrant=Warrant(rule="all", receipt=layers.digest))
    assert kinds(compared([call, layers], [("attic", mixed), ("attic", also)])) == [("differs", 1), ("differs", 2)]


def test_a_call_without_a_ticket_is_a_finding_only_where_its_node_told_what_came_of_it() -> None:
    one, two = decision(1), decision(2, "gone")
    done = compared([one, two], [])
    assert (done.lacking(one), done.lacking(two), done.unchecked) == (("attic",), (), 1)
    done.judge(one, ("attic",), is_finished=False)
    assert (done.found, done.untraced) == ([], 1)
    done.judge(one, ("attic",), is_finished=True)
    (found,) = done.found
    assert (found.kind, found.node_id, found.row, found.request_id) == ("no_ticket", "attic", None, "run")
    assert "run_python" in found.words and "row 1" in found.words


def row(kind: str, body: Any) -> Row:
    text = body if isinstance(body, str) else json.dumps(body)
    return Row(1, 1.0, kind, "run", text, "", f"{1:064x}", b"")


BODY = {
    "outcome": "tool",
    "asked": {"task": "tool:run_python", "labels": ["b"], "added": ["a"], "model_digest": None},
    "nodes": [{"id": "attic", "name": "the-attic", "place": "LAN"}],
    "rule": "there",
    "version": 3,
    "tool": "run_python",
    "arguments": "a" * 64,
    "by_ticket": True,
    "workspace": "run",
    "unconfined": False,
    "means": "",
}


def test_a_decision_s_row_is_read_as_the_call_that_it_allows() -> None:
    assert pledge_of(row("decision", BODY)) == decision(1)
    here = pledge_of(row("decision", BODY | {"by_ticket": False}))
    assert here is not None and here.call is None and not here.node_ids
    assert pledge_of(row("decision", BODY | {"nodes": [{"id": 5}]})) is None
    refused = pledge_of(row("decision", {**BODY, "outcome": "refused", "nodes": []}))
    assert refused is not None and not refused.node_ids


def test_only_a_call_that_was_answered_counts_as_carried_out() -> None:
    assert carried_out(row("tool", {"receipt": "d", "was_answered": True})) == "d"
    for body in ({"receipt": "d", "was_answered": False}, {"receipt": "d"}, {"receipt": 5, "was_answered": True}, ""):
        assert carried_out(row("tool", body)) is None


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_tool_s_ticket_or_none(data: bytes) -> None:
    assert read_ticket(data, ToolTicket) is None
    good = ticket(decision(1))
    assert read_ticket(msgspec.json.encode(good), ToolTicket) == good
    assert read_ticket(msgspec.json.encode(good), Ticket) is None
