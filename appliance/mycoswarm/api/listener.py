"""Serves an app over HTTP/1.1 on sockets that are already bound, until left. Signals stay with the daemon.

Covered: strangers who open connections and say nothing, or a request's head letter by letter (uvicorn waits for ever).
Not covered: floods that fill the network itself.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from mycoswarm.base.errors import SetupError

START_S = 5.0
GRACE_S = 2.0  # for open answers when the node stops
IDLE_S = 75  # as browsers and SDKs keep a connection for the next request
LOOK_S = 1.0
PAUSE_S = 0.005  # between looks whether all are answered, when it stops
TICK_S = 1.0  # as often as uvicorn writes the date anew
MAX_CONNECTIONS = 512  # half of the files that a process may usually open

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Leaves as soon as it is told to and nobody is answered any more; uvicorn looks ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # 0: have the date that goes with answers written anew
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        state, clock = self.server_state, asyncio.get_running_loop().time
        for connection in list(state.connections):
            connection.shutdown()
        deadline = clock() + GRACE_S
        while (state.connections or state.tasks) and clock() < deadline:  # noqa: ASYNC110  # they are uvicorn's own sets
            await asyncio.sleep(PAUSE_S)
        for task in state.tasks:
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Listener:
    """`async with Listener(app, sockets)`: serving while inside; the sockets are closed on leaving.

    Raises on entering:
        SetupError: it cannot serve on them.
    """

    def __init__(
        self, app: ASGIApp, sockets: Sequence[socket.socket], *, head_s: float = IDLE_S, most: int = MAX_CONNECTIONS
    ) -> None:
        """`head_s`: so long a connection may be without a whole request's head. `most` connections are kept."""
        self._sockets, self._head_s, self._most = list(sockets), head_s, most
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
            )
        )
        self._task: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="console")
        self._watcher = asyncio.create_task(self._watch(), name="console connections")
        try:
            async with asyncio.timeout(START_S):
                while not self._server.started:
                    if self._task.done():
                        self._task.result()
                        raise SetupError("the console could not start")
                    await asyncio.sleep(0.005)
        except (OSError, TimeoutError) as exc:
            await self.__aexit__(None, None, None)
            raise SetupError(f"the console could not start: {exc or type(exc).__name__}") from exc
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.leave()
        if self._watcher:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._task:
            done, _ = await asyncio.wait({self._task}, timeout=GRACE_S + 2)
            if not done:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for one in self._sockets:
            one.close()

    async def _watch(self) -> None:
        """Drop who owes us a request's head for too long; where there are too many connections, the longest first."""
        clock = asyncio.get_running_loop().time
        waiting: dict[
            Any, tuple[object, float]
        ] = {}  # by connection: its last request, and since when there is no other
        while True:
            await asyncio.sleep(LOOK_S)
            live = list(self._server.server_state.connections)
            idle = [each for each in live if isinstance(each, H11Protocol) and _owes_a_request(each)]
            before, waiting = waiting, {}
            for each in idle:
                cycle, since = before.get(each, (None, 0.0))
                waiting[each] = (each.cycle, since if each in before and cycle is each.cycle else clock())
            longest = sorted(idle, key=lambda each: waiting[each][1])
            crowd = longest[: max(0, len(live) - self._most)]
            for each in {*crowd, *(each for each in idle if clock() - waiting[each][1] > self._head_s)}:
                each.transport.abort()
            if crowd:
                log.warning(
                    "%d console connections are open; %d that ask for nothing are dropped", len(live), len(crowd)
                )


def _owes_a_request(connection: H11Protocol) -> bool:
    """Whether no request has come on it, or the last one is answered."""
    cycle: RequestResponseCycle | None = connection.cycle
    return cycle is None or cycle.response_complete
