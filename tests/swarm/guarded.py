"""Dials and enrolment visits under an egress guard to which nothing is this machine. Prints how each ended, as JSON.

guarded.py LOOP FOLDER
"""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import SwarmError
from mycoswarm.stage.fence import FencedLoop
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.tls import client_context
from mycoswarm.swarm.visit import _reach
from peers import CLIENT, SERVER, Witness, ask, serving


async def _ended(way: Awaitable[Connection]) -> list[str]:
    try:
        async with await way as connection:
            await ask(connection)
    except SwarmError as exc:
        return [type(exc).__name__, exc.code, exc.message]
    return ["connected"]


async def _dials(guard: Guard) -> dict[str, list[str]]:
    async with asyncio.timeout(30), serving(Witness()) as server:
        context = client_context(*CLIENT, trusted_pem=SERVER[0])
        here, named, other = f"127.0.0.1:{server.port}", f"localhost:{server.port}", "127.0.0.2:9"

        async def go(*addresses: str, purpose: str = "") -> list[str]:
            opened = {"opening": guard.opening(purpose)} if purpose else {}
            return await _ended(dial(addresses, context, lambda der: True, 5, **opened))

        told = {"refused": await go(here, other), "name refused": await go(named, "stranger.test:9")}
        told["opened"] = await go(here, purpose="nodes")
        told["name opened"] = await go(named, purpose="nodes")
        told["closed again"] = await go(here)
        with guard.permitted("nodes", addresses=[here]):
            told["one of two"] = await go(other, here)
            told["unreachable"] = await go(other, purpose="nodes")
        return told


async def _visits(guard: Guard, folder: Path) -> dict[str, list[str]]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        identity = Identity.load_or_create(folder, name="visitor")
        told = {}
        for key, opening in (("visit refused", Guard().opening("none")), ("visit opened", guard.opening("enrolment"))):
            try:
                async with asyncio.timeout(0.5):
                    await _reach(identity, [f"127.0.0.1:{port}"], lambda public: True, opening)
            except SwarmError as exc:
                told[key] = [type(exc).__name__, exc.code, exc.message]
            except TimeoutError:
                told[key] = ["connected"]  # and it waits for a TLS hello
        return told


async def main(guard: Guard, folder: Path) -> None:
    """All of it."""
    print(json.dumps(await _dials(guard) | await _visits(guard, folder)), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=FencedLoop if sys.argv[1] == "fenced" else asyncio.new_event_loop) as runner:
        runner.run(main(install(Guard(is_loopback=lambda raw: False)), Path(sys.argv[2])))
