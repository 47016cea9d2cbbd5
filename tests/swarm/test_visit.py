"""Enrolment over real TLS on 127.0.0.1: join tokens and adoption, and all that must not get through."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from household import make_node, make_swarm, run
from mycoswarm.base.errors import EnrolmentError, SwarmError, UnreachableError
from mycoswarm.swarm.adoption import Adoption
from mycoswarm.swarm.desk import AdoptionDesk, TokenDesk
from mycoswarm.swarm.door import MAX_PER_ADDRESS, Door
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.roster import HeldRoster
from mycoswarm.swarm.token import parse_token
from mycoswarm.swarm.visit import begin_adoption, join


class Clock:
    """A wall clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def token_door(registrar: Registrar, identity: Identity, clock: Callable[[], float] | None = None) -> Door:
    desk = TokenDesk(registrar, identity, **({"clock": clock} if clock else {}))
    return Door(desk, identity, hosts=["127.0.0.1"])


async def opened(door: Door, registrar: Registrar, *, lifetime_s: float = 60, uses: int = 1) -> str:
    """Mint a token for a door that listens, and open it."""
    registrar.mint_token(("127.0.0.1:1",), lifetime_s=lifetime_s, uses=1)  # opens the door, to know its port
    await door.refresh()
    return registrar.mint_token((f"127.0.0.1:{door.port}",), lifetime_s=lifetime_s, uses=uses).text


async def eventually(holds: Callable[[], bool], limit_s: float = 5) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.005)


def test_a_node_with_a_token_becomes_a_worker_of_that_swarm(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        node = make_node(tmp_path, "box")
        async with token_door(registrar, pi) as door:
            text = await opened(door, registrar)
            enrolled = await join(parse_token(text), node, addresses=("127.0.0.1:6927",))
        assert node.role == "worker" and enrolled.name == "box"
        again = Identity.load_or_create(tmp_path / "box")
        assert again.membership == enrolled.membership and again.node_id == node.node_id
        assert again.membership is not None and again.membership.coordinator_id == pi.node_id
        held = HeldRoster(
            again.folder, swarm_id=registrar.authority.swarm_id, authority_pem=again.membership.authority_pem
        )
        assert held.roster == registrar.roster
        entry = registrar.roster.find(node.node_id)
        assert entry is not None and entry.addresses == ("127.0.0.1:6927",)

    run(work)


def test_a_door_is_shut_before_the_first_token_and_after_the_last(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        heard: list[int | None] = []
        door = Door(TokenDesk(registrar, pi), pi, hosts=["127.0.0.1", "::1"], on_change=heard.append)
        async with door:
            assert door.port is None
            text = registrar.mint_token(("127.0.0.1:1",)).text
            await door.refresh()
            assert door.port is not None
            port = door.port
            token = replace(parse_token(text), addresses=(f"[::1]:{port}", f"127.0.0.1:{port}"))
            await join(token, make_node(tmp_path, "box"))
            await door.refresh()
            assert door.port is None and heard == [port, None]
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            registrar.mint_token(("127.0.0.1:1",))
            await door.refresh()
            assert door.port == port
        assert door.port is None

    run(work)


def test_an_expired_token_lets_nobody_in(tmp_path: Path) -> None:
    async def work() -> None:
        clock = Clock()
        registrar, pi = make_swarm(tmp_path)
        registrar = Registrar(pi, registrar.authority, clock=clock)
        async with token_door(registrar, pi, clock) as door:
            text = await opened(door, registrar, lifetime_s=60)
            registrar.mint_token(("127.0.0.1:1",), lifetime_s=600)  # so that the door stays open
            clock.now += 61
            node = make_node(tmp_path, "box")
            with pytest.raises(EnrolmentError, match="expired"):
                await join(parse_token(text), node)
            assert node.role == "unclaimed" and len(registrar.roster.entries) == 1

    run(work)


@pytest.mark.slow
def test_a_used_token_lets_nobody_else_in_but_the_same_node_may_ask_again(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        async with token_door(registrar, pi) as door:
            token = parse_token(await opened(door, registrar))
            first = make_node(tmp_path, "first")
            await join(token, first)
            second = make_node(tmp_path, "second")
            with pytest.raises(EnrolmentError, match="used already"):
                await join(token, second)
            assert second.role == "unclaimed"
            first.leave()  # as if the grant had been lost on its way
            await join(token, first)
            assert first.role == "worker" and len(registrar.roster.entries) == 2
            registrar.expel(first.node_id)
            first.leave()
            with pytest.raises(EnrolmentError):
                await join(token, first)

    run(work)


@pytest.mark.slow
def test_a_token_with_another_secret_or_another_swarm_is_refused_by_the_right_side(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        other, _ = make_swarm(tmp_path, "other")
        async with token_door(registrar, pi) as door:
            token = parse_token(await opened(door, registrar))
            node = make_node(tmp_path, "box")
            with pytest.raises(EnrolmentError, match="secret does not hold"):
                await join(replace(token, secret=bytes(16)), node)
            with pytest.raises(EnrolmentError, match="does not know"):
                await join(replace(token, token_id="00" * 6), node)
            with pytest.raises(EnrolmentError, match="another swarm"):
                await join(replace(token, swarm_id=other.authority.swarm_id), node)
            assert node.role == "unclaimed" and len(registrar.roster.entries) == 1
            await join(token, node)  # none of it used the token up

    run(work)


def test_a_machine_in_between_cannot_pass_for_the_tokens_coordinator(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, _ = make_swarm(tmp_path)
        rogue_registrar, rogue = make_swarm(tmp_path, "rogue")
        node = make_node(tmp_path, "box")
        async with token_door(rogue_registrar, rogue) as door:
            await opened(door, rogue_registrar)
            token = replace(registrar.mint_token(("127.0.0.1:1",)), addresses=(f"127.0.0.1:{door.port}",))
            with pytest.raises(UnreachableError, match="another machine answers"):
                await join(token, node)
            forged = replace(token, coordinator_id=rogue.node_id)  # as if its key had the right id
            with pytest.raises(EnrolmentError):
                await join(forged, node)
        assert node.role == "unclaimed"

    run(work)


def test_an_enrolled_node_joins_no_other_swarm(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        _, other = make_swarm(tmp_path, "other")
        async with token_door(registrar, pi) as door:
            token = parse_token(await opened(door, registrar))
            with pytest.raises(EnrolmentError, match="already"):
                await join(token, other)

    run(work)


class Screen:
    """An unclaimed node with its door and its owner's screen."""

    def __init__(self, folder: Path, name: str) -> None:
        self.node = make_node(folder, name)
        self.offers: list[Adoption] = []
        self.desk = AdoptionDesk(self.node, addresses=lambda: ("127.0.0.1:6927",), on_offer=self.offers.append)
        self.door = Door(self.desk, self.node, hosts=["127.0.0.1"])

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"127.0.0.1:{self.door.port}",)


@pytest.mark.parametrize("first", ["node", "coordinator"])
def test_both_screens_show_one_code_and_both_must_confirm(tmp_path: Path, first: str) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        screen = Screen(tmp_path, "box")
        async with (
            screen.door,
            begin_adoption(registrar, pi, node_id=screen.node.node_id, addresses=screen.addresses) as here,
        ):
            await eventually(lambda: bool(screen.offers))
            there = screen.offers[0]
            assert here.code == there.code and len(here.code) == 6 and here.code.isdigit()
            assert (here.peer_name, there.peer_name) == ("box", "pi") and there.peer_id == pi.node_id
            (there if first == "node" else here).confirm()
            await asyncio.sleep(0.05)
            assert screen.node.role == "unclaimed" and len(registrar.roster.entries) == 1
            (here if first == "node" else there).confirm()
            assert await here.outcome() == await there.outcome() == "box"
            assert screen.node.role == "worker" and registrar.roster.find(screen.node.node_id) is not None
            await screen.door.refresh()
            assert screen.door.port is None and not screen.desk.pending()

    run(work)


@pytest.mark.parametrize("where", ["node", "coordinator"])
def test_a_refusal_on_either_screen_ends_it_on_both(tmp_path: Path, where: str) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        screen = Screen(tmp_path, "box")
        async with (
            screen.door,
            begin_adoption(registrar, pi, node_id=screen.node.node_id, addresses=screen.addresses) as here,
        ):
            await eventually(lambda: bool(screen.offers))
            there = screen.offers[0]
            (there if where == "coordinator" else here).confirm()
            (there if where == "node" else here).refuse()
            for side in (here, there):
                with pytest.raises(EnrolmentError, match="refused"):
                    await side.outcome()
            assert screen.node.role == "unclaimed" and len(registrar.roster.entries) == 1

    run(work)


def test_a_coordinator_that_walks_away_ends_it_on_the_nodes_screen(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        screen = Screen(tmp_path, "box")
        async with screen.door:
            async with begin_adoption(registrar, pi, node_id=screen.node.node_id, addresses=screen.addresses):
                await eventually(lambda: bool(screen.offers))
            with pytest.raises(SwarmError):
                await screen.offers[0].outcome()
            assert screen.node.role == "unclaimed"

    run(work)


def test_somebody_in_between_makes_the_codes_differ(tmp_path: Path) -> None:
    """The strongest there is: it owns a swarm and a node, and joins the owner's two exchanges by hand."""

    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        rogue_registrar, rogue = make_swarm(tmp_path, "rogue")
        victim, decoy = Screen(tmp_path, "victim"), Screen(tmp_path, "decoy")
        async with (
            victim.door,
            decoy.door,
            # The owner was shown the decoy under the victim's name; the rogue offers itself to the victim as the Pi.
            begin_adoption(registrar, pi, node_id=decoy.node.node_id, addresses=decoy.addresses) as shown_to_owner,
            begin_adoption(rogue_registrar, rogue, node_id=victim.node.node_id, addresses=victim.addresses),
        ):
            await eventually(lambda: bool(victim.offers and decoy.offers))
            assert shown_to_owner.code != victim.offers[0].code  # once in 10^6 this fails
            decoy.offers[0].confirm()  # all that the rogue can confirm
            await asyncio.sleep(0.05)
            assert victim.node.role == "unclaimed" and len(registrar.roster.entries) == 1

    run(work)


def test_another_machine_at_the_picked_nodes_address_is_not_adopted(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        screen = Screen(tmp_path, "box")
        async with screen.door:
            with pytest.raises(UnreachableError, match="another machine answers"):
                async with begin_adoption(registrar, pi, node_id="0" * 32, addresses=screen.addresses):
                    pass

    run(work)


def test_a_node_takes_only_so_many_offers(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        screen = Screen(tmp_path, "box")
        async with screen.door:
            for _ in range(10):
                async with begin_adoption(registrar, pi, node_id=screen.node.node_id, addresses=screen.addresses):
                    pass
            with pytest.raises(EnrolmentError, match="too often"):
                async with begin_adoption(registrar, pi, node_id=screen.node.node_id, addresses=screen.addresses):
                    pass

    run(work)


def test_garbage_at_the_door_costs_only_its_own_visit(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        async with token_door(registrar, pi) as door:
            token = parse_token(await opened(door, registrar))
            plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", door.port)
            plain_writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in await plain_reader.read()
            plain_writer.close()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context, server_hostname="")
            writer.write(b'{"word":"claim","proof":"","signature":""}\n')
            assert b'"refusal"' in await reader.readline()
            writer.close()
            await join(token, make_node(tmp_path, "box"))

    run(work)


def test_a_door_takes_only_so_many_visitors_from_one_address(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        async with token_door(registrar, pi) as door:
            await opened(door, registrar)
            silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(MAX_PER_ADDRESS)]
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            assert await reader.read() == b""
            for _, open_writer in [*silent, (reader, writer)]:
                open_writer.close()

    run(work)
