"""The runs of this node: begun, streamed, stopped, and kept for the owner to look at."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from mycoswarm.agents.event import (
    AgentEvent,
    ApprovalAwaited,
    CallBegun,
    Ended,
    Nested,
    StepBegun,
    TextPiece,
    told,
)
from mycoswarm.agents.party import Parts, Party
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.quotation import bounded
from mycoswarm.agents.turn import Message
from mycoswarm.base.errors import BusyError, NotFoundError, StorageError
from mycoswarm.chat.consent import Approvals, Plea
from mycoswarm.chat.job import Asker
from mycoswarm.store.run import RunRow

MAX_RUNNING = 16
KEPT_CHARACTERS = 2000  # of one result, in the history
STOP_S = 10.0

log = logging.getLogger(__name__)


class History(Protocol):
    """Where runs are kept; store/run.py. Blocking, and each may raise StorageError."""

    def begin(self, run: RunRow) -> None:
        """A run has begun."""

    def add(self, run_id: str, number: int, at: float, body: dict[str, Any]) -> None:
        """Something has happened in it."""

    def end(self, run: RunRow) -> None:
        """It has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What is to be done, by whom and for whom. `asked_by` is how the history names them."""

    profile: Profile
    task: str
    asker: Asker
    asked_by: str
    earlier: tuple[Message, ...] = ()


@dataclass(slots=True)
class _Running:
    row: RunRow
    work: "asyncio.Task[Ended]"
    events: "asyncio.Queue[AgentEvent | None]" = field(default_factory=asyncio.Queue)
    number: int = 0


class Crew:
    """Runs agents, at most `MAX_RUNNING` at once. `history` None: nothing is kept. `wall_clock`: seconds since 1970."""

    def __init__(
        self,
        parts: Parts,
        *,
        approvals: Approvals,
        history: History | None,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
    ) -> None:
        self._parts, self._approvals, self._history = parts, approvals, history
        self._new_id, self._clock = new_id, wall_clock
        self._running: dict[str, _Running] = {}
        self._finishing: set[asyncio.Task[None]] = set()

    async def run(self, assignment: Assignment) -> AsyncGenerator[dict[str, Any], None]:
        """Have an agent do a task, and tell of it; first `{event: "run", id, ...}`, last `{event: "end", ...}`.

        Closing the generator stops the run; on return it has ended.

        Raises:
            BusyError: too many run already.
            StorageError: the history could not be begun; nothing ran.
        """
        if len(self.running()) >= MAX_RUNNING:
            raise BusyError(f"{MAX_RUNNING} agents are at work", retry_after_s=30)
        one = self._begin(assignment)
        run_id = one.row.id
        try:
            if self._history is not None:
                await asyncio.to_thread(self._history.begin, one.row)
            yield {"event": "run", "id": run_id, "agent": one.row.agent, "model": one.row.model}
            while (event := await one.events.get()) is not None:
                await self._keep(one, event)
                yield told(event)
                if isinstance(event, Ended):
                    return  # what is still tidied up, nobody has to wait for
        finally:
            has_ended = one.row.state != "running"
            if not has_ended:
                one.work.cancel()
            finishing = asyncio.create_task(self._finish(one), name=f"finish run {run_id}")
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)
            if not has_ended:
                await asyncio.shield(finishing)

    async def stop(self, run_id: str) -> None:
        """Stop a run.

        Raises:
            NotFoundError: none of that id is going on.
        """
        one = self._running.get(run_id)
        if one is None or one.row.state != "running" or one.work.done():
            raise NotFoundError(
                f"no run {run_id[:40]!r} is going on", hint="`mycoswarm-node agent runs` shows what is."
            )
        one.work.cancel()
        await asyncio.wait({one.work}, timeout=STOP_S)

    def running(self) -> tuple[RunRow, ...]:
        """What is going on now, the newest first."""
        return tuple(one.row for one in reversed(self._running.values()) if one.row.state == "running")

    async def close(self) -> None:
        """Stop all runs."""
        works = {one.work for one in self._running.values()}
        for work in works:
            work.cancel()
        if works or self._finishing:
            await asyncio.wait({*works, *self._finishing}, timeout=STOP_S)

    def _begin(self, assignment: Assignment) -> _Running:
        profile, run_id = assignment.profile, self._new_id()
        row = RunRow(
            id=run_id,
            agent=profile.name,
            task=assignment.task,
            model=profile.model,
            asked_by=assignment.asked_by,
            labels=tuple(sorted(assignment.asker.labels | assignment.asker.added | profile.labels)),
            started_at=self._clock(),
        )
        events: asyncio.Queue[AgentEvent | None] = asyncio.Queue()  # no longer than the run's budget lets it be
        work = asyncio.create_task(self._work(run_id, assignment, events), name=f"run {run_id}")
        work.add_done_callback(lambda _: events.put_nowait(None))  # also where it is stopped before it has begun
        one = self._running[run_id] = _Running(row, work, events)
        return one

    async def _work(self, run_id: str, assignment: Assignment, events: "asyncio.Queue[AgentEvent | None]") -> Ended:
        def wait(plea: Plea) -> None:
            events.put_nowait(ApprovalAwaited(plea.request_id, plea.task, plea.destination, plea.rule, plea.detail))

        party = Party(run_id, self._parts, events.put_nowait)
        with self._approvals.watch(f"{run_id}-", wait):
            return await party.go(assignment.profile, assignment.task, assignment.asker, assignment.earlier)

    async def _finish(self, one: _Running) -> None:
        """Wait for the end, and keep what was not told any more. A node that is gone may take a while to tidy up."""
        await asyncio.wait({one.work})
        while not one.events.empty():
            event = one.events.get_nowait()
            if event is not None:
                await self._keep(one, event)
        if one.row.state == "running":  # it was stopped before it had begun, or a bug ended it
            await self._end(replace(one.row, state="stopped" if one.work.cancelled() else "failed"))
        if not one.work.cancelled() and (error := one.work.exception()) is not None:
            log.error("run %s failed: a bug of ours", one.row.id, exc_info=error)
        self._running.pop(one.row.id, None)

    async def _keep(self, one: _Running, event: AgentEvent) -> None:
        """Write what the history is to hold. That it cannot be written ends no run."""
        if isinstance(event, Ended):
            one.row = replace(
                one.row,
                state={"answer": "finished", "cancelled": "stopped"}.get(event.end, "failed"),
                how=event.end,
                message=event.message,
                answer=event.answer,
                steps=event.steps,
                prompt_tokens=event.prompt_tokens,
                completion_tokens=event.completion_tokens,
                labels=tuple(sorted({*one.row.labels, *event.labels})),
            )
            await self._end(one.row)
        elif self._history is not None and _is_kept(event):
            number, one.number = one.number, one.number + 1
            try:
                await asyncio.to_thread(self._history.add, one.row.id, number, self._clock(), _short(told(event)))
            except StorageError as error:
                log.error("run %s could not be kept: %s", one.row.id, error.message)

    async def _end(self, row: RunRow) -> None:
        if self._history is None:
            return
        try:
            await asyncio.to_thread(self._history.end, replace(row, ended_at=self._clock()))
        except StorageError as error:
            log.error("the end of run %s could not be kept: %s", row.id, error.message)


def _is_kept(event: AgentEvent) -> bool:
    """Text is kept as the answer, calls with their results."""
    if isinstance(event, Nested):
        return _is_kept(event.event)
    return not isinstance(event, TextPiece | CallBegun | StepBegun)


def _short(body: dict[str, Any]) -> dict[str, Any]:
    if "told" in body:
        return {**body, "told": _short(body["told"])}
    return {
        name: bounded(value, KEPT_CHARACTERS) if name in ("text", "arguments", "detail") else value
        for name, value in body.items()
    }
