"""Options as the plain values of a rule."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from mycoswarm.base.errors import InputError
from mycoswarm.cli.draft import changed, drafted, read_action, says_something
from mycoswarm.cli.wording import chain_words, when_words
from mycoswarm.routing.rule import plain, read_rule

RUN = {"name": "x", "then": {"do": "run"}}


def given(*words: str) -> dict[str, Any]:
    """What click makes of these options."""
    found: dict[str, Any] = {}

    @click.command()
    @drafted
    @click.option("--clear", multiple=True)
    def command(**options: Any) -> None:
        found.update(options)

    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    return found


WHEN: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--model", "qwen*"), {"model": "qwen*"}),
    (("--task", "tool:web*"), {"task": "tool:web*"}),
    (("--key", "desk,phone", "--key", "pc"), {"keys": ["desk", "phone", "pc"]}),
    (("--user", "ann"), {"users": ["ann"]}),
    (
        ("--label-any", "private,own", "--label-none", "public"),
        {"labels": {"any": ["private", "own"], "none": ["public"]}},
    ),
    (("--label-all", "a"), {"labels": {"all": ["a"]}}),
    (("--characters", "0-8000"), {"characters": {"from": 0, "to": 8000}}),
    (("--characters", "8000-"), {"characters": {"from": 8000}}),
    (("--hours", "22:00-06:00"), {"hours": {"from": "22:00", "to": "06:00"}}),
    (
        ("--hours", "08:00-24:00", "--days", "Mon, tue", "--zone", "Europe/Berlin"),
        {"hours": {"from": "08:00", "to": "24:00", "days": ["mon", "tue"], "zone": "Europe/Berlin"}},
    ),
    (("--client", "192.168.1.0/24", "--client", "fd00::/8"), {"client": ["192.168.1.0/24", "fd00::/8"]}),
)
THEN: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--node", "attic,cellar", "--split", "solo"), {"do": "run", "nodes": ["attic", "cellar"], "split": "solo"}),
    (("--fact", "vram_bytes >= 24GiB"), {"do": "run", "facts": ["vram_bytes >= 24GiB"]}),
    (("--tag", "quiet", "--split", "required"), {"do": "run", "tags": ["quiet"], "split": "split required"}),
    (("--place", "LAN", "--prefer", "attic"), {"do": "run", "places": ["LAN"], "prefer": ["attic"]}),
    (("--external", "rack"), {"do": "external", "name": "rack"}),
    (("--external", "rack", "--as", "big"), {"do": "external", "name": "rack", "model": "big"}),
    (("--deny", "not here"), {"do": "deny", "message": "not here"}),
    (("--ask",), {"do": "ask", "then": {"do": "run"}}),
    (
        ("--ask", "--external", "rack", "--within", "30"),
        {"do": "ask", "then": {"do": "external", "name": "rack"}, "within_s": 30.0},
    ),
)


@pytest.mark.parametrize(("words", "when"), WHEN)
def test_every_condition_is_said_by_an_option_and_taken_by_the_rules(
    words: tuple[str, ...], when: dict[str, Any]
) -> None:
    rule = changed(RUN, given(*words))
    assert rule["when"] == when and when_words(when) != "always"
    read_rule(rule)


@pytest.mark.parametrize(("words", "then"), THEN)
def test_every_action_is_said_by_an_option_and_taken_by_the_rules(words: tuple[str, ...], then: dict[str, Any]) -> None:
    rule = changed(RUN, given(*words))
    assert rule["then"] == then and chain_words(rule)
    read_rule(rule)


def test_what_is_not_said_stays_when_a_rule_is_edited() -> None:
    rule = plain(
        read_rule(changed(RUN, given("--model", "a*", "--label-any", "x", "--node", "attic", "--ask", "--within", "9")))
    )
    assert changed(rule, given()) == rule and not says_something(given())
    fresh = changed(rule, given("--label-none", "y", "--node", "cellar"))
    assert fresh["when"] == {"model": "a*", "labels": {"any": ("x",), "none": ["y"]}}
    assert fresh["then"] == {"do": "ask", "then": {"do": "run", "nodes": ["cellar"]}, "within_s": 9.0}
    assert changed(rule, given("--external", "rack"))["then"]["then"] == {"do": "external", "name": "rack"}
    assert changed(rule, given("--deny", "no"))["then"] == {"do": "deny", "message": "no"}
    assert changed(rule, given("--clear", "model", "--clear", "label"))["when"] == {}
    assert changed(rule, given("--note", ""))["note"] == "" and says_something(given("--note", ""))


@pytest.mark.parametrize(
    "text",
    [
        'do = "run"\nnodes = ["a"]',
        'do = "run", nodes = ["a"]',
        '{do = "run", nodes = ["a"]}',
        '{"do": "run", "nodes": ["a"]}',
    ],
)
def test_a_fallback_may_be_written_in_any_of_the_usual_ways(text: str) -> None:
    assert read_action(text) == {"do": "run", "nodes": ["a"]}
    assert changed(RUN, given("--fallback", text))["fallback"] == [{"do": "run", "nodes": ["a"]}]


@pytest.mark.parametrize(
    "words",
    [
        ("--characters", "many"),
        ("--characters", "5"),
        ("--characters", "-"),
        ("--characters", "9" * 30 + "-"),
        ("--hours", "22:00"),
        ("--fallback", "run"),
        ("--fallback", "5"),
        ("--fallback", "[" * 10_000),
        ("--within", "5"),
        ("--as", "big"),
        ("--deny", "no", "--ask"),
        ("--deny", "no", "--node", "attic"),
        ("--external", "rack", "--split", "solo"),
    ],
)
def test_options_that_cannot_be_are_named(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        changed(RUN, given(*words))
