"""The node's side of a tool stream: nonce, ticket, ledger, then the call in its jail, and what came of it."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mycoswarm.base.errors import BusyError, ProtocolError, SwarmError, TicketError, UnreachableError
from mycoswarm.sandbox.clearance import IsSigned, check
from mycoswarm.sandbox.ground import find_level
from mycoswarm.sandbox.haul import Haul
from mycoswarm.sandbox.jail import Errand, Jail, empty
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.runner import Ended
from mycoswarm.sandbox.toolset import TOOLS, WITH_FILES
from mycoswarm.sandbox.workspace import Workspaces
from mycoswarm.wire.chore import MAX_TEXT, Chore, Done, Failed, Farewell, Greeting, ToolLine, read_chore, write_chore
from mycoswarm.wire.line import LineSplitter
from mycoswarm.wire.ticket import RELEASE, Sealed, ToolTicket

OPEN_S = 10.0  # from our nonce to the coordinator's order
SAY_S = 10.0
MAX_AT_ONCE = 8  # calls on one node; each may take a core and a gibibyte
BUSY_S = 5
SPACE, SCRATCH = "workspaces", "scratch"

log = logging.getLogger(__name__)


class Channel(Protocol):
    """Both directions of a tool stream, as bytes."""

    async def send(self, data: bytes) -> None:
        """Send bytes; waits for room."""

    async def receive(self) -> bytes | None:
        """Take the next bytes; None at the end."""


class Servers(Protocol):
    """The MCP servers of this node; servers/hostel.py."""

    def needs_files(self, means_text: str) -> bool:
        """Whether a call with these means works in its run's workspace."""

    async def call(self, errand: Errand, means_text: str, workspace_id: str, jail: Jail) -> Ended:
        """Do one call; raises SwarmError where it could not be begun."""

    async def release(self, workspace_id: str) -> None:
        """End all that works in a workspace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkshopServices:
    """What the workshop needs of the node. `record` writes a ticket into the node's own ledger before anything runs;
    `refuse` work that was asked for without one that holds. `folder` is the data folder. `reach` goes out for a tool
    that needs the network, given its name, arguments and means; what it brings in is read in the jail. `servers` None:
    it takes none."""

    node_id: str
    swarm_id: str
    folder: Path
    is_signed: IsSigned
    record: Callable[[Sealed, ToolTicket], Awaitable[None]]
    refuse: Callable[[Sealed | None, SwarmError], Awaitable[None]]
    reach: Callable[[str, str, str], Awaitable[Haul]]
    servers: Servers | None = None


class Workshop:
    """Runs tools on this node, `MAX_AT_ONCE` at a time."""

    def __init__(self, services: WorkshopServices, level: SandboxLevel | None = None) -> None:
        self._services, self._level = services, level
        self.workspaces = Workspaces(services.folder / SPACE)
        self._finding = asyncio.Lock()
        self._jail: Jail | None = None
        self._running = 0

    async def jail(self) -> Jail:
        """The jail of this node; the first call tries out what the machine can do."""
        async with self._finding:
            if self._jail is None:
                folder = self._services.folder
                await asyncio.to_thread(_prepare, folder / SCRATCH, self.workspaces)
                level = self._level or await find_level(hidden=(folder,))
                self._jail = Jail(level, folder=folder / SCRATCH, hidden=(folder,))
            return self._jail

    async def serve(self, channel: Channel) -> None:
        """Serve one tool stream to its end. What goes wrong is told to the coordinator; nothing is raised."""
        lines = _Lines(channel)
        try:
            await lines.say(await self._work(lines))
        except SwarmError as error:
            log.info("a tool stream ends: %s", error.message)
            with contextlib.suppress(SwarmError, OSError):
                await lines.say(Failed(code=error.code, message=error.message, hint=error.hint))
        except OSError as exc:
            log.info("a tool stream was lost: %s", exc)

    async def _work(self, lines: "_Lines") -> Done:
        nonce = secrets.token_hex(16)
        await lines.say(Greeting(nonce))
        order = await lines.hear(OPEN_S)
        if not isinstance(order, Chore | Farewell):
            raise ProtocolError("a tool stream begins with an order")
        arguments, means = (order.arguments, order.means) if isinstance(order, Chore) else ("", "")
        services = self._services
        try:
            ticket = check(
                order.ticket,
                arguments,
                means,
                is_signed=services.is_signed,
                swarm_id=services.swarm_id,
                node_id=services.node_id,
                nonce=nonce,
            )
            if (ticket.tool == RELEASE) is not isinstance(order, Farewell):
                raise TicketError("the ticket is not for this order")
        except TicketError as exc:
            await services.refuse(order.ticket, exc)
            raise
        place = ticket.tool != RELEASE  # a busy node gives files away all the same
        if place and self._running >= MAX_AT_ONCE:
            raise BusyError(f"this node runs {MAX_AT_ONCE} tools already", retry_after_s=BUSY_S)
        self._running += place
        try:
            await services.record(order.ticket, ticket)
            async with asyncio.timeout(ticket.lifetime_s):
                return await _unless_left(self._perform(ticket, arguments, means), lines)
        except TimeoutError as exc:
            raise TicketError("the ticket's time is over", code="ticket_expired", hint="Ask again.") from exc
        finally:
            self._running -= place

    async def _perform(self, ticket: ToolTicket, arguments: str, means: str) -> Done:
        began = asyncio.get_running_loop().time()
        if ticket.tool == RELEASE:
            if self._services.servers is not None:
                await self._services.servers.release(ticket.workspace_id)
            await asyncio.to_thread(self.workspaces.release, ticket.workspace_id)
            ended = Ended("", True)
        else:
            ended = await self._run(ticket, arguments, means)
        if ended.code:
            log.warning("the tool %s of run %s ended with %s", ticket.tool, ticket.run_id, ended.code)
        seconds = round(asyncio.get_running_loop().time() - began, 3)
        return Done(text=ended.text[:MAX_TEXT], ok=ended.ok, seconds=seconds, code=ended.code)

    async def _run(self, ticket: ToolTicket, arguments: str, means: str) -> Ended:
        tool, servers = TOOLS.get(ticket.tool), self._services.servers
        if tool is None and servers is None:
            raise TicketError(f"this node has no tool called {ticket.tool[:80]!r}")
        haul, within_s = None, ticket.within_s
        if tool is not None and tool.where == "network":
            began = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(within_s):
                    haul = await self._services.reach(ticket.tool, arguments, means)
            except TimeoutError:
                return Ended(f"[stopped: it took longer than {within_s:g} s]", False, "timeout")
            except SwarmError as error:  # what it leads to is an outcome of the call, as what a program says
                return Ended(f"error: {error.message}", False, error.code)
            within_s = max(1.0, began + within_s - asyncio.get_running_loop().time())
        has_files = tool.where in WITH_FILES if tool is not None else servers is not None and servers.needs_files(means)
        # A tool that has nothing to do with files gets a folder for this one call.
        workspace_id = ticket.workspace_id if has_files else f"call-{secrets.token_hex(8)}"
        jail = await self.jail()
        workspace, user_id = await asyncio.to_thread(self.workspaces.open, workspace_id)
        errand = Errand(
            tool=ticket.tool,
            arguments=arguments,
            workspace=workspace,
            within_s=within_s,
            unconfined=ticket.unconfined,
            user_id=user_id,
            haul=haul,
        )
        try:
            if tool is None and servers is not None:
                return await servers.call(errand, means, workspace_id, jail)
            return await jail.run(errand)
        finally:
            if not has_files:
                await asyncio.to_thread(self.workspaces.release, workspace_id)


class _Lines:
    """A channel as lines."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._splitter = channel, LineSplitter()
        self._waiting: list[bytes] = []

    async def say(self, line: ToolLine) -> None:
        try:
            async with asyncio.timeout(SAY_S):
                await self._channel.send(write_chore(line))
        except TimeoutError as exc:
            raise UnreachableError("the coordinator takes no answer") from exc

    async def hear(self, limit_s: float | None) -> ToolLine:
        try:
            async with asyncio.timeout(limit_s):
                while not self._waiting:
                    data = await self._channel.receive()
                    if data is None:
                        raise ProtocolError("the coordinator ended the stream")
                    self._waiting = self._splitter.feed(data)
        except TimeoutError as exc:
            raise UnreachableError(f"the coordinator has been silent for {limit_s} s") from exc
        return read_chore(self._waiting.pop(0))


async def _unless_left(work: Awaitable[Done], lines: _Lines) -> Done:
    """Do the work, but end it when the coordinator leaves: nobody waits for it then, and it holds its place no more."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(lines.hear(None))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            listening.result()
            raise ProtocolError("a tool stream takes one order")
        return working.result()
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


def _prepare(scratch: Path, workspaces: Workspaces) -> None:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in list(scratch.iterdir()):  # by a daemon that was lost: what ran there ended with it
        empty(left)
    workspaces.sweep()
