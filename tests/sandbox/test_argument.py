"""Arguments of a call: strict, and never out with anything but a typed error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.argument import read_arguments
from mycoswarm.sandbox.toolset import TOOLS

SHELL, CLOCK, WRITE = TOOLS["run_shell"].spec, TOOLS["clock"].spec, TOOLS["write_file"].spec


def test_what_fits_is_given_as_it_is() -> None:
    assert read_arguments(SHELL, '{"command": "ls", "seconds": 5}') == {"command": "ls", "seconds": 5}
    assert read_arguments(CLOCK, "") == read_arguments(CLOCK, " {} ") == {}
    assert read_arguments(WRITE, '{"path": "a", "text": ""}') == {"path": "a", "text": ""}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "object"),
        ("{", "no JSON"),
        ("{}", "'command' is missing"),
        ('{"command": 1}', "must be a text"),
        ('{"command": ""}', "1 to"),
        ('{"command": "a", "command": "b"}', "twice"),
        ('{"command": "a", "root": true}', "there is no argument 'root'"),
        ('{"command": "a", "seconds": "5"}', "whole number"),
        ('{"command": "a", "seconds": true}', "whole number"),
        ('{"command": "a", "seconds": 0}', "from 1 to 300"),
        ('{"command": "a", "seconds": 1e9}', "whole number"),
        ('{"command": "a", "seconds": NaN}', "no JSON"),
        ('{"command": "a\\u0000b"}', "no file can hold"),
        ('{"command": "\\ud800"}', "no file can hold"),
        ("[" * 100_000, "no JSON"),
        (json.dumps({"command": "a" * 20_001}), "20000 characters"),
        (" " * 300_000 + "{}", "longer than"),
    ],
)
def test_what_does_not_fit_says_in_what(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        read_arguments(SHELL, text)
    assert caught.value.code == "bad_arguments"


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_gives_arguments_or_a_typed_error(text: str) -> None:
    for tool in TOOLS.values():
        with contextlib.suppress(InputError):
            assert isinstance(read_arguments(tool.spec, text), dict)


def test_spores_four_tools_have_the_names_and_arguments_that_it_was_trained_on() -> None:
    trained = {"calculator": ["expression"], "clock": ["place"], "list_nodes": [], "read_file": ["path"]}
    assert {name: list(TOOLS[name].spec.parameters["properties"]) for name in trained} == trained
    assert TOOLS["clock"].spec.parameters["required"] == []
