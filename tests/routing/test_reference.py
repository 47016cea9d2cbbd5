"""What must hold: 10,000 random cases against a second, plain reading of the rules."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.routing.action import Run, unwrapped
from mycoswarm.routing.clause import view_of
from mycoswarm.routing.decision import Decision, Dispatch, Outcome, Refusal, decide
from mycoswarm.routing.reach import reach_of
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import SwarmState
from routing.reference import Step, able, allowed, expected, matched, matches, steps
from routing.worlds import Maker, World

CODES = {"refused_by_rules", "denied_by_rule", "out_of_memory", "cannot_split", "not_found", "model_not_found"}
SEEDS = range(10)
CASES = 1000  # of each seed
LEAST = 0.04  # of the cases, or the generator shows too little


def decided(world: World, *, explain: bool = False) -> Outcome:
    return decide(world.asked, world.load, RuleSet.of(world.rules, 7), world.swarm, explain=explain)


def assert_is(outcome: Outcome, wanted: Step | str, world: World) -> None:
    """The outcome is what the reference says, and goes nowhere else."""
    if isinstance(outcome, Refusal):
        assert isinstance(wanted, str) and outcome.code in CODES and wanted in ("", outcome.code), (outcome, wanted)
        assert outcome.message and outcome.explanation.reason == outcome.message
        return
    assert isinstance(wanted, Step), (outcome, wanted)
    rule, limit = matched(world.asked, world.rules)
    ground = outcome.ground
    assert rule is not None and limit is not None and ground.rule == rule.name and ground.version == 7
    assert (ground.action, ground.ask_s) == (wanted.index, wanted.ask_s)
    assert outcome.explanation.limit == (None if limit is rule else limit.name)
    assert len(outcome.explanation.tried) == wanted.index
    if isinstance(outcome, Dispatch):
        assert outcome.endpoint in world.swarm.endpoints and outcome.endpoint.name == getattr(wanted.done, "name", None)
        return
    nodes = {node.node_id: node for node in world.swarm.nodes}
    shares = outcome.placed.shares
    assert all(able(share.node, world.asked, wanted) and nodes[share.node.node_id] == share.node for share in shares)
    assert allowed(nodes[outcome.holder_id], wanted) and outcome.holder_id in world.swarm.holders["d"]
    assert outcome.reach == {key: nodes[key].place for key in {*(s.node.node_id for s in shares), outcome.holder_id}}
    policies = {one.split for one in (wanted.done, wanted.bound) if isinstance(one, Run)}
    assert ("solo" not in policies or len(shares) == 1) and ("split required" not in policies or len(shares) > 1)


def is_same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes differ in their explanation at most."""
    return replace(one, explanation=other.explanation) == other


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_every_outcome_is_what_the_rules_say_and_the_same_each_time(seed: int) -> None:
    maker, seen = Maker(Random(seed)), Counter[str]()
    for _ in range(CASES):
        world = maker.world()
        outcome = decided(world)
        assert_is(outcome, expected(world.asked, world.load, world.rules, world.swarm), world)
        full = decided(world, explain=True)
        assert is_same(outcome, full) and full == decided(world, explain=True)
        rule = full.explanation.rule
        names = [one.name for one in world.rules]
        assert [name for name, _ in full.explanation.passed] == names[: names.index(rule) if rule else len(names)]
        seen[outcome.code if isinstance(outcome, Refusal) else type(outcome).__name__] += 1
        seen["limited"] += outcome.explanation.limit is not None
        if not isinstance(outcome, Refusal):
            seen["fallback"] += outcome.ground.action > 0
            seen["asked"] += outcome.ground.ask_s is not None
            seen["ring"] += isinstance(outcome, Decision) and len(outcome.placed.shares) > 1
            seen["warm"] += "already loaded" in outcome.explanation.reason
    wanted = dict.fromkeys({"Decision", "Dispatch", *CODES, "limited", "fallback", "asked"}, LEAST)
    wanted |= {"ring": LEAST / 2, "warm": LEAST / 2}
    assert not {name: seen[name] for name, share in wanted.items() if seen[name] < share * CASES}, seen


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_outcome_is_what_the_rules_say_and_a_case_that_is_not_gets_small(draw: Random) -> None:
    world = Maker(draw).world()
    assert_is(decided(world), expected(world.asked, world.load, world.rules, world.swarm), world)


def reached(outcome: Outcome) -> set[str]:
    if isinstance(outcome, Decision):
        return {*(share.node.node_id for share in outcome.placed.shares), outcome.holder_id}
    return {outcome.endpoint.name} if isinstance(outcome, Dispatch) else set()


def may_reach(world: World, *, unasked: bool = False) -> set[str]:
    """Every node id and endpoint that the rules allow, by the reference; `unasked`: without a yes."""
    rule, limit = matched(world.asked, world.rules)
    if expected(world.asked, None, world.rules, world.swarm) == "denied_by_rule" or rule is None or limit is None:
        return set()
    found = set()
    for step in steps(rule, limit):
        if unasked and step.ask_s is not None:
            continue
        if isinstance(step.done, Run):
            found |= {node.node_id for node in world.swarm.nodes if allowed(node, step)}
        elif world.asked.task in ("chat", "completion", "agent", "embedding"):
            found.add(step.done.name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_a_request_or_a_swarm_adds_widens_what_it_reaches(seed: int) -> None:
    maker = Maker(Random(100 + seed))
    for _ in range(CASES):
        world = maker.world()
        may = may_reach(world)
        assert reached(decided(world)) <= may
        # labels that the request adds
        plain = replace(world, asked=replace(world.asked, added=frozenset()))
        assert may <= may_reach(plain) and may_reach(world, unasked=True) <= may_reach(plain, unasked=True)
        # what it narrows
        narrowed = replace(world, asked=replace(world.asked, narrowing=maker.narrowing()))
        assert reached(decided(narrowed)) <= may
        # a node more
        name = "new" if maker.some(0.5) else "away"
        swarm = world.swarm
        grown = replace(
            swarm, nodes=(*swarm.nodes, maker.node(name)), holders={"d": swarm.holders["d"] | {f"id-{name}"}}
        )
        larger = replace(world, swarm=grown)
        assert reached(decided(larger)) <= may_reach(larger) and may_reach(larger) - {f"id-{name}"} == may
        # a loss
        lost = replace(world.asked.narrowing, without=frozenset(reached(decided(world))))
        again = decided(replace(world, asked=replace(world.asked, narrowing=lost)))
        if isinstance(again, Decision):
            assert not lost.without.intersection(share.node.node_id for share in again.placed.shares)
        else:
            assert not reached(again) & lost.without
        assert reached(again) <= may


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_order_is_law_and_a_rule_that_is_off_or_comes_later_changes_nothing(seed: int) -> None:
    maker = Maker(Random(200 + seed))
    for _ in range(CASES // 2):
        world = maker.world()
        outcome = decided(world)
        on = replace(world, rules=tuple(rule for rule in world.rules if rule.enabled))
        assert decided(on) == outcome
        rule, limit = matched(world.asked, world.rules)
        if rule is not None and limit is not None:
            last = max(world.rules.index(rule), world.rules.index(limit))
            assert decided(replace(world, rules=world.rules[: last + 1])) == outcome
        else:
            assert isinstance(outcome, Refusal) and outcome.code == "refused_by_rules"
        ready = RuleSet.of(world.rules)
        for one, labels in ((rule, world.asked.labels | world.asked.added), (limit, world.asked.labels)):
            assert ready.first(view_of(world.asked, labels)) is one
        for one in world.rules:
            view = view_of(world.asked, world.asked.labels)
            assert (RuleSet.of((one,)).passed(view) == ()) == matches(one, world.asked, world.asked.labels)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_reach_by_rules_alone_is_what_the_reference_allows(seed: int) -> None:
    maker = Maker(Random(300 + seed))
    for _ in range(CASES // 2):
        world = maker.world()
        reach = reach_of(world.asked, RuleSet.of(world.rules), world.swarm)
        known = {node.node_id for node in world.swarm.nodes} | {"vllm", "cloud", "gone"}
        assert {name for spot in reach.spots for name in spot.names} & known == may_reach(world)
        rule, limit = matched(world.asked, world.rules)
        assert reach.rule == (rule.name if rule else None)
        if rule is not None and limit is rule and reach.outlet in ("run", "external"):
            first = unwrapped(rule.then)
            goes_out = world.asked.task in ("chat", "completion", "agent", "embedding")
            assert (reach.outlet == "run") == isinstance(first, Run) or not goes_out


def test_a_swarm_without_nodes_refuses() -> None:
    world = Maker(Random(1)).world()
    empty = replace(world, swarm=SwarmState("id-pi", ()))
    assert isinstance(decided(replace(empty, rules=())), Refusal)
