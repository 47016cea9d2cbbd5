"""How an agent's model speaks: each step is a normal request, decided by the rules and written into the ledger."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import msgspec

from mycoswarm.agents.event import Heard, TextPiece
from mycoswarm.agents.party import Agent
from mycoswarm.agents.spread import Spread
from mycoswarm.agents.turn import Ask, Message, Said, Spoken
from mycoswarm.base.errors import SwarmError
from mycoswarm.chat.job import Decided, Job
from mycoswarm.chat.life import Chat
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt, Sampling
from mycoswarm.wire.tool import ToolCall, ToolSpec, tool_json

TASK = "agent"


class Voice:
    """Speaks through the chat, for all agents of all runs."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._spreads: dict[str, Spread] = {}

    def __call__(self, agent: Agent, new_request_id: Callable[[], str]) -> Ask:
        """The function that has this agent's model speak."""

        def ask(messages: Sequence[Message], tools: Sequence[ToolSpec], most_tokens: int) -> AsyncGenerator[Said, None]:
            return self._speak(agent, job_of(agent, messages, tools, most_tokens), new_request_id)

        return ask

    def left(self, agent: Agent) -> None:
        """An agent has ended: its nodes are free for its siblings, and with the first one the run is over."""
        if agent.depth == 0:
            self._spreads.pop(agent.run_id, None)
        elif (spread := self._spreads.get(agent.run_id)) is not None:
            spread.leave(agent.number)

    async def _speak(self, agent: Agent, job: Job, new_request_id: Callable[[], str]) -> AsyncGenerator[Said, None]:
        job = replace(job, request_id=new_request_id())
        aimed = job
        if agent.depth:
            spread = self._spreads.setdefault(agent.run_id, Spread(self._chat.explain))
            aimed = await spread.aim(job, agent.number)
        has_spoken = False
        try:
            async with contextlib.aclosing(self._hear(aimed)) as said:
                async for one in said:
                    has_spoken = has_spoken or not isinstance(one, Heard)
                    yield one
            return
        except SwarmError:
            if has_spoken or aimed is job:
                raise
        # The node of its own was lost before it spoke: now as the rules say, wherever siblings are.
        async with contextlib.aclosing(self._hear(replace(job, request_id=new_request_id()))) as said:
            async for one in said:
                yield one

    async def _hear(self, job: Job) -> AsyncGenerator[Said, None]:
        async with contextlib.aclosing(self._chat.answer(job)) as events:
            async for event in events:
                if isinstance(event, Decided):
                    yield Heard(event.names, event.decision.rule, job.request_id, event.place)
                elif isinstance(event, Piece):
                    if event.text:
                        yield TextPiece(event.text)
                elif isinstance(event, ToolCall):
                    yield event
                elif isinstance(event, Finished):
                    is_cut = event.reason == "length"
                    yield Spoken(event.prompt_tokens, event.completion_tokens, is_cut=is_cut, timing=event.timing)


def job_of(agent: Agent, messages: Sequence[Message], tools: Sequence[ToolSpec], most_tokens: int) -> Job:
    """The request that a step of an agent is, still without an id."""
    offered = tuple(map(tool_json, tools))
    called = [call["function"]["arguments"] for message in messages for call in message.get("tool_calls", ())]
    shown = [msgspec.json.encode(tool).decode() for tool in offered]
    texts = (*(message["content"] for message in messages), *called, *shown)  # as a chat's are counted
    return Job(
        request_id="",
        model=agent.profile.model,
        task=TASK,
        prompt=Prompt(messages=tuple(messages), tools=offered),
        # The likeliest words: small models call tools well only then.
        sampling=Sampling(temperature=0.0, max_tokens=most_tokens),
        asker=agent.asker,
        characters=sum(map(len, texts)),
    )
