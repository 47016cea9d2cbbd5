"""Runs: streamed, stopped, kept in a real database, and interrupted by a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from canned import Model, Tools, call, plea, says
from mycoswarm.agents.crew import MAX_RUNNING, Assignment, Crew
from mycoswarm.agents.party import Parts
from mycoswarm.agents.persona import Profile
from mycoswarm.base.errors import BusyError, NotFoundError, RefusedError, StorageError
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker
from mycoswarm.store.database import Store
from mycoswarm.store.run import MAX_EVENTS, MAX_RUNS, RunRow, Runs
from rings import until

PROFILE = Profile(name="scout", model="m", tools=("*",), labels=frozenset({"private"}))


def assignment(task: str = "do it") -> Assignment:
    return Assignment(profile=PROFILE, task=task, asker=Asker(labels=frozenset({"household"})), asked_by="owner")


@asynccontextmanager
async def crew(
    model: Model, runs: Runs | None, tools: Tools | None = None, approvals: Approvals | None = None
) -> AsyncIterator[Crew]:
    """A crew; at its end no task may be left."""
    before = asyncio.all_tasks()

    async def profile(name: str) -> Profile:
        return PROFILE

    numbers = iter(range(100))
    made = Crew(
        Parts(toolbox=tools or Tools({"look": str}), speak=model.speak, profile=profile),
        approvals=approvals or Approvals(),
        history=runs,
        new_id=lambda: f"r{next(numbers)}",
        wall_clock=lambda: 1000.0,
    )
    async with asyncio.timeout(20):
        yield made
    await made.close()
    assert asyncio.all_tasks() <= before and made.running() == ()


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    store = Store(tmp_path / "node.db")
    yield Runs(store, 999.0)
    store.close()


async def heard(made: Crew, what: Assignment | None = None) -> list[dict[str, Any]]:
    return [event async for event in made.run(what or assignment())]


def test_a_run_is_told_from_its_id_to_its_end_and_kept(runs: Runs) -> None:
    async def main() -> None:
        async with crew(Model([says("Let me see. ", call("look", x=1)), says("Seen.")]), runs) as made:
            events = await heard(made)
        assert [event["event"] for event in events] == [
            *("run", "step", "text", "tokens", "call", "result", "step", "text", "tokens", "end")
        ]
        assert events[0]["id"] == "r0" and events[-1]["answer"] == "Seen."
        row, kept = runs.find("r0")
        assert (row.state, row.how, row.answer, row.steps) == ("finished", "answer", "Seen.", 2)
        assert row.labels == ("household", "private") and row.task == "do it" and row.ended_at == 1000.0
        assert [event["event"] for event in kept] == ["tokens", "result", "tokens"]
        assert kept[1]["tool"] == "look" and kept[1]["node"] == "attic" and kept[1]["at"] == 1000.0

    asyncio.run(main())


def test_a_run_that_fails_is_kept_with_how(runs: Runs) -> None:
    async def main() -> None:
        async with crew(Model([[RefusedError("no rule allows it")]]), runs) as made:
            (*_, end) = await heard(made)
        assert end["code"] == "refused_by_rules"
        row, _ = runs.find("r0")
        assert (row.state, row.how) == ("failed", "error") and "no rule allows it" in (row.message or "")

    asyncio.run(main())


def test_a_stopped_run_says_so_to_who_listens_and_to_the_history(runs: Runs) -> None:
    async def main() -> None:
        model = Model([says("never")])
        model.gate.clear()
        async with crew(model, runs) as made:
            listening = asyncio.create_task(heard(made))
            await until(lambda: model.asked)
            assert [row.id for row in made.running()] == ["r0"]
            await made.stop("r0")
            assert (await listening)[-1]["end"] == "cancelled"
            with pytest.raises(NotFoundError):
                await made.stop("r0")
        assert runs.find("r0")[0].state == "stopped" and model.ends == ["cancelled"]

    asyncio.run(main())


def test_who_hangs_up_stops_the_run(runs: Runs) -> None:
    async def main() -> None:
        model = Model([says("never")])
        model.gate.clear()
        async with crew(model, runs) as made:
            events = made.run(assignment())
            assert (await anext(events))["event"] == "run"
            await events.aclose()
            assert made.running() == ()
        assert runs.find("r0")[0].state == "stopped"

    asyncio.run(main())


def test_closing_stops_every_run(runs: Runs) -> None:
    async def main() -> None:
        model = Model([says("never")])
        model.gate.clear()
        async with crew(model, runs) as made:
            listening = [asyncio.create_task(heard(made)) for _ in range(3)]
            await until(lambda: len(model.asked) == 3)
            await made.close()
            assert {events[-1]["end"] for events in await asyncio.gather(*listening)} == {"cancelled"}
        assert {row.state for row in runs.newest()} == {"stopped"}

    asyncio.run(main())


def test_one_run_too_many_is_told_to_wait(runs: Runs) -> None:
    async def main() -> None:
        model = Model([says("never")])
        model.gate.clear()
        async with crew(model, None) as made:
            listening = [asyncio.create_task(heard(made)) for _ in range(MAX_RUNNING)]
            await until(lambda: len(model.asked) == MAX_RUNNING)
            with pytest.raises(BusyError):
                await heard(made)
            model.gate.set()
            await asyncio.gather(*listening)
            assert (await heard(made))[-1]["end"] == "answer"

    asyncio.run(main())


def test_without_history_nothing_is_kept(runs: Runs) -> None:
    async def main() -> None:
        async with crew(Model([says("Seen.")]), None) as made:
            assert (await heard(made))[-1]["end"] == "answer"
        assert runs.newest() == ()

    asyncio.run(main())


def test_a_history_that_cannot_be_written_stops_a_run_at_its_beginning_and_never_later() -> None:
    class Full:
        def __init__(self, begins: bool) -> None:
            self.begins = begins

        def begin(self, run: RunRow) -> None:
            if not self.begins:
                raise StorageError("the disk is full")

        def add(self, *given: Any) -> None:
            raise StorageError("the disk is full")

        end = add

    async def main() -> None:
        async with crew(Model([says(call("look")), says("Seen.")]), Full(True)) as made:  # type: ignore[arg-type]
            assert (await heard(made))[-1]["answer"] == "Seen."
        model = Model([says("Seen.")])
        async with crew(model, Full(False)) as made:  # type: ignore[arg-type]
            with pytest.raises(StorageError):
                await heard(made)

    asyncio.run(main())


def test_an_approval_that_is_awaited_is_told_and_its_answer_lets_the_run_go_on() -> None:
    approvals = Approvals()

    async def look(arguments: dict[str, Any]) -> str:
        return await approvals.ask(plea("r0-x"), 5)

    async def main() -> None:
        model = Model([says(call("look")), says("Seen.")])
        async with crew(model, None, Tools({"look": look}), approvals) as made:
            other = asyncio.create_task(approvals.ask(plea("r1-x"), 5))
            events = []
            async for event in made.run(assignment()):
                events.append(event)
                if event["event"] == "approval":
                    await approvals.answer(event["approval"], True, "owner")
            await approvals.answer("r1-x", True, "owner")
            await other
        (asked,) = [event for event in events if event["event"] == "approval"]
        assert (asked["approval"], asked["task"], asked["rule"]) == ("r0-x", "tool:look", "ask me")
        assert events[-1]["end"] == "answer"

    asyncio.run(main())


def row(number: int, state: str = "finished") -> RunRow:
    return RunRow(
        id=f"r{number}",
        agent="scout",
        task="t",
        model="m",
        asked_by="owner",
        labels=(),
        started_at=float(number),
        state=state,
    )


def test_what_ran_when_the_daemon_ended_is_interrupted(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    first = Runs(store, 1.0)
    first.begin(row(1, "running"))
    first.begin(row(2))
    store.close()
    store = Store(tmp_path / "node.db")
    found = {one.id: one for one in Runs(store, 5.0).newest()}
    assert (found["r1"].state, found["r1"].ended_at, found["r2"].state) == ("interrupted", 5.0, "finished")
    store.close()


@pytest.mark.slow
def test_the_history_is_bounded(runs: Runs) -> None:
    for number in range(MAX_RUNS + 20):
        runs.begin(row(number))
        runs.add(f"r{number}", 0, 1.0, {"event": "x"})
    runs.add(f"r{MAX_RUNS}", MAX_EVENTS, 1.0, {"event": "x"})
    assert len(runs.newest(10_000)) == MAX_RUNS and runs.newest(1)[0].id == f"r{MAX_RUNS + 19}"
    assert len(runs.find(f"r{MAX_RUNS}")[1]) == 1
    for gone in (0, 19):
        with pytest.raises(NotFoundError):
            runs.find(f"r{gone}")


def test_nobody_waits_for_a_workspace_that_a_lost_node_keeps_and_closing_ends_it(runs: Runs) -> None:
    class Slow(Tools):
        async def release(self, workspace_id: str, errand: Any) -> None:
            self.released.append(workspace_id)
            await asyncio.Event().wait()

    async def main() -> None:
        tools = Slow({"look": str})
        async with crew(Model([says("Seen.")]), runs, tools) as made:
            assert (await heard(made))[-1]["end"] == "answer"
            assert made.running() == () and tools.released == ["r0"]
            with pytest.raises(NotFoundError):
                await made.stop("r0")
        assert runs.find("r0")[0].state == "finished"

    asyncio.run(main())
