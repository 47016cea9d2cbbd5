"""MCP servers over HTTP for tests: the package's own, and some that misbehave, on a port of 127.0.0.1."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from mycoswarm.api.listener import Listener
from mycoswarm.servers.definition import Definition

App = Callable[..., Awaitable[None]]


@dataclass
class Remote:
    """A server that listens. `heard`: method, path and headers of each request."""

    url: str
    heard: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def definition(self, **secrets: str) -> Definition:
        """As the owner registers it."""
        return Definition(server="remote", url=self.url, place="LAN", secrets=secrets)


def made() -> MCPServer:
    """A server with a few tools."""
    server = MCPServer("remote")

    @server.tool()
    def add(one: int, two: int) -> int:
        """Add two numbers."""
        return one + two

    @server.tool()
    async def ask(context: Context) -> str:
        """Ask whoever calls to sample."""
        try:
            await context.session.list_roots()
        except Exception as error:
            return str(error)
        return "granted"

    @server.tool()
    async def sleep() -> str:
        """Take a minute."""
        await asyncio.sleep(60)
        return "slept"

    return server


@asynccontextmanager
async def remote(app: App | None = None, **options: Any) -> AsyncIterator[Remote]:
    """Serve while inside: the package's own server, or this app."""
    server = made()
    inner: Any = app or server.streamable_http_app(**options)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        one = Remote(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp")

        async def heard(scope: Any, receive: Any, send: Any) -> None:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            one.heard.append((scope["method"], scope["path"], headers))
            await inner(scope, receive, send)

        async with Listener(heard, [sock]):
            if app is not None:
                yield one
            else:
                async with server.session_manager.run():
                    yield one


def answering(status: int, body: bytes = b"", **headers: str) -> App:
    """An app that always answers the same."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return app


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """An app whose answer does not end for long; once nobody listens, uvicorn waits for nothing more."""
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    notice = json.dumps({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "x" * 100_000}})
    for _ in range(200):
        await send({"type": "http.response.body", "body": f"data: {notice}\n\n".encode(), "more_body": True})
