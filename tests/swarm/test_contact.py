"""Standing connections, over real peer servers on 127.0.0.1 and real certificates of one swarm."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from household import make_node, make_swarm, run, take_in
from mycoswarm.base.errors import TrustError, UnreachableError
from mycoswarm.swarm.card import WIRE_VERSION, Card
from mycoswarm.swarm.client import MAX_RESETS
from mycoswarm.swarm.contact import Contacts
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.roster import Roster, SignedRoster
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, server_context
from rings import until


def card_of(node: Identity, **changes: Any) -> Card:
    """What a node says of itself."""
    card = Card(
        node_id=node.node_id,
        instance_id="run",
        name=node.name,
        addresses=(),
        wire_version=WIRE_VERSION,
        llama_version="1.0",
        shard_format=1,
    )
    return msgspec.structs.replace(card, **changes)


@dataclass
class Peer:
    """A node that serves. `told` are the numbers of the rosters it was brought; `gate` holds its card back."""

    node: Identity
    card: Card
    server: PeerServer | None = None
    told: list[int] = field(default_factory=list)
    asked: int = 0
    status: int = 204
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        assert self.server is not None
        return f"127.0.0.1:{self.server.port}"

    @property
    def app(self) -> Starlette:
        async def card(request: Request) -> Response:
            self.asked += 1
            await self.gate.wait()
            return Response(msgspec.json.encode(self.card))

        async def ping(request: Request) -> Response:
            return Response(status_code=204)

        async def roster(request: Request) -> Response:
            signed = msgspec.json.decode(await request.body(), type=SignedRoster)
            self.told.append(msgspec.json.decode(signed.body, type=Roster).number)
            return Response(status_code=self.status)

        return Starlette(
            routes=[
                Route("/peer/card", card),
                Route("/peer/ping", ping),
                Route("/peer/roster", roster, methods=["POST"]),
            ]
        )


@dataclass
class Stand:
    """A coordinator's contacts, and its workers by name. `addresses` may be bent; `met` is what was told of them."""

    registrar: Registrar
    contacts: Contacts
    peers: dict[str, Peer]
    addresses: dict[str, tuple[str, ...]]
    met: list[tuple[str, str]]

    def id(self, name: str) -> str:
        return self.peers[name].node.node_id


@asynccontextmanager
async def standing(folder: Path, *names: str, polls: bool = True, enters: bool = False) -> AsyncIterator[Stand]:
    """Serve the nodes; `enters` polls, otherwise the test asks by itself."""
    registrar, mine = make_swarm(folder)
    addresses: dict[str, tuple[str, ...]] = {}
    met: list[tuple[str, str]] = []
    peers: dict[str, Peer] = {}

    def where(node_id: str, hints: Sequence[str]) -> tuple[str, ...]:
        return addresses[node_id]

    async with AsyncExitStack() as stack:
        for name in names:
            node = make_node(folder, name)
            take_in(registrar, node)
            member = node.membership
            assert member is not None
            peer = peers[name] = Peer(node, card_of(node))
            peer.gate.set()
            context = server_context(member.certificate_pem, node.key.pem.decode(), member.authority_pem)
            peer.server = await stack.enter_async_context(
                PeerServer(peer.app, context, bind(["127.0.0.1"], 0))  # type: ignore[arg-type]  # starlette's wider types
            )
            addresses[node.node_id] = (peer.address,)
        member = mine.membership
        assert member is not None
        contacts = Contacts(
            own_id=mine.node_id,
            roster=lambda: (registrar.roster, registrar.signed_roster),
            context=client_context(member.certificate_pem, mine.key.pem.decode(), member.authority_pem),
            addresses=where,
            card=lambda: card_of(mine),
            met=lambda *seen: met.append(seen),
            polls=polls,
        )
        if enters:
            await stack.enter_async_context(contacts)
        yield Stand(registrar, contacts, peers, addresses, met)
        await contacts.__aexit__(None, None, None)


def test_a_connection_is_made_once_and_shared(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            one, other = await asyncio.gather(*(stand.contacts.connect(stand.id("attic")) for _ in range(2)))
            assert one is other and not one.is_closed
        assert one.is_closed  # by leaving

    run(work)


def test_a_lost_connection_is_dialled_anew(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            lost = await stand.contacts.connect(stand.id("attic"))
            lost.abort()
            await until(lambda: lost.is_closed)
            fresh = await stand.contacts.connect(stand.id("attic"))
            assert fresh is not lost and not fresh.is_closed

    run(work)


def test_a_spent_connection_goes_on_for_what_is_open_on_it_and_a_new_one_takes_the_rest(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            peer = stand.peers["attic"]
            peer.gate.clear()
            spent = await stand.contacts.connect(stand.id("attic"))
            last = await spent.open("GET", "/peer/card")
            await last.end()
            for _ in range(MAX_RESETS):
                (await spent.open("POST", "/peer/roster")).reset()
            assert spent.is_spent
            fresh = await stand.contacts.connect(stand.id("attic"))
            peer.gate.set()
            assert fresh is not spent and await last.response(5) == 200 and not spent.is_closed
        assert spent.is_closed and fresh.is_closed

    run(work)


def test_only_the_expected_node_is_accepted_at_an_address(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic", "cellar") as stand:
            stand.addresses[stand.id("attic")] = (stand.peers["cellar"].address,)
            with pytest.raises(TrustError, match="no address led to the expected node"):
                await stand.contacts.connect(stand.id("attic"))
            contact = await stand.contacts.refresh(stand.id("attic"))
            assert contact.trouble is not None and "another node answered" in contact.trouble and contact.card is None

    run(work)


def test_a_stranger_to_the_roster_is_never_dialled(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            with pytest.raises(TrustError, match="not in this swarm's roster"):
                await stand.contacts.connect("0" * 16)
            stand.addresses[stand.id("attic")] = ()
            with pytest.raises(UnreachableError, match="no address of attic is known"):
                await stand.contacts.connect(stand.id("attic"))

    run(work)


def test_a_node_that_shows_anothers_card_is_not_believed(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic", "cellar") as stand:
            stand.peers["attic"].card = card_of(stand.peers["cellar"].node)
            contact = await stand.contacts.refresh(stand.id("attic"))
            assert contact.card is None and contact.trouble is not None and "showed the card of" in contact.trouble
            assert not stand.met

    run(work)


def test_a_look_brings_card_round_trip_place_and_run(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            before = stand.contacts.contact(stand.id("attic"))
            assert (before.trouble, before.card, before.round_trip_s) == ("it has not answered yet", None, None)
            contact = await stand.contacts.refresh(stand.id("attic"))
            assert contact == stand.contacts.contact(stand.id("attic"))
            assert contact.trouble is None and contact.card == stand.peers["attic"].card
            assert contact.round_trip_s is not None and 0 < contact.round_trip_s < 3
            assert contact.place == "this-machine" and stand.met == [(stand.id("attic"), "run")]

    run(work)


def test_a_node_of_another_version_is_known_and_gets_no_work_until_it_is_updated(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            stand.peers["attic"].card = card_of(stand.peers["attic"].node, llama_version="0.9")
            contact = await stand.contacts.refresh(stand.id("attic"))
            assert contact.card is not None and contact.trouble is not None and "attic has 0.9" in contact.trouble
            stand.peers["attic"].card = card_of(stand.peers["attic"].node)
            assert (await stand.contacts.refresh(stand.id("attic"))).trouble is None

    run(work)


def test_each_roster_is_brought_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            node_id, peer = stand.id("attic"), stand.peers["attic"]
            for _ in range(3):
                await stand.contacts.refresh(node_id)
            assert peer.told == [2]
            stand.registrar.change(node_id, tags=("fast",))
            await stand.contacts.tell_all()
            await stand.contacts.refresh(node_id)
            assert peer.told == [2, 3]

    run(work)


def test_a_roster_that_was_not_taken_is_brought_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            peer = stand.peers["attic"]
            peer.status = 500
            contact = await stand.contacts.refresh(stand.id("attic"))
            assert contact.trouble is not None and "did not take the roster" in contact.trouble
            peer.status = 204
            assert (await stand.contacts.refresh(stand.id("attic"))).trouble is None
            assert peer.told == [2, 2]

    run(work)


def test_a_node_that_left_hears_so_and_its_connection_ends(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic") as stand:
            node_id = stand.id("attic")
            await stand.contacts.refresh(node_id)
            connection = await stand.contacts.connect(node_id)
            for gone in stand.registrar.expel(node_id):
                await stand.contacts.farewell(gone)
                stand.contacts.forget(gone)
            assert stand.peers["attic"].told == [2, 3]
            await until(lambda: connection.is_closed)
            await stand.contacts.farewell(node_id)  # nobody is there any more
            assert stand.contacts.contact(node_id).card is None

    run(work)


def test_a_worker_brings_no_rosters_and_says_who_looks(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic", polls=False) as stand:
            trouble = stand.contacts.contact(stand.id("attic")).trouble
            assert trouble is not None and "only the coordinator" in trouble
            assert (await stand.contacts.refresh(stand.id("attic"))).trouble is None
            assert not stand.peers["attic"].told

    run(work)


def test_a_node_that_hangs_delays_no_other_and_leaving_waits_for_none(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic", "cellar", enters=True) as stand:
            stand.peers["attic"].gate.clear()
            async with asyncio.timeout(2):
                await until(lambda: stand.contacts.contact(stand.id("cellar")).trouble is None)
                await until(lambda: stand.peers["attic"].asked > 0)
            assert stand.contacts.contact(stand.id("attic")).trouble == "it has not answered yet"
            stand.peers["attic"].gate.set()

    run(work)


def test_a_mistake_of_ours_leaves_no_good_news_standing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with standing(tmp_path, "attic", "cellar") as stand:
            await stand.contacts.tell_all()
            lost = await stand.contacts.connect(stand.id("attic"))
            lost.abort()
            await until(lambda: lost.is_closed)
            del stand.addresses[stand.id("attic")]  # looking it up is a KeyError from here on
            await stand.contacts.tell_all()
            trouble = stand.contacts.contact(stand.id("attic")).trouble
            assert trouble is not None and "this node's log says why" in trouble
            assert stand.contacts.contact(stand.id("cellar")).trouble is None

    run(work)
    assert "KeyError" in caplog.text
