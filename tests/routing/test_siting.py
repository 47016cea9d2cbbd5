"""Where a run puts a request: preferred order, loaded rings and how far they reach, holders, verdicts."""

from dataclasses import replace

import pytest

from mycoswarm.routing.action import Run, SplitPolicy
from mycoswarm.routing.placement import Load
from mycoswarm.routing.siting import Nowhere, Site, Siting
from mycoswarm.routing.snapshot import Asked, Narrowing, NodeState, SwarmState, WarmRing
from mycoswarm.swarm.place import Place

LOAD = Load((100,) * 4, (0,) * 4, 0, 0, 0, (1, 2, 3))


def node(name: str, free: int | None = 10_000, place: Place = "LAN", speed: float = 1e6) -> NodeState:
    return NodeState(f"id-{name}", name, place, free, speed, 0.001)


def site(
    *nodes: NodeState,
    run: Run = Run(),
    limit: Run | None = None,
    narrowing: Narrowing = Narrowing(),
    warm: tuple[WarmRing, ...] = (),
    holders: frozenset[str] | None = None,
    task: str = "chat",
) -> Site | Nowhere:
    held = holders if holders is not None else frozenset(one.node_id for one in nodes)
    swarm = SwarmState(nodes[0].node_id, nodes, {"d": held}, warm)
    return Siting(Asked("m", "d", task, 1, narrowing), LOAD, run, limit, swarm).choose()


def names(found: Site | Nowhere) -> list[str]:
    assert isinstance(found, Site), found
    return [share.node.name for share in found.placed.shares]


def why(found: Site | Nowhere) -> tuple[str, str]:
    assert isinstance(found, Nowhere), found
    return found.code, found.reason


def test_preferred_nodes_are_tried_in_the_owners_order_before_faster_ones() -> None:
    nodes = (node("a", speed=9e6), node("b"), node("c"))
    assert names(site(*nodes)) == ["a"]
    assert names(site(*nodes, run=Run(prefer=("c", "b")))) == ["c"]
    assert names(site(*nodes, run=Run(prefer=("gone", "id-b")))) == ["b"]


def test_a_preferred_node_that_is_too_small_or_not_allowed_is_passed_over() -> None:
    nodes = (node("a"), node("b", 100), node("c", place="outside"))
    assert names(site(*nodes, run=Run(prefer=("b", "c")))) == ["a"]


def test_a_ring_is_over_the_preferred_nodes_where_those_can_hold_it() -> None:
    nodes = (node("a", 300), node("b", 300), node("c", 300))
    found = names(site(*nodes, run=Run(prefer=("c", "b"), split="split required")))
    assert sorted(found) == ["b", "c"]
    alone = site(node("a", 300), node("b", 300), node("c", 10), run=Run(prefer=("c", "b")))
    assert sorted(names(alone)) == ["a", "b"]


def test_what_is_preferred_comes_before_what_is_loaded() -> None:
    warm = (WarmRing("d", (("id-a", 0, 4),)),)
    nodes = (node("a"), node("b"))
    assert names(site(*nodes, warm=warm)) == ["a"] == names(site(*nodes, warm=warm, run=Run(prefer=("a",))))
    assert names(site(*nodes, warm=warm, run=Run(prefer=("b",)))) == ["b"]


@pytest.mark.parametrize(
    ("policy", "bound", "mode", "count"),
    [
        ("split allowed", None, "any", 1),
        ("split allowed", None, "split", 2),
        ("split required", None, "any", 2),
        ("solo", None, "solo", 1),
        ("split required", None, "solo", 0),
        ("solo", None, "split", 0),
        ("split allowed", "solo", "split", 0),
        ("split allowed", "split required", "any", 2),
        ("split required", "solo", "any", 0),
        ("solo", "split required", "any", 0),
    ],
)
def test_splitting_is_what_rule_limit_and_request_allow(
    policy: SplitPolicy, bound: SplitPolicy | None, mode: str, count: int
) -> None:
    limit = None if bound is None else Run(split=bound)
    wanted = Narrowing(mode=mode)  # type: ignore[arg-type]  # test input
    found = site(node("a"), node("b"), run=Run(split=policy), limit=limit, narrowing=wanted)
    if count:
        assert len(names(found)) == count
    else:
        assert why(found)[0] == "refused_by_rules" and "the request asks for" in why(found)[1]


def test_a_limit_takes_nodes_out_and_says_so() -> None:
    run, limit = Run(nodes=("a", "b")), Run(nodes=("b", "c"))
    nodes = (node("a", speed=9e6), node("b"), node("c"))
    assert names(site(*nodes, run=run, limit=limit)) == ["b"]
    swarm = SwarmState("id-a", nodes, {"d": frozenset({"id-b"})})
    siting = Siting(Asked("m", "d", "chat", 1), LOAD, run, limit, swarm)
    reasons = [verdict.reason for verdict in siting.verdicts(siting.choose())]
    assert reasons == [
        "without the labels that the request adds it is out: the rule names other nodes",
        "chosen",
        "the rule names other nodes",
    ]


@pytest.mark.parametrize(
    ("reach", "places", "within", "is_kept"),
    [
        ({}, ("this-machine", "LAN"), None, True),
        ({"id-b": "LAN"}, ("this-machine", "LAN"), None, True),
        ({"id-b": "outside"}, ("this-machine", "LAN"), None, False),
        ({"id-b": "outside"}, ("this-machine", "LAN", "outside"), None, True),
        ({"id-b": "outside"}, ("this-machine", "LAN", "outside"), "LAN", False),
        ({"id-gone": "outside"}, ("this-machine", "LAN"), None, True),
    ],
)
def test_a_loaded_ring_serves_only_where_its_connections_go_no_further_than_is_allowed(
    reach: dict[str, Place], places: tuple[Place, ...], within: Place | None, is_kept: bool
) -> None:
    warm = (WarmRing("d", (("id-b", 0, 1), ("id-a", 1, 4)), reach),)
    nodes = (node("a", 300, "this-machine"), node("b", 300))
    found = site(*nodes, run=Run(places=places), narrowing=Narrowing(within=within), warm=warm)
    assert isinstance(found, Site)
    assert ([share.last for share in found.placed.shares] == [1, 4]) == is_kept
    assert ("already loaded" in found.reason) == is_kept


def test_a_loaded_ring_over_what_the_limit_excludes_does_not_serve() -> None:
    warm = (WarmRing("d", (("id-b", 0, 4),)),)
    nodes = (node("a"), node("b"))
    assert names(site(*nodes, warm=warm)) == ["b"]
    assert names(site(*nodes, warm=warm, limit=Run(nodes=("a",)))) == ["a"]
    far = (WarmRing("d", (("id-b", 0, 4),), {"id-b": "outside"}),)
    assert names(site(*nodes, warm=far, run=Run(places=("LAN", "outside")))) == ["b"]
    assert names(site(*nodes, warm=far, run=Run(places=("LAN", "outside")), limit=Run())) == ["a"]


def test_the_holder_is_the_coordinator_then_one_that_takes_part_and_lost_ones_last() -> None:
    nodes = (node("a", 0), node("b"), node("c", 0))
    assert isinstance(found := site(*nodes), Site) and found.holder_id == "id-a"
    found = site(*nodes, holders=frozenset({"id-b", "id-c"}))
    assert isinstance(found, Site) and found.holder_id == "id-b"
    lost = Narrowing(without=frozenset({"id-a"}))
    assert isinstance(found := site(*nodes, narrowing=lost), Site) and found.holder_id == "id-b"


def test_a_model_that_only_an_excluded_node_holds_is_not_found() -> None:
    code, reason = why(site(node("a"), node("b"), run=Run(nodes=("a",)), holders=frozenset({"id-b"})))
    assert code == "not_found" and "holds the file" in reason
    down = replace(node("b"), trouble="it does not answer")
    assert why(site(node("a"), down, holders=frozenset({"id-b"})))[0] == "not_found"


def test_nodes_that_there_are_not_are_named() -> None:
    assert why(site(node("a"), run=Run(nodes=("attic",)))) == (
        "not_found",
        "this swarm has no node called 'attic'",
    )
    assert "'cellar'" in why(site(node("a"), narrowing=Narrowing(nodes=("cellar",))))[1]


def test_a_node_is_out_for_the_first_reason_that_there_is() -> None:
    nodes = (
        replace(node("a"), bad_models=frozenset({"d"})),
        replace(node("b"), trouble="it is too hot"),
        node("c", None),
        node("d", place="outside"),
        node("e"),
    )
    swarm = SwarmState("id-a", nodes, {"d": frozenset({"id-e"})})
    wanted = Narrowing(within="LAN", without=frozenset({"id-e"}))
    siting = Siting(Asked("m", "d", "chat", 1, wanted), LOAD, Run(places=("LAN", "outside")), None, swarm)
    found = siting.choose()
    assert why(found)[0] == "refused_by_rules"
    assert [verdict.reason for verdict in siting.verdicts(found)] == [
        "this model crashed there three times in a row",
        "it is too hot",
        "its free memory is unknown",
        "it is outside, and the request itself stays within LAN",
        "it was lost while this request ran",
    ]


def test_embeddings_are_made_by_one_node_with_the_whole_model_or_not_at_all() -> None:
    nodes = (node("a", 300), node("b", 300))
    assert sorted(names(site(*nodes))) == ["a", "b"]
    assert why(site(*nodes, task="embedding")) == (
        "out_of_memory",
        "it fits no allowed node whole, and a model that embeds is not split",
    )
    assert names(site(node("a"), node("b"), task="embedding")) == ["a"]


@pytest.mark.parametrize(
    ("run", "narrowing"),
    [
        (Run(split="split required"), Narrowing()),
        (Run(), Narrowing(mode="split")),
        (Run(), Narrowing(stages=2)),
    ],
)
def test_embeddings_from_a_split_model_are_refused_with_the_reason(run: Run, narrowing: Narrowing) -> None:
    found = site(node("a"), node("b"), run=run, narrowing=narrowing, task="embedding")
    assert why(found) == ("cannot_split", "one node with the whole model makes embeddings, and a split is asked for")


def test_a_ring_that_chats_does_not_embed_and_one_that_embeds_does_not_chat() -> None:
    shape = (("id-b", 0, 4),)
    nodes, chats, embeds = (node("a"), node("b")), WarmRing("d", shape), WarmRing("d", shape, embeds=True)
    for warm, task, chosen in (
        (chats, "chat", "b"),
        (chats, "embedding", "a"),
        (embeds, "embedding", "b"),
        (embeds, "chat", "a"),
    ):
        assert names(site(*nodes, warm=(warm,), task=task)) == [chosen]
