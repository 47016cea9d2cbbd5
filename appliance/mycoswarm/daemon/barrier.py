"""An appliance's packet filter, asked to let through what the egress guard has just opened, before it is dialled.

Its service (firmware/root/usr/lib/mycoswarm/wicket.py) takes one line and answers one. It decides nothing for us: what
the guard does not permit is not asked for, and where the service refuses or is silent the kernel refuses the connection
by itself. Then the words that are given here say why.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mycoswarm.swarm.dial import parse_address
from mycoswarm.swarm.place import Place, place_of

# What the service writes into the appliance's journal for it. It knows these and no others.
Errand = Literal["endpoint", "pull", "server", "page", "search"]

ASK_S = 3.0  # 0.015 s on two busy server cores, nearly all of it nft's start; a small board is slower
ANSWER_BYTES = 4096

log = logging.getLogger(__name__)


class _Question(msgspec.Struct, frozen=True):
    purpose: Errand
    ways: list[tuple[str, int]]


class _Answer(msgspec.Struct, frozen=True):
    """`refused`: why nothing was opened."""

    refused: str | None = None


class Barrier:
    """`path`: the service's socket, None where there is none. `place`: where an address is, by this machine's own
    networks alone: these pass the filter anyway."""

    def __init__(self, path: Path | None, place: Callable[[str], Place] = place_of) -> None:
        self._path, self._place = path, place

    async def ask(self, errand: Errand, addresses: Sequence[str]) -> str | None:
        """Have addresses ("host:port" in numbers) let through for a while; gives words where they are not."""
        if self._path is None or not addresses:
            return None
        # In a thread: listing the machine's networks reads the operating system's tables.
        outside = await asyncio.to_thread(lambda: [text for text in addresses if self._place(text) == "outside"])
        if not outside:
            return None
        ways = [(where.host, where.port) for where in map(parse_address, outside)]
        try:
            async with asyncio.timeout(ASK_S):
                why = (await _answered(self._path, _Question(errand, ways))).refused
        except (OSError, ValueError, msgspec.MsgspecError) as exc:
            log.warning("the packet filter's service does not answer: %s", exc or type(exc).__name__)
            why = "its service does not answer"
        return None if why is None else f"the appliance's packet filter was not opened for it, because {why}"


async def _answered(path: Path, question: _Question) -> _Answer:
    """One question and its answer; raises OSError, and ValueError or msgspec's error for what is no answer."""
    reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES)
    try:
        writer.write(msgspec.json.encode(question) + b"\n")
        return msgspec.json.decode(await reader.readline(), type=_Answer)
    finally:
        writer.transport.abort()
