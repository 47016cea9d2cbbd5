"""Holds exams: each case is a normal request, decided by the rules and written into the ledger; the score is kept."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mycoswarm.agents.exam import VERSION, Case, Reply, fault_of, tally
from mycoswarm.agents.restraint import CASES
from mycoswarm.agents.turn import FULL
from mycoswarm.base.errors import BusyError, RingError, SwarmError, UnreachableError
from mycoswarm.chat.job import Asker, Decided, Job
from mycoswarm.chat.life import Chat
from mycoswarm.routing.decision import Dispatch
from mycoswarm.store.diploma import Diploma
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt, Sampling
from mycoswarm.wire.tool import ToolCall, ToolChoice, tool_json

TASK = "chat"
MAX_TOKENS = 512  # of one answer; the longest right one needs some 100
EXAM_S = 6 * 3600.0  # a node that writes one token in a second is done by then
RETRY_S = 600.0  # what is said to who comes while the same model is examined

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, and what gave it: a digest, or what `endpoint_subject` says."""

    reply: Reply
    subject: str


Put = Callable[[Case, int], Awaitable[Heard]]


def endpoint_subject(dispatch: Dispatch) -> str:
    """What names a model of an endpoint; one that is registered anew is another."""
    return f"endpoint {dispatch.endpoint.name} {dispatch.endpoint.since:.3f} {dispatch.model}"


def put_to(chat: Chat, model: str, asker: Asker, exam_id: str) -> Put:
    """The function that puts a case to a model of this chat, as a request of its own."""

    async def put(case: Case, number: int) -> Heard:
        tools = tuple(map(tool_json, case.tools))
        job = Job(
            request_id=f"{exam_id}-{number}",
            model=model,
            task=TASK,
            prompt=Prompt(messages=case.messages, tools=tools),
            sampling=Sampling(temperature=0.0, max_tokens=MAX_TOKENS),
            asker=asker,
            characters=len(json.dumps([case.messages, tools], ensure_ascii=False)),  # all of it is read, about so much
            choice=ToolChoice(is_strict=False),  # the exam is of the model, not of a grammar
        )
        text, calls, subject, is_over = "", [], "", False
        async with contextlib.aclosing(chat.answer(job)) as events:
            async for event in events:
                if isinstance(event, Decided):
                    to = event.decision
                    subject = endpoint_subject(to) if isinstance(to, Dispatch) else ""
                    subject = event.plan.model_digest if event.plan is not None else subject
                elif isinstance(event, Piece):
                    text += event.text
                elif isinstance(event, ToolCall):
                    calls.append(event)
                is_over = is_over or isinstance(event, Finished)
        if not is_over:
            raise RingError("the model's answer ended without its end", code="answer_broken")
        return Heard(Reply(text, tuple(calls)), subject)

    return put


class Examiner:
    """Holds exams, of each model one at a time. `keep` is blocking."""

    def __init__(
        self,
        keep: Callable[[Diploma], None],
        *,
        wall_clock: Callable[[], float],
        cases: Sequence[Case] = CASES,
        exam_s: float = EXAM_S,
    ) -> None:
        self._keep, self._clock, self._cases, self._exam_s = keep, wall_clock, cases, exam_s
        self._going: set[str] = set()

    async def hold(self, model: str, put: Put) -> AsyncGenerator[dict[str, Any], None]:
        """Examine a model, and tell of it: `{event: "exam"}`, one `{event: "case"}` each, `{event: "certificate"}`.

        Closing the generator ends the exam; then, and after an error, nothing is kept.

        Raises:
            BusyError: the model is examined already.
            UnreachableError: the exam took too long.
            SwarmError: a case could not be put to the model at all.
        """
        if model in self._going:
            raise BusyError(f"{model[:80]} is being examined already", retry_after_s=round(RETRY_S))
        self._going.add(model)
        try:
            yield {"event": "exam", "model": model, "version": VERSION, "cases": len(self._cases)}
            ends_s = asyncio.get_running_loop().time() + self._exam_s
            verdicts: list[tuple[str, bool]] = []
            subjects: set[str] = set()
            for number, case in enumerate(self._cases, 1):
                fault = await self._fault(case, number, put, subjects, ends_s)
                verdicts.append((case.kind, fault is None))
                told = {"event": "case", "number": number, "kind": case.kind, "name": case.name}
                yield {**told, "right": fault is None, "why": fault}
            yield {"event": "certificate", **(await self._certify(model, verdicts, subjects)).shown()}
        finally:
            self._going.discard(model)

    async def _fault(self, case: Case, number: int, put: Put, subjects: set[str], ends_s: float) -> str | None:
        limit = asyncio.timeout_at(ends_s)
        try:
            async with limit:
                heard = await put(case, number)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise UnreachableError(
                f"the exam took longer than {self._exam_s:g} s", hint="Certify it on a faster node.", code="timeout"
            ) from exc
        except SwarmError as error:
            if error.code == FULL:  # this is the model's own limit; all else says nothing of the model
                return "it is longer than the model's context"
            raise
        subjects.add(heard.subject)
        if len(subjects) > 1:
            raise RingError(
                "the cases were answered by more than one model or endpoint, so the exam is of none",
                hint="Let one rule send all of them to one place, and begin again.",
                code="exam_mixed",
            )
        return fault_of(case, heard.reply)

    async def _certify(self, model: str, verdicts: list[tuple[str, bool]], subjects: set[str]) -> Diploma:
        if not subjects:
            raise RingError("no case could be put to the model", code="exam_empty", hint="Its context is too short.")
        score = tally(verdicts)
        one = Diploma(
            subject=next(iter(subjects)),
            model=model,
            at=self._clock(),
            version=VERSION,
            percent=score.percent,
            correct=score.right,
            cases=score.cases,
            kinds=score.kinds,
        )
        await asyncio.to_thread(self._keep, one)
        log.info("%s was examined: %d of %d", model, one.correct, one.cases)
        return one
