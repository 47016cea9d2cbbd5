"""Replaying real rows of a real ledger, written by a real chat over scripted rings."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mycoswarm.base.errors import SwarmError
from mycoswarm.chat.account import Account, decision_row
from mycoswarm.chat.job import Asker, Job
from mycoswarm.daemon.hindsight import Hindsight
from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.clause import Labels, When
from mycoswarm.routing.decision import Dispatch, Explanation, Ground
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState, SwarmState
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import DECISION
from rings import Bench, job, node
from store.books import ledger_at

SWARM = SwarmState("attic", (node("attic"), node("cellar")), endpoints=(EndpointState("rack", "LAN"),))


def rules(*given: Rule) -> RuleSet:
    return RuleSet.of(given, 7)


def ask(ledger: Ledger, *jobs: Job, under: RuleSet | None = None) -> None:
    """Have a chat answer these, and keep its rows."""

    async def main() -> None:
        bench = Bench()
        if under is not None:
            bench.rules = under
        async with bench.chat() as chat:
            for one in jobs:
                try:
                    async with aclosing(chat.answer(one)) as events:
                        async for _ in events:
                            pass
                except SwarmError:
                    continue
        for number, (kind, body, request_id) in enumerate(bench.notes):
            ledger.append(kind, body, request_id=request_id, now=1000.0 + number)

    asyncio.run(main())


def moves(ledger: Ledger, under: RuleSet, last: int = 100) -> dict[str, tuple[Any, ...]]:
    told = Hindsight(ledger).replay(last, under, SWARM)
    assert told["requests"] == told["same"] + len(told["moved"]) == sum(told["counts"].values())
    return {one["request_id"]: (one["change"], one["was"], one["now"]) for one in told["moved"]}


def test_the_same_rules_move_nothing_and_others_say_what_would_become_of_it(tmp_path: Path) -> None:
    private = Asker(key_name="desk", labels=frozenset({"private"}))
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        ask(ledger, job("one"), job("two", asker=private), job("three", nodes=("cellar",)))
        assert moves(ledger, rules(DEFAULT_RULE)) == {}
        hidden = Rule(name="private", when=When(labels=Labels(any=("private",))), then=Deny())
        assert moves(ledger, rules(hidden, DEFAULT_RULE)) == {"two": ("barred", "attic", "denied")}
        asking = Rule(name="ask", then=Ask(then=Run()))
        assert {change for change, _, _ in moves(ledger, rules(asking)).values()} == {"asked"}
        only = moves(ledger, rules(Rule(name="only attic", then=Run(nodes=("attic",)))))
        assert only["three"][0] == "barred" and only["one"] == ("rule", "attic", "attic")
        first = Rule(name="rack", then=External(name="rack"), fallback=(Run(),))
        assert moves(ledger, rules(first))["one"] == ("elsewhere", "attic", "rack")
        assert {now for _, _, now in moves(ledger, rules()).values()} == {"refused"}


def test_what_was_refused_is_opened_and_what_went_outside_is_barred(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        ask(ledger, job("denied"), under=rules(Rule(name="no", then=Deny())))
        sent = Dispatch(Ground(rule="rack"), EndpointState("rack", "LAN"), "x", Explanation("rack", "so"))
        row = decision_row(Account(job("sent"), None, 5.0), sent, attempt=1, approved_by="owner", prompt=False)
        ledger.append(DECISION, row, request_id="sent", now=5.0)
        found = moves(ledger, rules(DEFAULT_RULE))
        assert found["denied"] == ("opened", "refused (denied_by_rule)", "attic, cellar")
        assert found["sent"] == ("barred", "rack", "attic, cellar")
        assert moves(ledger, rules(Rule(name="rack", then=Ask(then=External(name="rack")))), last=1) == {}, (
            "it was asked"
        )


def test_only_first_tries_of_the_last_requests_count_and_altered_rows_do_not(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, store):
        ask(ledger, *(job(f"r{number}") for number in range(4)))
        again = ledger.rows(kind=DECISION)[0].content() | {"attempt": 2}
        ledger.append(DECISION, again, request_id="r9", now=9.0)
        assert sorted(moves(ledger, rules(), last=2)) == ["r2", "r3"]
        assert sorted(moves(ledger, rules())) == ["r0", "r1", "r2", "r3"]
        for body in ("{}", "no JSON", '{"attempt":1,"asked":{},"outcome":"run","rule":null}'):
            store.write("UPDATE ledger SET body = ? WHERE request_id = 'r3'", (body,))
            assert sorted(moves(ledger, rules())) == ["r0", "r1", "r2"]


@pytest.mark.parametrize("last", [0, 1])
def test_an_empty_ledger_moves_nothing(tmp_path: Path, last: int) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        told = Hindsight(ledger).replay(last, rules(), SWARM)
        assert told == {"requests": 0, "since": None, "is_cut": False, "same": 0, "moved": [], "counts": {}}


def test_a_look_back_by_time_counts_what_it_looked_at_and_says_where_it_was_cut_off(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        ask(ledger, *(job(f"r{number}") for number in range(6)))
        third = ledger.rows(kind=DECISION)[3].at

        def looked(last: int, since: float | None) -> tuple[int, bool]:
            told = Hindsight(ledger).replay(last, rules(DEFAULT_RULE), SWARM, since)
            assert told["since"] == since
            return told["requests"], told["is_cut"]

        assert looked(100, third) == (3, False) and looked(3, third) == (3, False)
        assert looked(2, third) == (2, True) and looked(6, None) == (6, False) and looked(5, None) == (5, True)
        assert looked(100, third + 1e6) == (0, False) and looked(0, None) == (0, True)


def test_a_clock_that_was_wrong_for_a_while_hides_nothing_older(tmp_path: Path) -> None:
    """A board without a clock of its own begins in the past, until it has asked for the time."""
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        sent = Dispatch(Ground(rule="rack"), EndpointState("rack", "LAN"), "x", Explanation("rack", "so"))
        written = [(10_000.0, "before"), (5.0, "wrong"), (6.0, "wrongtoo"), (10_500.0, "after")]
        for at, name in written:
            body = decision_row(Account(job(name), None, at), sent, attempt=1, approved_by=None, prompt=False)
            ledger.append(DECISION, body, request_id=name, now=at)
        told = Hindsight(ledger).replay(100, rules(DEFAULT_RULE), SWARM, 9_000.0)
        assert sorted(one["request_id"] for one in told["moved"]) == ["after", "before"] and not told["is_cut"]
