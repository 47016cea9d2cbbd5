"""Rules from hostile JSON and TOML, and rules in order."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.routing.action import Deny, External, Run
from mycoswarm.routing.clause import Labels, When, view_of
from mycoswarm.routing.decision import decide
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet, plain, read_rule, rule_fault
from mycoswarm.routing.shadow import shadows
from mycoswarm.routing.snapshot import Asked
from routing.worlds import Maker

words = st.sampled_from(["", "run", "deny", "mon", "22:00", "LAN", "private", "\ud800", "\0", "*", "UTC", "a\x1b[0m"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every place in plain values, as a container and a key."""
    keys = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [place for key in list(keys) for place in ((data, key), *places(data[key]))]


def accepted(data: Any) -> Rule | None:
    """What is read, or None where it is refused as it should be."""
    try:
        return read_rule(data)
    except InputError as exc:
        assert exc.code == "bad_rule" and exc.hint and len(exc.message) < 800
        return None


def assert_usable(rule: Rule) -> None:
    """A rule that was read is kept, sent and decided by without an error, and stays what it is."""
    assert rule_fault(rule) is None
    assert read_rule(plain(rule)) == rule
    assert read_rule(json.loads(json.dumps(plain(rule)))) == rule
    assert json.dumps(plain(rule), ensure_ascii=False).encode().decode()
    world, rules = Maker(Random(7)).world(), RuleSet.of((rule, DEFAULT_RULE))
    assert decide(world.asked, world.load, rules, world.swarm, explain=True)
    shadows(rules.rules)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(junk, min_size=1, max_size=2), st.integers(0, 10**6))
def test_a_rule_that_was_tampered_with_is_refused_or_sound(draw: Random, wrong: list[Any], where: int) -> None:
    data = plain(Maker(draw).rule())
    data = json.loads(json.dumps(data))
    for value in wrong:
        found = places(data)
        container, key = found[where % len(found)]
        if where % 5 == 4 and isinstance(container, dict):
            container[draw.choice(["when", "then", "x", "do", "id", "note", "fallback"])] = value
        else:
            container[key] = value
    if (rule := accepted(data)) is not None:
        assert_usable(rule)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(junk)
def test_junk_is_no_rule(data: Any) -> None:
    accepted(data)


def test_every_rule_that_is_sound_survives_being_written_and_read() -> None:
    maker = Maker(Random(3))
    for index in range(200):
        assert_usable(maker.rule(index))


DEEP: Callable[[], Any] = lambda: json.loads("[" * 900 + "]" * 900)  # noqa: E731  # made anew for each case


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"name": ""},
        {"name": " x"},
        {"name": "x\n"},
        {"name": "x" * 101},
        {"name": "x", "\ud800": 1},
        {"name": "x", "then": {"do": "\ud800"}},
        {"name": "x", "then": {"do": "runs"}},
        {"name": "x", "then": {}},
        {"name": "x", "then": {"do": "external"}},
        {"name": "x", "then": {"do": "ask", "then": {"do": "ask", "then": {"do": "run"}}}},
        {"name": "x", "then": {"do": "ask", "then": {"do": "deny"}}},
        {"name": "x", "then": {"do": "run", "places": ["moon"]}},
        {"name": "x", "then": {"do": "run", "places": []}},
        {"name": "x", "then": {"do": "run", "split": "always"}},
        {"name": "x", "then": {"do": "deny"}, "fallback": [{"do": "run"}]},
        {"name": "x", "fallback": [{"do": "deny"}]},
        {"name": "x", "fallback": [{"do": "run"}] * 9},
        {"name": "x", "when": {"model": 1}},
        {"name": "x", "when": {"model": None, "modle": "x"}},
        {"name": "x", "when": {"labels": {"any": "private"}}},
        {"name": "x", "when": {"characters": {"from": True}}},
        {"name": "x", "when": {"characters": {"to": 10**30}}},
        {"name": "x", "enabled": 1},
        {"name": "x", "id": -1},
        {"name": "x", "id": 1 << 63},
        {"name": "x", "note": "\x1b[2J"},
        {"name": "x", "note": "x" * 2001},
        {"name": "x", "when": DEEP()},
        {"name": "x", "when": {"keys": DEEP()}},
    ],
)
def test_what_is_no_rule_is_a_typed_error(data: Any) -> None:
    assert accepted(data) is None


@pytest.mark.parametrize(
    "data",
    [
        {"when": {"keys": []}},
        {"when": {"users": []}},
        {"when": {"client": []}},
        {"when": {"labels": {"any": []}}},
        {"when": {"hours": {"days": []}}},
        {"then": {"do": "run", "nodes": []}},
        {"then": {"do": "run", "tags": []}},
        {"then": {"do": "ask", "then": {"do": "run", "facts": []}}},
        {"fallback": [{"do": "run", "nodes": []}]},
    ],
)
def test_a_list_whose_last_entry_was_taken_out_does_not_come_to_mean_all(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="an empty list says nothing"):
        read_rule({"name": "x", **data})


def test_that_there_are_no_fallbacks_may_be_said() -> None:
    assert read_rule({"name": "x", "fallback": []}) == Rule(name="x")


def test_the_first_rule_that_matches_decides_and_one_that_is_off_is_not_there() -> None:
    one, two = Rule(name="one", when=When(model="spore")), Rule(name="two")
    view = view_of(Asked("spore", "d", "chat", 1), frozenset())
    assert RuleSet.of((one, two)).first(view) is one and RuleSet.of((two, one)).first(view) is two
    off = Rule(name="one", when=When(model="spore"), enabled=False)
    assert RuleSet.of((off, two)).first(view) is two and RuleSet.of((off,)).first(view) is None
    assert RuleSet.of((off, two)).passed(view) == (("one", "it is switched off"),)


def test_the_endpoints_that_rules_name_are_those_of_rules_that_are_on() -> None:
    rules = RuleSet.of(
        (
            Rule(name="a", then=External(name="cloud")),
            Rule(name="b", then=Run(), fallback=(External(name="vllm"),)),
            Rule(name="c", then=External(name="off"), enabled=False),
            Rule(name="d", then=Deny()),
        )
    )
    assert rules.endpoints() == {"cloud", "vllm"}


def test_a_label_that_is_wanted_and_excluded_is_sound_and_never_matches() -> None:
    rule = Rule(name="x", when=When(labels=Labels(all=("a",), none=("a",))))
    assert rule_fault(rule) is None
    assert RuleSet.of((rule,)).first(view_of(Asked("m", None, "chat", 1), frozenset({"a"}))) is None
