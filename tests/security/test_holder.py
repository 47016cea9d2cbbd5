"""Who gives a model's pieces away decides what other nodes compute with, and hears of the request."""

from mycoswarm.routing.decision import Decision, Refusal, decide
from mycoswarm.routing.rule import DEFAULT_RULE, RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, NodeState, Place, SwarmState
from routing.test_decision import LOAD

ASKED = Asked("spore", "d", "chat", 10, Narrowing(nodes=("b", "c")))


def node(name: str, place: Place = "LAN", trouble: str | None = None) -> NodeState:
    return NodeState(name, name, place, 10_000, 1e6, 0.001, trouble=trouble)


def holder(*nodes: NodeState, held_by: str) -> str | Refusal:
    outcome = decide(ASKED, LOAD, RuleSet.of((DEFAULT_RULE,)), SwarmState("a", nodes, {"d": frozenset(held_by)}))
    return outcome.holder_id if isinstance(outcome, Decision) else outcome


def test_a_node_that_claims_to_hold_the_coordinators_own_model_is_not_asked_for_it() -> None:
    assert holder(node("a", "this-machine"), node("b"), node("c"), held_by="abc") == "a"
    assert holder(node("a", trouble="its disk is full"), node("b"), node("c"), held_by="abc") in ("b", "c")


def test_a_holder_outside_is_not_asked_where_the_rule_stays_inside() -> None:
    outcome = holder(node("a"), node("b"), node("c"), node("e", "outside"), held_by="e")
    assert isinstance(outcome, Refusal) and outcome.code == "not_found"
    assert holder(node("a"), node("b"), node("c"), node("e", "outside"), held_by="be") == "b"
