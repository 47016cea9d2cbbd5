"""What deciding gets to know, out of cards that may say anything."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from household import make_node, make_swarm, take_in
from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.base.settings import Settings
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.daemon.outlook import Outlook, Sources
from mycoswarm.daemon.standing import Standing, read_standing
from mycoswarm.stage.pool import Warm
from mycoswarm.swarm.card import Card
from mycoswarm.swarm.condition import Condition
from mycoswarm.swarm.contact import Contact
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from rings import FACTS

OTHER = msgspec.structs.replace(FACTS, digest="e" * 64, name="other")


@dataclass
class World:
    """A coordinator "pi" with the workers "attic" and "cellar", and what is known of them."""

    standing: Standing
    ids: dict[str, str]
    settings: Settings
    contacts: dict[str, Contact] = field(default_factory=dict)
    rings: tuple[Warm, ...] = ()
    returning: dict[str, int] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()

    @property
    def outlook(self) -> Outlook:
        return Outlook(
            Sources(
                standing=self.standing,
                contact=lambda node_id: self.contacts.get(
                    node_id, Contact(node_id, None, None, "it has not answered yet")
                ),
                settings=self.settings,
                rings=lambda: self.rings,
                returning=lambda: self.returning,
                speeds=lambda: self.speeds,
                conditions=lambda: self.conditions,
                endpoints=tuple,
            )
        )

    def say(self, name: str, *models: Any, trouble: str | None = None, free: int | None = 10**9, **facts: Any) -> None:
        """A node's card."""
        node_id = self.ids[name]
        card = Card(
            node_id=node_id,
            instance_id="run",
            name=name,
            addresses=(),
            wire_version=1,
            llama_version="1",
            shard_format=1,
            facts=facts,
            models=tuple(msgspec.to_builtins(one) if isinstance(one, ModelFacts) else one for one in models),
            free_memory_bytes=free,
        )
        self.contacts[node_id] = Contact(node_id, card, 0.001, trouble, "LAN")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Standing, Standing, dict[str, str], Path]:
    """The coordinator's and a worker's standing, all ids, and the folder."""
    folder = tmp_path_factory.mktemp("swarm")
    registrar, pi = make_swarm(folder)
    workers = {name: make_node(folder, name) for name in ("attic", "cellar")}
    for node in workers.values():
        take_in(registrar, node)
    ids = {"pi": pi.node_id, **{name: node.node_id for name, node in workers.items()}}
    return read_standing(folder / "pi", pi), read_standing(folder / "attic", workers["attic"]), ids, folder


@pytest.fixture
def world(nodes: tuple[Standing, Standing, dict[str, str], Path]) -> World:
    return World(nodes[0], nodes[2], Settings(data_folder=nodes[3]))


def test_a_node_nobody_heard_from_is_there_with_its_trouble_and_no_guesses(world: World) -> None:
    state = world.outlook.swarm(FACTS.digest)
    assert {node.name for node in state.nodes} == {"pi", "attic", "cellar"}
    assert state.coordinator_id == world.ids["pi"] and state.holders == {FACTS.digest: frozenset()}
    for node in state.nodes:
        assert (node.trouble, node.free_bytes, node.bytes_per_s) == ("it has not answered yet", None, None)


def test_what_rings_give_back_counts_as_free_and_answers_overrule_what_a_node_says(world: World) -> None:
    world.say("attic", FACTS, free=5, bytes_per_s=1e9, uses_gpu=True, bad_models=["x", 7])
    world.say("cellar", free=None, bytes_per_s=2e9)
    world.returning = {world.ids["attic"]: 3, world.ids["cellar"]: 3}
    world.speeds = {world.ids["cellar"]: 7e9}
    state = world.outlook.swarm(FACTS.digest)
    known = {node.name: node for node in state.nodes}
    assert (known["attic"].free_bytes, known["cellar"].free_bytes) == (8, None)
    assert (known["attic"].bytes_per_s, known["cellar"].bytes_per_s) == (1e9, 7e9)
    assert known["attic"].uses_gpu and known["attic"].bad_models == {"x"} and known["attic"].place == "LAN"
    assert known["pi"].place == "this-machine" and state.holders == {FACTS.digest: {world.ids["attic"]}}


def test_warm_rings_are_told(world: World) -> None:
    plan = RingPlan(
        ring_id="r",
        model_digest=FACTS.digest,
        n_layer=6,
        holder_id=world.ids["pi"],
        stages=(StagePlan(node_id=world.ids["pi"], first=0, last=6),),
        conditions=Conditions(n_ctx=64),
    )
    shape = ((world.ids["pi"], 0, 6),)
    world.rings = (Warm(plan, shape, {}, {"a": "LAN"}, 0, 0.0),)
    (ring,) = world.outlook.swarm(FACTS.digest).warm
    assert (ring.model_digest, ring.shape) == (FACTS.digest, shape)


def test_only_what_was_seen_over_authenticated_channels_blocks_a_node(world: World) -> None:
    world.say("attic")
    world.say("cellar")
    world.conditions = (
        Condition("copied", "its key is on two machines", "", (world.ids["attic"],), blocks_work=True),
        Condition("rumour", "somebody said so", "", (world.ids["cellar"],)),
    )
    troubles = {node.name: node.trouble for node in world.outlook.swarm("x").nodes}
    assert (troubles["attic"], troubles["cellar"]) == ("its key is on two machines", None)


def test_models_are_found_by_name_and_by_an_unmistakable_digest(world: World) -> None:
    world.say("attic", FACTS, {"a newer": "version's"})
    world.say("cellar", FACTS, OTHER)
    outlook = world.outlook
    assert [(facts.name, set(names)) for facts, names in outlook.models()] == [
        ("other", {"cellar"}),
        ("spore", {"attic", "cellar"}),
    ]
    assert outlook.find("spore").digest == FACTS.digest and outlook.find("EEEEEE").name == "other"
    for wrong in ("eeeee", "nothing", "", "f" * 64):
        with pytest.raises(NotFoundError, match="no node of this swarm holds") as caught:
            outlook.find(wrong)
        assert "other, spore" in caught.value.hint


def test_one_name_for_two_models_is_said_and_the_digest_decides(world: World) -> None:
    world.say("attic", FACTS)
    world.say("cellar", msgspec.structs.replace(OTHER, name="spore"))
    with pytest.raises(NotFoundError, match="more than one model"):
        world.outlook.find("spore")
    assert world.outlook.find("e" * 12).digest == OTHER.digest


def test_a_worker_says_where_prompts_are_decided(nodes: tuple[Standing, Standing, dict[str, str], Path]) -> None:
    outlook = World(nodes[1], nodes[2], Settings(data_folder=nodes[3])).outlook
    with pytest.raises(InputError, match="decided on pi"):
        outlook.find("spore")


def test_all_stages_compute_with_the_threads_of_the_least(world: World) -> None:
    world.say("attic", usable_threads=3.7)
    world.say("cellar", usable_threads=8)
    outlook, ids = world.outlook, world.ids
    assert outlook.threads((ids["attic"], ids["cellar"])) == 3
    assert outlook.threads((ids["cellar"], ids["pi"])) == 8
    assert outlook.threads((ids["pi"],)) == 1
    world.settings = Settings(data_folder=world.settings.data_folder, threads=2)
    assert world.outlook.threads((ids["cellar"],)) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SAID = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("class", "bytes_per_s", "usable_threads", "uses_gpu", "bad_models"), JSON)
)
MODELS = st.builds(dict, st.just(msgspec.to_builtins(OTHER)), **dict.fromkeys(("cuts", "n_layer", "file_bytes"), JSON))


@pytest.mark.slow
@given(facts=SAID, models=st.lists(MODELS, max_size=2))
def test_no_card_breaks_the_outlook(
    nodes: tuple[Standing, Standing, dict[str, str], Path], facts: dict[str, Any], models: list[dict[str, Any]]
) -> None:
    world = World(nodes[0], nodes[2], Settings(data_folder=nodes[3]))
    world.say("attic", *models, FACTS, **facts)
    outlook, node_id = world.outlook, world.ids["attic"]
    (attic,) = (node for node in outlook.swarm(FACTS.digest).nodes if node.name == "attic")
    assert attic.bytes_per_s is None or (math.isfinite(attic.bytes_per_s) and attic.bytes_per_s > 0)
    assert 1 <= outlook.threads((node_id,)) <= 512
    grade = outlook.grade(node_id)
    assert grade is None or isinstance(grade, str)
    assert FACTS in outlook.held(node_id) and outlook.find("spore").name == "spore"
