"""Schedules at work: looks at the clock, has agents run when they are due, and keeps what came of it.

A run of a schedule is a run like any other: the same crew, rules, labels, ledger and history. It runs as the one who
made the schedule, so a key that is revoked ends its schedules, too.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from mycoswarm.agents.crew import STOP_S, Assignment
from mycoswarm.agents.persona import MAX_LABELS, Profile
from mycoswarm.agents.spawn import MAX_TASK
from mycoswarm.agents.timetable import Step, check_times, due, next_time
from mycoswarm.base.errors import InputError, NotFoundError, StorageError, SwarmError
from mycoswarm.chat.job import Asker
from mycoswarm.routing.clause import is_label
from mycoswarm.store.agenda import Agenda, Pause, ScheduleRow, unknown
from mycoswarm.swarm.condition import Condition

TICK_S = 5.0  # how late a run may begin; a look at all schedules takes milliseconds
PATIENCE_S = 60.0  # at the start, until all nodes have shown what they hold
LOOK_S = 0.5
MAX_FAILURES = 3  # in a row; then it is paused
KEY_REVOKED = "key_revoked"  # what a schedule fails with whose key is no more

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Has agents run; agents/crew.py."""

    def run(self, assignment: Assignment) -> AsyncGenerator[dict[str, Any], None]:
        """Run an agent and tell of it."""

    async def stop(self, run_id: str) -> None:
        """Stop a run; NotFoundError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A schedule as its owner wants it."""

    cron: str
    agent: str
    task: str
    zone: str = "UTC"
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a vigil needs. `admit` counts a run against the limits of the key that made its schedule, and raises where
    that is no more; `is_ready` says whether all nodes have shown what they hold. `wall_clock`: seconds since 1970."""

    agenda: Agenda
    crew: Runner
    profile: Callable[[str], Awaitable[Profile]]
    admit: Callable[[ScheduleRow], None]
    is_ready: Callable[[], bool]
    new_id: Callable[[], str]
    wall_clock: Callable[[], float]


class Vigil:
    """`async with Vigil(means)`: schedules run while inside, until `close`. Without it, only `look` has them run."""

    def __init__(self, means: Means) -> None:
        """Read the schedules.

        Raises:
            StorageError: they could not be read.
        """
        self._with = means
        self._rows = {row.id: row for row in means.agenda.entries()}
        self._writing = asyncio.Lock()
        self._going: dict[str, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name="schedules")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Begin no more runs, and stop those that go on."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None
        going = tuple(self._going.items())
        for schedule_id, task in going:
            row = self._rows.get(schedule_id)
            if row is None or row.run_id is None:
                task.cancel()  # it was forgotten, or has not begun
                continue
            with contextlib.suppress(NotFoundError):  # it has just ended
                await self._with.crew.stop(row.run_id)
        if going:
            _, late = await asyncio.wait([task for _, task in going], timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for schedule_id, _ in going:  # one that was cancelled has not written how it ended
            with contextlib.suppress(StorageError):  # then it is found as interrupted at the next start
                await self._change(schedule_id, _stopped)

    # What the owner asks

    def schedules(self) -> list[dict[str, Any]]:
        """All of them as JSON values, each with the time of its next run."""
        return [self._shown(row) for row in self._rows.values()]

    async def add(self, wish: Wish, asker: Asker, asked_by: str) -> dict[str, Any]:
        """Take a new schedule in.

        Raises:
            InputError: a text, zone or label that is none, or an agent file that is broken.
            NotFoundError: there is no such agent.
            BusyError: there are too many schedules.
            StorageError: it could not be written.
        """
        now = self._with.wall_clock()
        labels = wish.labels | asker.labels | asker.added
        if not 0 < len(wish.task.strip()) <= len(wish.task) <= MAX_TASK:
            raise InputError(f"task must be a text of 1 to {MAX_TASK} characters")
        if len(labels) > MAX_LABELS or not all(map(is_label, labels)):
            raise InputError(f"labels must be at most {MAX_LABELS} labels: small letters, digits, hyphens")
        check_times(wish.cron, wish.zone, now)
        await self._with.profile(wish.agent)
        row = ScheduleRow(
            id=self._with.new_id(),
            cron=wish.cron,
            zone=wish.zone,
            agent=wish.agent,
            task=wish.task,
            labels=tuple(sorted(labels)),
            key_name=asker.key_name,
            key_made_at=asker.issued_at,
            user=asker.user,
            client=asker.client,
            made_at=now,
            since=now,
            handled_at=now,
        )
        async with self._writing:
            await asyncio.to_thread(self._with.agenda.add, row)
            self._rows[row.id] = row
        log.info("%s made the schedule %s for the agent %s", asked_by, row.id, row.agent)
        return self._shown(row)

    async def remove(self, schedule_id: str) -> None:
        """Forget a schedule. Its run, where one goes on, goes on.

        Raises:
            NotFoundError: there is none of that id.
            StorageError: it could not be written.
        """
        async with self._writing:
            await asyncio.to_thread(self._with.agenda.remove, schedule_id)
            self._rows.pop(schedule_id, None)

    async def pause(self, schedule_id: str) -> dict[str, Any]:
        """Let a schedule run no more until it is resumed. A run that goes on, goes on. One that trouble has paused is
        paused by hand then: the owner knows of it.

        Raises:
            NotFoundError: there is none of that id.
            StorageError: it could not be written.
        """
        return await self._changed(schedule_id, lambda row: replace(row, pause=Pause.BY_HAND))

    async def resume(self, schedule_id: str) -> dict[str, Any]:
        """Let a paused schedule run again, from its next time on.

        Raises:
            NotFoundError: there is none of that id.
            StorageError: it could not be written.
        """
        now = self._with.wall_clock()
        return await self._changed(
            schedule_id, lambda row: replace(row, pause=Pause.NONE, failures=0, since=now, handled_at=now)
        )

    async def _changed(self, schedule_id: str, change: Callable[[ScheduleRow], ScheduleRow]) -> dict[str, Any]:
        row = await self._change(schedule_id, change)
        if row is None:
            raise unknown(schedule_id)
        return self._shown(row)

    def conditions(self) -> tuple[Condition, ...]:
        """Which schedules trouble has paused, and why. What the owner has paused is no trouble."""
        return tuple(
            Condition(
                "schedule_paused",
                f"the schedule {row.id} of the agent {row.agent} is paused: {row.message or 'it failed'} ({row.code})",
                _way_out(row),
            )
            for row in self._rows.values()
            if row.pause is Pause.TROUBLE
        )

    # The clock

    async def look(self) -> None:
        """Do what is due now.

        Raises:
            StorageError: it could not be written; what could not is not run, and is due the next time.
        """
        now = self._with.wall_clock()
        for step in due(tuple(self._rows.values()), now):
            await self._do(step, now)

    async def _watch(self) -> None:
        for _ in range(round(PATIENCE_S / LOOK_S)):
            if self._is_ready():
                break
            await asyncio.sleep(LOOK_S)
        fault = None
        while True:
            try:
                await self.look()
                fault = None
            except SwarmError as error:
                if error.message != fault:
                    log.error("the schedules wait: %s", error.message)
                fault = error.message
            except Exception:
                log.exception("the schedules could not be looked at: a bug of ours")
            await asyncio.sleep(TICK_S)

    def _is_ready(self) -> bool:
        """Whether the schedules need wait no longer. What goes wrong here must not keep them from running for ever."""
        try:
            return self._with.is_ready()
        except SwarmError as error:  # the first look says it, too, if it lasts
            log.info("whether all nodes are ready is not known yet: %s", error.message)
        except Exception:
            log.exception("whether all nodes are ready could not be looked at: a bug of ours")
        return False

    async def _do(self, step: Step, now: float) -> None:
        schedule_id = step.schedule.id
        if step.act == "set back":
            log.info("the clock was set back: the schedule %s goes by the new time", schedule_id)
            await self._change(schedule_id, lambda row: replace(row, handled_at=now))
        elif step.act == "broken":
            why = "its time zone is not known any more"
            await self._change(
                schedule_id,
                lambda row: replace(row, pause=Pause.TROUBLE, message=why, code="bad_zone", handled_at=now),
            )
        elif step.act == "missed":
            await self._leave_out(schedule_id, step.at, now, "missed by more than a day")
        elif schedule_id in self._going:
            await self._leave_out(schedule_id, step.at, now, "skipped: its last run still went on")
        else:
            row = await self._change(
                schedule_id,
                lambda row: replace(
                    row, handled_at=now, ran_at=now, run_id=None, state="running", code=None, message=None, remark=None
                ),
            )
            if row is not None:
                task = asyncio.create_task(self._carry(row), name=f"schedule {schedule_id}")
                self._going[schedule_id] = task
                task.add_done_callback(lambda _: self._going.pop(schedule_id, None))

    async def _leave_out(self, schedule_id: str, at: float, now: float, why: str) -> None:
        log.info("schedule %s, due at %d: %s", schedule_id, at, why)
        await self._change(schedule_id, lambda row: replace(row, handled_at=now, remark=f"{at:.0f} {why}"))

    async def _carry(self, row: ScheduleRow) -> None:
        """Run it, and keep how it ended."""
        try:
            state, code, message = await self._run(row)
        except SwarmError as error:
            state, code, message = "failed", error.code, error.message
        except Exception:
            log.exception("the schedule %s failed: a bug of ours", row.id)
            state, code, message = "failed", "internal_error", "a bug of ours; the node's log says more"
        if state == "failed":
            log.warning("the schedule %s failed (%s): %s", row.id, code, message)
        try:
            await self._change(row.id, lambda now: _ended(now, state, code, message))
        except StorageError as error:
            log.error("the end of schedule %s could not be kept: %s", row.id, error.message)

    async def _run(self, row: ScheduleRow) -> tuple[str, str | None, str | None]:
        profile = await self._with.profile(row.agent)
        self._with.admit(row)
        asker = Asker(
            key_name=row.key_name,
            issued_at=row.key_made_at,
            user=row.user,
            labels=frozenset(row.labels),
            client=row.client,
        )
        assignment = Assignment(profile=profile, task=row.task, asker=asker, asked_by=f"schedule {row.id}")
        end: dict[str, Any] = {}
        async with contextlib.aclosing(self._with.crew.run(assignment)) as events:
            async for end in events:
                if end["event"] == "run":
                    await self._change(row.id, partial(_begun, run_id=str(end["id"])))
        if end.get("end") == "answer":
            return "finished", None, None
        return ("stopped" if end.get("end") == "cancelled" else "failed"), end.get("code"), end.get("message")

    async def _change(self, schedule_id: str, change: Callable[[ScheduleRow], ScheduleRow]) -> ScheduleRow | None:
        """Change one on disk and then here; None where it was removed."""
        async with self._writing:
            row = self._rows.get(schedule_id)
            if row is None:
                return None
            row = change(row)
            await asyncio.to_thread(self._with.agenda.change, row)
            self._rows[schedule_id] = row
            return row

    def _shown(self, row: ScheduleRow) -> dict[str, Any]:
        following = None
        if not row.pause:
            with contextlib.suppress(InputError):  # the next look pauses it
                following = next_time(row.cron, row.zone, max(row.handled_at, self._with.wall_clock()))
        return {
            "id": row.id,
            "cron": row.cron,
            "zone": row.zone,
            "agent": row.agent,
            "task": row.task,
            "labels": list(row.labels),
            "key": row.key_name,
            "made_at": row.made_at,
            "ran_at": row.ran_at,
            "run": row.run_id,
            "state": row.state,
            "code": row.code,
            "message": row.message,
            "remark": row.remark,
            "failures": row.failures,
            "is_paused": bool(row.pause),
            "paused": {Pause.NONE: None, Pause.TROUBLE: "trouble", Pause.BY_HAND: "by hand"}[row.pause],
            "next_at": following,
        }


def _way_out(row: ScheduleRow) -> str:
    """What the owner can do about a schedule that trouble has paused."""
    if row.code == KEY_REVOKED:
        return f"Make it anew with a key that holds, then run `mycoswarm-node agent unschedule {row.id}`."
    return f"Mend that, then run `mycoswarm-node agent schedule-resume {row.id}`."


def _begun(row: ScheduleRow, run_id: str) -> ScheduleRow:
    return replace(row, run_id=run_id)


def _stopped(row: ScheduleRow) -> ScheduleRow:
    return _ended(row, "stopped", None, None) if row.state == "running" else row


def _ended(row: ScheduleRow, state: str, code: str | None, message: str | None) -> ScheduleRow:
    failures = row.failures + 1 if state == "failed" else 0 if state == "finished" else row.failures
    pause = row.pause or (Pause.TROUBLE if failures >= MAX_FAILURES else Pause.NONE)
    return replace(
        row,
        state=state,
        code=code,
        message=message,
        failures=failures,
        pause=pause,
    )
