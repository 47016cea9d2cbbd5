"""`decide` is total, deterministic, and never goes where rule or request do not allow."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.routing.action import Run
from mycoswarm.routing.clause import When
from mycoswarm.routing.decision import Decision, Outcome, Refusal, decide
from mycoswarm.routing.placement import Load
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, NodeState, SwarmState, WarmRing
from routing.worlds import Maker

LOAD = Load(
    layer_bytes=(100,) * 6, kv_bytes=(1,) * 6, output_bytes=50, head_bytes=50, buffer_bytes=10, cuts=(1, 2, 3, 4, 5)
)
DEFAULT, NONE = RuleSet.of((DEFAULT_RULE,)), RuleSet.of(())


def node(name: str, free: int | None = 10_000, place: str = "LAN", trouble: str | None = None) -> NodeState:
    return NodeState(name, name, place, free, 1e6, 0.001, trouble=trouble)  # type: ignore[arg-type]  # test input


def asked(**narrowing: object) -> Asked:
    return Asked("spore", "d", "chat", 10, Narrowing(**narrowing))  # type: ignore[arg-type]  # test input


def swarm(*nodes: NodeState, warm: tuple[WarmRing, ...] = ()) -> SwarmState:
    return SwarmState(nodes[0].node_id, nodes, {"d": frozenset({nodes[0].node_id})}, warm)


def loaded(*shape: tuple[str, int, int], digest: str = "d") -> WarmRing:
    return WarmRing(digest, shape)


states = st.builds(
    node,
    st.sampled_from("abcdefgh"),
    st.none() | st.integers(0, 2000),
    st.sampled_from(["this-machine", "LAN", "outside"]),
    st.none() | st.just("it does not answer"),
)


ranges = st.tuples(st.sampled_from("abcdefgh"), st.integers(-1, 6), st.integers(0, 7))
sound_rings = st.tuples(st.permutations("abcdefgh"), st.sets(st.integers(1, 5), max_size=3).map(sorted)).map(
    lambda drawn: tuple(zip(drawn[0], [0, *drawn[1]], [*drawn[1], 6], strict=False))
)
warm_rings = st.builds(WarmRing, st.sampled_from(["d", "e"]), sound_rings | st.lists(ranges, max_size=3).map(tuple))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(states, min_size=1, max_size=4, unique_by=lambda n: n.node_id),
    st.sampled_from(["any", "solo", "split"]),
    st.none() | st.integers(1, 4),
    st.lists(st.sampled_from("abcdefgh"), max_size=3).map(tuple),
    st.sampled_from(
        [
            NONE,
            DEFAULT,
            RuleSet.of((Rule(name="m", then=Run(split="solo"), when=When(model="x*")), DEFAULT_RULE)),
            RuleSet.of((Rule(name="r", then=Run(split="split required")),)),
        ]
    ),
    st.lists(warm_rings, max_size=3).map(tuple),
)
def test_a_decision_uses_only_nodes_that_rule_and_request_allow(
    nodes: list[NodeState],
    mode: str,
    stages: int | None,
    names: tuple[str, ...],
    rules: RuleSet,
    warm: tuple[WarmRing, ...],
) -> None:
    request = asked(mode=mode, stages=stages, nodes=names)
    first = decide(request, LOAD, rules, swarm(*nodes, warm=warm))
    assert first == decide(request, LOAD, rules, swarm(*nodes, warm=warm))
    if isinstance(first, Decision):
        assert rules.rules
        shares = first.placed.shares
        assert [s.first for s in shares] == [0, *(s.last for s in shares[:-1])] and shares[-1].last == 6
        for share in shares:
            assert share.node.place != "outside" and share.node.trouble is None
            assert not names or share.node.name in names
        assert stages is None or len(shares) == stages
        assert mode == "any" or (len(shares) == 1) == (mode == "solo")
        assert rules.rules[-1].then != Run(split="split required") or len(shares) > 1
        shape = tuple((share.node.node_id, share.first, share.last) for share in shares)
        if ("already loaded there" in first.explanation.reason) and "much slower" not in first.explanation.reason:
            assert WarmRing("d", shape) in warm
        else:
            assert first.placed == decide(request, LOAD, rules, swarm(*nodes)).placed
    else:
        assert first.message and first.explanation


def test_no_rule_refuses() -> None:
    refusal = decide(asked(), LOAD, NONE, swarm(node("a")))
    assert isinstance(refusal, Refusal) and refusal.code == "refused_by_rules"


def test_solo_is_chosen_where_it_fits_and_says_why() -> None:
    decision = decide(asked(), LOAD, DEFAULT, swarm(node("a"), node("b")))
    assert isinstance(decision, Decision) and len(decision.placed.shares) == 1
    assert "fits one node" in decision.explanation.reason


def test_an_asked_for_split_says_what_would_have_been_chosen() -> None:
    decision = decide(asked(mode="split"), LOAD, DEFAULT, swarm(node("a"), node("b")))
    assert isinstance(decision, Decision) and len(decision.placed.shares) == 2
    assert "without that it would run whole on" in decision.explanation.reason


def test_a_request_cannot_widen_a_solo_rule() -> None:
    refusal = decide(
        asked(mode="split"),
        LOAD,
        RuleSet.of((Rule(name="solo only", then=Run(split="solo")),)),
        swarm(node("a"), node("b")),
    )
    assert isinstance(refusal, Refusal) and refusal.code == "refused_by_rules"


def test_a_model_larger_than_every_node_is_split_and_larger_than_all_is_refused() -> None:
    small = [node("a", 500), node("b", 500)]
    decision = decide(asked(), LOAD, DEFAULT, swarm(*small))
    assert isinstance(decision, Decision) and len(decision.placed.shares) == 2
    refusal = decide(asked(), LOAD, DEFAULT, swarm(node("a", 100), node("b", 100)))
    assert isinstance(refusal, Refusal) and refusal.code == "out_of_memory"


def test_every_node_gets_a_verdict() -> None:
    nodes = (node("a"), node("b", trouble="it does not answer"), node("c", place="outside"), node("d", None))
    decision = decide(asked(), LOAD, DEFAULT, swarm(*nodes), explain=True)
    reasons = {v.name: v.reason for v in decision.explanation.verdicts}
    assert reasons["b"] == "it does not answer" and "outside" in reasons["c"] and "unknown" in reasons["d"]
    assert reasons["a"] == "chosen"


def test_earlier_rules_are_named_with_the_condition_that_failed() -> None:
    rules = RuleSet.of((Rule(name="big only", when=When(model="llama-*")), DEFAULT_RULE))
    decision = decide(asked(), LOAD, rules, swarm(node("a")), explain=True)
    assert decision.explanation.passed == (("big only", "model 'spore' does not match 'llama-*'"),)


def shape_of(decision: Outcome) -> tuple[tuple[str, int, int], ...]:
    assert isinstance(decision, Decision), decision
    return tuple((share.node.node_id, share.first, share.last) for share in decision.placed.shares)


def test_a_loaded_ring_is_used_again_where_another_cut_is_now_a_little_cheaper() -> None:
    nodes, request = (node("a"), node("b")), asked(mode="split")
    cold = decide(request, LOAD, DEFAULT, swarm(*nodes))
    warm = decide(request, LOAD, DEFAULT, swarm(*nodes, warm=(loaded(("b", 0, 2), ("a", 2, 6)),)))
    assert shape_of(warm) == (("b", 0, 2), ("a", 2, 6)) != shape_of(cold)
    assert isinstance(warm, Decision) and warm.explanation.reason.endswith("it is already loaded there")


def test_a_loaded_ring_needs_no_free_memory() -> None:
    full = node("a", 0)
    assert isinstance(decide(asked(), LOAD, DEFAULT, swarm(full)), Refusal)
    warm = decide(asked(), LOAD, DEFAULT, swarm(full, warm=(loaded(("a", 0, 6)),)))
    assert shape_of(warm) == (("a", 0, 6),)


def test_a_loaded_split_does_not_serve_where_one_node_would_do() -> None:
    warm = (loaded(("b", 0, 3), ("a", 3, 6)),)
    assert len(shape_of(decide(asked(), LOAD, DEFAULT, swarm(node("a"), node("b"), warm=warm)))) == 1


def test_a_loaded_node_serves_before_a_ring_of_others() -> None:
    nodes = (node("a", 0), node("b", 500), node("c", 500))
    assert len(shape_of(decide(asked(), LOAD, DEFAULT, swarm(*nodes)))) == 2
    warm = decide(asked(), LOAD, DEFAULT, swarm(*nodes, warm=(loaded(("a", 0, 6)),)))
    assert shape_of(warm) == (("a", 0, 6),)


def test_a_much_faster_node_is_taken_although_the_model_is_loaded_elsewhere() -> None:
    slow, fast = node("a"), NodeState("b", "b", "LAN", 10_000, 3e6, 0.001)
    decision = decide(asked(), LOAD, DEFAULT, swarm(slow, fast, warm=(loaded(("a", 0, 6)),)))
    assert shape_of(decision) == (("b", 0, 6),)
    assert isinstance(decision, Decision) and "much slower" in decision.explanation.reason


def test_a_loaded_ring_over_a_lost_or_unnamed_node_or_of_another_model_does_not_serve() -> None:
    nodes = (node("a"), node("b"), node("c"))
    for request in (asked(without=frozenset({"c"})), asked(nodes=("a", "b"))):
        decision = decide(request, LOAD, DEFAULT, swarm(*nodes, warm=(loaded(("c", 0, 6)),)))
        assert "c" not in {node_id for node_id, _, _ in shape_of(decision)}
    other = decide(asked(), LOAD, DEFAULT, swarm(*nodes, warm=(loaded(("c", 0, 6), digest="e"),)))
    assert shape_of(other) == (("a", 0, 6),)


def test_the_file_comes_from_a_node_that_runs_it_where_one_holds_it() -> None:
    state = SwarmState("c", (node("a", 0), node("b"), node("c", 0)), {"d": frozenset({"a", "b"})})
    decision = decide(asked(), LOAD, DEFAULT, state)
    assert isinstance(decision, Decision) and decision.holder_id == "b"


@pytest.mark.slow
def test_numbers_that_nothing_has_break_no_decision() -> None:
    odd = (0.0, -1.0, float("inf"), float("nan"), 5e-324, 1e308, None, 1e6)
    for seed in range(1000):
        maker = Maker(Random(seed))
        world, draw = maker.world(), maker.draw
        nodes = tuple(
            replace(
                one,
                bytes_per_s=draw.choice(odd),
                round_trip_s=draw.choice(odd),
                free_bytes=draw.choice((None, -5, 0, 300, 600, 10**30)),
                facts=dict.fromkeys(one.facts, draw.choice((float("nan"), 10**5000, True, ""))),
            )
            for one in world.swarm.nodes
        )
        narrowing = replace(world.asked.narrowing, stages=draw.choice((None, 0, -1, 1, 99)))
        request = replace(world.asked, at=draw.choice(odd) or 0.0, narrowing=narrowing)
        swarm = replace(world.swarm, nodes=nodes)
        assert decide(request, world.load, RuleSet.of(world.rules), swarm, explain=True).explanation.reason
