"""Loading a model where the rules say, with nothing asked of it: over scripted rings."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from mycoswarm.base.errors import ApiKeyError, CapacityError, NotFoundError, RefusedError, SwarmError
from mycoswarm.chat.job import Asker, Decided, Event, Job
from mycoswarm.chat.life import Chat
from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EMBEDDING, EndpointState, Narrowing
from mycoswarm.wire.plan import RingPlan
from rings import TEXT, Bench, FakeRing, job, lost_at, node, until


def load(request_id: str = "l1", *, task: str = "chat", **narrowing: object) -> Job:
    """A wish to have the model loaded."""
    return Job(
        request_id=request_id,
        model="spore",
        task=task,
        only_loads=True,
        narrowing=Narrowing(**narrowing),  # type: ignore[arg-type]  # test input
        asker=Asker(key_name="desk"),
    )


async def heard(chat: Chat, one: Job) -> list[Event]:
    async with asyncio.timeout(10), aclosing(chat.answer(one)) as events:
        return [event async for event in events]


async def refusal(chat: Chat, one: Job) -> SwarmError:
    with pytest.raises(SwarmError) as caught:
        await heard(chat, one)
    return caught.value


def test_a_model_is_loaded_without_a_prompt_and_serves_the_next_request() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            (decided,) = await heard(chat, load())
            assert isinstance(decided, Decided) and decided.plan is not None
            (warm,) = bench.pool.warm()
            assert warm.plan == decided.plan and warm.users == 0
            assert not bench.rings[0].generations and not bench.rings[0].warrants
            await heard(chat, job())
            assert len(bench.rings) == 1 and len(bench.rings[0].generations) == 1
        row, later = bench.rows("decision")
        assert row["only_loads"] and row["outcome"] == "run" and row["asked"]["characters"] == 0
        assert "only_loads" not in later
        assert [(one["outcome"], one["completion_tokens"]) for one in bench.rows("answer")] == [
            ("loaded", 0),
            ("stop", 9),
        ]
        assert bench.spent == [("desk", 0), ("desk", 16)]

    asyncio.run(main())


def test_it_is_loaded_over_the_nodes_that_are_asked_for_and_only_once() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            for number in range(2):
                (decided,) = await heard(chat, load(f"l{number}", mode="split"))
                assert isinstance(decided, Decided) and set(decided.names) == {"attic", "cellar"}
            assert len(bench.rings) == 1

    asyncio.run(main())


def test_a_model_that_embeds_is_loaded_for_that() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            await heard(chat, load(task=EMBEDDING))
            assert bench.pool.warm()[0].embeds

    asyncio.run(main())


def test_a_node_that_is_lost_while_it_loads_is_left_out() -> None:
    async def main() -> None:
        def opening(plan: RingPlan) -> FakeRing:
            if plan.head.node_id == "attic":
                raise lost_at("attic", "nobody answers")
            return FakeRing(plan)

        bench = Bench(ring_for=opening)
        async with bench.chat() as chat:
            await heard(chat, load())
            assert bench.pool.warm()[0].shape == (("cellar", 0, 6),)

    asyncio.run(main())


def test_what_the_rules_do_not_let_run_is_not_loaded_and_the_ledger_says_so() -> None:
    async def main() -> None:
        bench = Bench(
            rules=RuleSet.of((Rule(name="no", then=Deny(message="not here")),)), endpoints=(EndpointState("rack"),)
        )
        async with bench.chat() as chat:
            assert (await refusal(chat, load())).code == "denied_by_rule"
            bench.rules = RuleSet.of((Rule(name="away", then=External(name="rack")),))
            error = await refusal(chat, load())
            assert isinstance(error, RefusedError) and "endpoint rack" in error.message
            bench.rules = RuleSet.of((Rule(name="away", then=External(name="rack"), fallback=(Run(),)),))
            await heard(chat, load(nodes=("attic",)))  # a request that names nodes goes to no endpoint
            bench.nodes = (node("attic", free=1000), node("cellar", free=1000))
            bench.rules = RuleSet.of((Rule(name="here", then=Run()),))
            await bench.pool.unload(bench.facts.digest)
            assert isinstance(await refusal(chat, load()), CapacityError)
            assert isinstance(await refusal(chat, replace(load(), model="other")), NotFoundError)
        outcomes = [row["outcome"] for row in bench.rows("decision")]
        assert outcomes == ["refused", "refused", "run", "refused", "refused"]

    asyncio.run(main())


def test_where_a_rule_asks_the_owner_loading_asks_too_and_a_revoked_key_loads_nothing() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((Rule(name="ask", then=Ask(then=Run())),)))
        async with bench.chat() as chat:
            loading = asyncio.create_task(heard(chat, load()))
            await until(bench.approvals.waiting)
            assert not bench.rings
            await bench.approvals.answer("l1", True, "owner")
            await loading
            assert len(bench.rings) == 1 and bench.rows("decision")[0]["approved_by"] == "owner"
            bench.is_known = lambda asker: False
            assert isinstance(await refusal(chat, load()), ApiKeyError)

    asyncio.run(main())


def test_a_client_that_leaves_while_a_model_loads_does_not_end_the_loading() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            events = chat.answer(load())
            assert isinstance(await anext(events), Decided)
            await events.aclose()
            assert bench.rows("answer")[0]["outcome"] == "cancelled"
            assert "".join(getattr(one, "text", "") for one in await heard(chat, job())) == TEXT
            assert len(bench.rings) <= 1

    asyncio.run(main())
