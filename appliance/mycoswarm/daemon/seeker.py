"""The search server as the owner's routes register it, and as it makes a tool."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mycoswarm.sandbox.toolset import Tool
from mycoswarm.store.finder import Finder

SEARCH = "search_web"


class Seeker:
    """What the owner's routes ask."""

    def __init__(self, finder: Finder, wall_clock: Callable[[], float]) -> None:
        self._finder, self._wall_clock = finder, wall_clock

    async def server(self) -> dict[str, Any]:
        """What is registered; "url" is null where nothing is."""
        known = self._finder.server()
        if known is None:
            return {"url": None}
        return {"url": known.url, "set_at": known.set_at, "set_by": known.set_by}

    async def set_server(self, url: str, by: str) -> dict[str, Any]:
        """Register one; nothing is sent there now, for which node will ask it is a matter of the rules.

        Raises:
            InputError: a bad address.
            StorageError: it could not be kept.
        """
        await asyncio.to_thread(lambda: self._finder.set(url, by=by, now=self._wall_clock()))
        return await self.server()

    async def unset_server(self) -> dict[str, Any]:
        """Forget it.

        Raises:
            NotFoundError: none is registered.
            StorageError: that could not be kept.
        """
        await asyncio.to_thread(self._finder.unset)
        return await self.server()


def with_search(tools: Mapping[str, Tool], finder: Finder) -> dict[str, Tool]:
    """The tools that there are now: the search only where a server is registered, with its address as its means."""
    known = finder.server()
    found = {name: tool for name, tool in tools.items() if name != SEARCH}
    if known is not None:
        found[SEARCH] = replace(tools[SEARCH], means=json.dumps({"url": known.url}))
    return found
