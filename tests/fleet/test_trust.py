"""Nobody outside the swarm gets a prompt or an answer, and who is expelled is out at once."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mycoswarm.base.errors import SwarmError, TrustError, UnreachableError
from mycoswarm.cli.enrol import wait_for_role
from mycoswarm.cli.fleet import Fleet
from mycoswarm.cli.talk import Reply, stream_chat
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.tls import client_context

pytestmark = pytest.mark.slow


def peer_of(fleet: Fleet, index: int = 1) -> str:
    """Where a member's peer listener is."""
    return f"127.0.0.1:{fleet.members[index].call.ask('GET', '/api/node')['peer_port']}"


def ask(fleet: Fleet, route: str, tokens: int = 8) -> str:
    body = {
        "model": "spore",
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    return "".join(stream_chat(fleet.coordinator.call, body, Reply(), route))


async def knock(address: str, context: ssl.SSLContext) -> int:
    """Ask a peer listener for its card with somebody's certificate; gives the HTTP status."""
    connection: Connection = await dial([address], context, lambda der: True, 3.0)
    async with connection:
        reply = await connection.request("GET", "/peer/card", timeout_s=3.0, limit_bytes=1 << 22)
    return reply.status


def refused(address: str, context: ssl.SSLContext) -> bool:
    try:
        asyncio.run(knock(address, context))
    except (TrustError, UnreachableError):
        return True
    return False


def test_an_unenrolled_node_and_another_swarm_are_refused_at_the_handshake(fleet: Fleet, tmp_path: Path) -> None:
    stranger = Identity.load_or_create(tmp_path / "stranger", name="stranger")
    own = client_context(stranger.self_signed_pem, stranger.key.pem.decode(), stranger.self_signed_pem)
    founder = Identity.load_or_create(tmp_path / "founder", name="founder")
    registrar = Registrar.found(tmp_path / "founder", founder)
    assert founder.membership is not None
    other = client_context(
        founder.membership.certificate_pem, founder.key.pem.decode(), registrar.authority.certificate_pem
    )
    for context in (own, other):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the attacker does not mind who answers
        for index in range(3):
            assert refused(peer_of(fleet, index), context)


def test_a_certificate_of_the_swarm_without_a_place_in_the_roster_opens_nothing(fleet: Fleet, tmp_path: Path) -> None:
    ghost = Identity.load_or_create(tmp_path / "ghost", name="ghost")
    home = Identity.load_or_create(fleet.coordinator.folder)
    assert home.membership is not None
    registrar = Registrar.load(fleet.coordinator.folder, home)
    certificate = registrar.authority.issue(ghost.key.public_der)
    context = client_context(certificate, ghost.key.pem.decode(), registrar.authority.certificate_pem)
    assert asyncio.run(knock(peer_of(fleet), context)) == 403


def test_a_worker_may_not_open_rings_or_bring_rosters(fleet: Fleet) -> None:
    worker = Identity.load_or_create(fleet.workers[0].folder)
    assert worker.membership is not None
    member = worker.membership
    context = client_context(member.certificate_pem, worker.key.pem.decode(), member.authority_pem)

    async def try_all() -> list[int]:
        async with await dial([peer_of(fleet, 2)], context, lambda der: True, 3.0) as connection:
            statuses = []
            for path in ("/peer/rings", "/peer/roster"):
                reply = await connection.request("POST", path, body=b"{}\n", timeout_s=5.0, limit_bytes=1 << 16)
                statuses.append(reply.status)
            reply = await connection.request("GET", "/peer/pieces/aa/head", timeout_s=5.0, limit_bytes=1 << 16)
            return [*statuses, reply.status]

    assert asyncio.run(try_all()) == [403, 403, 403]


def test_plain_http_at_the_peer_port_gets_nothing(fleet: Fleet) -> None:
    host, port = peer_of(fleet).split(":")
    with socket.create_connection((host, int(port)), timeout=8) as plain:
        plain.sendall(b"GET /peer/card HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(100)[:4] not in (b"HTTP", b"PRI ")


def test_an_expelled_node_is_out_at_once_and_says_so() -> None:
    with Fleet(workers=2) as own:
        own.enrol()
        route = "split; nodes=worker-1,worker-2"
        assert ask(own, route)
        own.coordinator.call.ask("POST", "/api/expel", {"node": "worker-1"})
        with pytest.raises(SwarmError):
            ask(own, route)
        assert {node["name"] for node in own.nodes()} == {"coordinator", "worker-2"}
        told = own.workers[0].call.ask("GET", "/api/node")
        assert [condition["code"] for condition in told["conditions"]] == ["expelled"]
        worker = Identity.load_or_create(own.workers[0].folder)
        assert worker.membership is not None
        context = client_context(
            worker.membership.certificate_pem, worker.key.pem.decode(), worker.membership.authority_pem
        )
        assert asyncio.run(knock(peer_of(own, 0), context)) == 403
        assert ask(own, "nodes=worker-2")


def test_adoption_shows_one_code_on_both_screens_and_wants_both_owners() -> None:
    with Fleet(workers=1) as own:
        own.find()
        first, fresh = own.coordinator, own.workers[0]
        first.call.ask("POST", "/api/init", {"name": "coordinator"})
        wait_for_role(first.call, "coordinator")
        own.find()
        offered = first.call.ask("POST", "/api/adopt", {"node": "worker-1"})
        deadline = time.monotonic() + 10
        while not (waiting := fresh.call.ask("GET", "/api/adoptions")["adoptions"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert waiting[0]["code"] == offered["code"] and len(offered["code"].replace(" ", "")) == 6
        assert len(own.nodes()) == 1
        confirm = {"code": offered["code"], "accept": True}
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(m.call.ask, "POST", "/api/adopt/answer", confirm) for m in (first, fresh)]
            assert all(one.result()["name"] == "worker-1" for one in both)
        wait_for_role(fresh.call, "worker")
        own.wait_ready()
        assert {node["name"] for node in own.nodes()} == {"coordinator", "worker-1"}


def test_a_second_daemon_on_a_folder_and_a_busy_port_are_typed_errors(fleet: Fleet, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-P", "-m", "mycoswarm.cli.entry", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    again = run("--data", str(fleet.coordinator.folder), "run", "--interface", "127.0.0.1")
    assert again.returncode == 1 and "already runs" in again.stderr
    busy = run("--data", str(tmp_path), "run", "--peer", peer_of(fleet), "--interface", "127.0.0.1")
    assert busy.returncode == 1 and "in use" in busy.stderr and "Traceback" not in busy.stderr
