"""All agents of one run: the first, and the sub-agents that it spawns, with what of it they are given.

A sub-agent has no tool that its parent lacks, no token that its parent has not given away, no second that its parent
does not have, and every label of its parent. What it touches comes back with its answer, so its labels do, too.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mycoswarm.agents.event import AgentEvent, Ended, Heard, Nested, Tell
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.purse import Budget, Purse
from mycoswarm.agents.quotation import new_nonce, notice
from mycoswarm.agents.spawn import MAX_DEPTH, MAX_SPAWNED, SPAWN, Commission, read_commission
from mycoswarm.agents.toolbox import Errand
from mycoswarm.agents.turn import Ask, Means, Message, Pursuit
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker
from mycoswarm.wire.tool import ToolCall, ToolResult, ToolSpec

SHARE = 4  # a sub-agent that is given no number of tokens gets one part in so many of what its parent has left
RELEASE_S = 40.0  # for a node to remove a workspace


@dataclass(slots=True, kw_only=True)
class Agent:
    """One agent at work. `number` is "" for the first, then "1", "1.2"... `asker` holds all labels it has touched.

    `granted`: the tools it may call at all. `ends_s` is on the loop's clock.
    """

    run_id: str
    number: str
    profile: Profile
    asker: Asker
    purse: Purse
    budget: Budget
    granted: tuple[ToolSpec, ...]
    ends_s: float
    heard: list[str] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """0 for the first."""
        return self.number.count(".") + 1 if self.number else 0

    @property
    def workspace_id(self) -> str:
        """Each agent has a workspace of its own."""
        return "-".join(filter(None, (self.run_id, *self.number.split("."))))

    def errand(self, deadline: float) -> Errand:
        """What a tool is told of it."""
        return Errand(asker=self.asker, run_id=self.run_id, workspace_id=self.workspace_id, deadline=deadline)

    def labelled(self, ended: Ended) -> Ended:
        """Its end, with all labels that it has touched."""
        return replace(ended, labels=tuple(sorted(self.asker.labels | self.asker.added)))

    def touch(self, labels: Iterable[str]) -> None:
        """What these labels cover is known to this agent now. They only narrow, as labels that a request brings: what
        it knew before is not public because it has read something that is."""
        self.asker = replace(self.asker, added=self.asker.added.union(labels))


class Kit(Protocol):
    """The swarm's tools; agents/toolbox.py is the real one."""

    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools there are."""

    async def run(self, call: ToolCall, errand: Errand) -> ToolResult:
        """Run one call where the rules say; what goes wrong is in the result."""

    async def release(self, workspace_id: str, errand: Errand) -> None:
        """Whoever had this workspace has ended: its files go."""


class Speak(Protocol):
    """Gives the function that has an agent's model speak."""

    def __call__(self, agent: Agent, new_request_id: Callable[[], str]) -> Ask:
        """Each request that it sends has an id of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What parties need. `profile` reads an agent file; it raises SwarmError. `left` is told of agents that ended.

    `tool_s`: no tool takes longer.
    """

    toolbox: Kit
    speak: Speak
    profile: Callable[[str], Awaitable[Profile]]
    left: Callable[[Agent], None] = lambda agent: None
    tool_s: float = 600.0  # the owner may be asked first; each tool has a limit of its own besides


class Party:
    """One run."""

    def __init__(self, run_id: str, parts: Parts, tell: Tell) -> None:
        self._run_id, self._parts, self._tell = run_id, parts, tell
        self._numbers = itertools.count(1)
        self._spawned = 0

    async def go(self, profile: Profile, task: str, asker: Asker, earlier: Sequence[Message] = ()) -> Ended:
        """Have the first agent work at the task; `earlier` is what was said before."""
        agent = Agent(
            run_id=self._run_id,
            number="",
            profile=profile,
            asker=replace(asker, labels=asker.labels | profile.labels),
            purse=Purse(profile.budget.tokens),
            budget=profile.budget,
            granted=self._granted(profile),
            ends_s=_now_s() + profile.budget.seconds,
        )
        return await self._pursue(agent, task, earlier, self._tell)

    def _granted(self, profile: Profile) -> tuple[ToolSpec, ...]:
        known = (*(spec for spec in self._parts.toolbox.specs() if spec.name != SPAWN.name), SPAWN)
        return tuple(spec for spec in known if profile.takes(spec.name))

    async def _pursue(self, agent: Agent, task: str, earlier: Sequence[Message], tell: Tell) -> Ended:
        nonce = new_nonce()
        parts = (agent.profile.system.strip(), notice(nonce) if agent.granted else "")
        system = "\n".join(filter(None, parts))
        head = [{"role": "system", "content": system}] if system else []
        children = itertools.count(1)

        async def run(call: ToolCall) -> ToolResult:
            if call.name == SPAWN.name:
                return await self._spawn(agent, call, children, tell)
            deadline = min(_now_s() + self._parts.tool_s, agent.ends_s)
            result = await self._parts.toolbox.run(call, agent.errand(deadline))
            agent.touch(result.labels)  # before the model is asked again, and before a sub-agent is given the text
            return result

        def hear(event: AgentEvent) -> None:
            if isinstance(event, Heard):
                agent.heard += [name for name in event.nodes if name not in agent.heard]
            tell(agent.labelled(event) if isinstance(event, Ended) else event)

        means = Means(
            ask=self._parts.speak(agent, lambda: f"{self._run_id}-{next(self._numbers)}"),
            tools=agent.granted,
            run=run,
            tell=hear,
            nonce=nonce,
            patience_s=lambda name: None if name == SPAWN.name else self._parts.tool_s,
        )
        messages = [*head, *earlier, {"role": "user", "content": task}]
        try:
            return agent.labelled(await Pursuit(means, messages, agent.budget, agent.purse).run())
        finally:
            self._parts.left(agent)
            await self._parts.toolbox.release(agent.workspace_id, agent.errand(_now_s() + RELEASE_S))

    async def _spawn(self, parent: Agent, call: ToolCall, children: "itertools.count[int]", tell: Tell) -> ToolResult:
        """Run a sub-agent, whose answer is the tool's result.

        Raises:
            SwarmError: it cannot be: too many, no tokens, no such agent, arguments that are none.
        """
        commission = read_commission(call.arguments)
        if self._spawned >= MAX_SPAWNED:
            raise InputError(f"this run has had {MAX_SPAWNED} sub-agents", hint="Do the rest yourself.")
        self._spawned += 1
        profile = parent.profile
        if commission.agent is not None:
            profile = await self._parts.profile(commission.agent)
        started_s = _now_s()
        child = self._child(parent, commission, profile, str(next(children)))
        try:
            ended = await self._pursue(
                child, commission.task, (), lambda event: tell(Nested(child.number, profile.name, event))
            )
        finally:
            parent.purse.settle(child.purse)
            parent.touch((child.asker.labels | child.asker.added) - parent.asker.labels)
        text = ended.answer if ended.end == "answer" else f"the sub-agent did not finish: {ended.message}"
        if ended.end != "answer" and ended.answer:
            text += f". It said: {ended.answer}"
        where = ", ".join(child.heard) or None
        return ToolResult(call.id, text, ended.end == "answer", where, _now_s() - started_s)

    def _child(self, parent: Agent, commission: Commission, profile: Profile, number: str) -> Agent:
        number = f"{parent.number}.{number}" if parent.number else number
        tokens = commission.tokens or max(1, parent.purse.left // SHARE)
        purse = parent.purse.part(tokens)
        if not purse.left:
            raise InputError("you have no tokens left to give to a sub-agent", hint="Answer now.")
        seconds = min(commission.seconds or profile.budget.seconds, max(0.0, parent.ends_s - _now_s()))
        steps = min(commission.steps or profile.budget.max_steps, parent.budget.max_steps)
        child = Agent(
            run_id=self._run_id,
            number=number,
            profile=profile,
            asker=replace(parent.asker, labels=parent.asker.labels | profile.labels),
            purse=purse,
            budget=Budget(max_steps=steps, tokens=purse.left, seconds=seconds),
            granted=(),
            ends_s=_now_s() + seconds,
        )
        wanted = (spec for spec in parent.granted if profile.takes(spec.name) and commission.takes(spec.name))
        child.granted = tuple(spec for spec in wanted if spec.name != SPAWN.name or child.depth < MAX_DEPTH)
        return child


def _now_s() -> float:
    return asyncio.get_running_loop().time()
