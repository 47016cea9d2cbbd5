"""MCP servers for tests: a hostel of this machine's, and servers as programs that fit on a command line."""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mycoswarm.external.target import Passage
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.runner import Ended
from mycoswarm.sandbox.workspace import Workspaces
from mycoswarm.servers.definition import Definition, Means, whole_name, write_means
from mycoswarm.servers.hostel import USUAL, Hostel, HouseRules
from mycoswarm.servers.ware import Ware

TIME = Definition(server="time", command=("python", "-m", "mcp_server_time", "--local-timezone", "UTC"))
# With the package's own server side. The sandbox shows no file of the tests, so these are given with `-c`.
OFFICIAL = """
import os, sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("odd")
@server.tool()
def note(text: str) -> str:
    "Keep a text."
    with open("note", "a") as file:
        file.write(text)
    return open("note").read()
@server.tool()
def look(path: str) -> str:
    "Read a file."
    return open(path).read()
@server.tool()
def put(path: str) -> str:
    "Write a file."
    open(path, "w").write("x")
    return "written"
@server.tool()
def connect(address: str) -> str:
    "Connect somewhere."
    import socket
    socket.create_connection((address, 80), 2)
    return "connected"
@server.tool()
def environment() -> str:
    "Tell the environment."
    return repr(sorted(os.environ.items()))
server.run()
"""
# By hand, line by line, so that it can misbehave; `{odd}` is what it does besides.
RAW = """
import json, os, sys, time
def say(**more): print(json.dumps(dict(jsonrpc="2.0", **more)), flush=True)
listed, description = 0, "does it"
def tools(): return [dict(name="act", description=description, inputSchema=dict(type="object"))]
def act(arguments): return dict(content=[dict(type="text", text="done")])
def before(message): pass
{odd}
for line in sys.stdin:
    message = json.loads(line)
    before(message)
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        say(id=number, result=dict(protocolVersion="2025-06-18", capabilities=dict(tools=dict()),
            serverInfo=dict(name="raw", version="1")))
    elif method == "tools/list":
        listed += 1
        say(id=number, result=dict(tools=tools()))
    elif method == "tools/call":
        say(id=number, result=act(message["params"]["arguments"]))
"""


def official(name: str = "odd", **secrets: str) -> Definition:
    """A server with the package's own server side."""
    return Definition(server=name, command=("python", "-c", OFFICIAL), secrets=secrets)


def raw(odd: str = "", name: str = "raw") -> Definition:
    """A server that does something odd."""
    return Definition(server=name, command=("python", "-c", RAW.replace("{odd}", odd)))


def opened(purpose: str, addresses: Sequence[str], names: Sequence[str]) -> AbstractAsyncContextManager[None]:
    """A permit where no guard is: it opens nothing."""
    return nullcontext()


@dataclass
class Lodge:
    """A hostel in a jail, and calls of its servers."""

    level: SandboxLevel
    folder: Path
    passage: Passage = field(default_factory=lambda: Passage(permit=opened))
    rules: HouseRules = USUAL

    def __post_init__(self) -> None:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        self.jail = Jail(self.level, folder=scratch, hidden=(self.folder,))
        self.workspaces = Workspaces(self.folder / "workspaces")
        self.hostel = Hostel(self.passage, self.rules)

    def errand(self, tool: str, workspace: str = "run", within_s: float = 20.0, **arguments: Any) -> Errand:
        path, user_id = self.workspaces.open(workspace)
        text = json.dumps(arguments)
        return Errand(tool=tool, arguments=text, workspace=path, within_s=within_s, user_id=user_id)

    async def wares(self, definition: Definition) -> dict[str, Ware]:
        """Its tools, as it lists them."""
        return dict(
            await self.hostel.listing(definition, self.errand(f"the MCP server {definition.server}"), self.jail)
        )

    async def call(
        self,
        definition: Definition,
        tool: str,
        ware: Ware,
        *,
        workspace: str = "run",
        within_s: float = 20.0,
        **given: Any,
    ) -> Ended:
        """One call, of what was allowed."""
        errand = self.errand(whole_name(definition.server, tool), workspace, within_s, **given)
        means = write_means(Means(definition=definition, tool=tool, digest=ware.digest))
        return await self.hostel.call(errand, means, workspace, self.jail)

    def run(self, course: Callable[[], Awaitable[None]], limit_s: float = 60.0) -> None:
        """Run a test's course, and close the hostel."""

        async def whole() -> None:
            async with asyncio.timeout(limit_s):
                try:
                    await course()
                finally:
                    await self.hostel.close()

        asyncio.run(whole())


def processes_with(word: str, *, everywhere: bool = False) -> list[str]:
    """The command lines that hold a word: of processes below this one, or of all, where the word is nobody else's."""
    found = []
    for one in psutil.process_iter() if everywhere else psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if word in (words := " ".join(one.cmdline())) and one.pid != os.getpid():
                found.append(words)
    return found
