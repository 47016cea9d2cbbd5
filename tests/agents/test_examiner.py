"""Exams over canned answers and over a scripted swarm: told, kept, ended; and agents that ask for a certificate."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from canned import Model, says
from mycoswarm.agents.exam import VERSION, Case, Reply
from mycoswarm.agents.examiner import Examiner, Heard, Put, put_to
from mycoswarm.agents.merit import Merits, is_poor
from mycoswarm.agents.party import Agent
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.purse import Budget, Purse
from mycoswarm.base.errors import BusyError, InputError, ModelError, RingError, SwarmError, UnreachableError
from mycoswarm.chat.job import Asker, Job
from mycoswarm.external.errand import Reached
from mycoswarm.routing.action import External, Run
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.store.database import Store
from mycoswarm.store.diploma import MAX_DIPLOMAS, Diploma, Diplomas
from mycoswarm.wire.report import Finished, Piece, Vector
from mycoswarm.wire.tool import ToolSpec
from rings import FACTS, TEXT, Bench


def case(kind: str, *says: str) -> Case:
    return Case(name=f"a {kind}", kind=kind, messages=({"role": "user", "content": "?"},), tools=(), says=says)


CASES = (case("none", "yes"), case("none", "no"), case("refusal"))


def answers(text: str, *subjects: str) -> Put:
    async def put(one: Case, number: int) -> Heard:
        return Heard(Reply(text), subjects[(number - 1) % len(subjects)])

    return put


def fails(error: Exception, at: int = 2) -> Put:
    async def put(one: Case, number: int) -> Heard:
        if number == at:
            raise error
        return Heard(Reply("yes"), "d")

    return put


class Desk:
    """An examiner, and what it kept."""

    def __init__(self, **more: Any) -> None:
        self.kept: list[Diploma] = []
        self.examiner = Examiner(self.kept.append, wall_clock=lambda: 1000.0, cases=CASES, **more)

    async def hold(self, put: Put) -> list[dict[str, Any]]:
        async with asyncio.timeout(10), aclosing(self.examiner.hold("spore", put)) as told:
            return [event async for event in told]


def test_an_exam_tells_of_each_case_and_keeps_its_score() -> None:
    desk = Desk()
    told = asyncio.run(desk.hold(answers("yes", "d")))
    assert [event["event"] for event in told] == ["exam", "case", "case", "case", "certificate"]
    assert [event["right"] for event in told[1:4]] == [True, False, True]
    (kept,) = desk.kept
    assert (kept.subject, kept.percent, kept.version, kept.at) == ("d", 66, VERSION, 1000.0)
    assert kept.kinds == {"none": (1, 2), "refusal": (1, 1)} and told[-1]["percent"] == 66


def test_a_case_that_is_too_long_for_the_model_is_wrong_and_other_errors_end_the_exam() -> None:
    desk = Desk()
    told = asyncio.run(desk.hold(fails(InputError("too long", code="context_length_exceeded"))))
    assert not told[2]["right"] and desk.kept[0].correct == 2
    desk = Desk()
    with pytest.raises(InputError):
        asyncio.run(desk.hold(fails(InputError("this model calls no tools", code="no_tool_calls"))))
    assert not desk.kept


def test_an_exam_that_two_models_answered_is_of_none() -> None:
    desk = Desk()
    with pytest.raises(RingError) as caught:
        asyncio.run(desk.hold(answers("yes", "d", "e")))
    assert caught.value.code == "exam_mixed" and not desk.kept


def test_an_exam_has_a_limit() -> None:
    async def never(one: Case, number: int) -> Heard:
        await asyncio.Event().wait()
        raise AssertionError

    desk = Desk(exam_s=0.01)
    with pytest.raises(UnreachableError, match="longer than"):
        asyncio.run(desk.hold(never))
    assert not desk.kept


def test_a_model_is_examined_once_at_a_time_and_again_after_an_exam_was_ended() -> None:
    async def main() -> None:
        desk = Desk()
        first = desk.examiner.hold("spore", answers("yes", "d"))
        await anext(first)
        with pytest.raises(BusyError):
            await desk.hold(answers("yes", "d"))
        await first.aclose()
        assert not desk.kept
        await desk.hold(answers("yes", "d"))
        assert len(desk.kept) == 1

    asyncio.run(main())


def test_cases_are_requests_that_the_rules_decide_and_the_ledger_has() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            heard = await put_to(chat, "spore", Asker(key_name="desk"), "exam-1")(CASES[0], 4)
        assert heard == Heard(Reply(TEXT), FACTS.digest)
        asked = bench.rows("decision")[0]["asked"]
        assert (asked["task"], asked["key"], bench.notes[0][2]) == ("chat", "desk", "exam-1-4")
        assert bench.rings[0].generations[0].sampling.temperature == 0

    asyncio.run(main())


def test_an_exam_is_of_the_model_and_holds_its_calls_to_nothing() -> None:
    async def main() -> None:
        facts = msgspec.structs.replace(FACTS, template="{{ tools }} <tool_call></tool_call>")
        bench = Bench(facts=facts, is_poor=lambda digest, task: True)
        offered = replace(CASES[0], tools=(ToolSpec("clock", "", {"type": "object", "properties": {}}),))
        async with bench.chat() as chat:
            await put_to(chat, "spore", Asker(), "exam-1")(offered, 1)
        assert bench.rings[0].generations[0].sampling.call_form is None

    asyncio.run(main())


def agent(certificate: int | None) -> Agent:
    return Agent(
        run_id="run",
        number="",
        profile=Profile(name="scout", model="spore", certificate=certificate),
        asker=Asker(),
        purse=Purse(100),
        budget=Budget(),
        granted=(),
        ends_s=1e9,
    )


def diploma(percent: int = 80, *, subject: str = FACTS.digest, version: int = VERSION, at: float = 1.0) -> Diploma:
    kinds = {"none": (percent, 100)}
    return Diploma(
        subject=subject,
        model="spore",
        at=at,
        version=version,
        percent=percent,
        correct=percent,
        cases=100,
        kinds=kinds,
    )


async def step(least: int | None, held: dict[str, Diploma], bench: Bench) -> int:
    """One step of an agent; gives what was said."""
    model = Model([says("hello")])
    async with bench.chat() as chat:
        ask = Merits(chat, bench.find, held.get).watch(model.speak)(agent(least), lambda: "id")
        try:
            return len([one async for one in ask([{"role": "user", "content": "?"}], [], 5)])
        finally:
            assert bool(model.asked) or least is not None


@pytest.mark.parametrize(
    ("least", "held", "code"),
    [
        (80, [], "not_certified"),
        (80, [diploma(79)], "certificate_too_low"),
        (80, [diploma(99, subject="e" * 64)], "not_certified"),
        (80, [diploma(99, version=VERSION - 1)], "not_certified"),
        (80, [diploma(80)], None),
        (1, [diploma(100)], None),
        (None, [], None),
    ],
)
def test_an_agent_speaks_only_with_the_certificate_it_asks_for(
    least: int | None, held: list[Diploma], code: str | None
) -> None:
    kept = {one.subject: one for one in held}
    if code is None:
        assert asyncio.run(step(least, kept, Bench())) == 2
        return
    with pytest.raises(ModelError) as caught:
        asyncio.run(step(least, kept, Bench()))
    assert caught.value.code == code and "scout" in caught.value.message


@pytest.mark.parametrize(
    ("found", "task", "below", "expected"),
    [
        (diploma(89), "chat", 90, True),
        (diploma(90), "chat", 90, False),
        (diploma(89), "agent", 90, True),
        (diploma(90), "agent", 90, False),
        (None, "agent", 90, True),
        (None, "chat", 90, False),
        (diploma(99, version=VERSION - 1), "agent", 90, True),
        (diploma(10, version=VERSION - 1), "chat", 90, False),
        (None, "agent", 0, False),
        (diploma(0), "agent", 0, False),
        (diploma(100), "chat", 101, True),
    ],
)
def test_a_poor_certificate_and_for_agents_none_asks_for_a_strict_hand(
    found: Diploma | None, task: str, below: int, expected: bool
) -> None:
    assert is_poor(found, task, below) is expected


def test_a_certificate_of_an_endpoints_model_is_of_the_endpoint_as_it_is_registered() -> None:
    async def relay(dispatch: Dispatch, job: Job) -> AsyncGenerator[Reached | Piece | Vector | Finished, None]:
        yield Reached("LAN", "192.168.1.9:8000")
        yield Piece(request_id=job.request_id, text="yes", token_ids=())
        yield Finished(job.request_id, "stop", 1, 1)

    def bench(since: float) -> Bench:
        rack = EndpointState(name="rack", place="LAN", since=since)
        rules = RuleSet.of((Rule(name="rack", then=External(name="rack")),))
        return Bench(endpoints=(rack,), rules=rules, relay=relay)

    async def main() -> None:
        one = bench(5.0)
        async with one.chat() as chat:
            heard = await put_to(chat, "spore", Asker(), "exam-1")(CASES[0], 1)
        assert heard.reply.text == "yes" and "rack" in heard.subject and FACTS.digest not in heard.subject
        held = {heard.subject: diploma(90, subject=heard.subject)}
        assert await step(80, held, bench(5.0)) == 2
        for kept, there in ((held, bench(6.0)), ({FACTS.digest: diploma(90)}, bench(5.0))):
            with pytest.raises(ModelError) as caught:
                await step(80, kept, there)
            assert caught.value.code == "not_certified"

    asyncio.run(main())


def test_where_the_rules_allow_nothing_no_certificate_helps() -> None:
    rules = RuleSet.of((Rule(name="elsewhere", then=Run(nodes=("nowhere",))),))
    with pytest.raises(SwarmError) as caught:
        asyncio.run(step(1, {FACTS.digest: diploma()}, Bench(rules=rules)))
    assert caught.value.code not in ("not_certified", "certificate_too_low")


def test_the_newest_certificate_of_each_model_is_kept_over_a_restart_and_the_oldest_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    for one in (diploma(10), diploma(20)):
        Diplomas(store).keep(one)
    store.close()
    store = Store(tmp_path / "node.db")
    kept = Diplomas(store)
    assert kept.find(FACTS.digest) == diploma(20) and kept.all() == {FACTS.digest: diploma(20)}
    assert kept.find("other") is None
    with store.transaction() as transaction:
        for number in range(MAX_DIPLOMAS):
            transaction.write(
                "INSERT INTO diplomas SELECT ?, model, 2.0, version, percent, correct, cases, kinds FROM diplomas"
                " WHERE subject = ?",
                (f"s{number}", FACTS.digest),
            )
    kept.keep(diploma(30, subject="new", at=3.0))
    assert len(kept.all()) == MAX_DIPLOMAS and kept.find("new") and kept.find(FACTS.digest) is None
    store.close()
