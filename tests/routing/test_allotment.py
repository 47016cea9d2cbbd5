"""Where tools may run: the rules decide, labels narrow, harm asks, and the same question has the same answer."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.allotment import ASK_S, Bearing, ToolDecision, decide_tool
from mycoswarm.routing.clause import Labels, When
from mycoswarm.routing.decision import Refusal
from mycoswarm.routing.reach import reach_of
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, NodeState, SwarmState, WarmRing
from mycoswarm.swarm.place import Place
from routing.worlds import Maker


def node(name: str, place: Place = "LAN", **more: Any) -> NodeState:
    return NodeState(f"id-{name}", name, place, None, None, None, **more)


PI, TOWER, ATTIC = node("pi", "this-machine"), node("tower", uses_gpu=True), node("attic")
SWARM = SwarmState("id-pi", (PI, TOWER, ATTIC))
LAB = Rule(name="lab", when=When(task="tool:run_*"), then=Run(nodes=("attic",)), id=7)


def ask(tool: str, *rules: Rule, swarm: SwarmState = SWARM, bearing: Bearing | None = None, **more: Any) -> Any:
    asked = Asked("", None, f"tool:{tool}", 2, **more)
    return decide_tool(asked, RuleSet.of(rules or (DEFAULT_RULE,), 3), swarm, bearing, explain=True)


def name_of(found: ToolDecision | Refusal) -> str:
    assert isinstance(found, ToolDecision), found
    return found.node.name


def why(found: ToolDecision | Refusal) -> tuple[str, str]:
    assert isinstance(found, Refusal), found
    return found.code, found.message


def test_it_runs_where_the_rule_says_and_the_decision_says_by_which() -> None:
    found = ask("run_python", LAB, DEFAULT_RULE)
    assert name_of(found) == "attic" and found.ground.rule_id == 7 and found.ground.version == 3
    reasons = {verdict.name: verdict.reason for verdict in found.explanation.verdicts}
    assert reasons == {"pi": "the rule names other nodes", "tower": "the rule names other nodes", "attic": "chosen"}


def test_the_order_is_preference_then_no_gpu_then_no_ring_then_idle_then_near() -> None:
    assert name_of(ask("clock")) == "pi"
    assert name_of(ask("clock", Rule(name="r", then=Run(prefer=("tower",))))) == "tower"
    warm = replace(SWARM, warm=(WarmRing("d", (("id-pi", 0, 1),)),))
    assert name_of(ask("clock", swarm=warm)) == "attic"
    assert name_of(ask("clock", bearing=Bearing(busy={"id-pi": 1}))) == "attic"
    assert name_of(ask("clock", bearing=Bearing(busy={"id-pi": 1, "id-attic": 1}))) == "pi"
    away = replace(SWARM, nodes=(replace(PI, trouble="it is away"), TOWER, ATTIC))
    assert name_of(ask("clock", swarm=away)) == "attic"
    assert name_of(ask("clock", swarm=away, narrowing=Narrowing(without=frozenset({"id-attic"})))) == "tower"


@pytest.mark.parametrize("tool", ["run_shell", "run_python", "a_tool_of_tomorrow"])
def test_what_can_do_harm_asks_unless_the_rule_names_tools(tool: str) -> None:
    assert ask(tool).ground.ask_s == ASK_S
    assert ask(tool, Rule(name="all tasks", when=When(task="*"))).ground.ask_s == ASK_S
    assert ask(tool, Rule(name="tools", when=When(task="tool:*"))).ground.ask_s is None
    assert (
        ask(tool, Rule(name="it", when=When(task=f"tool:{tool}"), then=Ask(then=Run(), within_s=9))).ground.ask_s == 9
    )
    assert ask("read_file").ground.ask_s is None
    rules = RuleSet.of((DEFAULT_RULE,))
    assert reach_of(Asked("", None, f"tool:{tool}", 1), rules, SWARM).outlet == "ask"
    assert reach_of(Asked("", None, "tool:clock", 1), rules, SWARM).outlet == "run"


@pytest.mark.parametrize("tool", ["fetch_page", "search_web", "weather__forecast"])
def test_what_reaches_the_network_or_is_of_a_server_runs_unasked_only_where_it_is_meant(tool: str) -> None:
    for pattern in ("tool:*", "tool:?*", "tool:[a-z]*"):
        assert ask(tool, Rule(name="all", when=When(task=pattern))).ground.ask_s == ASK_S, pattern
    for pattern in (f"tool:{tool}", f"tool:{tool[:3]}*"):
        assert ask(tool, Rule(name="meant", when=When(task=pattern))).ground.ask_s is None, pattern
    wide = Rule(name="w", when=When(task="tool:*"))
    private = Rule(name="p", when=When(task=f"tool:{tool}", labels=Labels(any=("lab",))))
    assert ask(tool, private, wide, added=frozenset({"lab"})).ground.ask_s == ASK_S


def test_a_label_that_a_request_adds_opens_nothing_and_spares_no_question() -> None:
    free = Rule(name="free", when=When(task="tool:*", labels=Labels(any=("lab",))), then=Run(nodes=("tower",)))
    tight = Rule(name="tight", then=Run(nodes=("attic", "tower")))
    assert ask("run_shell", free, tight, labels=frozenset({"lab"})).ground.ask_s is None
    added = ask("run_shell", free, tight, added=frozenset({"lab"}))
    assert name_of(added) == "tower" and added.ground.ask_s == ASK_S and added.explanation.limit == "tight"
    elsewhere = Rule(name="tight", then=Run(nodes=("pi",)))
    assert why(ask("run_shell", free, elsewhere, added=frozenset({"lab"})))[0] == "refused_by_rules"
    private = Rule(name="private", when=When(labels=Labels(any=("private",))), then=Run(places=("this-machine",)))
    assert name_of(ask("clock", private, DEFAULT_RULE, added=frozenset({"private"}))) == "pi"
    assert why(ask("clock", private, tight, added=frozenset({"private"})))[0] == "refused_by_rules"
    none = Rule(name="no", when=When(labels=Labels(any=("private",))), then=Deny(message="not with this"))
    assert why(ask("clock", none, DEFAULT_RULE, added=frozenset({"private"}))) == ("denied_by_rule", "not with this")


def test_refusals_are_typed() -> None:
    assert why(ask("clock", Rule(name="chats", when=When(task="chat"))))[0] == "refused_by_rules"
    assert why(ask("clock", Rule(name="no", then=Deny(message="no tools"))))[0] == "denied_by_rule"
    assert "endpoint" in why(ask("clock", Rule(name="out", then=External(name="cloud"))))[1]
    assert why(ask("clock", Rule(name="gone", then=Run(nodes=("cellar",)))))[0] == "not_found"
    assert why(ask("clock", narrowing=Narrowing(nodes=("cellar",))))[0] == "refused_by_rules"
    pinned = why(ask("read_file", Rule(name="r", then=Run(nodes=("attic",))), bearing=Bearing(pinned="id-pi")))
    assert pinned[0] == "workspace_elsewhere" and "pi" in pinned[1]
    assert why(ask("read_file", bearing=Bearing(pinned="id-gone")))[0] == "workspace_elsewhere"
    assert name_of(ask("read_file", bearing=Bearing(pinned="id-tower"))) == "tower"


def test_a_fallback_is_taken_where_the_first_action_cannot_be() -> None:
    rule = Rule(name="r", then=External(name="cloud"), fallback=(Run(nodes=("gone",)), Run(nodes=("tower",))))
    found = ask("clock", rule)
    assert name_of(found) == "tower" and found.ground.action == 2 and len(found.explanation.tried) == 2


def test_only_a_rule_that_says_so_lets_a_tool_run_without_a_sandbox() -> None:
    open_rule = Rule(name="o", when=When(task="tool:*", labels=Labels(any=("x",))), then=Run(sandbox="optional"))
    assert not ask("run_shell").unconfined and ask("run_shell", open_rule, labels=frozenset({"x"})).unconfined
    assert not ask("run_shell", open_rule, DEFAULT_RULE, added=frozenset({"x"})).unconfined


@given(st.integers(0, 100_000))
def test_every_decision_is_one_that_the_rules_and_their_limit_allow(seed: int) -> None:
    world = Maker(Random(seed)).world()
    asked = replace(world.asked, task=Random(seed).choice(("tool:run_shell", "tool:clock")))
    rules = RuleSet.of(world.rules)
    found = decide_tool(asked, rules, world.swarm)
    assert found == decide_tool(asked, rules, world.swarm)
    reach = reach_of(asked, rules, world.swarm)
    if isinstance(found, ToolDecision):
        assert found.node.trouble is None and found.node.node_id not in asked.narrowing.without
        assert any(found.node.node_id in spot.names for spot in reach.spots)
        assert reach.rule == found.rule and reach.limit == found.explanation.limit
