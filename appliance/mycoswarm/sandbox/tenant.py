"""A program that stays in the sandbox, as the daemon sees it: bytes to it, bytes from it, and how it ended."""

import asyncio
import contextlib

from mycoswarm.base.errors import SetupError
from mycoswarm.sandbox.guest import READY

READY_S = 20.0  # until the sandbox stands and its limits hold, on a slow card
WRITE_S = 10.0  # that a program may leave its input unread
LAST_S = 1.0  # for its last words, where it still holds its pipe
MAX_WORDS = 2000  # bytes of its complaints that are kept, the last ones


class Tenant:
    """`jail.hold` makes it, watches it, and ends it. `why`: what it was stopped for, "" where it was not."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # all are pipes
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._complaint, self._has_said_all = bytearray(), asyncio.Event()
        self.why = ""

    async def begin(self, task: bytes) -> None:
        """Give the runner its task, and wait until it becomes the program.

        Raises:
            SetupError: the sandbox could not be started.
        """
        first = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(READY_S):
                self._in.write(task + b"\n")
                await self._in.drain()
                first = await self._out.read(1)
        if first != READY:
            why = await self.complaint()
            raise SetupError(f"the sandbox could not be started: {why}", code="sandbox_failed")

    async def read(self) -> bytes:
        """What it says next; b"" when it says no more."""
        return await self._out.read(1 << 16)

    async def write(self, data: bytes) -> None:
        """Say something to it.

        Raises:
            SetupError: it has ended, or does not listen.
        """
        try:
            async with asyncio.timeout(WRITE_S):
                self._in.write(data)
                await self._in.drain()
        except (TimeoutError, ConnectionError) as exc:
            raise SetupError("the program does not listen", code="ended") from exc

    async def listen(self) -> None:
        """Take its complaints for as long as it makes any."""
        while part := await self._err.read(1 << 14):
            self._complaint += part
            del self._complaint[:-MAX_WORDS]
        self._has_said_all.set()

    async def complaint(self) -> str:
        """The last line that it complained with. It may hold what the owner keeps secret: it is for him alone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._has_said_all.wait()
        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it does not say why"
