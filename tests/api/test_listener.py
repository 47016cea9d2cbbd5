"""Serving on sockets until left."""

import asyncio
import socket

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from household import run
from mycoswarm.api.listener import Listener
from mycoswarm.base.errors import SetupError
from mycoswarm.swarm.server import bind


async def hello(request: Request) -> Response:
    """Answer."""
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", hello)])


async def get(port: int) -> bytes:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    data = await reader.read()
    writer.close()
    return data


@pytest.mark.slow
def test_it_serves_while_inside_and_frees_its_port() -> None:
    async def work() -> None:
        sockets = bind(["127.0.0.1"], 0)
        port = sockets[0].getsockname()[1]
        for _ in range(2):
            async with Listener(APP, sockets):
                assert (await get(port)).endswith(b"hello")
            with pytest.raises(ConnectionRefusedError):
                await get(port)
            assert all(one.fileno() == -1 for one in sockets)
            sockets = bind(["127.0.0.1"], port)
        for one in sockets:
            one.close()
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    run(work)


def test_a_socket_that_cannot_be_served_is_an_error_and_leaves_nothing() -> None:
    async def work() -> None:
        dead = socket.socket()
        dead.close()
        before = asyncio.all_tasks()
        with pytest.raises(SetupError, match="could not start"):
            async with Listener(APP, [dead]):
                pass
        assert asyncio.all_tasks() == before

    run(work)


@pytest.mark.slow
@pytest.mark.parametrize(("takes_s", "is_whole"), [(0.3, True), (60.0, False)])
def test_an_answer_that_is_under_way_may_end_and_one_that_does_not_is_cut_off(takes_s: float, is_whole: bool) -> None:
    async def work() -> None:
        begun = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            begun.set()
            await asyncio.sleep(takes_s)
            await send({"type": "http.response.body", "body": b"whole"})

        sockets = bind(["127.0.0.1"], 0)
        async with Listener(slow, sockets):
            asking = asyncio.create_task(get(sockets[0].getsockname()[1]))
            await begun.wait()
        assert (b"whole" in await asyncio.wait_for(asking, 5)) is is_whole

    run(work)
