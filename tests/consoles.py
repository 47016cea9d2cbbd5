"""The real console app behind the real listener on 127.0.0.1, over scripted rings; and openai's own clients for it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mycoswarm.api.completion import USUAL_WAITS, Completions, Waits
from mycoswarm.api.console import ConsoleServices, console_app, socket_app
from mycoswarm.api.embedding import Embeddings
from mycoswarm.api.gate import Doorway
from mycoswarm.api.listener import Listener
from mycoswarm.api.session import Porch
from mycoswarm.base.errors import StorageError
from mycoswarm.store.apikey import Key
from rings import FACTS, Bench, FakeRing

KEY = "msk-right"
OWNER_KEY = "msk-owner"
KEYS = {KEY: Key("desk", 0.0), OWNER_KEY: Key("boss", 0.0, is_owner=True)}


@dataclass
class Console:
    """A console that serves on `port`. `uses` are the key names that the doorway was told of; `keys` those it knows."""

    bench: Bench
    port: int
    uses: list[str] = field(default_factory=list)
    note_fault: StorageError | None = None
    keys: dict[str, Key] = field(default_factory=lambda: dict(KEYS))

    @property
    def url(self) -> str:
        """Where openai's clients begin."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def ring(self) -> FakeRing:
        """The newest ring."""
        return self.bench.rings[-1]

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        """An async client that does not try again by itself."""
        return openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=10)

    def blocking(self, key: str = KEY) -> openai.OpenAI:
        """The same, blocking."""
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=10)

    async def raw(self, text: str | bytes) -> bytes:
        """Send bytes on a connection of their own, and read until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(text.encode() if isinstance(text, str) else text)
            await writer.drain()
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str, *headers: str, host: str | None = None) -> tuple[int, bytes]:
        """One GET: status and body."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", "Connection: close", *headers]
        answer = await self.raw("\r\n".join([*lines, "", ""]))
        return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]

    def post(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST with the right key."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {KEY}\r\n"
        return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def owner(request: Request) -> JSONResponse:
    """A route for the owner only."""
    return JSONResponse({"hello": "owner"})


@asynccontextmanager
async def console(
    bench: Bench | None = None,
    *,
    waits: Waits = USUAL_WAITS,
    socket_path: Path | None = None,
    owner_routes: Sequence[Route] = (),
    open_routes: Callable[[ConsoleServices], Sequence[Route]] = lambda services: (),
    admit: Callable[[Key | None], None] = lambda key: None,
    porch: Porch | None = None,
    check: Callable[[str], Key | None] | None = None,
) -> AsyncIterator[Console]:
    """Serve while the block runs: the app for clients, or on `socket_path` the owner's, which has `/v1/owner` too."""
    bench = bench or Bench()
    listener = socket.socket(socket.AF_UNIX if socket_path else socket.AF_INET)
    listener.bind(str(socket_path) if socket_path else ("127.0.0.1", 0))
    made = Console(bench, 0 if socket_path else listener.getsockname()[1])

    async def note(name: str) -> None:
        if made.note_fault:
            raise made.note_fault
        made.uses.append(name)

    async with asyncio.timeout(30), bench.chat() as chat:
        services = ConsoleServices(
            completions=Completions(chat, lambda: 1234.5, bench.new_id, admit=admit, waits=waits),
            embeddings=Embeddings(chat, bench.new_id, admit=lambda key: None, body_s=waits.body_s),
            doorway=Doorway(
                names=lambda: frozenset({"127.0.0.1", "localhost", "::1", "attic.local"}),
                check=check or (lambda secret: made.keys.get(secret)),
                note=note,
                porch=porch,
            ),
            models=lambda: [(FACTS, ("attic",))],
            health=lambda: {"status": "ok"},
            elsewhere=dict,
        )
        more = open_routes(services)
        if socket_path:
            app = socket_app(services, [Route("/v1/owner", owner), *more])
        else:
            app = console_app(services, owner_routes, more)
        async with Listener(app, [listener]):
            yield made
