"""`endpoints` and `approvals`: the commands against the real routes and database."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from desks import SECRET, desk
from household import run
from mycoswarm.chat.consent import Approvals, Plea
from rings import until

URL = "http://192.168.1.9:8000/v1"
WAITS = {
    "id": "a1",
    "asked_at": 0.0,
    "key": "desk",
    "user": None,
    "model": "spore",
    "task": "chat",
    "characters": 12,
    "labels": ["private"],
    "destination": "the endpoint rack",
    "rule": "ask me",
}


def test_an_endpoints_key_is_taken_from_stdin_and_shown_nowhere(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            said = await d.done("endpoints", "add", "rack", URL, "--place", "LAN", "--key", "-", text=SECRET + "\n")
            assert d.endpoints.secret("rack") == SECRET and SECRET not in said
            assert "It serves: big-one." in said and "until a rule names it" in said
            said = await d.done("endpoints", "list")
            assert SECRET not in said and "unreachable" in said
            (one,) = json.loads(await d.done("endpoints", "list", "--json"))
            assert one["has_secret"] and SECRET not in json.dumps(one)
            await d.done("rules", "add", "big", "--external", "rack")
            assert "go nowhere now: big" in await d.done("endpoints", "remove", "rack")

    run(work)


def test_a_prompt_takes_the_key_and_a_command_line_does_not(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            said = await d.done("endpoints", "add", "one", URL, text=SECRET + "\n")
            assert d.endpoints.secret("one") == SECRET and SECRET not in said
            await d.done("endpoints", "add", "two", URL, text="\n")
            said = await d.done("endpoints", "add", "three", URL, "--no-key", "--no-check")
            assert "It was not tried" in said and "It serves" not in said
            assert d.endpoints.secret("two") is None and d.endpoints.secret("three") is None
            assert [asked[2:] for asked in d.probe.asked] == [(SECRET, "outside"), (None, "outside")]
            result = await d.command("endpoints", "add", "four", URL, "--key", SECRET)
            assert result.exit_code == 1 and SECRET not in result.output and "does not belong" in result.output
            assert (await d.command("endpoints", "add", "five", URL, "--key", "-", "--no-key")).exit_code == 2
            assert [one.name for one in d.endpoints.entries()] == ["one", "three", "two"]

    run(work)


def test_who_waits_is_listed_allowed_and_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            d.approvals.waits = [{**WAITS, "id": name, "expires_at": time.time() + 60} for name in ("a1", "a/2")]
            assert [one["id"] for one in json.loads(await d.done("approvals", "list", "--json"))] == ["a1", "a/2"]
            assert "desk" in await d.done("approvals", "list")
            await d.done("approvals", "allow", "a1")
            await d.done("approvals", "refuse", "a/2")
            assert d.approvals.answers == [("a1", True, "owner"), ("a/2", False, "owner")]
            assert (await d.command("approvals", "allow", "a1")).exit_code == 1

    run(work)


def test_who_really_waits_is_told_as_here_and_goes_on(tmp_path: Path) -> None:
    async def work() -> None:
        real = Approvals()
        plea = Plea(
            request_id="a1",
            key_name="desk",
            user=None,
            model="spore",
            task="chat",
            characters=12,
            labels=("private",),
            destination="the endpoint rack",
            rule="ask me",
        )
        async with desk(tmp_path, approvals=real) as d:
            asking = asyncio.create_task(real.ask(plea, 20.0))
            await until(real.waiting)
            (one,) = json.loads(await d.done("approvals", "list", "--json"))
            assert {**one, "asked_at": 0.0} == {**WAITS, "expires_at": one["expires_at"]}
            assert one["expires_at"] == pytest.approx(one["asked_at"] + 20.0)
            assert "desk" in await d.done("approvals", "list")
            await d.done("approvals", "allow", "a1")
            assert await asking == "owner"
            assert (await d.command("approvals", "allow", "a1")).exit_code == 1

    run(work)


def test_watching_asks_about_each_request_once_and_goes_on_when_one_is_gone(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            gone = {**WAITS, "id": "gone", "expires_at": time.time() + 60}
            d.approvals.waits = [{**gone, "id": name} for name in ("a1", "a1", "a2", "a3")]
            result = await d.command("approvals", "watch", text="y\nn\n")
            assert d.approvals.answers == [("a1", True, "owner"), ("a2", False, "owner")]
            assert result.exit_code == 1 and result.output.count("Allow it?") == 3  # there was no third answer
            assert "desk asks spore (chat, 12 characters, labels: private)" in result.output
            d.approvals.waiting = lambda: [gone, {**gone, "id": "next"}]  # type: ignore[method-assign]  # it ends while the owner thinks
            result = await d.command("approvals", "watch", text="y\n")
            assert "nothing waits under that id" in result.output

    run(work)
