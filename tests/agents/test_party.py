"""Sub-agents: what they are given of their parent, what comes back, and how many there may be."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from canned import Model, Tools, call, says
from mycoswarm.agents.event import AgentEvent, CallEnded, Ended, Nested
from mycoswarm.agents.party import Agent, Parts, Party
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.purse import Budget
from mycoswarm.agents.spawn import MAX_SPAWNED, read_commission
from mycoswarm.agents.turn import Ask
from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.chat.job import Asker
from mycoswarm.wire.tool import ToolResult

LEAD = Profile(name="lead", model="m", system="Lead.", tools=("*",), budget=Budget(max_steps=6, tokens=100, seconds=20))
SCOUT = replace(LEAD, name="scout", tools=("look",), labels=frozenset({"private"}))


class Stage:
    """A run whose first agent is one canned model and whose sub-agents are others, by number."""

    def __init__(self, lead: Model, children: Callable[[Agent], Model], **acts: Any) -> None:
        self.lead, self._children = lead, children
        self.tools = Tools(acts)
        self.agents: dict[str, Agent] = {}
        self.askers: dict[str, list[Asker]] = {}
        self.models: dict[str, Model] = {}
        self.told: list[AgentEvent] = []

    def speak(self, agent: Agent, new_request_id: Callable[[], str]) -> Ask:
        self.agents[agent.number] = agent
        model = self.models[agent.number] = self.lead if not agent.number else self._children(agent)

        def ask(*given: Any) -> Any:
            self.askers.setdefault(agent.number, []).append(agent.asker)
            return model.ask(*given)

        return ask

    async def profile(self, name: str) -> Profile:
        if name != "scout":
            raise NotFoundError(f"there is no agent {name!r}")
        return SCOUT

    async def run(self, profile: Profile = LEAD, asker: Asker | None = None) -> Ended:
        parts = Parts(toolbox=self.tools, speak=self.speak, profile=self.profile)
        async with asyncio.timeout(10):
            return await Party("run", parts, self.told.append).go(profile, "lead", asker or Asker(key_name="desk"))

    def results(self) -> list[Any]:
        """Of the first agent's calls, in the order of their ids."""
        found = [event.result for event in self.told if isinstance(event, CallEnded)]
        return sorted(found, key=lambda result: result.call_id)


def held(asker: Asker) -> list[str]:
    """All labels that count."""
    return sorted(asker.labels | asker.added)


def spawn(number: int = 0, **arguments: Any) -> Any:
    return call("spawn", number, **{"task": f"part {number}", **arguments})


def test_a_sub_agents_answer_is_the_result_of_the_call() -> None:
    stage = Stage(Model([says(spawn(1)), says("All done.")]), lambda agent: Model([says("Part done.")]))
    ended = asyncio.run(stage.run())
    assert ended.answer == "All done." and stage.results()[0].text == "Part done."
    assert stage.models["1"].asked[0][0][-1] == {"role": "user", "content": "part 1"}
    nested = [event for event in stage.told if isinstance(event, Nested)]
    assert {event.agent for event in nested} == {"1"} and isinstance(nested[-1].event, Ended)


def test_sub_agents_of_one_step_work_at_the_same_time() -> None:
    async def main() -> None:
        both = asyncio.Barrier(2)

        async def meet(arguments: dict[str, Any]) -> str:
            await both.wait()
            return "met"

        children = lambda agent: Model([says(call("meet")), says(f"I am {agent.number}.")])  # noqa: E731
        stage = Stage(Model([says(spawn(1), spawn(2)), says("Both.")]), children, meet=meet)
        assert (await stage.run()).end == "answer"
        assert [result.text for result in stage.results()] == ["I am 1.", "I am 2."]
        assert {errand.workspace_id for errand in stage.tools.errands} == {"run-1", "run-2"}

    asyncio.run(main())


def test_a_sub_agent_has_only_tools_of_its_parent_however_it_asks() -> None:
    child = [says(call("shell")), says("Oh.")]
    stage = Stage(Model([says(spawn(1, tools=["*"])), says("Done.")]), lambda agent: Model(child), look=str, shell=str)
    asyncio.run(stage.run(replace(LEAD, tools=("look", "spawn"))))
    assert stage.models["1"].asked[0][1] == ["look", "spawn"] and stage.tools.ran == []


def test_an_agent_file_of_more_tools_gives_a_sub_agent_none_that_its_parent_lacks() -> None:
    stage = Stage(
        Model([says(spawn(1, agent="scout")), says("Done.")]), lambda agent: Model([says("Oh.")]), look=str, add=str
    )
    asyncio.run(stage.run(replace(LEAD, tools=("add", "spawn"))))
    assert stage.models["1"].asked[0][1] == []


def test_the_tools_that_a_call_names_narrow() -> None:
    stage = Stage(
        Model([says(spawn(1, tools=["lo*"])), says("Done.")]), lambda agent: Model([says("Oh.")]), look=str, add=str
    )
    asyncio.run(stage.run())
    assert stage.models["1"].asked[0][1] == ["look"]


def test_tokens_are_part_of_the_parents_and_what_is_left_comes_back() -> None:
    children = lambda agent: Model([says("x", tokens=15)])  # noqa: E731
    stage = Stage(Model([says(spawn(1, tokens=60), tokens=10), says("Done.", tokens=5)]), children)
    asyncio.run(stage.run())
    assert stage.models["1"].asked[0][2] == 60
    assert [asked[2] for asked in stage.lead.asked] == [100, 75], "100 less 10 of its own and 15 of the sub-agent's"


def test_all_sub_agents_together_cannot_overdraw_their_parent() -> None:
    children = lambda agent: Model([says("x", tokens=1000, is_cut=True)])  # noqa: E731
    stage = Stage(Model([says(*(spawn(n, tokens=60) for n in range(4)), tokens=10), says("Done.")]), children)
    ended = asyncio.run(stage.run())
    assert ended.end == "tokens"
    assert [model.asked[0][2] for number, model in stage.models.items() if number] == [60, 30]
    assert "no tokens left" in stage.results()[-1].text


def test_labels_of_the_parent_go_to_sub_agents_and_to_every_tool() -> None:
    stage = Stage(
        Model([says(call("look"), spawn(1)), says("Done.")]),
        lambda agent: Model([says(call("look")), says("Oh.")]),
        look=str,
    )
    asker = Asker(key_name="desk", labels=frozenset({"household"}), added=frozenset({"mine"}))
    asyncio.run(stage.run(replace(LEAD, labels=frozenset({"private"})), asker))
    seen = [*stage.askers[""], *stage.askers["1"], *(errand.asker for errand in stage.tools.errands)]
    assert len(seen) == 6
    assert {(one.labels, one.added) for one in seen} == {(frozenset({"household", "private"}), frozenset({"mine"}))}


def test_what_a_private_sub_agent_answers_makes_its_parent_private() -> None:
    stage = Stage(
        Model([says(call("look")), says(spawn(1, agent="scout")), says(call("look", 5)), says("Done.")]),
        lambda agent: Model([says("a secret")]),
        look=str,
    )
    ended = asyncio.run(stage.run())
    assert ended.labels == ("private",) and stage.told[-1] == ended
    assert [held(asker) for asker in stage.askers[""]] == [[], [], ["private"], ["private"]]
    assert [held(errand.asker) for errand in stage.tools.errands] == [[], ["private"]]
    assert stage.askers["1"][0].labels == {"private"}


def test_what_a_tool_found_makes_the_agent_its_sub_agents_and_its_parent_private() -> None:
    secret = ToolResult("", "the code is 4711", True, "attic", 0.1, ("private",))
    stage = Stage(
        Model([says(spawn(1)), says(call("look")), says("Done.")]),
        lambda agent: Model([says(call("look")), says(call("recall")), says(call("look"), spawn(2)), says("Oh.")]),
        look=str,
        recall=lambda arguments: secret,
    )
    ended = asyncio.run(stage.run())
    assert ended.labels == ("private",)
    assert [held(asker) for asker in stage.askers["1"]] == [[], [], ["private"], ["private"]]
    assert [held(asker) for asker in stage.askers[""]] == [[], ["private"], ["private"]]
    assert [held(one.asker) for one in stage.tools.errands][:3] == [[], [], ["private"]]
    assert all(held(asker) == ["private"] for asker in stage.askers["1.1"])


def test_what_an_agent_has_read_opens_nothing_for_what_it_knew_before() -> None:
    """A label that is touched only narrows: a public page, or a public sub-agent, makes no question public."""
    page = ToolResult("", "news", True, "attic", 0.1, ("public",))
    stage = Stage(
        Model([says(call("look")), says(spawn(1, agent="scout")), says("Done.")]),
        lambda agent: Model([says("Oh.")]),
        look=lambda arguments: page,
    )
    ended = asyncio.run(stage.run(asker=Asker(labels=frozenset({"work"}))))
    assert [asker.labels for asker in stage.askers[""]] == [{"work"}] * 3
    assert [asker.added for asker in stage.askers[""]] == [set(), {"public"}, {"private", "public"}]
    assert ended.labels == ("private", "public", "work")


def test_depth_is_bounded() -> None:
    def children(agent: Agent) -> Model:
        return Model([says(spawn(1)), says(f"depth {agent.depth}")])

    stage = Stage(Model([says(spawn(1)), says("Done.")]), children)
    asyncio.run(stage.run(replace(LEAD, budget=Budget(max_steps=6, tokens=5000, seconds=20))))
    assert sorted(stage.models) == ["", "1", "1.1"]
    assert "spawn" in stage.models["1"].asked[0][1] and "spawn" not in stage.models["1.1"].asked[0][1]


def test_the_number_of_sub_agents_is_bounded_over_a_whole_run() -> None:
    lead = Model([says(*(spawn(n) for n in range(5))), says(*(spawn(n) for n in range(5, 10))), says("Done.")])
    stage = Stage(lead, lambda agent: Model([says("x", tokens=0)]))
    asyncio.run(stage.run(replace(LEAD, budget=Budget(max_steps=6, tokens=100_000, seconds=20))))
    assert len(stage.models) == 1 + MAX_SPAWNED
    assert "sub-agents" in stage.results()[-1].text and not stage.results()[-1].ok


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"agent": "nobody"}, "no agent"), ({"task": ""}, "needs a task"), ({"x": 1}, "takes no 'x'")],
)
def test_a_sub_agent_that_cannot_be_is_told_to_the_parent(arguments: dict[str, Any], words: str) -> None:
    stage = Stage(Model([says(spawn(1, **arguments)), says("Alone, then.")]), lambda agent: Model([says("x")]))
    assert asyncio.run(stage.run()).end == "answer"
    assert words in stage.results()[0].text and not stage.results()[0].ok and "1" not in stage.models


def test_a_sub_agent_that_does_not_finish_says_so_and_what_it_had() -> None:
    stage = Stage(
        Model([says(spawn(1, steps=1)), says("Oh.")]),
        lambda agent: Model([says("half ", call("look"))]),
        look=str,
    )
    asyncio.run(stage.run())
    (result,) = [event.result for event in stage.told if isinstance(event, CallEnded)]
    assert not result.ok and "did not finish" in result.text and "half" in result.text


def test_stopping_a_run_stops_its_sub_agents() -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def wait(arguments: dict[str, Any]) -> str:
            entered.set()
            await asyncio.Event().wait()
            return ""

        stage = Stage(Model([says(spawn(1))]), lambda agent: Model([says(call("wait"))]), wait=wait)
        before = asyncio.all_tasks()
        work = asyncio.create_task(stage.run())
        await entered.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        ends = [e.event if isinstance(e, Nested) else e for e in stage.told]
        assert [end.end for end in ends if isinstance(end, Ended)] == ["cancelled", "cancelled"]
        assert asyncio.all_tasks() <= before

    asyncio.run(main())


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "[]",
        "{",
        '{"task": 1}',
        '{"task": "t", "tools": "x"}',
        '{"task": "t", "steps": 1.5}',
        '{"task": "t", "tokens": 0}',
        '{"task": "t", "seconds": true}',
        '{"task": "t", "agent": "../x"}',
        "[" * 4000,
    ],
)
def test_commissions_that_are_none_are_typed_errors(arguments: str) -> None:
    with pytest.raises(InputError):
        read_commission(arguments)


def test_a_commission_is_read() -> None:
    read = read_commission(json.dumps({"task": "t", "tools": ["a*"], "steps": 2, "tokens": 5, "seconds": 0.5}))
    assert (read.task, read.steps, read.tokens, read.seconds) == ("t", 2, 5, 0.5)
    assert read.takes("abc") and not read.takes("b")
