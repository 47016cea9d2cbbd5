"""`agent` and `chat` on the terminal, over real routes: what is shown, asked, saved and kept."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canned import Model, Tools, call, plea, says
from cli.socketed import Canned, answering
from employers import employer
from mycoswarm.cli.diary import FILE_NAME, MAX_BYTES, Diary
from mycoswarm.cli.entry import main as program

SCOUT = 'model = "m"\ntools = ["*"]\n'


def test_a_run_shows_its_text_its_calls_with_node_and_time_and_its_tokens(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says(call("look", x="y")), says("It is there.")])) as made:
            await asyncio.to_thread(made.team.put, "scout", SCOUT)
            done = await made.command("agent", "run", "scout", "look", "there")
            assert done.exit_code == 0, done.output
            assert "It is there." in done.output and 'look(x="y") on attic, 0.50 s: {' in done.output
            assert "asked 2 times" in done.output and "6 tokens written" in done.output
            shown = await made.command("agent", "run-show", "r0")
            assert "It is there." in shown.output and "on attic" in shown.output and "look there" in shown.output
            listed = await made.command("agent", "runs")
            assert "r0" in listed.output and "finished" in listed.output
            as_json = await made.command("agent", "run", "--json", "scout", "look")
            assert [json.loads(line)["event"] for line in as_json.output.splitlines()][-1] == "end"

    asyncio.run(main())


def test_a_run_without_an_answer_ends_the_command_with_status_1_and_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says(call("look"))])) as made:
            await asyncio.to_thread(made.team.put, "scout", SCOUT)
            done = await made.command("agent", "run", "scout", "look")
            assert done.exit_code == 1 and "3 times" in done.output and "run-show" in done.output
            assert (await made.command("agent", "run", "nobody", "x")).exit_code == 1

    asyncio.run(main())


def test_files_are_added_shown_and_removed(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "scout.toml"
        file.write_text(SCOUT)
        async with employer(tmp_path, Model([says("x")])) as made:
            assert (await made.command("agent", "add", str(file))).exit_code == 0
            shown = await made.command("agent", "show", "scout")
            assert 'model = "m"' in shown.output and "look" in shown.output
            assert "scout" in (await made.command("agent", "list")).output
            assert (await made.command("agent", "remove", "scout")).exit_code == 0
            file.write_text("model =")
            wrong = await made.command("agent", "add", str(file))
            assert wrong.exit_code == 1 and "line 1" in wrong.output
            assert (await made.command("agent", "stop", "r9")).exit_code == 1

    asyncio.run(main())


@pytest.mark.parametrize(("typed", "allowed"), [("y\n", True), ("n\n", False)])
def test_an_approval_is_asked_where_the_run_is_shown(tmp_path: Path, typed: str, allowed: bool) -> None:
    async def main() -> None:
        async def look(arguments: dict[str, Any]) -> str:
            return await made.approvals.ask(plea("r0-look"), 10)

        async with employer(tmp_path, Model([says(call("look")), says("Well.")]), Tools({"look": look})) as made:
            await asyncio.to_thread(made.team.put, "scout", SCOUT)
            done = await made.command("agent", "run", "scout", "look", text=typed)
            assert "tool:look would go to attic; the rule ask me asks you." in done.output
            (result,) = [e for e in made.runs.find("r0")[1] if e["event"] == "result"]
            assert result["ok"] is allowed

    asyncio.run(main())


def test_a_chat_talks_to_an_agent_keeps_what_was_said_and_saves_it(tmp_path: Path) -> None:
    async def main() -> None:
        model = Model([says("Hi."), says(call("look")), says("It is there.")])
        saved = tmp_path / "talk.md"
        async with employer(tmp_path, model) as made:
            await asyncio.to_thread(made.team.put, "scout", SCOUT)
            typed = f"/agent nobody\n/agent scout\nHello\nLook there\n/save {saved}\n/save {saved}\n/nonsense\n/quit\n"
            done = await made.command("chat", text=typed)
            assert done.exit_code == 0, done.output
            assert "no agent nobody" in done.output and "look() on attic" in done.output
            assert "is there already" in done.output and "/agent NAME" in done.output
        told = [message["content"] for message in model.asked[1][0][1:]]
        assert told == ["Hello", "Hi.", "Look there"]
        assert saved.read_text() == (
            "**user**\n\nHello\n\n**assistant**\n\nHi.\n\n**user**\n\nLook there\n\n**assistant**\n\nIt is there.\n"
        )
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        diary = tmp_path / FILE_NAME
        assert stat.S_IMODE(diary.stat().st_mode) == 0o600
        turns = [json.loads(line) for line in diary.read_text().splitlines()]
        assert [(turn["agent"], turn["you"], turn["answer"]) for turn in turns] == [
            ("scout", "Hello", "Hi."),
            ("scout", "Look there", "It is there."),
        ]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_chat_can_keep_nothing(tmp_path: Path, how: str) -> None:
    event = 'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    words = ["--data", str(tmp_path), "chat", *(["--no-history"] if how == "flag" else [])]
    env = {"MYCOSWARM_CHAT_HISTORY": "no"} if how == "environment" else {}
    with answering(tmp_path, Canned(body=event.encode())):
        assert CliRunner().invoke(program, words, input="Hello\n/quit\n", env=env).exit_code == 0
    assert not (tmp_path / FILE_NAME).exists()


def test_a_diary_stays_small_private_and_whole_and_follows_no_link(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    for number in range(3):
        diary.add(model="m", agent=None, you=f"{number}", answer="x" * (MAX_BYTES // 4))
    assert diary.lines() == ["0", "1", "2"]
    diary.add(model="m", agent=None, you="3", answer="x" * (MAX_BYTES // 3))
    assert diary.lines() == ["3"] and (tmp_path / FILE_NAME).stat().st_size < MAX_BYTES
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    (tmp_path / FILE_NAME).write_text("no json\n")
    assert diary.lines() == []
