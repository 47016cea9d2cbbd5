"""Placement against a brute force over every order, subset and cut."""

from dataclasses import replace
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.routing.placement import EVENNESS, Load, alike_speeds, place_ring, place_whole, usable_bytes
from mycoswarm.routing.snapshot import NodeState


def node(name: str, free_bytes: int | None = 10**9, speed: float | None = 1e9, trip: float | None = 0.001) -> NodeState:
    return NodeState(node_id=name, name=name, place="LAN", free_bytes=free_bytes, bytes_per_s=speed, round_trip_s=trip)


def load(layers: list[int], *, kv: int = 10, head: int = 50, buffer: int = 20) -> Load:
    return Load(
        layer_bytes=tuple(layers),
        kv_bytes=(kv,) * len(layers),
        output_bytes=head // 2,
        head_bytes=head,
        buffer_bytes=buffer,
        cuts=tuple(range(1, len(layers))),
    )


def charged(case: Load, order: list[NodeState], bounds: list[int], speeds: dict[str, float]) -> float | None:
    """The search's own objective, written the slow way: None where a stage does not fit."""
    total, whole = 0.0, sum(case.layer_bytes)
    for index, one in enumerate(order):
        a, b = bounds[index], bounds[index + 1]
        is_head = index == len(order) - 1
        taken = sum(case.layer_bytes[a:b])
        needed = taken + sum(case.kv_bytes[a:b]) + case.buffer_bytes + case.head_bytes * is_head
        if needed > (usable_bytes(one) or 0):
            return None
        speed = speeds[one.node_id]
        total += (taken + case.output_bytes * is_head) / speed + EVENNESS * whole / speed * (taken / whole) ** 2
        following = order[(index + 1) % len(order)]
        total += ((one.round_trip_s or 0) + (following.round_trip_s or 0)) / 4
    return total


nodes = st.lists(
    st.tuples(st.integers(50, 700), st.floats(10, 1000), st.sampled_from([0.001, 0.01, 0.5])), min_size=2, max_size=4
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), nodes)
def test_the_ring_is_the_cheapest_of_all_orders_subsets_and_cuts(
    layers: list[int], specs: list[tuple[int, float, float]]
) -> None:
    case = load(layers)
    group = [node(f"n{i}", free, speed, trip) for i, (free, speed, trip) in enumerate(specs)]
    best, speeds = None, alike_speeds(group)
    for count in range(2, min(len(group), len(layers)) + 1):
        for order in permutations(group, count):
            for cuts in combinations(range(1, len(layers)), count - 1):
                cost = charged(case, list(order), [0, *cuts, len(layers)], speeds)
                if cost is not None and (best is None or cost < best):
                    best = cost
    placed = place_ring(case, group)
    if best is None:
        assert placed is None
    else:
        assert placed is not None
        order = [share.node for share in placed.shares]
        got = charged(case, order, [0, *(share.last for share in placed.shares)], speeds)
        assert got is not None and abs(got - best) <= 1e-9 * max(1, best)


def test_equal_nodes_get_near_equal_shares() -> None:
    placed = place_ring(load([100] * 8, head=0), [node("a"), node("b")])
    assert placed is not None
    assert [(share.first, share.last) for share in placed.shares] == [(0, 4), (4, 8)]


def test_the_number_of_stages_can_be_asked_for() -> None:
    placed = place_ring(load([100] * 6), [node(name) for name in "abcd"], stages=3)
    assert placed is not None and len(placed.shares) == 3


def test_a_fifth_of_free_memory_is_left_alone() -> None:
    case = load([100], kv=0, head=0, buffer=0)
    assert place_whole(case, [node("a", 124)]) is None
    assert place_whole(case, [node("a", 125)]) is not None


def test_a_node_of_unknown_memory_gets_nothing() -> None:
    assert place_whole(load([1]), [node("a", None)]) is None
    assert place_ring(load([1, 1]), [node("a", None), node("b")]) is None


def test_more_than_eight_nodes_are_searched_over_the_best_eight_and_the_note_says_so() -> None:
    placed = place_ring(load([100] * 12), [node(f"n{i}", 10**9, 1e9 + i) for i in range(12)])
    assert placed is not None and "8 nodes" in placed.note


def test_an_unmeasured_speed_is_named() -> None:
    placed = place_whole(load([100]), [node("pi", speed=None)])
    assert placed is not None and "pi not measured" in placed.note


@pytest.mark.parametrize("said", [0.0, -1.0, 5e-324, 1e308, float("inf"), float("nan")])
def test_a_speed_that_no_machine_has_counts_as_unknown_and_breaks_nothing(said: float) -> None:
    case = load([100] * 6)
    for nodes in ([node("a", speed=said), node("b")], [node("a", trip=said if said != 0 else None), node("b")]):
        unknown = [replace(one, bytes_per_s=None) if one.bytes_per_s != 1e9 else one for one in nodes]
        unknown = [
            replace(one, round_trip_s=None) if one.round_trip_s not in (0.001, 5e-324) else one for one in unknown
        ]
        ring, other = place_ring(case, nodes), place_ring(case, unknown)
        assert ring is not None and other is not None and ring.token_s == pytest.approx(other.token_s)
        assert [share.last for share in ring.shares] == [share.last for share in other.shares]
        assert place_whole(case, nodes) is not None


def test_noise_in_measured_speeds_decides_nothing_but_a_clear_difference_does() -> None:
    case = load([100] * 8, head=0)
    noisy = place_ring(case, [node("a", speed=1.0e9), node("b", speed=1.4e9)])
    assert noisy is not None and [share.last for share in noisy.shares] == [4, 8]
    clear = place_ring(case, [node("a", speed=1.0e9), node("b", speed=4.0e9)])
    assert clear is not None and max((s.last - s.first, s.node.name) for s in clear.shares) == (7, "b")


def test_a_further_node_is_not_used_for_evenness_alone() -> None:
    placed = place_ring(load([1_000_000] * 8), [node(name) for name in "abcd"])
    assert placed is not None and len(placed.shares) == 2


def test_logits_take_memory_but_are_not_streamed() -> None:
    case = Load(layer_bytes=(100,), kv_bytes=(0,), output_bytes=0, head_bytes=10**6, buffer_bytes=0, cuts=())
    placed = place_whole(case, [node("a", 10**8, 100.0)])
    assert placed is not None and placed.token_s == 1.0
