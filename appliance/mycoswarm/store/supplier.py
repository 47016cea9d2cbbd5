"""MCP servers that the owner registered, what each has told of its tools, and which of them he has allowed.

A tool is on where what the server says of it now is, by digest, what the owner allowed. When it says something else,
the allowance is gone, also if it says the old again later; what it said before is kept beside it until he decides.
Covered: secrets stand in no repr, no error and no log, and are overwritten in the file when a server is removed.
Not covered: who reads the node's own files reads them.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.store.database import Store, Transaction

MAX_SUPPLIERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One tool. `fault`: why it cannot be allowed. `allowed`: the digest that the owner allowed. `before`: what it said
    of itself when it was allowed, where that has changed, (description, schema). `is_there`: the server lists it."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(repr=False)
    digest: str
    fault: str = ""
    allowed: str | None = None
    before: tuple[str, Mapping[str, Any]] | None = field(default=None, repr=False)
    is_there: bool = True

    @property
    def is_on(self) -> bool:
        """Whether it may be used."""
        return self.is_there and not self.fault and self.allowed == self.digest

    @property
    def has_changed(self) -> bool:
        """Whether it is off because it is not any more what the owner allowed."""
        return self.before is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplier:
    """One server: a `command`, or a `url` no further away than `place`. `looked_at`: when it told its tools last."""

    name: str
    command: tuple[str, ...]
    url: str
    place: str
    secrets: Mapping[str, str] = field(repr=False)
    added_at: float
    added_by: str
    looked_at: float | None = None
    supplies: tuple[Supply, ...] = ()

    def find(self, tool: str) -> Supply:
        """One of its tools.

        Raises:
            NotFoundError: it has none of that name.
        """
        found = next((one for one in self.supplies if one.name == tool), None)
        if found is None:
            raise NotFoundError(
                f"the MCP server {self.name} has no tool called {tool[:80]!r}",
                hint=f"`mycoswarm-node mcp show {self.name}` lists them.",
            )
        return found


class Suppliers:
    """All of one node, held in memory. Blocking where it writes; thread-safe."""

    def __init__(self, store: Store) -> None:
        """Read them.

        Raises:
            StorageError: they could not be read.
        """
        self._store, self._changing = store, threading.Lock()
        # Replaced as a whole on each change, so that readers need no lock.
        self._known: dict[str, Supplier] = _read(store)

    def entries(self) -> tuple[Supplier, ...]:
        """All servers by name."""
        return tuple(supplier for _, supplier in sorted(self._known.items()))

    def get(self, name: str) -> Supplier:
        """One server.

        Raises:
            NotFoundError: there is none of that name.
        """
        found = self._known.get(name)
        if found is None:
            raise NotFoundError(
                f"there is no MCP server named {name[:80]!r}", hint="`mycoswarm-node mcp list` shows them."
            )
        return found

    def add(self, supplier: Supplier) -> None:
        """Register a server with the tools that it has told of, all off.

        Raises:
            InputError: its name is taken, or there are too many.
            StorageError: it could not be written.
        """
        with self._changing:
            if supplier.name in self._known:
                raise InputError(
                    f"an MCP server named {supplier.name!r} exists", hint="Take another name, or remove that first."
                )
            if len(self._known) >= MAX_SUPPLIERS:
                raise InputError(f"there are {MAX_SUPPLIERS} MCP servers already", hint="Remove one first.")
            with self._store.transaction() as changes:
                changes.write(
                    "INSERT INTO mcp_servers (name, command, url, place, secrets, added_at, added_by, looked_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        supplier.name,
                        json.dumps(supplier.command),
                        supplier.url,
                        supplier.place,
                        json.dumps(dict(supplier.secrets)),
                        supplier.added_at,
                        supplier.added_by,
                        supplier.looked_at,
                    ),
                )
                _write(changes, supplier)
            self._known = {**self._known, supplier.name: supplier}

    def remove(self, name: str) -> None:
        """Forget a server, its tools and its secrets.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: that could not be written.
        """
        with self._changing:
            self.get(name)
            with self._store.transaction() as changes:
                changes.write("DELETE FROM mcp_tools WHERE server = ?", (name,))
                changes.write("DELETE FROM mcp_servers WHERE name = ?", (name,))
            self._known = {known: one for known, one in self._known.items() if known != name}
            self._store.forget()

    def told(self, name: str, supplies: Iterable[Supply], now: float) -> Supplier:
        """A server has told its tools: what is no more as it was allowed is off.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: that could not be written.
        """
        with self._changing:
            supplier = self.get(name)
            old = {one.name: one for one in supplier.supplies}
            fresh = {one.name: _after(old.get(one.name), one) for one in supplies}
            for one in supplier.supplies:
                if one.name not in fresh and (one.allowed is not None or one.has_changed):
                    fresh[one.name] = replace(_changed(one, one), is_there=False)
            return self._keep(replace(supplier, supplies=tuple(fresh.values()), looked_at=now))

    def allow(self, name: str, tools: Iterable[str]) -> Supplier:
        """Switch tools on, as they describe themselves now.

        Raises:
            NotFoundError: there is no such server, or no such tool of it.
            InputError: one of them cannot be allowed; none was.
            StorageError: that could not be written.
        """
        with self._changing:
            supplier = self.get(name)
            chosen = {supplier.find(tool).name for tool in tools}
            for one in supplier.supplies:
                if one.name in chosen and (one.fault or not one.is_there):
                    why = one.fault or "the server has it no more"
                    raise InputError(f"{one.name} cannot be allowed: {why}", code="cannot_be_allowed")
            return self._switch(supplier, chosen, lambda one: replace(one, allowed=one.digest, before=None))

    def forbid(self, name: str, tools: Iterable[str]) -> Supplier:
        """Switch tools off.

        Raises:
            NotFoundError: there is no such server, or no such tool of it.
            StorageError: that could not be written.
        """
        with self._changing:
            supplier = self.get(name)
            chosen = {supplier.find(tool).name for tool in tools}
            return self._switch(supplier, chosen, lambda one: replace(one, allowed=None, before=None))

    def strike(self, name: str, tool: str, digest: str) -> None:
        """A node found that a tool is not what was allowed by this digest: it is off.

        Raises:
            NotFoundError: there is no such server, or no such tool of it.
            StorageError: that could not be written.
        """
        with self._changing:
            supplier = self.get(name)
            if supplier.find(tool).allowed == digest:  # else the owner has decided anew meanwhile
                self._switch(supplier, {tool}, lambda one: _changed(one, one))

    def _switch(self, supplier: Supplier, chosen: set[str], change: Callable[[Supply], Supply]) -> Supplier:
        supplies = tuple(change(one) if one.name in chosen else one for one in supplier.supplies)
        return self._keep(replace(supplier, supplies=supplies))

    def _keep(self, supplier: Supplier) -> Supplier:
        with self._store.transaction() as changes:
            changes.write("UPDATE mcp_servers SET looked_at = ? WHERE name = ?", (supplier.looked_at, supplier.name))
            changes.write("DELETE FROM mcp_tools WHERE server = ?", (supplier.name,))
            _write(changes, supplier)
        self._known = {**self._known, supplier.name: supplier}
        return supplier


def _after(old: Supply | None, new: Supply) -> Supply:
    """A tool as it is told of now, with what the owner decided on it."""
    if old is None:
        return new
    if old.allowed is not None and old.allowed != new.digest:
        return _changed(old, new)
    return replace(new, allowed=old.allowed, before=old.before)


def _changed(old: Supply, new: Supply) -> Supply:
    return replace(new, allowed=None, before=old.before or (old.description, old.schema))


def _write(changes: Transaction, supplier: Supplier) -> None:
    for place, one in enumerate(supplier.supplies):
        changes.write(
            "INSERT INTO mcp_tools (server, place, tool, description, schema, digest, fault, allowed, before, is_there)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                supplier.name,
                place,
                one.name,
                one.description,
                json.dumps(one.schema),
                one.digest,
                one.fault,
                one.allowed,
                None if one.before is None else json.dumps(one.before),
                int(one.is_there),
            ),
        )


def _read(store: Store) -> dict[str, Supplier]:
    supplies: dict[str, list[Supply]] = {}
    for server, tool, description, schema, digest, fault, allowed, before, is_there in store.read(
        "SELECT server, tool, description, schema, digest, fault, allowed, before, is_there FROM mcp_tools"
        " ORDER BY server, place"
    ):
        past = None if before is None else json.loads(before)
        one = Supply(
            name=str(tool),
            description=str(description),
            schema=json.loads(schema),
            digest=str(digest),
            fault=str(fault),
            allowed=allowed,
            before=None if past is None else (past[0], past[1]),
            is_there=bool(is_there),
        )
        supplies.setdefault(str(server), []).append(one)
    found = store.read("SELECT name, command, url, place, secrets, added_at, added_by, looked_at FROM mcp_servers")
    return {
        str(name): Supplier(
            name=str(name),
            command=tuple(json.loads(command)),
            url=str(url),
            place=str(place),
            secrets=json.loads(secrets),
            added_at=float(at),
            added_by=str(by),
            looked_at=None if looked_at is None else float(looked_at),
            supplies=tuple(supplies.get(str(name), ())),
        )
        for name, command, url, place, secrets, at, by, looked_at in found
    }
