"""Rule tests: read, kept, and judged by rules alone."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.clause import Hours, Labels, Span, When
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState, NodeState, SwarmState
from mycoswarm.routing.trial import plain_trial, read_trial, trial_fault

SWARM = SwarmState(
    "id-pi",
    (
        NodeState("id-pi", "pi", "this-machine", None, None, None, trouble="it does not answer"),
        NodeState("id-tower", "tower", "LAN", 0, None, None),
        NodeState("id-far", "far", "outside", 0, None, None),
    ),
    endpoints=(EndpointState("vllm", "LAN"), EndpointState("cloud", "outside")),
)
RULES = RuleSet.of(
    (
        Rule(name="private", when=When(labels=Labels(any=("private",))), then=Run(nodes=("tower",))),
        Rule(name="night", when=When(hours=Hours("22:00", "06:00")), then=Run(places=("LAN", "outside"))),
        Rule(name="long", when=When(characters=Span(8000)), then=External(name="vllm"), fallback=(Run(),)),
        Rule(name="kids", when=When(keys=("lena",)), then=Deny(message="ask me")),
        Rule(name="guests", when=When(client=("192.168.9.0/24",)), then=Run(nodes=("attic",))),
        Rule(name="cloud", when=When(labels=Labels(any=("public",))), then=Ask(then=External(name="cloud"))),
        Rule(name="rest", when=When(task="chat"), then=Run()),
    )
)


def fault(expect: dict[str, Any], **request: Any) -> str | None:
    trial = read_trial("t", {"model": "m", **request}, expect)
    assert read_trial(**json.loads(json.dumps(plain_trial(trial)))) == trial
    return trial_fault(trial, RULES, SWARM)


@pytest.mark.parametrize(
    ("request_", "expect"),
    [
        ({}, {"outcome": "run", "rule": "rest", "only": ["pi", "id-tower"], "never": ["outside", "cloud"]}),
        ({"labels": ["private"]}, {"outcome": "run", "only": ["tower"]}),
        ({"added": ["private"]}, {"outcome": "run", "rule": "private", "only": ["tower"]}),
        ({"at": "2024-01-01T23:00:00+00:00"}, {"outcome": "run", "rule": "night", "only": ["tower", "outside"]}),
        ({"at": "2024-01-01T23:00:00+02:00"}, {"outcome": "run", "rule": "rest"}),
        ({"characters": 8000}, {"outcome": "external", "endpoint": "vllm", "never": ["outside"]}),
        ({"characters": 8000, "task": "tool:clock"}, {"outcome": "run", "rule": "long"}),
        ({"key": "lena"}, {"outcome": "deny", "rule": "kids"}),
        ({"client": "192.168.9.4"}, {"outcome": "run", "only": ["attic"]}),
        ({"labels": ["public"]}, {"outcome": "ask", "endpoint": "cloud", "only": ["outside"]}),
        ({"labels": ["public"], "client": ""}, {"outcome": "ask", "rule": "cloud"}),
        ({"added": ["public"]}, {"outcome": "refuse", "rule": "cloud"}),
        ({"task": "agent"}, {"outcome": "refuse"}),
    ],
)
def test_what_is_expected_is_so_whoever_answers_now(request_: dict[str, Any], expect: dict[str, Any]) -> None:
    assert fault(expect, **request_) is None


@pytest.mark.parametrize(
    ("request_", "expect", "words"),
    [
        ({}, {"outcome": "deny"}, "the outcome is run, by the rule 'rest', not deny"),
        ({"task": "agent"}, {"outcome": "run"}, "the outcome is refuse, by no rule, not run"),
        ({}, {"outcome": "run", "rule": "cloud"}, "decided by the rule 'rest', not by the rule 'cloud'"),
        ({"characters": 9000}, {"outcome": "external", "endpoint": "cloud"}, "it goes to vllm, not to cloud"),
        ({}, {"outcome": "run", "endpoint": "cloud"}, "it goes to no endpoint, not to cloud"),
        ({}, {"outcome": "run", "only": ["pi"]}, "it could reach tower, by the rule 'rest'; allowed is only pi"),
        ({}, {"outcome": "run", "never": ["id-tower"]}, "it could reach tower"),
        ({"characters": 9000}, {"outcome": "external", "only": ["vllm"]}, "it could reach pi"),
        ({"labels": ["public"]}, {"outcome": "ask", "never": ["outside"]}, "it could reach cloud"),
        ({"at": "2024-01-01T23:00:00+00:00"}, {"outcome": "run", "never": ["outside"]}, "it could reach far"),
        ({"client": "192.168.9.4"}, {"outcome": "run", "never": ["attic"]}, "it could reach attic"),
    ],
)
def test_what_is_not_so_is_told(request_: dict[str, Any], expect: dict[str, Any], words: str) -> None:
    assert words in (fault(expect, **request_) or "")


@pytest.mark.parametrize(
    ("name", "request_", "expect"),
    [
        ("", {"model": "m"}, {"outcome": "run"}),
        (" t", {"model": "m"}, {"outcome": "run"}),
        ("t", {}, {"outcome": "run"}),
        ("t", {"model": ""}, {"outcome": "run"}),
        ("t", {"model": "m"}, {}),
        ("t", {"model": "m"}, {"outcome": "runs"}),
        ("t", {"model": "m"}, {"outcome": "run", "olny": ["pi"]}),
        ("t", {"model": "m", "kee": "x"}, {"outcome": "run"}),
        ("t", {"model": "m", "task": "chats"}, {"outcome": "run"}),
        ("t", {"model": "m", "task": "tool:"}, {"outcome": "run"}),
        ("t", {"model": "m", "labels": ["Private"]}, {"outcome": "run"}),
        ("t", {"model": "m", "characters": -1}, {"outcome": "run"}),
        ("t", {"model": "m", "client": "laptop"}, {"outcome": "run"}),
        ("t", {"model": "m", "at": "2024-01-01T12:00:00"}, {"outcome": "run"}),
        ("t", {"model": "m", "at": "noon"}, {"outcome": "run"}),
        ("t", {"model": "m", "at": "0001-01-01T00:00:00+14:00"}, {"outcome": "run"}),
        ("t", {"model": "m\ud800"}, {"outcome": "run"}),
        ("t", {"model": "m"}, {"outcome": "run", "never": ["x"] * 300}),
        ("t", {"model": "m", "\ud800": 1}, {"outcome": "run"}),
        ("t", None, {"outcome": "run"}),
    ],
)
def test_what_is_no_test_is_a_typed_error(name: str, request_: Any, expect: Any) -> None:
    with pytest.raises(InputError) as caught:
        read_trial(name, request_, expect)
    assert caught.value.code == "bad_test" and "docs/rules.md" in caught.value.hint


junk = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.lists(st.text(max_size=3), max_size=2)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["task", "key", "labels", "added", "characters", "client", "at", "x"]), junk),
    st.dictionaries(st.sampled_from(["rule", "endpoint", "only", "never"]), junk),
)
def test_a_test_from_anywhere_is_refused_or_judged(request_: dict[str, Any], expect: dict[str, Any]) -> None:
    try:
        fault({"outcome": "run", **expect}, **request_)
    except InputError as exc:
        assert exc.code == "bad_test"
