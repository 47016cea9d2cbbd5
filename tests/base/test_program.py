"""The words that start our own modules, in a checkout and packed."""

import subprocess
import sys
from pathlib import Path

import pytest

from mycoswarm.base.errors import InputError
from mycoswarm.base.program import ENTRY, FLAG, STARTABLE, asked_module, entry_words, module_words, settle

INNER = Path("/cache/mycoswarm/node/1.0/mycoswarm-node.bin")


def test_a_checkout_starts_python_without_the_current_folder() -> None:
    assert entry_words(None) == (sys.executable, "-P", "-m", ENTRY)
    assert module_words(STARTABLE[0], None) == (sys.executable, "-P", "-m", STARTABLE[0])


def test_the_packed_program_starts_its_inner_self() -> None:
    assert entry_words(INNER) == (str(INNER),)
    assert module_words(STARTABLE[0], INNER) == (str(INNER), FLAG, STARTABLE[0])


@pytest.mark.parametrize("name", STARTABLE)
def test_what_is_started_is_what_was_asked_for(name: str) -> None:
    assert asked_module(module_words(name, INNER)[1:]) == name


def test_a_command_line_asks_for_no_module() -> None:
    assert asked_module([]) is None
    assert asked_module(["run", FLAG, STARTABLE[0]]) is None


@pytest.mark.parametrize("words", [[FLAG], [FLAG, "json.tool"], [FLAG, "mycoswarm.cli.entry"]])
def test_no_other_module_is_started(words: list[str]) -> None:
    with pytest.raises(InputError):
        asked_module(words)


def test_nothing_of_the_outer_program_reaches_children() -> None:
    environment = {"NUITKA_ONEFILE_PARENT": "7", "NUITKA_ONEFILE_DIRECTORY": "/downloads", "PATH": "/bin"}
    search = ["/downloads", "", str(INNER.parent)]
    settle(environment, search, INNER)
    assert environment == {"PATH": "/bin"} and search == [str(INNER.parent)]


def test_a_checkout_keeps_its_environment_and_its_search_path() -> None:
    environment, search = {"NUITKA_ONEFILE_PARENT": "7"}, ["/src"]
    settle(environment, search, None)
    assert environment == {"NUITKA_ONEFILE_PARENT": "7"} and search == ["/src"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTABLE)
def test_each_can_be_started(name: str) -> None:
    """With nothing to do each ends by itself: it was found, and it is a program."""
    done = subprocess.run(
        [*module_words(name)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert "No module named" not in done.stderr
    own = name.split(".")[1] + "/" + name.split(".")[2]
    assert own in done.stderr or done.stdout or done.returncode == 0
