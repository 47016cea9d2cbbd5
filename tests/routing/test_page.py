"""What docs/rules.md shows is sound, its tests hold, and nothing that rules can say is missing there."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.clause import DAYS, LEVELS, TASKS, Hours, Labels, Span, When
from mycoswarm.routing.rule import Rule, RuleSet, plain, read_rule
from mycoswarm.routing.selector import FACTS
from mycoswarm.routing.shadow import shadows
from mycoswarm.routing.snapshot import EndpointState, NodeState, SwarmState
from mycoswarm.routing.trial import Example, Expect, read_trial, trial_fault
from mycoswarm.swarm.place import PLACES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SWARM = SwarmState(
    "id-pi",
    (
        NodeState("id-pi", "pi", "this-machine", None, None, None),
        NodeState("id-tower", "tower", "LAN", None, None, None, tags=frozenset({"gpu"})),
        NodeState("id-laptop", "laptop", "LAN", None, None, None),
    ),
    endpoints=(EndpointState("vllm", "LAN"), EndpointState("cloud", "outside")),
)


def rules_of(block: str) -> tuple[Rule, ...]:
    return tuple(read_rule(data) for data in tomllib.loads(block).get("rule", []))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_sound_and_its_tests_hold(block: str) -> None:
    data: dict[str, Any] = tomllib.loads(block)
    assert set(data) <= {"rule", "test"} and data.get("rule")
    rules = rules_of(block)
    assert not shadows(rules) and [read_rule(plain(rule)) for rule in rules] == list(rules)
    for test in data.get("test", []):
        assert trial_fault(read_trial(**test), RuleSet.of(rules), SWARM) is None, test["name"]


def test_every_recipe_has_tests_and_each_of_its_tests_can_fail() -> None:
    recipes = [block for block in BLOCKS if block in PAGE.partition("## Recipes")[2]]
    assert len(recipes) >= 5
    for block in recipes:
        tests = tomllib.loads(block)["test"]
        assert len(tests) >= 2
        for test in tests:
            assert trial_fault(read_trial(**test), RuleSet.of(()), SWARM) is not None or (
                test["expect"]["outcome"] == "refuse"
            )


def test_what_the_page_says_of_the_office_is_so() -> None:
    rules = rules_of(BLOCKS[-1])
    mended = [read_rule({**plain(rules[1]), "fallback": [{"do": "run", "nodes": ["tower"]}]})]
    request = {"model": "m", "characters": 50000, "client": "192.168.1.30", "added": ["private"]}
    trial = read_trial("t", request, {"outcome": "run", "only": ["tower"]})
    assert trial_fault(trial, RuleSet.of((rules[0], *mended, rules[2])), SWARM) is None


def words(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_every_condition_action_and_word_is_on_the_page() -> None:
    said = set(re.findall(r"`([^`\n]+)`", PAGE))
    tables = set().union(*map(words, (When, Labels, Span, Hours, Run, Ask, Deny, External, Example, Expect)))
    assert tables <= said | {"then"}, tables - said
    assert {*FACTS, *LEVELS, *DAYS, *PLACES} <= said
    assert {*TASKS, "tool:NAME", "run", "external", "ask", "deny", "refuse"} <= said
    assert {"solo", "split allowed", "split required"} <= {text.rstrip(":") for text in said}
    assert {"when", "then", "fallback"} <= said
