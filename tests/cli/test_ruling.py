"""`rules`: the commands against the real routes, keeper and database."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from desks import Desk, desk
from household import run
from mycoswarm.routing.rule import DEFAULT_RULE

FIRST = DEFAULT_RULE.name
STAYS = ("rules", "test", "add", "stays", "--label", "private", "--expect", "run", "--only", "attic")


async def listed(d: Desk) -> list[dict[str, Any]]:
    """The rules as a script sees them."""
    rules: list[dict[str, Any]] = json.loads(await d.done("rules", "list", "--json"))["rules"]
    return rules


async def add_private(d: Desk) -> None:
    """The rule that private prompts stay on attic, and its test."""
    await d.done("rules", "add", "private", "--label-any", "private", "--node", "attic", "--position", "1")
    await d.done(*STAYS)


def test_rules_are_added_in_their_order_changed_and_taken_out(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await add_private(d)
            await d.done("rules", "add", "night", "--hours", "22:00-06:00", "--deny", "it is late", "--before", FIRST)
            assert [rule["name"] for rule in await listed(d)] == ["private", "night", FIRST]
            await d.done("rules", "edit", "night", "--rename", "quiet hours", "--zone", "Europe/Berlin")
            await d.done("rules", "move", "quiet hours", "--after", FIRST)
            told = await d.done("rules", "disable", "quiet hours")
            assert "quiet hours is off. The rules have version 7 now." in told
            rule = (await listed(d))[2]
            assert rule["when"] == {"hours": {"from": "22:00", "to": "06:00", "zone": "Europe/Berlin"}}
            assert rule["then"] == {"do": "deny", "message": "it is late"} and not rule["enabled"]
            await d.done("rules", "enable", "quiet hours")
            assert "never decides anything" in (await d.done("rules", "list"))
            await d.done("rules", "remove", "quiet hours")
            await d.done("rules", "undo")
            assert [rule["name"] for rule in await listed(d)] == ["private", FIRST, "quiet hours"]
            history = json.loads(await d.done("rules", "history", "--json", "--limit", "2"))
            assert [one["by"] for one in history] == ["owner", "owner"]

    run(work)


def test_what_is_exported_is_taken_back_unchanged(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await add_private(d)
            fallback = (
                "--fallback",
                'do = "ask", then = {do = "external", name = "rack"}',
                "--note",
                'a "note"\nof two lines',
            )
            await d.done("rules", "add", "big ones", "--model", "big-*", "--fact", "vram_bytes >= 24GiB", *fallback)
            await d.done("rules", "disable", "big ones")
            text, before = await d.done("rules", "export"), await listed(d)
            (tmp_path / "rules.toml").write_text(text)
            await d.done("rules", "import", str(tmp_path / "rules.toml"))
            assert await d.done("rules", "export") == text and await listed(d) == before
            assert d.keeper.rules().version == 5  # nothing was said that was not so before
            await d.done("rules", "remove", "big ones")
            await d.done("rules", "import", "-", text=text)
            assert await d.done("rules", "export") == text

    run(work)


def test_an_edit_that_breaks_a_test_is_refused_unless_the_test_goes_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await add_private(d)
            result = await d.command("rules", "edit", "private", "--node", "cellar")
            assert result.exit_code == 1 and "'stays'" in result.output and "cellar" in result.output
            assert d.keeper.rules().version == 3
            tests = tmp_path / "tests.toml"
            tests.write_text('[[test]]\nname = "stays"\nrequest = {model = "m"}\nexpect = {outcome = "run"}\n')
            await d.done("rules", "edit", "private", "--node", "cellar", "--tests", str(tests))
            await d.done("rules", "remove", "private", "--drop-test", "stays")
            assert json.loads(await d.done("rules", "test", "--json")) == {"passed": True, "tests": []}

    run(work)


def test_tests_are_run_added_and_removed(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            result = await d.command(*STAYS)
            assert result.exit_code == 1 and "cellar" in result.output
            await add_private(d)
            assert "1 test: 1 hold, 0 broken" in await d.done("rules", "test")
            assert (await d.command("rules", "test", "add", "x")).exit_code == 2
            await d.done("rules", "test", "remove", "stays")
            assert (await d.command("rules", "test", "remove", "stays")).exit_code == 1

    run(work)


def test_explaining_prints_the_rule_the_nodes_and_what_was_passed(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await add_private(d)
            said = await d.done("rules", "explain", "--label", "private")
            assert "It would run on attic" in said and "Rule: private." in said and "cellar: out" in said
            said = await d.done("rules", "explain", "--added-label", "private")
            assert f"Limit: '{FIRST}'" in said
            said = await d.done("rules", "explain")
            assert "private: there are no labels" in said
            told = json.loads(await d.done("rules", "explain", "--model", "none-such", "--json"))
            assert not told["allowed"] and told["code"] == "model_not_found"
            assert "It would be refused." in await d.done("rules", "explain", "--model", "none-such")

    run(work)


def test_a_rule_is_added_from_a_file_with_its_tests(tmp_path: Path) -> None:
    text = '[[rule]]\nname = "p"\nwhen = {labels = {any = ["private"]}}\nthen = {do = "run", nodes = ["attic"]}\n'
    text += '[[test]]\nname = "t"\nrequest = {model = "m", labels = ["private"]}\n'
    text += 'expect = {outcome = "run", only = ["attic"]}'

    async def work() -> None:
        async with desk(tmp_path) as d:
            await d.done("rules", "add", "--file", "-", "--position", "1", text=text)
            assert (await listed(d))[0]["name"] == "p" and "1 test: 1 hold" in await d.done("rules", "test")
            (tmp_path / "rule.toml").write_text('name = "other"\nthen = {do = "deny"}')
            await d.done("rules", "add", "mine", "--file", str(tmp_path / "rule.toml"))
            await d.done("rules", "edit", "mine", "--file", str(tmp_path / "rule.toml"))
            assert [rule["name"] for rule in await listed(d)] == ["p", FIRST, "other"]
            assert (await d.command("rules", "add", "--file", "-", text="")).exit_code == 1

    run(work)


def test_an_editor_shows_the_rule_and_its_tests_and_asks_again_after_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "edit.py"
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    edit = "import pathlib, sys\npath = pathlib.Path(sys.argv[1])\npath.write_text(path.read_text().replace(%r, %r))\n"

    async def work() -> None:
        async with desk(tmp_path) as d:
            await add_private(d)
            script.write_text("pass")
            assert "Nothing was changed." in await d.done("rules", "edit", "private")
            script.write_text(edit % ('"attic"', '"cellar"'))  # in the rule and in its test
            await d.done("rules", "edit", "private")
            assert (await listed(d))[0]["then"]["nodes"] == ["cellar"] and d.keeper.rules().version == 4
            script.write_text(edit % ('do = "run"', 'do = "fly"'))
            said = await d.done("rules", "edit", "private", text="n\n")
            assert "fly" in said and "Nothing was changed." in said and d.keeper.rules().version == 4

    run(work)


def test_a_version_that_moved_while_the_owner_was_editing_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "edit.py"
    script.write_text(
        "import pathlib, sys, time\n"
        "path, go = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[0]).with_name('go')\n"
        "while not go.exists(): time.sleep(0.01)\n"
        "path.write_text(path.read_text().replace('any adopted', 'each'))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")

    async def work() -> None:
        async with desk(tmp_path) as d:
            editing = asyncio.create_task(d.command("rules", "edit", FIRST, text="n\n"))
            while not d.calls:
                await asyncio.sleep(0.01)
            await d.ask("POST", "/api/rules", {"rule": {"name": "x", "then": {"do": "deny"}}})
            (tmp_path / "go").touch()
            assert "version 2" in (await editing).output
            assert [rule["name"] for rule in (await d.ask("GET", "/api/rules"))["rules"]] == [FIRST, "x"]

    run(work)


@pytest.mark.parametrize(
    "words",
    [
        ("add",),
        ("add", "x", "--file", "y", "--node", "z"),
        ("edit", FIRST, "--file", "y", "--node", "z"),
        ("move", FIRST),
        ("add", "x", "--split", "sometimes"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            assert (await d.command("rules", *words)).exit_code == 2 and d.keeper.rules().version == 1

    run(work)


def test_replay_shows_what_would_move(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            said = await d.done("rules", "replay", "--last", "7")
            assert "Of 2 requests 1 would move, 1 would not." in said and d.replayed == [(7, None, None)]
            assert "older ones" not in said
            text = '[[rule]]\nname = "x"\nthen = {do = "deny"}'
            await d.done("rules", "replay", "--file", "-", "--json", text=text)
            assert d.replayed[1] == (200, [{"name": "x", "then": {"do": "deny"}}], None)
            said = await d.done("rules", "replay", "--since", "7d", "--last", "2")
            assert "Of 2 requests since " in said and "older ones that were not looked at" in said
            await d.done("rules", "replay", "--since", "1.5h")
            assert d.replayed[2:] == [(2, None, 7 * 86400), (10_000, None, 5400)]
            assert (await d.command("rules", "replay", "--since", "last week")).exit_code != 0

    run(work)
