"""Models loaded, unloaded and held against the swarm's memory, over scripted rings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from mycoswarm.base.errors import BusyError, NotFoundError, RefusedError
from mycoswarm.chat.job import Asker
from mycoswarm.chat.load import load_of
from mycoswarm.daemon.odometer import Odometer
from mycoswarm.daemon.stoker import Stoker
from mycoswarm.routing.action import Deny
from mycoswarm.routing.placement import place_whole, usable_bytes
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import Narrowing, SwarmState
from mycoswarm.stage.pool import Opening
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import Progress
from rings import FACTS, Bench, FakeRing, node, until

OWNER = Asker()


@dataclass
class Hall(Bench):
    """A bench that is found by digests, too, and whose rings an odometer counts and `door` holds back."""

    def __post_init__(self) -> None:
        self.odometer = Odometer()
        self.door = asyncio.Event()
        self.door.set()
        self.is_gone = False

    def find(self, reference: str) -> Any:
        if self.is_gone or reference not in (self.facts.name, self.facts.digest):
            raise NotFoundError(f"no node holds {reference!r}")
        return self.facts

    def swarm(self, digest: str | None) -> SwarmState:
        """As `Outlook` has it."""
        return self._swarm(digest)

    async def open(self, opening: Opening) -> FakeRing:
        """Open a ring that says half-way how far it is."""
        tell = self.odometer.begin(opening.plan)
        tell(opening.plan.stages[0].node_id, Progress(what="loading layers", done_bytes=2, total_bytes=8))
        await self.door.wait()
        ring = await super().open(opening)
        self.odometer.over(opening.plan, ring)
        return ring


@asynccontextmanager
async def stokers(hall: Hall) -> AsyncIterator[Stoker]:
    async with asyncio.timeout(10), hall.chat() as chat:
        yield Stoker(chat, hall, hall.pool, hall.odometer, tell_s=0.01)  # type: ignore[arg-type]  # all that it asks of an outlook


async def told_of(stoker: Stoker, name: str = "spore", **narrowing: Any) -> list[dict[str, Any]]:
    async with aclosing(stoker.load(name, Narrowing(**narrowing), OWNER, "l1")) as events:
        return [event async for event in events]


def test_loading_tells_what_is_decided_how_far_it_is_and_the_end() -> None:
    async def main() -> None:
        hall = Hall()
        hall.door.clear()
        async with stokers(hall) as stoker, aclosing(stoker.load("spore", Narrowing(), OWNER, "l1")) as events:
            first = await anext(events)
            assert first["event"] == "decided" and first["receipt"] == "l1"
            assert first["stages"] == [{"node": "attic", "layers": [0, 6]}] and first["predicted_tokens_per_s"] > 0
            second = await anext(events)
            assert second == {
                "event": "loading",
                "nodes": [{"node": "attic", "what": "loading layers", "done_bytes": 2, "total_bytes": 8}],
            }
            hall.door.set()
            last = [event async for event in events][-1]
            assert last["event"] == "loaded" and last["ring_id"] == hall.rings[0].plan.ring_id

    asyncio.run(main())


def test_who_leaves_while_it_loads_does_not_end_the_loading() -> None:
    async def main() -> None:
        hall = Hall()
        hall.door.clear()
        async with stokers(hall) as stoker:
            events = stoker.load("spore", Narrowing(), OWNER, "l1")
            assert [(await anext(events))["event"] for _ in range(2)] == ["decided", "loading"]
            await events.aclose()
            hall.door.set()
            await until(lambda: hall.rings)
            assert (await told_of(stoker))[-1]["event"] == "loaded" and len(hall.rings) == 1

    asyncio.run(main())


def test_what_is_refused_is_raised_before_anything_is_told() -> None:
    async def main() -> None:
        hall = Hall(rules=RuleSet.of((Rule(name="no", then=Deny()),)))
        async with stokers(hall) as stoker:
            with pytest.raises(RefusedError):
                await anext(stoker.load("spore", Narrowing(), OWNER, "l1"))
            with pytest.raises(NotFoundError):
                await told_of(stoker, "other")

    asyncio.run(main())


def test_a_model_is_unloaded_by_name_or_where_its_file_is_gone_by_digest() -> None:
    async def main() -> None:
        hall = Hall()
        async with stokers(hall) as stoker:
            await told_of(stoker, mode="split")
            async with aclosing(_held(hall)) as held:
                await anext(held)
                with pytest.raises(BusyError):
                    await stoker.unload("spore")
            (ended,) = (await stoker.unload("spore"))["rings"]
            assert {one["node"] for one in ended["stages"]} == {"attic", "cellar"}
            with pytest.raises(NotFoundError, match="not loaded"):
                await stoker.unload("spore")
            await told_of(stoker)
            hall.is_gone = True
            for unknown in ("spore", FACTS.digest[:5], "e" * 12):
                with pytest.raises(NotFoundError, match="no node holds"):
                    await stoker.unload(unknown)
            assert len((await stoker.unload(FACTS.digest[:12]))["rings"]) == 1

    asyncio.run(main())


async def _held(hall: Hall) -> Any:
    (warm,) = hall.pool.warm()
    opening = Opening(plan=warm.plan, warrant=None, request_id="r", reach={})  # type: ignore[arg-type]  # it is open
    async with hall.pool.lend(opening, node_bytes={}, room={}) as ring:
        yield ring


def test_where_it_would_fit_is_told_in_the_numbers_that_deciding_uses() -> None:
    async def main() -> None:
        hall = Hall(nodes=(node("attic"), node("cellar", free=500_000), node("shed", trouble="it does not answer")))
        load = load_of(FACTS, Conditions(n_ctx=512, n_ubatch=8))
        async with stokers(hall) as stoker:
            told = await stoker.fit("spore", Narrowing(), OWNER)
            assert not hall.rings and not hall.notes, "nothing is loaded, and no row is written"
            assert told["needed_bytes"] == load.total_bytes and told["task"] == "chat" and told["measured"] == []
            attic, cellar, shed = told["nodes"]
            whole = place_whole(load, [hall.nodes[0]])
            assert whole is not None and attic["predicted_tokens_per_s"] == 1 / whole.token_s
            assert (attic["fits_whole"], attic["reason"]) == (True, "chosen")
            assert (cellar["fits_whole"], cellar["usable_bytes"]) == (False, usable_bytes(hall.nodes[1]))
            assert cellar["predicted_tokens_per_s"] is None and shed["reason"] == "it does not answer"
            decision = told["decision"]
            assert decision["stages"] == [{"node": "attic", "layers": [0, 6]}]
            assert decision["predicted_tokens_per_s"] == attic["predicted_tokens_per_s"]
            split = (await stoker.fit("spore", Narrowing(mode="split", nodes=("attic", "cellar")), OWNER))["decision"]
            assert {stage["node"] for stage in split["stages"]} == {"attic", "cellar"}
            refused = (await stoker.fit("spore", Narrowing(nodes=("nobody",)), OWNER))["decision"]
            assert not refused["allowed"] and refused["code"] == "not_found"

    asyncio.run(main())


def test_a_model_that_says_how_it_pools_is_looked_at_and_loaded_as_one_that_embeds() -> None:
    async def main() -> None:
        hall = Hall(facts=replace(FACTS, pooling="mean"))
        async with stokers(hall) as stoker:
            assert (await stoker.fit("spore", Narrowing(), OWNER))["task"] == "embedding"
            await told_of(stoker)
            assert hall.pool.warm()[0].embeds

    asyncio.run(main())
