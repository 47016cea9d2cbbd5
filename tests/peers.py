"""Two peers on 127.0.0.1 that know each other's certificates, and a small app between them. Also a child to kill."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mycoswarm.stage.fence import FencedLoop
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, ephemeral_certificate, fingerprint, server_context

SERVER = ephemeral_certificate("server")
CLIENT = ephemeral_certificate("client")
STRANGER = ephemeral_certificate("stranger")

both_loops = pytest.mark.parametrize(
    "run", [asyncio.run, partial(uvloop.run, loop_factory=FencedLoop)], ids=["asyncio", "uvloop"]
)
Run = Callable[[Coroutine[Any, Any, None]], None]


class Witness:
    """The app, and what it saw. `gate` holds back the slow routes until it is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gone = asyncio.Event()
        self.began = asyncio.Event()
        self.sent_bytes = 0
        self.read_bytes = 0

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST"]),
                Route("/whoami", self.whoami, methods=["GET", "POST"]),
                Route("/flood", self.flood),
                Route("/sink", self.sink, methods=["POST"]),
                Route("/early", self.early, methods=["POST"]),
                Route("/boom", self.boom),
                Route("/hold", self.hold, methods=["POST"]),
            ]
        )

    async def echo(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            async for chunk in request.stream():
                if chunk:
                    yield chunk

        return StreamingResponse(body())

    async def whoami(self, request: Request) -> Response:
        body = await request.body()
        peer = fingerprint(request.scope["state"]["peer_der"])
        return JSONResponse({"peer": peer, "bytes": len(body), "query": request.url.query})

    async def flood(self, request: Request) -> Response:
        """As many pieces of 256 KB as the query says; byte i of a piece is its number."""

        async def body() -> AsyncIterator[bytes]:
            for number in range(int(request.url.query)):
                yield bytes((number % 256,)) * (256 << 10)
                self.sent_bytes += 256 << 10
                self.began.set()

        return StreamingResponse(body())

    async def sink(self, request: Request) -> Response:
        """Reads nothing until the gate opens."""
        self.began.set()
        await self.gate.wait()
        async for chunk in request.stream():
            self.read_bytes += len(chunk)
        return JSONResponse({"bytes": self.read_bytes})

    async def early(self, request: Request) -> Response:
        """Answers without reading the request."""
        return Response(status_code=413)

    async def boom(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"half of"
            await self.gate.wait()
            raise RuntimeError("the app broke")

        return StreamingResponse(body())

    async def hold(self, request: Request) -> Response:
        """A hop: answers at once, then reads until the client is gone."""

        async def body() -> AsyncIterator[bytes]:
            yield b"here"
            self.began.set()
            try:
                async for chunk in request.stream():
                    self.read_bytes += len(chunk)
            except ClientDisconnect:
                pass
            finally:
                self.gone.set()

        return StreamingResponse(body())


@asynccontextmanager
async def serving(witness: Witness, context: ssl.SSLContext | None = None) -> AsyncIterator[PeerServer]:
    context = context or server_context(*SERVER, trusted_pem=CLIENT[0])
    async with PeerServer(witness.app, context, bind(["127.0.0.1"], 0)) as server:
        yield server


async def connect(port: int, context: ssl.SSLContext | None = None) -> Connection:
    context = context or client_context(*CLIENT, trusted_pem=SERVER[0])
    return await dial([f"127.0.0.1:{port}"], context, lambda der: True, 5)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Witness, PeerServer, Connection]]:
    """A server, and a client connected to it. Everything in it has 30 s."""
    witness = Witness()
    async with asyncio.timeout(30), serving(witness) as server, await connect(server.port) as connection:
        yield witness, server, connection


async def ask(connection: Connection, path: str = "/whoami", **request: Any) -> dict[str, Any]:
    """One small exchange, which shows that the connection is well."""
    reply = await connection.request("GET", path, timeout_s=10, limit_bytes=1 << 20, **request)
    assert reply.status == 200, reply
    answer: dict[str, Any] = json.loads(reply.body)
    return answer


def child(role: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Start this file as a process of its own; its first line says that it is ready."""
    (folder / "certificates.json").write_text(json.dumps({"server": SERVER, "client": CLIENT}))
    command = [sys.executable, __file__, role, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path)})


async def _child_main(role: str, folder: str, *arguments: str) -> None:
    certificates = json.loads(await asyncio.to_thread(Path(folder, "certificates.json").read_text))
    server, client = certificates["server"], certificates["client"]
    if role == "server":
        async with serving(Witness(), server_context(*server, trusted_pem=client[0])) as peer:
            print(peer.port, flush=True)
            await asyncio.sleep(60)
    else:
        context = client_context(*client, trusted_pem=server[0])
        async with await connect(int(arguments[0]), context) as connection:
            stream = await connection.open("POST", "/hold")
            await stream.send(b"x")
            print(await stream.response(5), flush=True)
            await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(_child_main(*sys.argv[1:]))
