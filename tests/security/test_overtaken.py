"""What the owner changes while a request is on its way holds for it too, up to the prompt's first byte."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from mycoswarm.base.errors import (
    ApiKeyError,
    BusyError,
    EndpointError,
    RefusedError,
    StorageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.chat.job import Asker, Event, Job
from mycoswarm.chat.life import MAX_OF_KEY, Chat
from mycoswarm.external.errand import Reached
from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.clause import When
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.stage.pool import Opening
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished, Piece
from rings import Bench, FakeRing, job, lost_at, node, until

RACK = EndpointState("rack", "LAN", since=1.0)
ASKED = Rule(name="asked", id=1, then=Ask(then=External(name="rack"), within_s=30))
DENIED = RuleSet.of((Rule(name="no more", id=2, then=Deny(message="not any more")),), 9)


class Endpoint:
    """Counts the prompts that it was sent; `arrived` is set when somebody stands before it, who waits for `gate`."""

    def __init__(self) -> None:
        self.prompts, self.arrived, self.gate = 0, asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def __call__(self, dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | Finished, None]:
        self.arrived.set()
        await self.gate.wait()
        yield Reached("LAN", "192.168.1.9:8000")
        self.prompts += 1
        yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=1, completion_tokens=1)


async def heard(chat: Chat, one: Job) -> list[Event]:
    async with asyncio.timeout(10), aclosing(chat.answer(one)) as events:
        return [event async for event in events]


@pytest.mark.parametrize("change", ["deny", "no endpoint", "further away", "registered anew", "revoked"])
def test_a_yes_does_not_outlive_what_it_was_given_for(change: str) -> None:
    async def main() -> None:
        rack, known = Endpoint(), [True]
        bench = Bench(rules=RuleSet.of((ASKED,), 1), endpoints=(RACK,), relay=rack, is_known=lambda asker: known[0])
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            await until(bench.approvals.waiting)
            if change == "deny":
                bench.rules = DENIED
            elif change == "no endpoint":
                bench.endpoints = ()
            elif change == "further away":
                bench.endpoints = (replace(RACK, place="outside"),)
            elif change == "registered anew":
                bench.endpoints = (replace(RACK, since=2.0),)
            else:
                known[0] = False
            await bench.approvals.answer("r1", True, "owner")
            if change in ("further away", "registered anew"):
                await until(bench.approvals.waiting)  # what he said yes to is no more: he is asked anew
                await bench.approvals.answer("r1", False, "owner")
            with pytest.raises(ApiKeyError if change == "revoked" else SwarmError):
                await reading
        assert rack.prompts == 0

    asyncio.run(main())


def test_an_edit_while_an_endpoint_is_looked_up_holds_for_the_prompt_that_waits() -> None:
    async def main() -> None:
        rack = Endpoint()
        rack.gate.clear()
        bench = Bench(rules=RuleSet.of((Rule(name="rack", then=External(name="rack")),)), endpoints=(RACK,), relay=rack)
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            await rack.arrived.wait()
            bench.rules = DENIED
            rack.gate.set()
            with pytest.raises(RefusedError, match="not any more"):
                await reading
        assert rack.prompts == 0
        assert [row["outcome"] for row in bench.rows("decision")] == ["external", "refused"]

    asyncio.run(main())


class SlowBench(Bench):
    """Its rings open when `loaded` is set."""

    loaded: asyncio.Event

    async def open(self, opening: Opening) -> FakeRing:
        await self.loaded.wait()
        return await super().open(opening)


@pytest.mark.parametrize("is_denied", [True, False])
def test_an_edit_while_the_model_is_loaded_holds_for_the_prompt_that_waits(is_denied: bool) -> None:
    async def main() -> None:
        bench = SlowBench()
        bench.loaded = asyncio.Event()
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            await until(bench.pool.warm)
            bench.rules = DENIED if is_denied else RuleSet.of(bench.rules.rules, 9)
            bench.loaded.set()
            if is_denied:
                with pytest.raises(RefusedError, match="not any more"):
                    await reading
            else:
                await reading  # an edit that changes nothing for it costs no second try
                assert len(bench.rows("decision")) == 1
        assert sum(len(ring.generations) for ring in bench.rings) == (0 if is_denied else 1)

    asyncio.run(main())


def test_a_yes_for_one_node_is_none_for_the_node_that_takes_its_place() -> None:
    async def main() -> None:
        def failing(plan: RingPlan) -> FakeRing:
            return FakeRing(plan, faults={2: lost_at(plan.head.node_id)} if plan.head.node_id == "attic" else None)

        rules = RuleSet.of((Rule(name="asked", then=Ask(then=Run(prefer=("attic",)), within_s=30)),))
        bench = Bench(nodes=(node("attic"), node("cellar")), rules=rules, ring_for=failing)
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            for wanted in ("attic", "cellar"):
                await until(bench.approvals.waiting)
                (shown,) = bench.approvals.waiting()
                assert shown["destination"] == wanted
                await bench.approvals.answer("r1", wanted == "attic", "owner")
            with pytest.raises(RefusedError, match="said no"):
                await reading
        assert [ring.plan.head.node_id for ring in bench.rings] == ["attic"]

    asyncio.run(main())


def test_who_waits_for_the_owner_takes_no_place_of_those_that_are_answered() -> None:
    async def main() -> None:
        rules = RuleSet.of(
            (Rule(name="big", when=When(model="big-*"), then=ASKED.then), Rule(name="rest", id=2, then=Run()))
        )
        bench = Bench(rules=rules, endpoints=(RACK,))
        async with bench.chat() as chat:
            keys = [Asker(key_name=f"key {number}") for number in range(8)]
            crowd = [
                asyncio.create_task(heard(chat, job(f"r{number}", model="big-1", asker=keys[number // 10])))
                for number in range(64)
            ]
            await until(lambda: len(bench.approvals.waiting()) == 64)
            await heard(chat, job("another"))
            for each in crowd:
                each.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)

    asyncio.run(main())


def test_one_key_does_not_take_all_places() -> None:
    async def main() -> None:
        bench = Bench(nodes=(node("attic"),))
        async with bench.chat() as chat:
            await heard(chat, job("warm up"))
            bench.rings[0].gate.clear()
            crowd = [asyncio.create_task(heard(chat, job(f"r{number}"))) for number in range(MAX_OF_KEY)]
            await until(lambda: len(bench.rings[0].generations) == MAX_OF_KEY + 1)
            with pytest.raises(BusyError, match="of the key 'desk'"):
                await heard(chat, job("one too many"))
            other = asyncio.create_task(heard(chat, job("other", asker=Asker(key_name="kitchen"))))
            await until(lambda: len(bench.rings[0].generations) == MAX_OF_KEY + 2)
            bench.rings[0].gate.set()
            await asyncio.gather(other, *crowd)

    asyncio.run(main())


@pytest.mark.parametrize("leaves", [True, False])
def test_an_answer_whose_tokens_nobody_counted_is_held_against_the_key_all_the_same(leaves: bool) -> None:
    async def main() -> None:
        async def relay(dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | Finished, None]:
            yield Reached("LAN", "192.168.1.9:8000")
            yield Piece(request_id=one.request_id, text="x" * 400, token_ids=())
            if leaves:
                await asyncio.sleep(60)
            yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=0, completion_tokens=0)

        rack = RuleSet.of((Rule(name="rack", then=External(name="rack")),))
        bench = Bench(rules=rack, endpoints=(RACK,), relay=relay, note_faults={"answer": StorageError("full")})
        async with bench.chat() as chat, aclosing(chat.answer(replace(job(), characters=40))) as events:
            async for event in events:
                if leaves and isinstance(event, Piece):
                    break
        assert bench.spent == [("desk", 110)]

    asyncio.run(main())


def test_what_an_endpoint_says_goes_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def relay(dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | Finished, None]:
            yield Reached("LAN", "192.168.1.9:8000")
            raise EndpointError("endpoint rack failed (status 500): cannot answer 'The heliotrope is purple'")

        rack = RuleSet.of((Rule(name="rack", then=External(name="rack"), fallback=(Run(),)),))
        bench = Bench(rules=rack, endpoints=(RACK,), relay=relay)
        async with bench.chat() as chat:
            await heard(chat, job())
        assert "deciding again" in caplog.text and "heliotrope" not in caplog.text

    asyncio.run(main())


def test_who_waits_for_the_owner_is_told_when_the_node_stops() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((ASKED,)), endpoints=(RACK,))
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            await until(bench.approvals.waiting)
            await chat.stop()
            for each in (reading, heard(chat, job("later"))):
                with pytest.raises(UnreachableError, match="stopping"):
                    await each
        assert [row["outcome"] for row in bench.rows("answer")] == ["cancelled"]

    asyncio.run(main())
