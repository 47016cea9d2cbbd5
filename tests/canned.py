"""Models and tools that answer by script, for agents without a swarm."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from mycoswarm.agents.event import AgentEvent, Ended, TextPiece
from mycoswarm.agents.party import Agent
from mycoswarm.agents.purse import Budget, Purse
from mycoswarm.agents.toolbox import Errand
from mycoswarm.agents.turn import Ask, Means, Message, Pursuit, Said, Spoken
from mycoswarm.chat.consent import Plea
from mycoswarm.wire.report import Timing
from mycoswarm.wire.tool import ToolCall, ToolResult, ToolSpec

NONCE = "bcdfghjklmnpqrst"


def spec(name: str) -> ToolSpec:
    """A tool of that name."""
    return ToolSpec(name, f"does {name}", {"type": "object", "properties": {}})


def call(name: str, number: int = 0, /, **arguments: Any) -> ToolCall:
    """A call of a tool."""
    return ToolCall(f"c{number}", name, json.dumps(arguments))


def plea(request_id: str) -> Plea:
    """What the owner is asked about a call of the tool "look" that would go to attic."""
    return Plea(
        request_id=request_id,
        key_name=None,
        user=None,
        model="m",
        task="tool:look",
        characters=1,
        labels=(),
        destination="attic",
        rule="ask me",
    )


def says(
    *parts: str | ToolCall, tokens: int = 3, is_cut: bool = False, timing: Timing | None = None
) -> list[Said | Exception]:
    """One step of a model."""
    said: list[Said | Exception] = [TextPiece(part) if isinstance(part, str) else part for part in parts]
    return [*said, Spoken(10, tokens, is_cut, timing)]


@dataclass
class Model:
    """Says its steps in turn; the last one again and again. `asked`: messages, tools and tokens of each step.

    `gate` holds every word back until it is set.
    """

    steps: Sequence[Sequence[Said | Exception]]
    asked: list[tuple[list[Message], list[str], int]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def ask(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], most_tokens: int
    ) -> AsyncGenerator[Said, None]:
        """One step."""
        step = self.steps[min(len(self.asked), len(self.steps) - 1)]
        self.asked.append((list(messages), [tool.name for tool in tools], most_tokens))
        end = "cancelled"
        try:
            for one in step:
                await asyncio.sleep(0)
                await self.gate.wait()
                if isinstance(one, Exception):
                    end = "failed"
                    raise one
                if isinstance(one, Spoken):
                    end = "spoken"
                    yield Spoken(one.prompt_tokens, min(one.completion_tokens, most_tokens), one.is_cut, one.timing)
                    return
                yield one
        finally:
            self.ends.append(end)

    def speak(self, agent: Agent, new_request_id: Callable[[], str]) -> Ask:
        """As parties want it."""
        return self.ask


Act = Callable[[dict[str, Any]], Any]


@dataclass
class Tools:
    """Tools by name, each a function of its arguments that gives text or a result, raises, or is awaited. `ran` is all
    that ran."""

    acts: dict[str, Act]
    ran: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    errands: list[Errand] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def specs(self) -> tuple[ToolSpec, ...]:
        """All of them."""
        return tuple(map(spec, self.acts))

    async def run(self, one: ToolCall, errand: Errand | None = None) -> ToolResult:
        """Run one."""
        arguments = json.loads(one.arguments)
        self.ran.append((one.name, arguments))
        if errand is not None:
            self.errands.append(errand)
        text = self.acts[one.name](arguments)
        if asyncio.iscoroutine(text):
            text = await text
        if isinstance(text, ToolResult):
            return replace(text, call_id=one.id)
        return ToolResult(one.id, str(text), True, "attic", 0.5)

    async def release(self, workspace_id: str, errand: Errand) -> None:
        """Remember that a workspace went."""
        self.released.append(workspace_id)


@dataclass
class Trial:
    """One loop over a canned model."""

    model: Model
    tools: Tools
    budget: Budget = field(default_factory=lambda: Budget(max_steps=8, tokens=1000, seconds=20))
    patience_s: float = 5.0
    told: list[AgentEvent] = field(default_factory=list)

    def pursuit(self) -> Pursuit:
        """Not yet begun."""
        means = Means(
            ask=self.model.ask,
            tools=self.tools.specs(),
            run=self.tools.run,
            tell=self.told.append,
            nonce=NONCE,
            patience_s=lambda name: self.patience_s,
        )
        return Pursuit(means, [{"role": "user", "content": "do it"}], self.budget, Purse(self.budget.tokens))

    async def run(self) -> Ended:
        """To the end, which is also the last thing told."""
        async with asyncio.timeout(10):
            ended = await self.pursuit().run()
        assert self.told[-1] == ended and not any(isinstance(one, Ended) for one in self.told[:-1])
        return ended

    def of(self, kind: type) -> list[Any]:
        """What was told, of one kind."""
        return [one for one in self.told if isinstance(one, kind)]
