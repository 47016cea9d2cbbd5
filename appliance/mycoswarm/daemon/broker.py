"""The MCP servers that the owner registered: what he does with them, and their tools as the swarm's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from mycoswarm.api.supply import Sourcing
from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.sandbox.toolset import Tool
from mycoswarm.servers.definition import Definition, Means, checked, whole_name, write_means
from mycoswarm.servers.ware import Ware, spec_of
from mycoswarm.store.supplier import Supplier, Suppliers, Supply
from mycoswarm.swarm.condition import Condition
from mycoswarm.wire.chore import Done

CALL_S = 60.0  # that one call may take, the start of a server included
CHANGED = "tool_changed"  # what a node says of a tool that is not what was allowed

log = logging.getLogger(__name__)

# Starts a server in this node's sandbox, or asks it over HTTP, for its tools and nothing else.
Look = Callable[[Definition], Awaitable[Mapping[str, Ware]]]


class Broker:
    """What the owner's routes ask, and what the toolbox is given."""

    def __init__(self, book: Suppliers, *, look: Look, wall_clock: Callable[[], float]) -> None:
        self._book, self._look, self._wall_clock = book, look, wall_clock
        self._looking = asyncio.Lock()  # one server at a time
        self._tools: tuple[tuple[Supplier, ...], Mapping[str, Tool]] = ((), {})

    def tools(self) -> Mapping[str, Tool]:
        """All that are on, by their names in the swarm."""
        entries = self._book.entries()
        if self._tools[0] != entries:
            made = [_tool(supplier, one) for supplier in entries for one in supplier.supplies if one.is_on]
            self._tools = entries, {tool.spec.name: tool for tool in made}
        return self._tools[1]

    def conditions(self) -> tuple[Condition, ...]:
        """Tools that are off because they are no more what was allowed."""
        found = []
        for supplier in self._book.entries():
            if names := [one.name for one in supplier.supplies if one.has_changed]:
                shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
                found.append(
                    Condition(
                        "mcp_tool_changed",
                        f"the MCP server {supplier.name} is not what you allowed any more; switched off: {shown}",
                        f"Look at it with `mycoswarm-node mcp show {supplier.name}`; `mcp allow` switches on again.",
                    )
                )
        return tuple(found)

    async def ended(self, tool: str, done: Done) -> None:
        """A node has done a call: what it found changed is off for the whole swarm."""
        known = self.tools().get(tool)
        if done.code != CHANGED or known is None or not known.means:
            return
        means = msgspec.json.decode(known.means, type=Means)
        log.warning("%s is not any more what was allowed: it is off", tool)
        try:
            await asyncio.to_thread(self._book.strike, means.definition.server, means.tool, means.digest)
        except NotFoundError:
            pass  # the owner has removed it meanwhile
        except SwarmError as error:
            log.error("that %s is off could not be kept: %s", tool, error.message)

    async def servers(self) -> dict[str, Any]:
        """All servers, each with its tools by name."""
        return {"servers": [_shown(one) for one in self._book.entries()]}

    async def server(self, name: str) -> dict[str, Any]:
        """One server, with all that its tools say of themselves.

        Raises:
            NotFoundError: there is none of that name.
        """
        return _shown_whole(self._book.get(name))

    async def add(self, given: Sourcing, *, check: bool, by: str) -> dict[str, Any]:
        """Register a server; with `check` only after it has told its tools, all of which are off.

        Raises:
            InputError: a bad or taken name, a bad command, URL or secret, or too many servers.
            SwarmError: it does not tell its tools, or this node has no sandbox for it.
            StorageError: it could not be kept.
        """
        try:
            definition = checked(
                Definition(
                    server=given.name,
                    command=given.command,
                    url=given.url,
                    place=given.place,
                    secrets=given.secrets,
                )
            )
        except UnicodeError as exc:
            raise InputError("half a surrogate pair stands in it", code="bad_mcp_server") from exc
        if any(one.name == given.name for one in self._book.entries()):  # before it is started
            raise InputError(
                f"an MCP server named {given.name!r} exists", hint="Take another name, or remove that first."
            )
        supplies = await self._listed(definition) if check else ()
        now = self._wall_clock()
        supplier = Supplier(
            name=definition.server,
            command=definition.command,
            url=definition.url,
            place=definition.place,
            secrets=definition.secrets,
            added_at=now,
            added_by=by,
            looked_at=now if check else None,
            supplies=supplies,
        )
        await asyncio.to_thread(self._book.add, supplier)
        return _shown_whole(supplier)

    async def refresh(self, name: str) -> dict[str, Any]:
        """Have a server tell its tools anew; those that are not as they were allowed are off.

        Raises:
            NotFoundError: there is none of that name.
            SwarmError: it does not tell.
            StorageError: that could not be kept.
        """
        supplies = await self._listed(_definition(self._book.get(name)))
        return _shown_whole(await asyncio.to_thread(self._book.told, name, supplies, self._wall_clock()))

    async def allow(self, name: str, tools: tuple[str, ...]) -> dict[str, Any]:
        """Switch tools on, as they are now.

        Raises:
            NotFoundError: there is no such server, or no such tool of it.
            InputError: one cannot be allowed; none was.
            StorageError: that could not be kept.
        """
        return _shown_whole(await asyncio.to_thread(self._book.allow, name, tools))

    async def forbid(self, name: str, tools: tuple[str, ...]) -> dict[str, Any]:
        """Switch tools off.

        Raises:
            NotFoundError: there is no such server, or no such tool of it.
            StorageError: that could not be kept.
        """
        return _shown_whole(await asyncio.to_thread(self._book.forbid, name, tools))

    async def remove(self, name: str) -> dict[str, Any]:
        """Forget a server and its secrets.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: that could not be kept.
        """
        await asyncio.to_thread(self._book.remove, name)
        return {"name": name}

    async def _listed(self, definition: Definition) -> tuple[Supply, ...]:
        async with self._looking:
            wares = await self._look(definition)
        return tuple(
            Supply(name=one.name, description=one.description, schema=one.schema, digest=one.digest, fault=one.fault)
            for one in wares.values()
        )


def _definition(supplier: Supplier) -> Definition:
    return Definition(
        server=supplier.name,
        command=supplier.command,
        url=supplier.url,
        place="LAN" if supplier.place == "LAN" else "outside",
        secrets=dict(supplier.secrets),
    )


def _tool(supplier: Supplier, one: Supply) -> Tool:
    ware = Ware(one.name, one.description, one.schema, one.digest)
    definition = _definition(supplier)
    means = write_means(Means(definition=definition, tool=one.name, digest=one.digest))
    if supplier.command:
        return Tool(spec_of(supplier.name, ware), "server", CALL_S, means)
    return Tool(spec_of(supplier.name, ware), "network", CALL_S, means, definition.place)


def _shown(supplier: Supplier) -> dict[str, Any]:
    return {
        "name": supplier.name,
        "command": list(supplier.command),
        "url": supplier.url,
        "place": supplier.place if supplier.url else None,
        "secrets": sorted(supplier.secrets),  # their names
        "added_at": supplier.added_at,
        "added_by": supplier.added_by,
        "looked_at": supplier.looked_at,
        "tools": [one.name for one in supplier.supplies],
        "allowed": [one.name for one in supplier.supplies if one.is_on],
        "changed": [one.name for one in supplier.supplies if one.has_changed],
    }


def _shown_whole(supplier: Supplier) -> dict[str, Any]:
    tools = [
        {
            "name": one.name,
            "whole_name": whole_name(supplier.name, one.name),
            "description": one.description,
            "schema": dict(one.schema),
            "is_on": one.is_on,
            "fault": one.fault,
            "is_there": one.is_there,
            "before": None if one.before is None else {"description": one.before[0], "schema": dict(one.before[1])},
        }
        for one in supplier.supplies
    ]
    return {**_shown(supplier), "tools": tools}
