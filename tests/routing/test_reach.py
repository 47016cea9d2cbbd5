"""What rules let a request reach, and that labels which it adds only narrow."""

from typing import Any

import pytest

from mycoswarm.routing.action import Action, Ask, Deny, External, Run
from mycoswarm.routing.clause import Labels, When
from mycoswarm.routing.decision import Decision, Dispatch, Outcome, Refusal, decide
from mycoswarm.routing.placement import Load
from mycoswarm.routing.reach import Reach, reach_of
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import Asked, EndpointState, Narrowing, NodeState, SwarmState

LOAD = Load((100,) * 4, (0,) * 4, 0, 0, 0, (1, 2, 3))
CLOUD, VLLM = External(name="cloud"), External(name="vllm", model="big")
A, B = Run(nodes=("a",)), Run(nodes=("b",))


def node(name: str, free: int = 10_000) -> NodeState:
    return NodeState(f"id-{name}", name, "LAN", free, 1e6, 0.001)


SWARM = SwarmState(
    "id-a",
    (node("a"), node("b")),
    {"d": frozenset({"id-a", "id-b"})},
    endpoints=(EndpointState("cloud", "outside"), EndpointState("vllm", "LAN")),
)


def asked(added: str = "", labels: str = "", **more: Any) -> Asked:
    return Asked("m", "d", "chat", 1, labels=frozenset(labels.split()), added=frozenset(added.split()), **more)


def work(*chain: Any) -> Rule:
    """A rule for requests with the label `work`."""
    return Rule(name="work", when=When(labels=Labels(any=("work",))), then=chain[0], fallback=chain[1:])


def rest(*chain: Any) -> Rule:
    return Rule(name="rest", then=chain[0], fallback=chain[1:])


def outcome(request: Asked, *rules: Rule, swarm: SwarmState = SWARM) -> Outcome:
    return decide(request, LOAD, RuleSet.of(rules), swarm)


def where(found: Outcome) -> str:
    if isinstance(found, Decision):
        return " ".join(share.node.name for share in found.placed.shares)
    return found.endpoint.name if isinstance(found, Dispatch) else found.code


def test_the_owners_own_labels_may_widen() -> None:
    assert where(outcome(asked(labels="work"), work(CLOUD), rest(A))) == "cloud"


@pytest.mark.parametrize(
    ("rule", "limit", "place"),
    [
        (CLOUD, A, "refused_by_rules"),
        (B, A, "refused_by_rules"),
        (Run(), A, "a"),
        (A, Run(), "a"),
        (CLOUD, VLLM, "refused_by_rules"),
        (CLOUD, External(name="cloud", model="x"), "cloud"),
        (Deny(), A, "denied_by_rule"),
        (A, Deny(), "denied_by_rule"),
        (A, CLOUD, "refused_by_rules"),
    ],
)
def test_with_labels_that_the_request_adds_both_rules_must_allow_it(rule: Action, limit: Action, place: str) -> None:
    found = outcome(asked("work"), work(rule), rest(limit))
    assert where(found) == place
    assert found.explanation.rule == "work" and found.explanation.limit == "rest"


def test_without_a_rule_for_the_request_as_it_is_a_label_opens_none() -> None:
    found = outcome(asked("work"), work(CLOUD))
    assert isinstance(found, Refusal) and found.code == "refused_by_rules" and "only narrow" in found.message


def test_a_weaker_level_that_is_added_changes_nothing() -> None:
    public = Rule(name="public", when=When(labels=Labels(any=("public",))), then=CLOUD)
    found = outcome(asked("public", "private"), public, rest(A))
    assert where(found) == "a" and found.explanation.limit is None


def test_a_fallback_of_the_limit_that_must_be_asked_for_is_asked_for() -> None:
    found = outcome(asked("work"), work(CLOUD), rest(A, Ask(then=CLOUD, within_s=30)))
    assert isinstance(found, Dispatch) and found.ground.ask_s == 30


def test_what_the_limit_asks_for_is_not_asked_where_another_of_its_actions_allows_it() -> None:
    found = outcome(asked("work"), work(A), rest(Ask(then=CLOUD), Run()))
    assert isinstance(found, Decision) and found.ground.ask_s is None
    first = outcome(asked("work"), work(A), rest(Ask(then=Run(), within_s=30), A))
    assert isinstance(first, Decision) and first.ground.ask_s == 30


def test_of_two_times_to_ask_the_shorter_holds() -> None:
    found = outcome(asked("work"), work(Ask(then=CLOUD, within_s=60)), rest(Ask(then=CLOUD, within_s=20)))
    assert isinstance(found, Dispatch) and found.ground.ask_s == 20


def test_a_ring_over_the_nodes_of_two_actions_of_the_limit_is_not_made() -> None:
    small = SwarmState("id-a", (node("a", 300), node("b", 300)), SWARM.holders)
    assert sorted(where(outcome(asked(), rest(Run()), swarm=small)).split()) == ["a", "b"]
    found = outcome(asked("work"), work(Run()), rest(A, B), swarm=small)
    assert isinstance(found, Refusal) and "1 of the allowed ones" in found.message


def test_fallbacks_are_taken_in_order_and_only_where_the_one_before_cannot_be_carried_out() -> None:
    chain = (External(name="gone"), Run(nodes=("attic",)), B, CLOUD)
    found = outcome(asked(), rest(*chain))
    assert isinstance(found, Decision) and found.ground.action == 2 and where(found) == "b"
    assert [words for words, _ in found.explanation.tried] == [action.words() for action in chain[:2]]
    assert where(outcome(asked(), rest(A, CLOUD))) == "a"
    lost = asked(narrowing=Narrowing(without=frozenset({"id-a"})))
    assert where(outcome(lost, rest(A, CLOUD))) == "cloud" and where(outcome(lost, rest(A))) == "refused_by_rules"


def test_where_nothing_can_be_carried_out_all_reasons_are_told_and_the_first_ones_code() -> None:
    found = outcome(asked(), rest(External(name="gone"), Run(nodes=("attic",))))
    assert isinstance(found, Refusal) and found.code == "not_found"
    assert "'gone'" in found.message and "; then run on attic" in found.message and len(found.explanation.tried) == 2


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (asked(narrowing=Narrowing(nodes=("a",))), "narrows to nodes"),
        (asked(narrowing=Narrowing(mode="solo")), "narrows to nodes"),
        (asked(narrowing=Narrowing(stages=2)), "narrows to nodes"),
        (asked(narrowing=Narrowing(within="LAN")), "stays within LAN"),
        (asked(narrowing=Narrowing(without=frozenset({"cloud"}))), "failed while"),
        (Asked("m", "d", "images", 1), "chats, completions, embeddings and agents' requests"),
    ],
)
def test_an_endpoint_gets_no_request_that_narrows_past_it(request_: Asked, fault: str) -> None:
    found = outcome(request_, rest(CLOUD))
    assert isinstance(found, Refusal) and fault in found.message
    assert isinstance(outcome(asked(narrowing=Narrowing(within="outside")), rest(CLOUD)), Dispatch)


def test_an_endpoint_is_called_by_its_own_name_for_the_model_and_needs_no_node_that_holds_it() -> None:
    strange = Asked("gpt", None, "chat", 1)
    found = [decide(strange, None, RuleSet.of((rest(one),)), SWARM) for one in (CLOUD, VLLM, A)]
    assert [getattr(one, "model", where(one)) for one in found] == ["gpt", "big", "model_not_found"]


def reach(request: Asked, *rules: Rule) -> Reach:
    return reach_of(request, RuleSet.of(rules), SWARM)


def called(found: Reach) -> list[str]:
    return [spot.names[0] for spot in found.spots]


def test_the_reach_is_that_of_all_actions_and_the_outlet_that_of_the_first() -> None:
    found = reach(asked(), rest(Ask(then=A), B, CLOUD))
    assert (found.outlet, found.endpoint, called(found)) == ("ask", None, ["a", "b", "cloud"])
    assert [spot.names for spot in found.first] == [("a", "id-a")]
    assert [spot.is_outside for spot in found.spots] == [False, False, True]


def test_the_reach_under_a_limit_is_what_both_allow() -> None:
    assert called(reach(asked("work"), work(Run(), CLOUD, VLLM), rest(A, CLOUD))) == ["a", "cloud"]
    found = reach(asked("work"), work(A, CLOUD), rest(B, Ask(then=CLOUD)))
    assert (found.outlet, found.endpoint, called(found)) == ("ask", "cloud", ["cloud"])
    assert reach(asked("work"), work(A), rest(B)).outlet == "refuse"


def test_a_node_or_endpoint_that_only_the_rule_names_counts_by_its_name() -> None:
    found = reach(asked(), rest(Run(nodes=("attic", "a")), External(name="later")))
    assert called(found) == ["a", "attic", "later"] and found.spots[2].is_outside
    assert not found.spots[1].is_outside
    assert called(reach(asked("work"), work(Run(nodes=("attic",))), rest(Run()))) == ["attic"]
    assert called(reach(asked("work"), work(Run()), rest(Run(nodes=("attic",))))) == ["attic"]
    assert called(reach(asked("work"), work(Run(nodes=("attic",))), rest(A))) == []
    far = reach(asked(), rest(Run(nodes=("attic",), places=("outside",))))
    assert far.spots[0].is_outside


def test_denied_and_unmatched_requests_reach_nothing() -> None:
    assert reach(asked(), rest(Deny())) == Reach("rest", None, "deny")
    assert reach(asked()) == Reach(None, None, "refuse")
    assert reach(Asked("m", "d", "images", 1), rest(CLOUD)).outlet == "refuse"
    assert reach(Asked("m", "d", "embedding", 1), rest(CLOUD)).outlet == "external"
