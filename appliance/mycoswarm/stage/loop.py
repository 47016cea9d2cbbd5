"""A ring as one of its stages sees it: changes come in from the stage before and go out to the stage after."""

import asyncio
from typing import Protocol

from mycoswarm.wire.frame import Change


class Loop(Protocol):
    """The way in and the way out."""

    async def send(self, frame: Change) -> None:
        """Hand a change to the next stage.

        Raises:
            RingError: the ring is lost.
        """

    async def receive(self) -> Change:
        """Take the next change from the stage before.

        Raises:
            RingError: the ring is lost.
        """


class Loopback:
    """A ring of one stage: what is sent comes back."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Change] = asyncio.Queue()

    async def send(self, frame: Change) -> None:
        """Hand a change to oneself."""
        self._frames.put_nowait(frame)

    async def receive(self) -> Change:
        """Take the next change."""
        return await self._frames.get()
