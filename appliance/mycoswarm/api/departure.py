"""Clients that hang up: the work for them ends at once, whether it streams or not."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

Result = TypeVar("Result")


async def while_present(receive: Receive, work: Coroutine[None, None, Result]) -> Result | None:
    """Do the work while the client is there; None where it hung up first. The request's body must have been read.

    The work is cancelled then, and also when this is; either way it has ended on return.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events, whose source is closed as soon as it is over or the client has hung up.

    starlette's own response only cancels the sending: a source that waits for its next reader would stay open.
    """

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(source, headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all."""
        async with aclosing(self._source):
            await while_present(receive, self.stream_response(send))


class LineStream(EventStream):
    """JSON lines, with a source that ends in the same way."""

    media_type = "application/x-ndjson"
