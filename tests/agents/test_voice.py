"""An agent's model over scripted rings: its requests are decided, noted and labelled; siblings keep apart."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from canned import spec
from mycoswarm.agents.event import Heard, TextPiece
from mycoswarm.agents.party import Agent
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.purse import Budget, Purse
from mycoswarm.agents.spread import Spread
from mycoswarm.agents.turn import Said, Spoken
from mycoswarm.agents.voice import Voice
from mycoswarm.base.errors import RingError, SwarmError
from mycoswarm.chat.job import Asker, Job
from mycoswarm.chat.life import Chat
from mycoswarm.routing.action import External, Run
from mycoswarm.routing.decision import Decision
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.wire.plan import RingPlan
from rings import TEXT, Bench, FakeRing, job, lost_at, node


def agent(number: str = "", *, model: str = "spore", **labels: Any) -> Agent:
    return Agent(
        run_id="run",
        number=number,
        profile=Profile(name="scout", model=model),
        asker=Asker(key_name="desk", **labels),
        purse=Purse(100),
        budget=Budget(),
        granted=(),
        ends_s=1e9,
    )


async def heard(voice: Voice, one: Agent, most_tokens: int = 50, tools: Sequence[Any] = ()) -> list[Said]:
    numbers = iter(range(1, 99))
    ask = voice(one, lambda: f"run-{one.number or 'a'}-{next(numbers)}")
    async with asyncio.timeout(10), aclosing(ask([{"role": "user", "content": "Hello!"}], tools, most_tokens)) as said:
        return [each async for each in said]


def where(said: list[Said]) -> list[tuple[str, ...]]:
    return [one.nodes for one in said if isinstance(one, Heard)]


def test_a_step_is_a_request_of_the_task_agent_with_a_receipt_and_all_labels() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            one = agent(labels=frozenset({"private"}), added=frozenset({"mine"}))
            said = await heard(Voice(chat), one)
        assert "".join(each.text for each in said if isinstance(each, TextPiece)) == TEXT
        assert said[0] == Heard(("attic",), "any adopted node on this LAN", "run-a-1", "LAN")
        assert said[-1] == Spoken(7, 9, is_cut=False)
        asked = bench.rows("decision")[0]["asked"]
        assert (asked["task"], asked["key"], asked["labels"], asked["added"]) == (
            "agent",
            "desk",
            ["private"],
            ["mine"],
        )
        assert bench.notes[0][2] == "run-a-1" and bench.rings[0].generations[0].sampling.temperature == 0

    asyncio.run(main())


def test_what_was_called_counts_as_text_of_the_prompt() -> None:
    async def main() -> None:
        bench = Bench()
        function = {"name": "look", "arguments": '{"x": 1}'}
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "1", "name": "look", "content": "four"},
        ]
        async with asyncio.timeout(10), bench.chat() as chat:
            said = Voice(chat)(agent(), lambda: "run-1")(messages, (), 5)
            assert [each async for each in said]
        assert bench.rows("decision")[0]["asked"]["characters"] == len("Hello!") + len('{"x": 1}') + len("four")

    asyncio.run(main())


def test_no_more_tokens_are_asked_for_than_the_budget_has() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            said = await heard(Voice(chat), agent(), most_tokens=3)
        assert said[-1] == Spoken(7, 3, is_cut=True)

    asyncio.run(main())


def test_a_refusal_of_the_rules_is_the_steps_error() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((Rule(name="elsewhere", then=Run(nodes=("nowhere",))),)))
        async with bench.chat() as chat:
            with pytest.raises(SwarmError):
                await heard(Voice(chat), agent("1"))
        assert not bench.rings

    asyncio.run(main())


def test_siblings_ask_different_nodes_and_each_stays_where_it_is() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            voice = Voice(chat)
            first, second = agent("1"), agent("2")
            places = [where(await heard(voice, one)) for one in (first, second, first, second)]
            assert places[0] == places[2] and places[1] == places[3] and places[0] != places[1]
            voice.left(first)
            assert where(await heard(voice, second)) == places[1]
            assert where(await heard(voice, agent("3"))) == places[0], "its nodes are free again"
            voice.left(agent())
            assert where(await heard(voice, agent())) == [("attic",)], "the first agent goes as the rules say"

    asyncio.run(main())


def test_siblings_share_a_node_where_the_rules_name_only_one() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((Rule(name="attic", then=Run(nodes=("attic",))),)))
        async with bench.chat() as chat:
            voice = Voice(chat)
            assert [where(await heard(voice, agent(n))) for n in "12"] == [[("attic",)], [("attic",)]]

    asyncio.run(main())


def test_keeping_apart_takes_nobody_to_a_fallback_or_out_of_the_lan() -> None:
    """Without the first node the rule would go to its endpoint."""
    rack = EndpointState(name="rack", place="outside")
    rule = Rule(name="attic, else out", then=Run(nodes=("attic",)), fallback=(External(name="rack"),))

    async def main() -> None:
        bench = Bench(rules=RuleSet.of((rule,)), endpoints=(rack,))
        async with bench.chat() as chat:
            voice = Voice(chat)
            assert [where(await heard(voice, agent(n))) for n in "12"] == [[("attic",)], [("attic",)]]

    asyncio.run(main())


def test_a_node_of_its_own_that_is_lost_before_it_speaks_leaves_the_choice_to_the_rules() -> None:
    class Lost(FakeRing):
        def __init__(self, plan: RingPlan) -> None:
            faults = {0: lost_at("cellar")} if plan.head.node_id == "cellar" else None
            super().__init__(plan, faults=faults)

    async def main() -> None:
        bench = Bench(ring_for=Lost)
        async with bench.chat() as chat:
            voice = Voice(chat)
            await heard(voice, agent("1"))
            said = await heard(voice, agent("2"))
        assert where(said) == [("cellar",), ("attic",)]
        assert [s.receipt for s in said if isinstance(s, Heard)] == ["run-2-1", "run-2-2"]

    asyncio.run(main())


def test_a_node_that_is_lost_after_it_has_spoken_ends_the_step() -> None:
    class Lost(FakeRing):
        def __init__(self, plan: RingPlan) -> None:
            super().__init__(plan, faults={3: lost_at(plan.head.node_id)} if plan.head.node_id == "cellar" else None)

    async def main() -> None:
        bench = Bench(ring_for=Lost)
        async with bench.chat() as chat:
            voice = Voice(chat)
            await heard(voice, agent("1"))
            with pytest.raises(RingError):
                await heard(voice, agent("2"))

    asyncio.run(main())


def test_a_model_that_cannot_call_tools_is_told_to_who_gave_it_some() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            with pytest.raises(SwarmError) as caught:
                await heard(Voice(chat), agent(), tools=[spec("look")])
        assert caught.value.code == "no_tool_calls"

    asyncio.run(main())


def test_aiming_only_ever_narrows() -> None:
    async def main() -> None:
        bench = Bench(nodes=(node("a"), node("b"), node("c")))
        async with bench.chat() as chat:
            spread = Spread(chat.explain)
            aimed = [await spread.aim(job(f"r{n}"), str(n)) for n in range(5)]
            found = [await _ids(chat, one) for one in aimed]
        assert len(set(found[:3])) == 3, "three nodes for the first three"
        assert all(one.narrowing.without == frozenset() and len(one.narrowing.nodes) <= 1 for one in aimed)

    asyncio.run(main())


async def _ids(chat: Chat, one: Job) -> tuple[str, ...]:
    decision = await chat.explain(one)
    assert isinstance(decision, Decision)
    return tuple(share.node.node_id for share in decision.placed.shares)
