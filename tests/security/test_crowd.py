"""One node of the swarm cannot use up another's files with connections."""

import asyncio
from typing import Any

import pytest

from mycoswarm.base.errors import SwarmError
from mycoswarm.swarm.server import MAX_PER_PEER, PeerServer, bind
from mycoswarm.swarm.tls import server_context
from nodes import CERTIFICATES, TRUSTED, dial_as


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer any request."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.slow
def test_connections_of_one_certificate_are_counted_and_others_still_get_in() -> None:
    async def main() -> None:
        context = server_context(*CERTIFICATES["a"], trusted_pem=TRUSTED)
        async with asyncio.timeout(20), PeerServer(hello, context, bind(["127.0.0.1"], 0)) as server:
            address = [f"127.0.0.1:{server.port}"]
            crowd = [await dial_as("b", address) for _ in range(MAX_PER_PEER)]
            with pytest.raises(SwarmError):
                await dial_as("b", address)
            async with await dial_as("c", address) as other:
                assert (await other.request("GET", "/", timeout_s=5, limit_bytes=1)).status == 204
            for connection in crowd:
                connection.abort()

    asyncio.run(main())
