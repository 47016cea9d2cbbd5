"""What the owner is answered, by the steward of a real home; contacts and the node around it are fakes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from household import make_node, run, take_in
from models import write_random_model
from mycoswarm.api.owner import OwnerServices
from mycoswarm.base.errors import (
    EnrolmentError,
    InputError,
    NotFoundError,
)
from mycoswarm.base.settings import Settings
from mycoswarm.daemon.home import Home, open_home
from mycoswarm.daemon.outlook import Outlook, Sources
from mycoswarm.daemon.standing import Standing, read_standing
from mycoswarm.daemon.steward import RESTART_S, Parts, Steward
from mycoswarm.external.target import Passage
from mycoswarm.store.apikey import Terms
from mycoswarm.swarm.card import Card
from mycoswarm.swarm.contact import Contact
from mycoswarm.swarm.registrar import Registrar
from rings import Bench, until


@dataclass
class FakeContacts:
    """What a steward asks of contacts, and in which order it did."""

    known: dict[str, Contact] = field(default_factory=dict)
    did: list[tuple[str, str]] = field(default_factory=list)

    def contact(self, node_id: str) -> Contact:
        return self.known.get(node_id, Contact(node_id, None, None, "it has not answered yet"))

    async def refresh(self, node_id: str) -> Contact:
        self.did.append(("refresh", node_id))
        return self.contact(node_id)

    async def farewell(self, node_id: str) -> None:
        self.did.append(("farewell", node_id))

    async def tell_all(self) -> None:
        self.did.append(("tell", "all"))


@dataclass
class Stand:
    """A steward's answers, its home, and what it asked of the node around it."""

    ask: OwnerServices
    home: Home
    standing: Standing
    steward: Steward
    contacts: FakeContacts
    restarts: list[float] = field(default_factory=list)

    async def add(self, path: Path, name: str | None = None) -> list[dict[str, Any]]:
        return [event async for event in self.ask.add_model(str(path), name)]


@asynccontextmanager
async def steward_of(folder: Path, *, role: str = "unclaimed") -> AsyncIterator[Stand]:
    """The steward of the node "pi" in this role."""
    settings = Settings(data_folder=folder / "pi", name="pi")
    with open_home(settings) as home:
        if role == "coordinator":
            Registrar.found(settings.data_folder, home.identity)
        elif role == "worker":
            other = make_node(folder, "other")
            take_in(Registrar.found(folder / "other", other), home.identity)
        standing = read_standing(settings.data_folder, home.identity)
        contacts, restarts = FakeContacts(), []
        parts = Parts(
            home=home,
            standing=standing,
            contacts=contacts,  # type: ignore[arg-type]  # a fake
            addresses=lambda: ("127.0.0.1:7",),
            restart=lambda: restarts.append(asyncio.get_running_loop().time()),
            open_enrolment=nullcontext,
            open_adoption=nullcontext,
            passage=Passage(permit=lambda purpose, addresses, names: nullcontext()),
            note=lambda kind, body, request_id: "",
            cut=lambda gone: contacts.did.append(("cut", *gone)),  # type: ignore[arg-type]  # one at a time
        )
        outlook = Outlook(
            Sources(
                standing=standing,
                contact=contacts.contact,
                settings=settings,
                rings=tuple,
                returning=dict,
                speeds=dict,
                conditions=tuple,
                endpoints=tuple,
            )
        )
        async with Bench().chat() as chat, Steward(parts, door_hosts=("127.0.0.1",), door_port=0) as steward:
            services = steward.services(chat, outlook, lambda: {"role": standing.role})
            yield Stand(services, home, standing, steward, contacts, restarts)


def card(node_id: str, **facts: Any) -> Card:
    """A card with these facts."""
    return Card(
        node_id=node_id,
        instance_id="run",
        name="pi",
        addresses=("127.0.0.1:7",),
        wire_version=1,
        llama_version="1",
        shard_format=1,
        facts=facts,
        models=({"name": 7}, {"no": "model"}),
        free_memory_bytes=5,
    )


@pytest.mark.slow
def test_founding_names_the_node_and_has_it_built_anew_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path) as stand:
            told = await stand.ask.found("attic")
            assert told["name"] == "attic" and stand.home.identity.role == "coordinator"
            with pytest.raises(EnrolmentError, match="belongs to the swarm"):
                await stand.ask.found("again")
            assert stand.home.identity.name == "attic" and not stand.restarts
            await until(lambda: stand.restarts)
        assert len(stand.restarts) == 1

    run(work)


@pytest.mark.slow
def test_who_leaves_the_steward_is_not_built_anew_later(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path) as stand:
            await stand.ask.found(None)
        await asyncio.sleep(RESTART_S + 0.05)  # the timer would have rung
        assert not stand.restarts

    run(work)


@pytest.mark.slow
def test_what_only_a_coordinator_can_do_is_refused_elsewhere(tmp_path: Path) -> None:
    async def work() -> None:
        for role in ("unclaimed", "worker"):
            async with steward_of(tmp_path / role, role=role) as stand:
                for doing in (stand.ask.token(60, 1), stand.ask.expel("x"), stand.ask.adopt("x")):
                    with pytest.raises(NotFoundError, match="no coordinator"):
                        await doing
                assert (stand.steward.door_port is None) == (role == "worker")

    run(work)


def test_a_token_opens_the_door_and_names_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path, role="coordinator") as stand:
            stand.home.ports["door"] = 1  # as Site.door_port leaves it
            assert stand.steward.door_port is None
            told = await stand.ask.token(60, 2)
            assert told["token"] and told["uses"] == 2 and stand.steward.door_port
            with pytest.raises(InputError):
                await stand.ask.token(1e12, 1)

    run(work)


def test_an_expelled_node_hears_it_first_is_cut_off_then_and_the_others_hear_last(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path, role="coordinator") as stand:
            node = make_node(tmp_path, "attic")
            take_in(stand.standing.coordinating(), node)
            told = await stand.ask.expel("attic")
            assert told == {"name": "attic", "node_id": node.node_id}
            assert stand.contacts.did == [("farewell", node.node_id), ("cut", node.node_id), ("tell", "all")]
            with pytest.raises(NotFoundError):
                await stand.ask.expel("attic")
            with pytest.raises(InputError):
                await stand.ask.expel("pi")

    run(work)


@pytest.mark.slow
def test_a_worker_leaves_and_a_coordinator_cannot(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path / "w", role="worker") as stand:
            assert await stand.ask.leave() == {}
            assert stand.home.identity.role == "unclaimed"
        async with steward_of(tmp_path / "c", role="coordinator") as stand:
            with pytest.raises(InputError, match="swarm would be lost"):
                await stand.ask.leave()

    run(work)


def test_adopting_whom_nobody_heard_and_codes_that_nobody_showed_are_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path, role="coordinator") as stand:
            with pytest.raises(NotFoundError, match="no candidate is heard"):
                await stand.ask.adopt("attic")
            assert stand.ask.adoptions() == {"adoptions": []}
            with pytest.raises(NotFoundError, match="no adoption waits") as caught:
                await stand.ask.answer_adoption("123 456", True)
            assert "Do not confirm" in caught.value.hint

    run(work)


@pytest.mark.parametrize("said", [None, "a text", ["a list"], {"name": 7}, {"name": "worker"}])
def test_the_list_of_nodes_shows_what_cards_say_however_odd_they_are(tmp_path: Path, said: Any) -> None:
    async def work() -> None:
        async with steward_of(tmp_path, role="coordinator") as stand:
            node_id = stand.home.identity.node_id
            stand.contacts.known[node_id] = Contact(
                node_id, card(node_id, **{"class": said, "bytes_per_s": "fast"}), 0.1, None
            )
            told = await stand.ask.nodes()
            (shown,) = told["nodes"]
            assert shown["class"] == ("worker" if said == {"name": "worker"} else None)
            assert (shown["bytes_per_s"], shown["models"], shown["free_memory_bytes"]) == (None, [], 5)
            assert shown["is_this"] and shown["place"] == "this-machine" and told["is_coordinator"]
            assert told["candidates"] == [] and told["announced_s"] is None

    run(work)


def test_an_unclaimed_node_does_not_offer_to_adopt(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path) as stand:
            assert not (await stand.ask.nodes())["is_coordinator"]

    run(work)


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    async def work() -> None:
        async with steward_of(tmp_path) as stand:
            terms = Terms(labels=("private",), user="ana", is_owner=True, requests_per_minute=5, tokens_per_day=6)
            made = await stand.ask.create_key("desk", terms)
            key = stand.home.keys.check(made["key"])
            assert key is not None and key.name == "desk"
            (listed,) = (await stand.ask.keys())["keys"]
            assert listed["made_at"] == key.made_at and made["key"] not in str(listed)
            assert listed == {**terms, "name": "desk", "made_at": listed["made_at"], "used_at": None}
            await stand.ask.revoke_key("desk")
            assert stand.home.keys.check(made["key"]) is None
            with pytest.raises(NotFoundError):
                await stand.ask.revoke_key("desk")

    run(work)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["coordinator", "worker"])
def test_whoever_decides_learns_of_its_own_new_models_at_once(tmp_path: Path, role: str) -> None:
    file = write_random_model(tmp_path / "file.gguf", n_layer=2, width=64, vocab=320)

    async def work() -> None:
        async with steward_of(tmp_path, role=role) as stand:
            await stand.add(file, "tiny")
            refreshed = ("refresh", stand.home.identity.node_id) in stand.contacts.did
            assert refreshed == (role == "coordinator")

    run(work)
