"""The one command: every name leads to a command, and the small ones work on any machine."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mycoswarm.base.program import FLAG, entry_words
from mycoswarm.catalog.shelf import BUILT_IN_PATH
from mycoswarm.cli.entry import COMMANDS, main


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0 and "Usage:" in done.output


def test_the_list_shows_all_commands() -> None:
    listed = main.list_commands(click.Context(main))  # type: ignore[attr-defined]
    assert set(listed) == set(COMMANDS)


@pytest.mark.slow
def test_the_program_starts_its_own_children_and_no_other_module(tmp_path: Path) -> None:
    """The words of the packed program, to this one."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [*entry_words(), FLAG, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    read = run("mycoswarm.catalog.inspection", str(BUILT_IN_PATH), "10")
    assert read.returncode == 0 and "spore" in read.stdout, read.stderr
    for words in (["json.tool"], ["mycoswarm.daemon.service"], []):
        refused = run(*words)
        assert refused.returncode == 1 and "not a module to start" in refused.stderr


def test_a_word_that_is_no_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2


def test_version_says_what_runs() -> None:
    told = json.loads(CliRunner().invoke(main, ["version", "--json"]).output)
    assert told["python"] == platform.python_version() and told["llama-cpp-python"]


def test_a_command_without_a_daemon_ends_with_the_documented_code(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["--data", str(tmp_path), "nodes"]).exit_code == 4


@pytest.mark.slow
def test_detect_says_the_same_to_people_and_scripts(tmp_path: Path) -> None:
    words = ["--data", str(tmp_path / "none"), "detect"]
    shown, told = CliRunner().invoke(main, words), CliRunner().invoke(main, [*words, "--json"])
    assert shown.exit_code == told.exit_code == 0, shown.output + told.output
    assert json.loads(told.output)["class"]["reason"]
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_program_is_under_the_guard_and_its_commands_are_handed_it() -> None:
    """The kernel itself sends nothing to a link-local address without a scope."""
    script = (
        "import click, socket, sys\n"
        "from mycoswarm.cli.entry import main\n"
        "from mycoswarm.cli.warden import kept\n"
        "from mycoswarm.base.errors import EgressError\n"
        "@click.command()\n"
        "@click.pass_obj\n"
        "def probe(folder):\n"
        "    for open_now in (False, True):\n"
        "        try:\n"
        "            if open_now:\n"
        "                with kept().permitted('the test', addresses=['fe80::1']):\n"
        "                    socket.create_connection(('fe80::1', 9), 1)\n"
        "            socket.create_connection(('fe80::1', 9), 1)\n"
        "        except OSError as exc:\n"
        "            print(type(exc).__name__)\n"
        "    print(len(kept().drain()), folder.name)\n"
        "main.add_command(probe)\n"
        "type(main).get_command = lambda self, ctx, name: probe\n"
        "sys.argv = ['mycoswarm-node', '--data', '/nowhere/here', 'probe']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["EgressError", "OSError", "1 here"]
