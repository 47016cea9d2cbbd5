"""The pair of streams that the package `mcp` speaks over, laid over the pipes of a program in the sandbox.

The package would start processes itself; ours are started by the jail, and nothing reaches its parser that intake.py
has not measured. Imported late: the package takes 0.7 s and 45 MB.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCRequest, jsonrpc_message_adapter

from mycoswarm.base.errors import EndpointError, SwarmError
from mycoswarm.sandbox.tenant import Tenant
from mycoswarm.servers.dialogue import GREET_S, Ending, Session, opened
from mycoswarm.servers.intake import Intake

_Into = MemoryObjectSendStream[SessionMessage | Exception]
_OutOf = MemoryObjectReceiveStream[SessionMessage]


@contextlib.asynccontextmanager
async def speaking(server: str, tenant: Tenant, ending: Ending, *, greet_s: float = GREET_S) -> AsyncIterator[Session]:
    """A session with a program. When it says no more, or too much, `ending` is told.

    Raises:
        SwarmError: it does not greet as an MCP server does.
    """
    intake = Intake(server)
    into, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, out_of = anyio.create_memory_object_stream[SessionMessage](0)

    working = [
        asyncio.create_task(_take(server, tenant, intake, into, ending)),
        asyncio.create_task(_give(tenant, intake, out_of, ending)),
    ]
    try:
        async with opened(
            server, reading, writing, ending, greet_s=greet_s, has_changed=lambda: _spent(intake)
        ) as session:
            yield session
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for stream in (into, reading, writing, out_of):
            stream.close()


async def _take(server: str, tenant: Tenant, intake: Intake, into: _Into, ending: Ending) -> None:
    """What the program says, as messages."""
    with into, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        try:
            while data := await tenant.read():
                for line in intake.feed(data):
                    if (message := _message(line)) is not None:
                        await into.send(SessionMessage(message))
            ending.tell(EndpointError(f"the MCP server {server} has ended", code="mcp_ended"))
        except SwarmError as error:
            ending.tell(error)  # before the stream closes: whoever waits is to know why


def _message(line: bytes) -> JSONRPCMessage | None:
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None  # nothing that anybody waits for; intake.py counts what a server says in vain


async def _give(tenant: Tenant, intake: Intake, out_of: _OutOf, ending: Ending) -> None:
    """Our messages, as lines."""
    with out_of:
        try:
            async for one in out_of:
                if isinstance(one.message, JSONRPCRequest):
                    intake.asked()
                await tenant.write(one.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        except SwarmError as error:
            ending.tell(error)


def _spent(intake: Intake) -> bool:
    """Whether the tools have changed since this was asked last."""
    has_changed, intake.has_changed = intake.has_changed, False
    return has_changed
