"""Membership over the real peer channel: certificates of the swarm's authority, and the roster behind them."""

import asyncio
import ssl
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from household import make_node, make_swarm, run, take_in
from mycoswarm.base.errors import SwarmError, TrustError
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.key import node_id_of
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, fingerprint, server_context


async def _hello(_: Request) -> Response:
    return PlainTextResponse("hello")


def serving(identity: Identity) -> PeerServer:
    return PeerServer(Starlette(routes=[Route("/hello", _hello)]), _contexts(identity)[0], bind(["127.0.0.1"], 0))


def _contexts(identity: Identity) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    membership = identity.membership
    assert membership is not None
    own = (membership.certificate_pem, identity.key.pem.decode(), membership.authority_pem)
    return server_context(*own), client_context(*own)


def cut_off(server: PeerServer, registrar: Registrar, node_id: str) -> int:
    gone = registrar.expel(node_id)
    return server.close_connections(lambda der: node_id_of(fingerprint(der)) in gone)


@pytest.mark.slow
def test_an_expelled_nodes_live_connection_closes_and_its_certificate_opens_no_roster(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        box, other = make_node(tmp_path, "box"), make_node(tmp_path, "other")
        for node in (box, other):
            take_in(registrar, node)
        async with serving(pi) as server:
            where = [f"127.0.0.1:{server.port}"]
            mine = await dial(where, _contexts(box)[1], lambda der: fingerprint(der) == pi.fingerprint, 5)
            theirs = await dial(where, _contexts(other)[1], lambda der: fingerprint(der) == pi.fingerprint, 5)
            for connection in (mine, theirs):
                stream = await connection.open("GET", "/hello", [])
                await stream.end()
                assert await stream.receive() == b"hello"
            assert cut_off(server, registrar, box.node_id) == 1
            with pytest.raises(SwarmError):
                async with asyncio.timeout(5):
                    while True:
                        stream = await mine.open("GET", "/hello", [])
                        await stream.end()
                        await stream.receive()
            stream = await theirs.open("GET", "/hello", [])
            await stream.end()
            assert await stream.receive() == b"hello"
            assert not registrar.roster.holds(box.fingerprint) and registrar.roster.holds(other.fingerprint)
            await mine.close()
            await theirs.close()

    run(work)


@pytest.mark.slow
def test_another_swarm_and_an_unenrolled_node_do_not_get_through_the_handshake(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, pi = make_swarm(tmp_path)
        _, rogue = make_swarm(tmp_path, "rogue")
        alone = make_node(tmp_path, "alone")
        authority = registrar.authority.certificate_pem
        async with serving(pi) as server:
            for certificate, key in (
                (rogue.membership.certificate_pem if rogue.membership else "", rogue.key),
                (alone.self_signed_pem, alone.key),
            ):
                context = client_context(certificate, key.pem.decode(), authority)
                with pytest.raises(TrustError):
                    await dial([f"127.0.0.1:{server.port}"], context, lambda _: True, 5)

    run(work)
