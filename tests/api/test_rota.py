"""The owner's routes for schedules, and the commands for them, over a real socket and a real database."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from canned import Model, says
from employers import employer
from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.cli.call import Call
from rings import until

SCOUT = 'model = "m"\nlabels = ["private"]\n'
BODY = {"cron": "0 7 * * *", "agent": "helper", "task": "x"}
DAY = 86_400.0


def test_schedules_are_made_shown_run_and_removed_by_commands(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says("Good morning.")])) as made:
            none = await made.command("agent", "schedules")
            assert none.exit_code == 0 and "no schedules" in none.output
            await made.ask("PUT", "/api/agents/scout", {"toml": SCOUT})
            words = (
                "agent",
                "schedule",
                "0 7 * * *",
                "scout",
                "sum",
                "up",
                "--zone",
                "Europe/Berlin",
                "--label",
                "notes",
            )
            done = await made.command(*words)
            assert done.exit_code == 0 and "s0 runs next at 1970-01-01" in done.output, done.output
            made.clock.now = DAY
            await made.vigil.look()
            await until(lambda: made.vigil.schedules()[0]["state"] == "finished")
            listed = await made.command("agent", "schedules")
            assert all(word in listed.output for word in ("s0", "Europe/Berlin", "scout", "finished", "sum up"))
            (shown,) = json.loads((await made.command("agent", "schedules", "--json")).output)
            assert (shown["run"], shown["labels"], shown["is_paused"]) == ("r0", ["notes"], False)
            runs = await made.command("agent", "runs")
            assert "schedule" in runs.output and "s0" in runs.output
            run = await made.ask("GET", "/api/runs/r0")
            assert run["labels"] == ["notes", "private"] and run["answer"] == "Good morning."
            paused = await made.command("agent", "schedule-pause", "s0")
            assert paused.exit_code == 0 and "schedule-resume s0" in paused.output
            listed = await made.command("agent", "schedules")
            assert "paused by" in listed.output and "hand" in listed.output
            resumed = await made.command("agent", "schedule-resume", "s0")
            assert resumed.exit_code == 0 and "s0 runs next at" in resumed.output
            assert (await made.ask("GET", "/api/schedules"))["schedules"][0]["paused"] is None
            assert (await made.command("agent", "unschedule", "s0")).exit_code == 0
            assert (await made.command("agent", "unschedule", "s0")).exit_code == 1
            assert (await made.ask("GET", "/api/schedules")) == {"schedules": []}
            assert (await made.ask("GET", "/api/runs"))["runs"] != []

    asyncio.run(main())


def test_a_failure_is_shown_with_its_code_and_a_pause_in_the_place_of_the_next_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([[InputError("no such model", code="model_not_found")]])) as made:
            await made.ask("POST", "/api/schedules", BODY)
            for day in (1, 2, 3):
                made.clock.now = day * DAY
                await made.vigil.look()
                await until(lambda: not made.vigil._going)
            listed = await made.command("agent", "schedules")
            assert "s0: model_not_found: no such model" in listed.output and "paused" in listed.output

    asyncio.run(main())


def test_a_time_that_was_left_out_is_shown_with_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says("x")])) as made:
            await made.ask("POST", "/api/schedules", {**BODY, "cron": "0 0 1 6 *"})
            made.clock.now = 300 * DAY
            await made.vigil.look()
            listed = await made.command("agent", "schedules")
            assert "s0: 1970-0" in listed.output and "missed by more than a day" in listed.output

    asyncio.run(main())


def test_labels_beside_the_request_are_part_of_the_schedule(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says("x")])):

            def post(headers: dict[str, str]) -> Any:
                lines = Call(tmp_path).stream("POST", "/api/schedules", BODY, headers)
                return json.loads(b"".join(lines))

            told = await asyncio.to_thread(post, {"X-Mycoswarm-Labels": "diary"})
            assert told["labels"] == ["diary"]
            with pytest.raises(InputError):
                await asyncio.to_thread(post, {"X-Mycoswarm-Route": "within=LAN"})

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/schedules", {}),
        ("POST", "/api/schedules", {**BODY, "cron": "every day"}),
        ("POST", "/api/schedules", {**BODY, "cron": 7}),
        ("POST", "/api/schedules", {**BODY, "task": ["x"]}),
        ("POST", "/api/schedules", {**BODY, "task": " "}),
        ("POST", "/api/schedules", {**BODY, "zone": "../../etc"}),
        ("POST", "/api/schedules", {**BODY, "labels": "private"}),
        ("POST", "/api/schedules", {**BODY, "label": ["private"]}),
        ("POST", "/api/schedules", {**BODY, "agent": "nobody"}),
        ("DELETE", "/api/schedules/s9", None),
        ("POST", "/api/schedules/s9/resume", {}),
        ("POST", "/api/schedules/s9/pause", {}),
    ],
)
def test_what_cannot_be_is_a_typed_error_and_keeps_nothing(tmp_path: Path, method: str, path: str, body: Any) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says("x")])) as made:
            with pytest.raises(SwarmError) as caught:
                await made.ask(method, path, body)
            assert isinstance(caught.value, InputError | NotFoundError) and caught.value.code != "internal_error"
            assert made.vigil.schedules() == []

    asyncio.run(main())
