"""Texts to embed are held to the owner's rules like any prompt, up to their first byte."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from mycoswarm.base.errors import ApiKeyError, RefusedError
from mycoswarm.chat.job import Asker, Event, Job
from mycoswarm.chat.life import Chat
from mycoswarm.external.errand import Reached
from mycoswarm.routing.action import Ask, Deny, External
from mycoswarm.routing.clause import When
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet
from mycoswarm.routing.snapshot import EMBEDDING, EndpointState
from mycoswarm.stage.pool import Opening
from mycoswarm.wire.report import Finished, Vector
from rings import Bench, FakeRing, until

RACK = EndpointState("rack", "LAN", since=1.0)
VECTORS = When(task=EMBEDDING)
ASKED = RuleSet.of((Rule(name="asked", when=VECTORS, then=Ask(then=External(name="rack"), within_s=30)),))
NO_MORE = Rule(name="no more", id=2, when=VECTORS, then=Deny(message="not any more"))
DENIED = RuleSet.of((NO_MORE, DEFAULT_RULE), 9)


class Endpoint:
    """Keeps the texts that it was sent."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def __call__(self, dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Vector | Finished, None]:
        yield Reached("LAN", "192.168.1.9:8000")
        self.read += one.inputs
        for index, _ in enumerate(one.inputs):
            yield Vector(request_id=one.request_id, index=index, values=bytes(8))
        yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=0, completion_tokens=0)


class SlowBench(Bench):
    """Its rings open when `loaded` is set."""

    loaded: asyncio.Event

    async def open(self, opening: Opening) -> FakeRing:
        await self.loaded.wait()
        return await super().open(opening)


def texts() -> Job:
    asker = Asker(key_name="desk")
    return Job(request_id="r1", model="spore", task=EMBEDDING, inputs=("secret", "b"), asker=asker, characters=7)


async def heard(chat: Chat) -> list[Event]:
    async with asyncio.timeout(10), aclosing(chat.answer(texts())) as events:
        return [event async for event in events]


@pytest.mark.parametrize("change", ["nothing", "deny", "registered anew", "revoked"])
def test_a_yes_for_texts_does_not_outlive_what_it_was_given_for(change: str) -> None:
    async def main() -> None:
        rack, known = Endpoint(), [True]
        bench = Bench(rules=ASKED, endpoints=(RACK,), relay=rack, is_known=lambda asker: known[0])
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat))
            await until(bench.approvals.waiting)
            (plea,) = bench.approvals.waiting()
            assert (plea["task"], plea["characters"], "secret" in str(plea)) == (EMBEDDING, 7, False)
            if change == "deny":
                bench.rules = DENIED
            elif change == "registered anew":
                bench.endpoints = (EndpointState("rack", "LAN", since=2.0),)
            known[0] = change != "revoked"
            await bench.approvals.answer("r1", True, "owner")
            if change == "registered anew":
                await until(bench.approvals.waiting)
                await bench.approvals.answer("r1", False, "owner")
            if change == "nothing":
                await reading
            else:
                with pytest.raises(ApiKeyError if change == "revoked" else RefusedError):
                    await reading
        assert rack.read == (["secret", "b"] if change == "nothing" else [])
        assert bench.spent == [("desk", 2 if change == "nothing" else 0)]  # reckoned, as the endpoint has not counted

    asyncio.run(main())


def test_an_edit_while_the_model_is_loaded_holds_for_the_texts_that_wait() -> None:
    async def main() -> None:
        bench = SlowBench()
        bench.loaded = asyncio.Event()
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat))
            await until(bench.pool.warm)
            bench.rules = DENIED
            bench.loaded.set()
            with pytest.raises(RefusedError, match="not any more"):
                await reading
        assert [ring.embeddings for ring in bench.rings] == [[]]
        assert [row["outcome"] for row in bench.rows("decision")] == ["run", "refused"]

    asyncio.run(main())
