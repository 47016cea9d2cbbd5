"""Strangers who connect and say nothing keep nobody else out."""

import asyncio
import socket
from typing import Any

import pytest

from mycoswarm.api.listener import Listener
from rings import until

HALF = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer any request."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def is_dropped(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            while await reader.read(1000):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "said", [b"", HALF, HALF + b"\r\n", HALF + b"\r\n" + HALF], ids=["nothing", "half", "one", "more"]
)
def test_a_connection_that_owes_a_request_is_dropped(said: bytes) -> None:
    async def main() -> bool:
        listening = socket.create_server(("127.0.0.1", 0))
        async with asyncio.timeout(10), Listener(hello, [listening], head_s=0.5):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(said)
            try:
                return await is_dropped(reader)
            finally:
                writer.close()

    assert asyncio.run(main())


@pytest.mark.slow
def test_a_crowd_that_says_nothing_leaves_room_for_who_asks() -> None:
    async def main() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        async with asyncio.timeout(10), Listener(hello, [listening], most=5):
            crowd = [await asyncio.open_connection(*listening.getsockname()) for _ in range(20)]
            watched = [asyncio.create_task(is_dropped(reader)) for reader, _ in crowd]
            await until(lambda: sum(task.done() for task in watched) == 15)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(HALF + b"Connection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"hi")
            for _, one in (*crowd, (reader, writer)):
                one.close()
            await asyncio.wait(watched)

    asyncio.run(main())
