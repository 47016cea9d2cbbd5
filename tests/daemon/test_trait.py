"""What rules can ask of a node, out of recorded machines and out of cards that may say anything."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.daemon.trait import traits_of
from mycoswarm.routing.selector import FACTS, read_fact
from mycoswarm.routing.snapshot import NodeState
from mycoswarm.swarm.card import Card

MACHINES = Path(__file__).resolve().parents[1] / "hardware" / "machines"


def card(**facts: Any) -> Card:
    return Card(
        node_id="a",
        instance_id="i",
        name="attic",
        addresses=(),
        wire_version=1,
        llama_version="1",
        shard_format=1,
        facts=facts,
        free_memory_bytes=7,
    )


def recorded(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((MACHINES / name / "expected.json").read_text())
    return told


def test_a_workstation_has_the_memory_of_its_own_cards_alone() -> None:
    told = recorded("workstation-2x-rtx-3090")
    found = traits_of(
        card(machine=told["machine"], uses_gpu=True), grade=told["class"]["name"], speed=9e11, round_trip_s=None
    )
    assert found["vram_bytes"] == 2 * 25769803776 and found["cores"] == 16 and found["gpu"] is True
    assert found["class"] == "large GPU worker" and found["board"] == "ProArt X670E-CREATOR WIFI"
    assert found["system"] == "Linux" and found["architecture"] == "x86_64" and found["free_bytes"] == 7
    assert "round_trip_s" not in found, "what is unknown is not there"


@pytest.mark.parametrize("name", sorted(path.name for path in MACHINES.iterdir()))
def test_every_recorded_machine_gives_facts_that_rules_can_read(name: str) -> None:
    told = recorded(name)
    found = traits_of(card(machine=told["machine"]), grade=told["class"]["name"], speed=None, round_trip_s=0.001)
    assert set(found) <= set(FACTS)
    node = NodeState("a", "attic", "LAN", 1, None, None, facts=found)
    check = read_fact(f"class = {found['class']}")
    assert check is not None and check.fault(node) is None
    vram = read_fact("vram_bytes >= 24GiB")
    assert vram is not None and (vram.fault(node) is None) == (int(found["vram_bytes"]) >= 24 << 30)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_a_card_may_say_anything_of_its_machine(said: Any) -> None:
    assert set(traits_of(card(machine=said), grade=None, speed=None, round_trip_s=None)) <= {"free_bytes", "gpu"}


def test_of_a_node_without_a_card_little_is_known() -> None:
    assert traits_of(None, grade=None, speed=None, round_trip_s=None) == {}
