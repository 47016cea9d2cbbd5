"""A process whose guard takes loopback for any other network, and that calls a tool of an HTTP server there."""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecuritySettings

from hostels import Lodge
from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import EgressError
from mycoswarm.daemon.border import Border
from mycoswarm.external.target import Passage
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.servers.definition import Definition
from remotes import remote


def knock(port: int) -> str:
    with socket.socket() as sock:
        try:
            sock.connect(("127.0.0.1", port))
        except EgressError:
            return "refused"
    return "connected"


async def course(guard: Guard, folder: Path) -> dict[str, Any]:
    border, looked_up = Border(guard, named=()), list[str]()
    anywhere = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # it is called by a name here
    async with remote(transport_security=anywhere) as one:
        port = urlsplit(one.url).port or 0

        async def resolve(host: str, wanted: int) -> list[str]:
            looked_up.append(host)
            return [f"127.0.0.1:{wanted}"]

        passage = Passage(permit=border.outward("server"), place=border.place, resolve=resolve)
        lodge = Lodge(SandboxLevel("limits", None, False, (), (), "none"), folder, passage)
        definition = Definition(server="remote", url=f"http://remote.test:{port}/mcp", place="LAN")
        told: dict[str, Any] = {"before": knock(port)}
        ware = (await lodge.wares(definition))["add"]
        told["answer"] = (await lodge.call(definition, "add", ware, one=12, two=30)).text
        told |= {"looked_up": looked_up, "after": knock(port), "open": len(list(guard.permits()))}
    return {**told, "barred": sum(each.count for each in guard.drain())}


if __name__ == "__main__":
    held = install(Guard(is_loopback=lambda raw: False))
    print(json.dumps(asyncio.run(course(held, Path(sys.argv[1])))))
