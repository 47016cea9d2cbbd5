"""The official MCP client as a guest of our server, and the server over scripted rings."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from consoles import KEY, Console, console
from mycoswarm.api.assortment import assortment
from mycoswarm.api.console import ConsoleServices
from mycoswarm.api.embassy import USUAL_PAUSES, Embassy, Pauses
from mycoswarm.api.menu import Menu, MenuServices
from mycoswarm.daemon.rehearsal import Rehearsal
from mycoswarm.routing.rule import plain
from mycoswarm.store.apikey import Key
from mycoswarm.wire.plan import Conditions
from rings import Bench

MODES = ("legacy", "2026-07-28")  # with the handshake of `initialize`, and without
Headers = dict[str, str]


@asynccontextmanager
async def guest(url: str, key: str | None, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
    """The official client, let in with a key; `headers` with their hyphens as underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=sent, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as client,
    ):
        yield client


@asynccontextmanager
async def embassy(
    bench: Bench,
    *,
    admit: Callable[[Key | None], None] = lambda key: None,
    pauses: Pauses = USUAL_PAUSES,
    socket_path: Path | None = None,
) -> AsyncIterator[Console]:
    """A console that has the route over this bench, on 127.0.0.1 or the owner's socket."""

    def routes(services: ConsoleServices) -> list[Any]:
        async def rules() -> dict[str, Any]:
            return {"version": 7, "rules": [plain(rule) for rule in bench.rules.rules], "tests": []}

        async def nodes() -> dict[str, Any]:
            return {"nodes": [{"name": n.name, "place": n.place, "trouble": n.trouble} for n in bench.nodes]}

        rehearsal = Rehearsal(
            swarm=bench._swarm,
            models=bench,
            rules=lambda: bench.rules,
            conditions=lambda facts, ids: Conditions(n_ctx=512, n_ubatch=8),
            wall_clock=lambda: 1000.0,
        )
        menu = MenuServices(
            completions=services.completions,
            models=lambda: assortment(services.models(), services.elsewhere()),
            explain=rehearsal.explain,
            rules=rules,
            nodes=nodes,
            admit=admit,
            new_id=bench.new_id,
        )
        return Embassy(Menu(menu), pauses).routes()

    async with console(bench, open_routes=routes, admit=admit, socket_path=socket_path) as c:
        yield c


def address(c: Console) -> str:
    """Where clients begin."""
    return f"http://127.0.0.1:{c.port}/mcp"


def post(c: Console, body: bytes, *headers: str, key: str = KEY) -> bytes:
    """The bytes of a message, as an MCP client sends it."""
    lines = [
        "POST /mcp HTTP/1.1",
        f"Host: 127.0.0.1:{c.port}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
