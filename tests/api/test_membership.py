"""Rosters come from the coordinator only, over the real peer channel."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette

from household import make_node, make_swarm, run, take_in
from mycoswarm.api.membership import membership_routes
from mycoswarm.api.refusal import on_bug, on_swarm_error
from mycoswarm.base.errors import SwarmError
from mycoswarm.swarm.client import Connection, Reply
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.roster import MAX_BODY_BYTES, HeldRoster
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, server_context


@dataclass
class Stand:
    """The worker "attic" that serves, its coordinator "pi", and a worker "cellar". `cut`: those to be cut off."""

    registrar: Registrar
    nodes: dict[str, Identity]
    held: HeldRoster
    port: int
    cut: list[frozenset[str]] = field(default_factory=list)

    async def connect(self, name: str) -> Connection:
        node = self.nodes[name]
        assert node.membership is not None
        context = client_context(node.membership.certificate_pem, node.key.pem.decode(), node.membership.authority_pem)
        return await dial([f"127.0.0.1:{self.port}"], context, lambda der: True, 5)

    async def post(self, name: str, body: bytes) -> Reply:
        async with await self.connect(name) as connection:
            return await connection.request("POST", "/peer/roster", body=body, timeout_s=5, limit_bytes=1 << 16)


@asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[Stand]:
    registrar, pi = make_swarm(folder)
    attic, cellar = make_node(folder, "attic"), make_node(folder, "cellar")
    take_in(registrar, attic)
    take_in(registrar, cellar)
    member = attic.membership
    assert member is not None
    held = HeldRoster(attic.folder, swarm_id=member.swarm_id, authority_pem=member.authority_pem)
    stand = Stand(registrar, {"pi": pi, "attic": attic, "cellar": cellar}, held, 0)
    app = Starlette(
        routes=list(membership_routes(lambda: held.roster, held.accept, stand.cut.append)),
        exception_handlers={SwarmError: on_swarm_error, Exception: on_bug},
    )
    context = server_context(member.certificate_pem, attic.key.pem.decode(), member.authority_pem)
    async with PeerServer(app, context, bind(["127.0.0.1"], 0)) as server:  # type: ignore[arg-type]  # starlette's wider types
        stand.port = server.port
        yield stand


def test_a_newer_roster_of_the_coordinator_counts_and_cuts_off_who_left(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path) as stand:
            assert (await stand.post("pi", msgspec.json.encode(stand.registrar.signed_roster))).status == 204
            gone = stand.registrar.expel(stand.nodes["cellar"].node_id)
            body = msgspec.json.encode(stand.registrar.signed_roster)
            for _ in range(2):  # told twice is no harm
                assert (await stand.post("pi", body)).status == 204
            assert stand.held.roster == stand.registrar.roster
            assert [one for one in stand.cut if one] == [gone]

    run(work)


def test_another_worker_brings_no_roster_even_a_true_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path) as stand:
            # The worker got a roster when it was taken in, so it knows its coordinator.
            before = stand.held.roster
            assert before.coordinator is not None
            stand.registrar.change(stand.nodes["attic"].node_id, tags=("fast",))
            reply = await stand.post("cellar", msgspec.json.encode(stand.registrar.signed_roster))
            assert reply.status == 403 and b"not_the_coordinator" in reply.body
            assert stand.held.roster == before and not stand.cut

    run(work)


def test_an_older_roster_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path) as stand:
            old = msgspec.json.encode(stand.registrar.signed_roster)
            stand.registrar.change(stand.nodes["attic"].node_id, tags=("fast",))
            assert (await stand.post("pi", msgspec.json.encode(stand.registrar.signed_roster))).status == 204
            reply = await stand.post("pi", old)
            assert reply.status == 403 and b"old_roster" in reply.body
            assert stand.held.roster == stand.registrar.roster

    run(work)


@pytest.mark.slow
def test_what_is_no_roster_is_a_typed_error(tmp_path: Path) -> None:
    wrong = (b"", b"{}", b"\xff", b"[" * 100_000, b'{"body": 1}', b" " * (2 * MAX_BODY_BYTES + 1))

    async def work() -> None:
        async with standing(tmp_path) as stand:
            for body in wrong:
                reply = await stand.post("pi", body)
                assert reply.status == 502 and b"protocol_error" in reply.body, body[:20]
            assert not stand.cut

    run(work)


def test_a_ping_is_an_empty_answer(tmp_path: Path) -> None:
    async def work() -> None:
        async with standing(tmp_path) as stand, await stand.connect("cellar") as connection:
            reply = await connection.request("GET", "/peer/ping", timeout_s=5, limit_bytes=10)
            assert (reply.status, reply.body) == (204, b"")

    run(work)
