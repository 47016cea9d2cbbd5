"""What the screen and mycoswarm-setup.txt say."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pi import load

welcome = load("welcome")


def test_a_new_appliance_shows_where_and_how_to_get_in() -> None:
    told = welcome.text(name="pilz", addresses=["192.168.7.9"], code="ABCD-EFGH-JKLM", role="coordinator", notes=[])
    assert "http://pilz.local:6926/" in told and "http://192.168.7.9:6926/" in told and "ABCD-EFGH-JKLM" in told


def test_one_that_is_set_up_shows_no_code() -> None:
    told = welcome.text(name="pilz", addresses=["192.168.7.9"], code=None, role="coordinator", notes=["line 2: no"])
    assert "Setup code" not in told and "! line 2: no" in told


def test_what_keeps_it_from_being_set_up_is_shown() -> None:
    told = welcome.text(
        name="pilz", addresses=["192.168.7.9"], code=None, role="unclaimed", notes=["the token is over"]
    )
    assert "keeps it from its work" in told and "! the token is over" in told and "Sign in" not in told


def test_without_a_network_it_says_what_to_do() -> None:
    assert "plug in a cable" in welcome.text(name="pilz", addresses=[], code=None, role="worker", notes=[])


def test_addresses_that_others_reach_are_shown() -> None:
    listed = json.dumps(
        [
            {"addr_info": [{"family": "inet", "local": "127.0.0.1", "scope": "host"}]},
            {
                "addr_info": [
                    {"family": "inet6", "local": "fd00::9", "scope": "global"},
                    {"family": "inet6", "local": "fd00::a", "scope": "global", "temporary": True},
                    {"family": "inet6", "local": "fe80::9", "scope": "link"},
                    {"family": "inet", "local": "192.168.7.9", "scope": "global"},
                ]
            },
        ]
    )
    assert welcome.own_addresses(listed) == ["192.168.7.9", "[fd00::9]"]


@given(st.text(max_size=60))
def test_nothing_that_is_shown_steers_the_terminal(note: str) -> None:
    told = welcome.shown(welcome.text(name="pilz", addresses=[], code=None, role="worker", notes=[note]))
    assert told.startswith("\x1b[2J\x1b[H") and "\x1b" not in told[7:]
