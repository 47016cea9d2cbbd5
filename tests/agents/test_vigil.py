"""Schedules at work, over a real database and a real crew: runs, skips, failures, pauses, restarts. No clock ticks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from canned import Model, Tools, says
from mycoswarm.agents.crew import Crew
from mycoswarm.agents.party import Agent, Parts
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.spawn import MAX_TASK
from mycoswarm.agents.turn import Ask
from mycoswarm.agents.vigil import KEY_REVOKED, MAX_FAILURES, Means, Vigil, Wish
from mycoswarm.base.errors import ApiKeyError, BusyError, InputError, NotFoundError, RefusedError, StorageError
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker
from mycoswarm.store.agenda import MAX_SCHEDULES, Agenda, ScheduleRow
from mycoswarm.store.database import Store
from mycoswarm.store.run import Runs
from rings import until

PROFILE = Profile(name="scout", model="m", labels=frozenset({"private"}))
BEGIN = 1_000_000_000.0 // 86400 * 86400
DAY, HOUR = 86_400.0, 3600.0
DAILY = Wish(cron="0 7 * * *", agent="scout", task="do it")


@dataclass
class Watch:
    """A vigil, and what is around it."""

    vigil: Vigil
    runs: Runs
    model: Model
    now: list[float]
    asked: list[Asker]
    admitted: list[str] = field(default_factory=list)
    refuse: list[Exception] = field(default_factory=list)
    unready: list[Exception] = field(default_factory=list)

    async def at(self, now: float, *, waits: bool = True) -> dict[str, Any]:
        """Look at that time; gives the first schedule, after what it began has ended."""
        self.now[0] = now
        await self.vigil.look()
        if waits:
            await until(lambda: not self.vigil._going)
        return self.vigil.schedules()[0]


@asynccontextmanager
async def watch(folder: Path, steps: Sequence[Any] = (says("Done."),)) -> AsyncIterator[Watch]:
    before = asyncio.all_tasks()
    store, model, now, numbers = Store(folder / "node.db"), Model(steps), [BEGIN], iter(range(1000))
    runs = Runs(store, BEGIN)

    asked: list[Asker] = []

    def speak(agent: Agent, new_request_id: Callable[[], str]) -> Ask:
        asked.append(agent.asker)
        return model.ask

    async def profile(name: str) -> Profile:
        if name != "scout":
            raise NotFoundError(f"there is no agent {name!r}")
        return PROFILE

    def admit(row: ScheduleRow) -> None:
        made.admitted.append(row.id)
        if made.refuse:
            raise made.refuse.pop()

    def is_ready() -> bool:
        if made.unready:
            raise made.unready.pop(0)
        return True

    crew = Crew(
        Parts(toolbox=Tools({}), speak=speak, profile=profile),
        approvals=Approvals(),
        history=runs,
        new_id=lambda: f"r{next(numbers)}",
        wall_clock=lambda: now[0],
    )
    means = Means(
        agenda=Agenda(store),
        crew=crew,
        profile=profile,
        admit=admit,
        is_ready=is_ready,
        new_id=lambda: f"s{next(numbers)}",
        wall_clock=lambda: now[0],
    )
    made = Watch(Vigil(means), runs, model, now, asked)
    try:
        async with asyncio.timeout(20):
            yield made
            await made.vigil.close()
            await crew.close()
        assert asyncio.all_tasks() <= before
    finally:
        store.close()


def test_a_due_schedule_runs_as_its_maker_with_all_labels_and_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            asker = Asker(
                key_name="phone",
                issued_at=5.0,
                user="ann",
                labels=frozenset({"household"}),
                added=frozenset({"draft"}),
                client="192.0.2.7",
            )
            wish = Wish(cron="0 7 * * *", agent="scout", task="do it", labels=frozenset({"morning"}))
            shown = await made.vigil.add(wish, asker, "key phone")
            assert shown["next_at"] == BEGIN + 7 * HOUR and shown["labels"] == ["draft", "household", "morning"]
            assert (await made.at(BEGIN + 7 * HOUR - 1))["ran_at"] is None
            shown = await made.at(BEGIN + 7 * HOUR + 3)
            assert (shown["state"], shown["ran_at"], shown["failures"]) == ("finished", BEGIN + 7 * HOUR + 3, 0)
            assert shown["next_at"] == BEGIN + DAY + 7 * HOUR
            (run,) = made.runs.newest()
            assert (run.id, run.asked_by, run.task) == (shown["run"], f"schedule {shown['id']}", "do it")
            assert run.answer == "Done." and run.labels == ("draft", "household", "morning", "private")
            assert made.admitted == [shown["id"]]
            (by,) = made.asked
            assert (by.key_name, by.issued_at, by.user, by.client) == ("phone", 5.0, "ann", "192.0.2.7")
            assert by.labels == {"draft", "household", "morning", "private"}
            await made.at(BEGIN + 7 * HOUR + 8)
            assert len(made.runs.newest()) == 1
        async with watch(tmp_path) as made:
            (again,) = made.vigil.schedules()
            assert {**shown, "next_at": None} == {**again, "next_at": None}
            assert (await made.at(BEGIN + DAY + 7 * HOUR))["state"] == "finished"
            assert len(made.runs.newest()) == 2

    asyncio.run(main())


def test_a_schedule_whose_last_run_still_goes_on_is_skipped_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            made.model.gate.clear()
            await made.vigil.add(Wish(cron="* * * * *", agent="scout", task="x"), Asker(), "owner")
            await made.at(BEGIN + 60, waits=False)
            await until(lambda: made.model.asked)
            shown = await made.at(BEGIN + 120, waits=False)
            assert shown["state"] == "running" and "still went on" in shown["remark"] and shown["failures"] == 0
            made.model.gate.set()
            await until(lambda: not made.vigil._going)
            shown = await made.at(BEGIN + 180)
            assert shown["state"] == "finished" and shown["remark"] is None
            assert len(made.runs.newest()) == 2

    asyncio.run(main())


def test_what_was_missed_by_a_day_is_left_out_and_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            await made.vigil.add(Wish(cron="0 7 1 1 *", agent="scout", task="x"), Asker(), "owner")
            shown = await made.at(BEGIN + 366 * DAY)
            assert shown["ran_at"] is None and "more than a day" in shown["remark"] and made.runs.newest() == ()
            assert shown["next_at"] > BEGIN + 366 * DAY

    asyncio.run(main())


def test_three_failures_in_a_row_pause_it_until_it_is_resumed(tmp_path: Path) -> None:
    async def main() -> None:
        refused = RefusedError("no rule allows it")
        async with watch(tmp_path, [[refused]]) as made:
            one = await made.vigil.add(DAILY, Asker(), "owner")
            for day in range(1, MAX_FAILURES):
                shown = await made.at(BEGIN + day * DAY)
                assert (shown["state"], shown["code"], shown["failures"]) == ("failed", "refused_by_rules", day)
                assert made.vigil.conditions() == ()
            shown = await made.at(BEGIN + MAX_FAILURES * DAY)
            assert shown["is_paused"] and shown["next_at"] is None
            (condition,) = made.vigil.conditions()
            assert condition.code == "schedule_paused" and "no rule allows it" in condition.message
            assert f"schedule-resume {one['id']}" in condition.hint and not condition.blocks_work
            await made.at(BEGIN + 9 * DAY)
            assert len(made.runs.newest()) == MAX_FAILURES
        async with watch(tmp_path) as made:
            assert len(made.vigil.conditions()) == 1
            made.now[0] = BEGIN + 9 * DAY
            shown = await made.vigil.resume(one["id"])
            assert shown["next_at"] == BEGIN + 9 * DAY + 7 * HOUR and made.vigil.conditions() == ()
            assert (await made.at(BEGIN + 9 * DAY + 60))["state"] == "failed"  # nothing is made up for
            assert (await made.at(BEGIN + 10 * DAY))["state"] == "finished"

    asyncio.run(main())


def test_one_that_is_paused_by_hand_runs_no_more_is_no_trouble_and_makes_nothing_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            one = await made.vigil.add(DAILY, Asker(), "owner")
            made.model.gate.clear()
            await made.at(BEGIN + DAY, waits=False)
            await until(lambda: made.model.asked)
            shown = await made.vigil.pause(one["id"])
            assert (shown["paused"], shown["is_paused"], shown["next_at"]) == ("by hand", True, None)
            made.model.gate.set()
            await until(lambda: not made.vigil._going)
            shown = await made.at(BEGIN + 3 * DAY)
            assert (shown["state"], shown["paused"], made.vigil.conditions()) == ("finished", "by hand", ())
        async with watch(tmp_path) as made:
            assert (await made.at(BEGIN + 5 * DAY))["paused"] == "by hand" and len(made.runs.newest()) == 1
            shown = await made.vigil.resume(one["id"])
            assert (shown["paused"], shown["next_at"]) == (None, BEGIN + 5 * DAY + 7 * HOUR)
            await made.at(BEGIN + 5 * DAY + 60)
            assert len(made.runs.newest()) == 1
            await made.at(BEGIN + 6 * DAY)
            assert len(made.runs.newest()) == 2
            with pytest.raises(NotFoundError):
                await made.vigil.pause("s99")

    asyncio.run(main())


def test_what_failures_have_paused_is_trouble_until_the_owner_pauses_it_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path, [[RefusedError("no rule allows it")]]) as made:
            one = await made.vigil.add(DAILY, Asker(), "owner")
            for day in range(1, MAX_FAILURES + 1):
                shown = await made.at(BEGIN + day * DAY)
            assert shown["paused"] == "trouble" and len(made.vigil.conditions()) == 1
            assert (await made.vigil.pause(one["id"]))["paused"] == "by hand" and made.vigil.conditions() == ()
            # Paused by hand while its run fails for the third time, it stays the owner's pause.
            await made.vigil.resume(one["id"])
            for day in range(4, MAX_FAILURES + 3):
                await made.at(BEGIN + day * DAY)
            made.model.gate.clear()
            await made.at(BEGIN + 7 * DAY, waits=False)
            await made.vigil.pause(one["id"])
            made.model.gate.set()
            await until(lambda: not made.vigil._going)
            (shown,) = made.vigil.schedules()
            assert (shown["failures"], shown["paused"]) == (MAX_FAILURES, "by hand") and made.vigil.conditions() == ()

    asyncio.run(main())


def test_a_success_ends_the_count_of_failures_and_a_limit_of_a_key_counts_as_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            await made.vigil.add(DAILY, Asker(key_name="phone", issued_at=5.0), "key phone")
            made.refuse.append(BusyError("too many requests", retry_after_s=9))
            shown = await made.at(BEGIN + DAY)
            assert (shown["state"], shown["failures"], shown["run"]) == ("failed", 1, None)
            assert made.runs.newest() == ()
            assert (await made.at(BEGIN + 2 * DAY))["failures"] == 0

    asyncio.run(main())


def test_one_whose_key_was_revoked_begins_no_run_and_says_that_it_must_be_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            one = await made.vigil.add(DAILY, Asker(key_name="phone", issued_at=5.0), "key phone")
            made.refuse += [ApiKeyError("the key phone was revoked", code=KEY_REVOKED) for _ in range(MAX_FAILURES)]
            for day in range(1, MAX_FAILURES + 1):
                shown = await made.at(BEGIN + day * DAY)
            assert (shown["code"], shown["run"], shown["paused"]) == (KEY_REVOKED, None, "trouble")
            (condition,) = made.vigil.conditions()
            assert "unschedule " + one["id"] in condition.hint and made.runs.newest() == ()

    asyncio.run(main())


def test_a_run_that_is_stopped_is_no_failure_and_closing_stops_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            made.model.gate.clear()
            await made.vigil.add(DAILY, Asker(), "owner")
            await made.at(BEGIN + DAY, waits=False)
            await until(lambda: made.model.asked)
        async with watch(tmp_path) as made:
            (shown,) = made.vigil.schedules()
            assert (shown["state"], shown["failures"]) == ("stopped", 0)
            assert [run.state for run in made.runs.newest()] == ["stopped"]
            assert (await made.at(BEGIN + DAY + 60))["state"] == "stopped"  # it is not begun again

    asyncio.run(main())


def test_a_run_that_is_stopped_before_its_number_is_kept_is_stopped_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            made.model.gate.clear()
            await made.vigil.add(DAILY, Asker(), "owner")
            await made.at(BEGIN + DAY, waits=False)
            assert made.vigil.schedules()[0]["run"] is None
            await made.vigil.close()
            (shown,) = made.vigil.schedules()
            assert (shown["state"], shown["failures"], shown["run"]) == ("stopped", 0, None)

    asyncio.run(main())


def test_a_run_that_a_dead_daemon_left_is_interrupted_and_not_begun_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            one = await made.vigil.add(DAILY, Asker(), "owner")
            await made.at(BEGIN + DAY)
        store = Store(tmp_path / "node.db")
        store.write("UPDATE schedules SET state = 'running'")
        store.close()
        async with watch(tmp_path) as made:
            shown = await made.at(BEGIN + DAY + 60)
            assert (shown["id"], shown["state"]) == (one["id"], "interrupted") and len(made.runs.newest()) == 1

    asyncio.run(main())


def test_one_that_is_removed_while_it_runs_leaves_its_run_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            made.model.gate.clear()
            one = await made.vigil.add(DAILY, Asker(), "owner")
            await made.at(BEGIN + DAY, waits=False)
            await until(lambda: made.model.asked)
            await made.vigil.remove(one["id"])
            made.model.gate.set()
            await until(lambda: not made.vigil._going)
            assert made.vigil.schedules() == [] and [run.state for run in made.runs.newest()] == ["finished"]
            with pytest.raises(NotFoundError):
                await made.vigil.remove(one["id"])
            with pytest.raises(NotFoundError):
                await made.vigil.resume(one["id"])

    asyncio.run(main())


@pytest.mark.parametrize(
    "wish",
    [
        Wish(cron="0 7 * *", agent="scout", task="x"),
        Wish(cron="0 7 * * *", agent="scout", task="x", zone="Nowhere"),
        Wish(cron="0 7 * * *", agent="scout", task=" "),
        Wish(cron="0 7 * * *", agent="scout", task="x" * (MAX_TASK + 1)),
        Wish(cron="0 7 * * *", agent="scout", task="x", labels=frozenset({"No Label"})),
        Wish(cron="0 7 * * *", agent="scout", task="x", labels=frozenset(f"l{n}" for n in range(17))),
        Wish(cron="0 7 * * *", agent="nobody", task="x"),
    ],
)
def test_what_cannot_be_scheduled_is_said_and_not_kept(tmp_path: Path, wish: Wish) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            with pytest.raises(InputError):  # NotFoundError is one
                await made.vigil.add(wish, Asker(), "owner")
            assert made.vigil.schedules() == []

    asyncio.run(main())


def test_there_are_at_most_so_many(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            for _ in range(MAX_SCHEDULES):
                await made.vigil.add(DAILY, Asker(), "owner")
            with pytest.raises(BusyError):
                await made.vigil.add(DAILY, Asker(), "owner")
            assert len(made.vigil.schedules()) == MAX_SCHEDULES

    asyncio.run(main())


def test_a_clock_that_was_wrong_is_followed_once_it_is_right(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            await made.vigil.add(DAILY, Asker(), "owner")
            await made.at(BEGIN + 4000 * DAY)
            assert len(made.runs.newest()) == 1
            await made.at(BEGIN + DAY)
            assert len(made.runs.newest()) == 1
            assert (await made.at(BEGIN + DAY + 7 * HOUR))["ran_at"] == BEGIN + DAY + 7 * HOUR
            assert len(made.runs.newest()) == 2

    asyncio.run(main())


def test_while_inside_the_clock_is_looked_at_whatever_the_nodes_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with watch(tmp_path) as made:
            made.unready += [StorageError("the disk is full"), ZeroDivisionError()]
            await made.vigil.add(DAILY, Asker(), "owner")
            made.now[0] = BEGIN + DAY
            async with made.vigil:
                await until(lambda: made.vigil.schedules()[0]["state"] == "finished")

    asyncio.run(main())
