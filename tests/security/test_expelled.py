"""Who is expelled gets not one more step of an answer: every connection to it ends, those of open rings too."""

from pathlib import Path
from typing import Any

import pytest

from household import make_node, make_swarm, run, take_in
from mycoswarm.base.errors import TrustError
from mycoswarm.swarm.contact import Contacts
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, server_context
from rings import until


async def hold(scope: Any, receive: Any, send: Any) -> None:
    """Keep a request open, as a ring's stream is."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (await receive())["type"] == "http.request":
        pass


def test_the_connection_of_an_open_ring_ends_with_its_node_in_the_roster(tmp_path: Path) -> None:
    async def work() -> None:
        registrar, coordinator = make_swarm(tmp_path)
        node = make_node(tmp_path, "attic")
        take_in(registrar, node)
        mine, theirs = coordinator.membership, node.membership
        assert mine is not None and theirs is not None
        serving = server_context(theirs.certificate_pem, node.key.pem.decode(), theirs.authority_pem)
        server = PeerServer(hold, serving, bind(["127.0.0.1"], 0))
        async with server:
            contacts = Contacts(
                own_id=coordinator.node_id,
                roster=lambda: (registrar.roster, registrar.signed_roster),
                context=client_context(mine.certificate_pem, coordinator.key.pem.decode(), mine.authority_pem),
                addresses=lambda node_id, hints: (f"127.0.0.1:{server.port}",),
                card=lambda: pytest.fail("nobody asks for it"),
                met=lambda node_id, instance_id: None,
                polls=False,
            )
            async with contacts, await contacts.fresh(node.node_id) as ring:
                stream = await ring.open("POST", "/peer/rings")
                assert await stream.response(5) == 200
                for gone in registrar.expel(node.node_id):
                    contacts.forget(gone)
                await until(lambda: ring.is_closed)
                with pytest.raises(TrustError):
                    await contacts.fresh(node.node_id)

    run(work)
