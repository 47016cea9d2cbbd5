"""The table of what was heard: bounded, strict, and never trusted."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from household import make_node, make_swarm
from mycoswarm.swarm.candidate import (
    BURST,
    EXPIRY_S,
    MAX_HEARD,
    MAX_PER_NODE,
    Announcement,
    CandidateTable,
    announcement_of,
    from_text,
    to_text,
)
from mycoswarm.swarm.card import new_instance_id

PI = Announcement(
    node_id="ab" * 16,
    instance_id="01" * 8,
    name="pi",
    role="coordinator",
    swarm="cd" * 8,
    peer_port=6927,
    door_port=None,
    version=1,
    addresses=("192.168.1.5", "fe80::1%eth0"),
)
BOX = replace(
    PI, node_id="ef" * 16, name="box", role="unclaimed", swarm=None, door_port=6928, addresses=("192.168.1.6",)
)


def number(n: int) -> Announcement:
    return replace(BOX, node_id=f"{n:032x}", name=f"n{n}", addresses=(f"10.0.{n // 250}.{n % 250}",))


@pytest.mark.parametrize("said", [PI, BOX])
def test_an_announcement_survives_its_text(said: Announcement) -> None:
    assert from_text(to_text(said), said.addresses) == said


@given(
    st.dictionaries(
        st.sampled_from(["id", "run", "name", "role", "swarm", "peer", "door", "version", "x"]), st.text(max_size=40)
    ),
    st.dictionaries(st.sampled_from(["id", "name", "role", "peer", "door", "version", "swarm"]), st.text(max_size=40)),
)
def test_any_text_is_an_announcement_of_ours_or_nothing(text: dict[str, str], changes: dict[str, str]) -> None:
    for each in (text, to_text(PI) | changes):
        said = from_text(each, ())
        assert said is None or to_text(said) == {key: each[key] for key in to_text(said)}


@pytest.mark.parametrize(
    "change", [{"id": "AB" * 16}, {"role": "king"}, {"peer": "0"}, {"peer": "70000"}, {"name": "a b"}, {"swarm": ""}]
)
def test_what_no_node_of_ours_would_say_is_nothing(change: dict[str, str]) -> None:
    assert from_text(to_text(PI) | change, ()) is None


def test_a_node_announces_what_it_is(tmp_path: Path) -> None:
    _, pi = make_swarm(tmp_path)
    for identity in (pi, make_node(tmp_path, "box")):
        said = announcement_of(identity, instance_id=new_instance_id(), peer_port=6927, door_port=None)
        assert from_text(to_text(said), ()) == said and said.role == identity.role


def test_a_candidate_is_heard_found_by_name_or_id_and_forgotten() -> None:
    table = CandidateTable()
    assert table.hear(BOX, 0) and not table.hear(BOX, 1) and table.hear(PI, 1)
    assert [each.announcement.name for each in table.candidates(2)] == ["box", "pi"]
    assert table.find("box", 2)[0].door_addresses() == ("192.168.1.6:6928",)
    assert table.find(PI.node_id[:5], 2)[0].announcement == PI
    assert table.peer_addresses(PI.node_id, 2) == ("192.168.1.5:6927", "[fe80::1%eth0]:6927")
    assert table.find(PI.node_id[:2], 2) == ()
    assert table.forget(BOX.node_id, BOX.instance_id) and not table.forget(BOX.node_id, BOX.instance_id)
    assert table.conditions(2) == ()


def test_what_is_not_heard_again_expires() -> None:
    table = CandidateTable()
    table.hear(BOX, 0)
    table.hear(PI, 100)
    assert [each.announcement for each in table.candidates(EXPIRY_S)] == [PI]


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 9), st.floats(0, 5)), max_size=700))
def test_the_table_is_bounded_whatever_is_heard(heard: list[tuple[int, int, float]]) -> None:
    table = CandidateTable()
    now = 0.0
    for node, run, wait_s in heard:
        now += wait_s
        table.hear(replace(number(node), instance_id=f"{run:016x}"), now)
    all_heard = table.candidates(now)
    assert len(all_heard) <= MAX_HEARD
    for each in all_heard:
        assert len([o for o in all_heard if o.announcement.node_id == each.announcement.node_id]) <= MAX_PER_NODE
    table.conditions(now)


@pytest.mark.slow
def test_a_flood_is_slowed_capped_and_shown() -> None:
    table = CandidateTable()
    assert sum(table.hear(number(n), 0.0) for n in range(1000)) == BURST
    for moment in range(1, 10):
        for n in range(1000):
            table.hear(number(n), float(moment))
    assert len(table.candidates(10)) == MAX_HEARD
    assert [each.code for each in table.conditions(10)] == ["too_many_announcements"]
    assert table.conditions(300) == ()


def test_two_coordinators_of_one_swarm_are_a_condition() -> None:
    table = CandidateTable()
    table.hear(PI, 0)
    table.hear(replace(PI, node_id="99" * 16, name="pi-2", swarm="77" * 8), 0)
    assert table.conditions(0) == ()
    table.hear(replace(PI, node_id="98" * 16, name="pi-3"), 0)
    (condition,) = table.conditions(0)
    assert condition.code == "two_coordinators" and "pi and pi-3" in condition.message and not condition.blocks_work


def test_one_id_announced_in_two_places_is_a_condition_that_blocks_nothing() -> None:
    table = CandidateTable()
    copy = replace(BOX, instance_id="02" * 8, addresses=("192.168.1.9",))
    table.hear(BOX, 0)
    table.hear(copy, 1)
    (condition,) = table.conditions(2)
    assert (condition.code, condition.node_ids, condition.blocks_work) == ("announced_twice", (BOX.node_id,), False)


def test_a_restart_is_no_copy() -> None:
    table = CandidateTable()
    table.hear(BOX, 0)
    table.hear(replace(BOX, instance_id="02" * 8, peer_port=7000), 1)
    assert table.conditions(2) == ()
    table.hear(BOX, 3)  # but heard again, it is one
    assert [each.code for each in table.conditions(3)] == ["announced_twice"]


def test_a_copied_key_met_over_the_authenticated_channel_gets_no_work_until_it_is_gone() -> None:
    table = CandidateTable()
    for run, now in (("a", 0), ("a", 1), ("b", 2), ("b", 3)):
        table.meet(BOX.node_id, run, now)
    assert table.conditions(3) == ()  # a restart
    table.meet(BOX.node_id, "a", 4)
    (condition,) = table.conditions(4)
    assert condition.blocks_work and condition.node_ids == (BOX.node_id,)
    table.meet(BOX.node_id, "b", 4 + EXPIRY_S)
    assert table.conditions(4 + EXPIRY_S) == ()
