"""How past requests would have moved."""

from typing import Any

import pytest

from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.replay import Past, replayed
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import Asked, EndpointState, NodeState, SwarmState

SWARM = SwarmState(
    "id-pi",
    (NodeState("id-pi", "pi", "this-machine", 0, None, None), NodeState("id-tower", "tower", "LAN", 0, None, None)),
    endpoints=(EndpointState("cloud"),),
)
ASKED = Asked("m", "d", "chat", 1)
PI, TOWER, CLOUD = Run(nodes=("pi",)), Run(nodes=("tower",)), External(name="cloud")


def change(past: dict[str, Any], *chain: Any, rule: str = "rest") -> str:
    rules = RuleSet.of((Rule(name="rest", then=chain[0], fallback=chain[1:]),) if chain else ())
    return replayed(Past(asked=ASKED, **{"rule": rule, **past}), rules, SWARM).change


@pytest.mark.parametrize(
    ("past", "chain", "expected"),
    [
        ({"went": ("pi",)}, (PI,), "unmoved"),
        ({"went": ("id-pi",)}, (PI,), "unmoved"),
        ({"went": ("pi", "tower")}, (Run(),), "unmoved"),
        ({"went": ("pi", "tower")}, (PI,), "barred"),
        ({"went": ("pi",)}, (TOWER,), "barred"),
        ({"went": ("pi",)}, (Deny(),), "barred"),
        ({"went": ("pi",)}, (), "barred"),
        ({"went": ("cloud",)}, (PI,), "barred"),
        ({"went": ("pi",)}, (CLOUD, PI), "elsewhere"),
        ({"went": ("pi",), "action": 1}, (CLOUD, PI), "unmoved"),
        ({"went": ("pi",)}, (Ask(then=PI),), "asked"),
        ({"went": ("pi",), "was_asked": True}, (Ask(then=PI),), "unmoved"),
        ({"refused": "refused_by_rules"}, (PI,), "opened"),
        ({"refused": "denied_by_rule"}, (PI,), "opened"),
        ({"refused": "denied_by_rule"}, (Deny(),), "unmoved"),
        ({"refused": "refused_by_rules", "rule": None}, (), "unmoved"),
        ({"refused": "out_of_memory"}, (PI,), "unmoved"),
        ({"refused": "out_of_memory"}, (Deny(),), "barred"),
        ({"went": ("gone",)}, (Run(),), "barred"),
    ],
)
def test_a_past_request_is_told_by_what_changes(past: dict[str, Any], chain: tuple[Any, ...], expected: str) -> None:
    assert change(past, *chain) == expected


def test_another_rule_that_allows_the_same_is_told() -> None:
    assert change({"went": ("pi",)}, Run(), rule="old") == "rule"
    assert change({"refused": "denied_by_rule"}, Deny(), rule="old") == "rule"


def test_a_move_tells_all_that_may_be_reached_now() -> None:
    move = replayed(Past(asked=ASKED, rule="old", went=("pi",)), RuleSet.of((Rule(name="r", then=CLOUD),)), SWARM)
    assert (move.past.went, move.after, move.reach.rule) == (("pi",), ("cloud",), "r")
