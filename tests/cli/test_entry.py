"""The one command: every name leads to a command, and the small ones work on any machine."""

import json
import platform
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mycoswarm.cli.entry import COMMANDS, main


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0 and "Usage:" in done.output


def test_the_list_shows_all_commands_but_the_internal_one() -> None:
    listed = main.list_commands(click.Context(main))  # type: ignore[attr-defined]
    assert set(listed) == set(COMMANDS) - {"stage"}


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
