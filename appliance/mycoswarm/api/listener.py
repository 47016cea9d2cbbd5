"""Serves an app over HTTP/1.1 on sockets that are already bound, until left. Signals stay with the daemon."""

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from mycoswarm.base.errors import SetupError

START_S = 5.0
GRACE_S = 2.0  # for open answers when the node stops
IDLE_S = 75  # as browsers and SDKs keep a connection for the next request


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Listener:
    """`async with Listener(app, sockets)`: serving while inside."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        self._sockets = list(sockets)
        self._server = _Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=int(GRACE_S),
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="console")
        async with asyncio.timeout(START_S):
            while not self._server.started:
                if self._task.done():
                    self._task.result()
                    raise SetupError("the console could not start")
                await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task:
            done, _ = await asyncio.wait({self._task}, timeout=GRACE_S + 2)
            if not done:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for one in self._sockets:
            one.close()
