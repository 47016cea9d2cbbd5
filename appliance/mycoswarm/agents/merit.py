"""Certificates where they count: which one a model has, and agents that ask for one.

Covered: each step of an agent and of a sub-agent, by what its rules choose just before it. Not covered: a node or an
endpoint that the rules choose instead of it within the same step, and an endpoint that changes what it runs.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from mycoswarm.agents.exam import VERSION
from mycoswarm.agents.examiner import endpoint_subject
from mycoswarm.agents.party import Agent, Speak
from mycoswarm.agents.turn import Ask, Message, Said
from mycoswarm.agents.voice import TASK, job_of
from mycoswarm.base.errors import ModelError, SwarmError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.failing import refused
from mycoswarm.chat.job import Job
from mycoswarm.chat.life import Chat
from mycoswarm.routing.decision import Dispatch, Refusal
from mycoswarm.store.diploma import Diploma
from mycoswarm.wire.tool import ToolSpec


class Merits:
    """`model` gives the facts of a model or raises NotFoundError; `find` a kept result by its subject, blocking."""

    def __init__(self, chat: Chat, model: Callable[[str], ModelFacts], find: Callable[[str], Diploma | None]) -> None:
        self._chat, self._model, self._find = chat, model, find

    async def certificate(self, job: Job) -> Diploma | None:
        """The certificate of what would answer this request now; None without one of the present exam.

        Raises:
            SwarmError: nothing would.
        """
        outcome = await self._chat.explain(job)
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        subject = endpoint_subject(outcome) if isinstance(outcome, Dispatch) else self._model(job.model).digest
        found = await asyncio.to_thread(self._find, subject)
        return found if found is not None and found.version == VERSION else None

    async def shown(self, model: str) -> Diploma | None:
        """The certificate of a model by its name, to be looked at; None where nothing would answer."""
        try:
            return await self.certificate(Job(request_id="certificate", model=model, task="agent"))
        except SwarmError:
            return None

    def watch(self, speak: Speak) -> Speak:
        """The same voice; it speaks for an agent that asks for a certificate only where the model has it."""

        def give(agent: Agent, new_request_id: Callable[[], str]) -> Ask:
            ask, least = speak(agent, new_request_id), agent.profile.certificate
            if least is None:
                return ask

            async def checked(
                messages: Sequence[Message], tools: Sequence[ToolSpec], most_tokens: int
            ) -> AsyncGenerator[Said, None]:
                await self._demand(job_of(agent, messages, tools, most_tokens), agent.profile.name, least)
                async with contextlib.aclosing(ask(messages, tools, most_tokens)) as said:
                    async for one in said:
                        yield one

            return checked

        return give

    async def _demand(self, job: Job, name: str, least: int) -> None:
        found = await self.certificate(job)
        again = f"`mycoswarm-node models certify {job.model[:80]}` examines it."
        if found is None:
            raise ModelError(
                f"the agent {name} asks for a certificate of {least} %, and the model {job.model[:80]} has none",
                hint=again,
                code="not_certified",
            )
        if found.percent < least:
            raise ModelError(
                f"the agent {name} asks for a certificate of {least} %, and the model {job.model[:80]} has"
                f" {found.percent} %",
                hint="Choose another model for it, or ask for less in its file.",
                code="certificate_too_low",
            )


def is_poor(found: Diploma | None, task: str, below: int) -> bool:
    """Whether a model's calls are to be held to their tools' schemas: with a certificate of less than `below` percent,
    or for an agent without one. `below` 0: never."""
    if found is None or found.version != VERSION:
        return task == TASK and below > 0
    return found.percent < below
