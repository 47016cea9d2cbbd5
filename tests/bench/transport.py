"""Round trips on one open stream with mutual TLS 1.3: the peer channel beside raw asyncio streams, alternating.

Prints medians and their ratios; the server is a process of its own and runs the same kind of loop as the client.
"""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import platform
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from multiprocessing.connection import Connection as Pipe
from typing import Any

import uvloop

from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, server_context
from peers import CLIENT, SERVER

SMALL_BYTES, LARGE_BYTES = 8192, 4 << 20  # one decoded token and one prefill chunk of a wide model
ROUNDS, SMALL, LARGE = 9, 400, 4

Message = dict[str, Any]
Echo = Callable[[bytes], Awaitable[None]]
LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


async def echo_app(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
    """A hop that gives back what it gets."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (message := await receive())["type"] == "http.request":
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
        if not message["more_body"]:
            return


async def echo_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def serve(pipe: Pipe) -> None:
    context = server_context(*pipe.recv())
    raw = await asyncio.start_server(echo_raw, "127.0.0.1", 0, ssl=context)
    async with PeerServer(echo_app, context, bind(["127.0.0.1"], 0)) as server:
        pipe.send((raw.sockets[0].getsockname()[1], server.port))
        await asyncio.to_thread(pipe.recv)
    raw.close()


async def measure(ports: tuple[int, int]) -> None:
    context = client_context(*CLIENT, trusted_pem=SERVER[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[0], ssl=context, server_hostname="")
    connection = await dial([f"127.0.0.1:{ports[1]}"], context, lambda der: True, 5)
    stream = await connection.open("POST", "/hop")

    async def raw(message: bytes) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(reader.readexactly(len(message)))
            writer.write(message)
            await writer.drain()

    async def raw_small(message: bytes) -> None:
        writer.write(message)
        await reader.readexactly(len(message))

    async def channel_small(message: bytes) -> None:
        await stream.send(message)
        left = len(message)
        while left:
            left -= len(await stream.receive() or b"")

    async def channel(message: bytes) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(stream.send(message))
            left = len(message)
            while left:
                left -= len(await stream.receive() or b"")

    await compare("8 KB", "µs", 1e6, SMALL_BYTES, SMALL, raw_small, channel_small)
    await compare("4 MB", "ms", 1e3, LARGE_BYTES, LARGE, raw, channel)
    await stream.end()
    await connection.close()
    writer.transport.abort()


async def compare(name: str, unit: str, scale: float, size: int, count: int, raw: Echo, channel: Echo) -> None:
    """Alternate rounds of both; the median of rounds' medians, as other work on the machine comes in bursts."""
    message = bytes(range(256)) * (size // 256)
    rounds: dict[str, list[float]] = {"raw TLS streams": [], "peer channel": []}
    gc.collect()
    for number in range(ROUNDS + 1):
        for (_, medians), echo in zip(rounds.items(), (raw, channel), strict=True):
            times = []
            for _ in range(count):
                begun = time.perf_counter()
                await echo(message)
                times.append(time.perf_counter() - begun)
            if number:  # the first round warms up
                medians.append(statistics.median(times))
    (_, base), (_, ours) = rounds.items()
    for kind, medians in rounds.items():
        print(f"  {name} there and back, {kind}: {statistics.median(medians) * scale:.1f} {unit}")
    print(f"  ratio {statistics.median(ours) / statistics.median(base):.2f}")


def main() -> None:
    print(f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, {platform.machine()}, {os.cpu_count()} CPUs")
    spawning = multiprocessing.get_context("spawn")
    for name, run in LOOPS.items():
        print(f"{name} on both sides")
        ours, theirs = spawning.Pipe()
        server = spawning.Process(target=_serve, args=(name, theirs), daemon=True)
        server.start()
        ours.send((*SERVER, CLIENT[0]))
        run(measure(ours.recv()))
        ours.send(None)
        server.join(5)


def _serve(name: str, pipe: Pipe) -> None:
    LOOPS[name](serve(pipe))


if __name__ == "__main__":
    main()
