"""Where an answer goes under rules: endpoints, fallbacks, labels, the owner's yes; and what the ledger then holds."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest

from mycoswarm.base.errors import (
    EndpointError,
    NotFoundError,
    RefusedError,
    RingError,
    StorageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.chat.job import Asker, Decided, Event, Job
from mycoswarm.chat.life import Chat
from mycoswarm.external.errand import Reached
from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.clause import Labels, When
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished, Piece, Vector
from rings import TEXT, Bench, FakeRing, job, lost_at, node, until

RACK = EndpointState("rack", "LAN")
Relay = Callable[[Dispatch, Job], AsyncGenerator[Reached | Piece | Vector | Finished, None]]


async def heard(chat: Chat, one: Job) -> list[Event]:
    async with asyncio.timeout(10), aclosing(chat.answer(one)) as events:
        return [event async for event in events]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


def speaking(*words: str, fault: SwarmError | None = None, reached: bool = True) -> tuple[Relay, list[str]]:
    """An endpoint that says these words, then fails or ends. What it was asked as is in the list."""
    asked: list[str] = []

    async def relay(dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | Finished, None]:
        asked.append(dispatch.model)
        if reached:
            yield Reached("LAN", "192.168.1.9:8000")
        for word in words:
            await asyncio.sleep(0)
            yield Piece(request_id=one.request_id, text=word, token_ids=())
        if fault is not None:
            raise fault
        yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=11, completion_tokens=5)

    return relay, asked


def rules(*ordered: Rule) -> RuleSet:
    return RuleSet.of(ordered, 4)


def test_a_rule_sends_to_an_endpoint_also_models_that_no_node_holds() -> None:
    async def main() -> None:
        relay, asked = speaking("from ", "the rack")
        to_rack = Rule(name="big ones", id=3, when=When(model="big-*"), then=External(name="rack", model="big/there"))
        bench = Bench(rules=rules(to_rack), endpoints=(RACK,), relay=relay)
        async with bench.chat() as chat:
            events = await heard(chat, job(model="big-70b"))
            with pytest.raises(RefusedError):
                await heard(chat, job("r2"))
        assert text_of(events) == "from the rack" and asked == ["big/there"] and not bench.rings
        assert isinstance(events[0], Decided) and events[0].place == "LAN" and events[0].names == ("rack",)
        decision, refusal = bench.rows("decision")
        assert (decision["outcome"], decision["endpoint"], decision["rule_id"], decision["version"]) == (
            "external",
            "rack",
            3,
            4,
        )
        assert refusal["outcome"] == "refused"
        answer, _ = bench.rows("answer")
        assert (answer["ran"], answer["nodes"], answer["prompt_tokens"], answer["completion_tokens"]) == (
            "LAN",
            ["rack"],
            11,
            5,
        )
        assert bench.spent[0] == ("desk", 16)

    asyncio.run(main())


def test_a_model_that_nothing_knows_is_named_with_those_there_are() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            with pytest.raises(NotFoundError, match="gpt-9"):
                await heard(chat, job(model="gpt-9"))

    asyncio.run(main())


@pytest.mark.parametrize(
    "fault", [UnreachableError("no answer", code="endpoint_unreachable"), EndpointError("it answered 500")]
)
def test_an_endpoint_that_fails_is_left_for_the_fallback_and_only_for_that(fault: SwarmError) -> None:
    async def main() -> None:
        relay, asked = speaking(fault=fault, reached=False)
        with_fallback = Rule(name="rack first", then=External(name="rack"), fallback=(Run(),))
        bench = Bench(rules=rules(with_fallback), endpoints=(RACK,), relay=relay)
        async with bench.chat() as chat:
            assert text_of(await heard(chat, job())) == TEXT
        assert [row["outcome"] for row in bench.rows("decision")] == ["external", "run"]
        assert bench.rows("decision")[1]["action"] == 1 and len(asked) == 1

        alone = Bench(rules=rules(Rule(name="rack", then=External(name="rack"))), endpoints=(RACK,), relay=relay)
        async with alone.chat() as chat:
            with pytest.raises(type(fault)) as caught:
                await heard(chat, job())
        assert caught.value.code == fault.code and fault.message in caught.value.message and not alone.rings

    asyncio.run(main())


def test_an_answer_that_an_endpoint_has_begun_is_not_begun_anew_elsewhere() -> None:
    async def main() -> None:
        relay, _ = speaking("half of", fault=EndpointError("it broke off", code="endpoint_broke_off"))
        rule = Rule(name="rack first", then=External(name="rack"), fallback=(Run(),))
        bench = Bench(rules=rules(rule), endpoints=(RACK,), relay=relay)
        heard_so_far: list[Event] = []
        async with bench.chat() as chat:
            with pytest.raises(EndpointError):
                async for event in chat.answer(job()):
                    heard_so_far.append(event)
        assert text_of(heard_so_far) == "half of" and not bench.rings
        assert bench.rows("answer")[0]["outcome"] == "endpoint_broke_off"

    asyncio.run(main())


def test_an_answer_that_a_node_has_begun_is_not_begun_anew_at_an_endpoint() -> None:
    async def main() -> None:
        relay, asked = speaking("anew")

        def failing(plan: RingPlan) -> FakeRing:
            return FakeRing(plan, faults={3: lost_at("attic")})

        rule = Rule(name="here, else the rack", then=Run(), fallback=(External(name="rack"),))
        bench = Bench(nodes=(node("attic"),), rules=rules(rule), endpoints=(RACK,), relay=relay, ring_for=failing)
        async with bench.chat() as chat:
            with pytest.raises(RingError, match="cable was pulled"):
                await heard(chat, job())
        assert not asked

    asyncio.run(main())


def test_a_private_prompt_stays_where_its_rule_says_also_when_that_node_dies() -> None:
    """Rule: private only on attic. Everything else may go anywhere."""

    async def main() -> None:
        relay, asked = speaking("leaked")
        private = Rule(name="private", when=When(labels=Labels(any=("private",))), then=Run(nodes=("attic",)))
        rest = Rule(name="rest", then=Run(), fallback=(External(name="rack"),))

        def failing(plan: RingPlan) -> FakeRing:
            return FakeRing(plan, faults={4: lost_at(plan.head.node_id)})

        bench = Bench(rules=rules(private, rest), endpoints=(RACK,), relay=relay, ring_for=failing)
        owned = Asker(key_name="desk", labels=frozenset({"private"}))
        added = Asker(key_name="desk", labels=frozenset({"public"}), added=frozenset({"private"}))
        async with bench.chat() as chat:
            for number, asker in enumerate((owned, added)):
                with pytest.raises(SwarmError, match=r"cable was pulled.*no node that the rule"):
                    await heard(chat, job(f"r{number}", asker=asker))
        assert {ring.plan.head.node_id for ring in bench.rings} == {"attic"} and not asked
        for row in bench.rows("answer"):
            assert row["nodes"] == ["attic"]

    asyncio.run(main())


def test_the_owner_is_asked_once_and_a_no_sends_nothing() -> None:
    async def main() -> None:
        relay, asked = speaking("from the cloud")
        rule = Rule(name="cloud, asked first", then=Ask(then=External(name="rack"), within_s=30))
        bench = Bench(rules=rules(rule), endpoints=(RACK,), relay=relay)
        async with bench.chat() as chat:
            for allow, number in ((True, 0), (False, 1)):
                reading = asyncio.create_task(heard(chat, job(f"r{number}")))
                await until(bench.approvals.waiting)
                (shown,) = bench.approvals.waiting()
                assert shown["destination"] == "the endpoint rack (LAN)" and "heliotrope" not in json.dumps(shown)
                assert len(asked) == number, "nothing goes before the answer"
                await bench.approvals.answer(f"r{number}", allow, "owner")
                if allow:
                    assert text_of(await reading) == "from the cloud"
                else:
                    with pytest.raises(RefusedError, match="said no"):
                        await reading
        assert len(asked) == 1
        assert [row["approved_by"] for row in bench.rows("decision")] == ["owner"]
        assert [row["outcome"] for row in bench.rows("answer")] == ["stop", "not_approved"]

    asyncio.run(main())


def test_waiting_for_the_owner_does_not_use_up_the_answers_time() -> None:
    async def main() -> None:
        bench = Bench(rules=rules(Rule(name="asked", then=Ask(then=Run(), within_s=30))), request_s=0.4)
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            await until(bench.approvals.waiting)
            await asyncio.sleep(0.5)
            await bench.approvals.answer("r1", True, "owner")
            assert text_of(await reading) == TEXT

    asyncio.run(main())


def test_what_is_denied_says_the_owners_words() -> None:
    async def main() -> None:
        bench = Bench(rules=rules(Rule(name="no", then=Deny(message="Not after bedtime."))))
        async with bench.chat() as chat:
            with pytest.raises(RefusedError, match="Not after bedtime") as caught:
                await heard(chat, job())
        assert caught.value.code == "denied_by_rule"
        assert bench.rows("decision")[0]["code"] == "denied_by_rule"

    asyncio.run(main())


def test_a_decision_that_cannot_be_written_down_is_not_carried_out() -> None:
    async def main() -> None:
        bench = Bench(note_faults={"decision": StorageError("the disk is full")})
        async with bench.chat() as chat:
            with pytest.raises(StorageError, match="nothing was sent"):
                await heard(chat, job())
        assert not bench.rings and bench.rows("answer")[0]["outcome"] == "storage_failed"

    asyncio.run(main())


def test_the_ledger_holds_the_prompt_only_where_the_owner_wants_it() -> None:
    async def main() -> None:
        for keeps in (False, True):
            bench = Bench(keeps_prompts=keeps)
            async with bench.chat() as chat:
                await heard(chat, job())
            assert ("heliotrope" in json.dumps(bench.notes)) is keeps

    asyncio.run(main())


def test_texts_to_embed_go_to_the_endpoint_of_their_rule_and_their_tokens_are_counted() -> None:
    async def relay(dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | Vector | Finished, None]:
        yield Reached("LAN", "192.168.1.9:8000")
        for index, _ in enumerate(one.inputs):
            yield Vector(request_id=one.request_id, index=index, values=bytes(8))
        yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=3, completion_tokens=0)

    async def main() -> None:
        rule = Rule(name="vectors", when=When(task="embedding"), then=External(name="rack"))
        bench = Bench(rules=rules(rule), endpoints=(RACK,), relay=relay, keeps_prompts=True)
        texts = Job(request_id="r1", model="spore", task="embedding", inputs=("a", "b"), asker=Asker(key_name="desk"))
        async with bench.chat() as chat:
            events = await heard(chat, texts)
            assert [event.index for event in events if isinstance(event, Vector)] == [0, 1]
        assert bench.spent == [("desk", 3)] and bench.rings == []
        (row,) = bench.rows("decision")
        assert (row["endpoint"], row["asked"]["task"], row["prompt"]) == ("rack", "embedding", ["a", "b"])

    asyncio.run(main())
