"""Decisions against tickets: everything that does not fit is found and named, and nothing that fits."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.store.chain import Row
from mycoswarm.store.comparison import (
    MAX_DISCREPANCIES,
    Comparison,
    Pledge,
    Taken,
    is_finished,
    pledge_of,
    read_ticket,
)
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.ticket import Ticket, Warrant

NODES = ("attic", "cellar", "shed")
NAMES = {node_id: f"the-{node_id}" for node_id in NODES}
MODEL = "m" * 64


def decision(number: int, nodes: tuple[str, ...] = NODES, **more: Any) -> Pledge:
    """The decision in row `number`, on as many layers as nodes."""
    shares = {node_id: (at, at + 1) for at, node_id in enumerate(nodes)}
    fields: dict[str, Any] = {
        "row": number,
        "digest": f"{number:064x}",
        "request_id": f"r{number}",
        "rule": "all",
        "version": 3,
        "task": "chat",
        "labels": ["a", "b"],
        "model_digest": MODEL,
        "shares": shares,
    }
    return Pledge(**fields | more)


def ticket(pledge: Pledge, node_id: str, **more: Any) -> Ticket:
    """The ticket for that decision on a node."""
    stages = tuple(StagePlan(node_id=one, first=first, last=last) for one, (first, last) in pledge.shares.items())
    plan = RingPlan(
        ring_id="ring",
        model_digest=MODEL,
        n_layer=len(stages),
        holder_id="attic",
        stages=stages,
        conditions=Conditions(n_ctx=256),
    )
    warrant = Warrant(rule="all", version=3, labels=("a", "b"), receipt=pledge.digest)
    fields: dict[str, Any] = {
        "swarm_id": "swarm",
        "node_id": node_id,
        "nonce": "n",
        "sequence": 0,
        "lifetime_s": 9.0,
        "warrant": warrant,
        "plan": plan,
        "request_id": pledge.request_id,
    }
    return Ticket(**fields | more)


def taken(row: int, shown: Ticket | None, *, is_signed: bool = True, **more: Any) -> Taken:
    request_id, receipt = (shown.request_id, shown.warrant.receipt) if shown else (None, "")
    fields = {"request_id": request_id, "receipt": receipt} | more
    return Taken(row=row, ticket=shown, is_signed=is_signed, **fields)


def compared(
    pledges: list[Pledge], tickets: dict[str, list[Taken]], finished: set[str | None], *, whole: tuple[str, ...] = NODES
) -> Comparison:
    """Run a comparison as the auditor does."""
    done = Comparison("swarm", NAMES)
    known = {pledge.digest: pledge for pledge in pledges}
    for node_id, rows in tickets.items():
        done.begin(node_id)
        for one in rows:
            done.take(node_id, one, known.get(one.ticket.warrant.receipt) if one.ticket else None)
        if node_id in whole:
            done.end(node_id)
    for pledge in pledges:
        if lacking := done.lacking(pledge):
            done.judge(pledge, lacking, is_finished=pledge.request_id in finished)
    return done


def test_what_was_decided_and_done_is_no_finding() -> None:
    pledges = [decision(number) for number in range(1, 4)]
    tickets = {node: [taken(p.row, ticket(p, node)) for p in pledges] for node in NODES}
    done = compared(pledges, tickets, {"r1", "r2", "r3"})
    assert (done.found, done.more, done.tickets, done.decisions, done.untraced, done.unchecked) == ([], 0, 9, 3, 0, 0)


@given(st.data())
def test_tickets_of_random_swarms_fit_until_one_is_dropped_or_invented(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
    pledges = [decision(number, NODES[:size]) for number, size in enumerate(sizes, 1)]
    tickets = {node: [taken(p.row, ticket(p, node)) for p in pledges if node in p.shares] for node in NODES}
    finished = set(data.draw(st.lists(st.sampled_from([p.request_id for p in pledges]))))
    missing = data.draw(st.sets(st.sampled_from([(p.row, node) for p in pledges for node in p.shares] or [(0, "")])))
    invented = data.draw(st.sets(st.sampled_from([(row, node) for row in (90, 91) for node in NODES])))
    for row, node in missing:
        if node:
            tickets[node] = [one for one in tickets[node] if one.row != row]
    for row, node in invented:
        tickets[node].append(taken(row, ticket(decision(row), node)))
    done = compared(pledges, tickets, finished)
    wanted = {("no_ticket", node, f"r{row}") for row, node in missing if f"r{row}" in finished}
    wanted |= {("no_decision", node, f"r{row}") for row, node in invented}
    assert {(one.kind, one.node_id, one.request_id) for one in done.found} == wanted
    assert all(NAMES[one.node_id] in one.words and str(one.request_id) in one.words for one in done.found)
    assert {one.row for one in done.found if one.kind == "no_decision"} == {row for row, _ in invented}
    assert done.untraced == len({row for row, node in missing if node and f"r{row}" not in finished})


DIFFERENCES: dict[str, dict[str, Any]] = {
    "request": {"request_id": "another"},
    "rule": {"rule": "none"},
    "version of the rules": {"version": 4},
    "task": {"task": "embedding"},
    "labels": {"labels": ["a"]},
    "model": {"model_digest": "f" * 64},
    "layers": {"shares": {"attic": (0, 2), "cellar": (2, 3)}},
    "other nodes": {"shares": {"attic": (0, 1), "shed": (1, 3)}},
    "decision's none": {"shares": {}},
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_ticket_that_is_not_what_was_decided_is_named_with_what_differs(what: str) -> None:
    pledge = decision(1)
    done = compared([decision(1, **DIFFERENCES[what])], {"attic": [taken(7, ticket(pledge, "attic"))]}, set())
    (one,) = done.found
    assert (one.kind, one.node_id, one.row, one.request_id) == ("differs", "attic", 7, "r1")
    assert what in one.words


def test_a_ticket_for_another_node_a_row_that_lies_and_one_that_nobody_signed_are_named() -> None:
    pledge = decision(1)
    good = ticket(pledge, "attic")
    rows = [
        taken(1, ticket(pledge, "cellar")),
        taken(2, good, request_id="r2"),
        taken(3, good, receipt="0" * 64),
        taken(4, good, is_signed=False),
        taken(5, None),
    ]
    done = compared([pledge], {"attic": rows}, {"r1"})
    assert [(one.kind, one.row) for one in done.found] == [
        ("differs", 1),
        ("differs", 2),
        ("differs", 3),
        ("unsigned", 4),
        ("unreadable", 5),
    ]


def test_an_unsigned_ticket_does_not_count_as_one() -> None:
    pledge = decision(1, ("attic",))
    done = compared([pledge], {"attic": [taken(4, ticket(pledge, "attic"), is_signed=False)]}, {"r1"})
    assert [one.kind for one in done.found] == ["unsigned", "no_ticket"]


def test_tickets_of_another_swarm_are_counted_and_compared_with_nothing() -> None:
    alone = ticket(decision(1), "attic", swarm_id="before")
    done = compared([decision(1, ("attic",))], {"attic": [taken(1, alone, is_signed=False)]}, {"r1"})
    assert (done.found, done.foreign, done.untraced) == ([], 1, 0)


def test_nothing_is_concluded_of_a_node_that_was_not_read_whole() -> None:
    done = compared([decision(1, ("attic", "gone"))], {"attic": []}, {"r1"}, whole=())
    assert (done.found, done.unchecked) == ([], 1)


def test_discrepancies_are_bounded_and_the_rest_is_counted() -> None:
    rows = [taken(number, None) for number in range(MAX_DISCREPANCIES + 5)]
    done = compared([], {"attic": rows}, set())
    assert (len(done.found), done.more) == (MAX_DISCREPANCIES, 5)


def row(kind: str, body: Any, seq: int = 1) -> Row:
    text = body if isinstance(body, str) else json.dumps(body)
    return Row(seq, 1.0, kind, "r1", text, "", f"{seq:064x}", b"")


def run_row(seq: int = 1, outcome: str = "run") -> Row:
    nodes = [{"id": "attic", "name": "attic", "layers": [0, 1]}]
    asked = {"task": "chat", "labels": ["b"], "added": ["a", "b"], "model_digest": MODEL}
    return row("decision", {"outcome": outcome, "asked": asked, "nodes": nodes, "rule": "all", "version": 3}, seq)


def test_a_decision_s_row_is_read_as_what_it_pledges() -> None:
    pledge = pledge_of(run_row())
    assert pledge == decision(1, ("attic",))
    refused = pledge_of(run_row(outcome="refused"))
    assert refused is not None and not refused.shares


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        {"asked": 1},
        {"asked": {}, "nodes": [{"id": 1, "layers": [0, 1]}]},
        {"asked": {}, "nodes": [{"id": "a", "layers": 1}]},
    ],
)
def test_an_altered_decision_pledges_nothing(body: Any) -> None:
    assert pledge_of(row("decision", body)) is None


def test_only_the_last_try_of_a_finished_answer_counts_as_made_to_its_end() -> None:
    first, second = pledge_of(run_row(1)), pledge_of(run_row(2))
    assert first is not None and second is not None
    rows = (run_row(1), run_row(2), row("answer", {"outcome": "stop"}, 3))
    assert not is_finished(first, rows) and is_finished(second, rows)
    for outcome in ("cancelled", "ring_failed", None):
        assert not is_finished(second, (*rows[:2], row("answer", {"outcome": outcome}, 3)))
    assert not is_finished(second, rows[:2]) and not is_finished(second, (*rows[:2], row("answer", "no JSON", 3)))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_ticket_or_none(data: bytes) -> None:
    assert read_ticket(data, Ticket) is None
    good = ticket(decision(1), "attic")
    assert read_ticket(msgspec.json.encode(good), Ticket) == good
