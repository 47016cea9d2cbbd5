"""One session with an MCP server, over whatever streams: greeting, the list of its tools, calls of them.

The package's own `list_tools` and `call_tool` are not used: they hold results against schemas that the server itself
wrote, and such a schema can take for ever. What a server asks of us (models, the owner, folders) is declined by the
package. Imported late: the package takes 0.7 s and 45 MB.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp.client._transport import ReadStream, WriteStream
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from mycoswarm.base.errors import EndpointError, SwarmError
from mycoswarm.sandbox.runner import Ended
from mycoswarm.servers.ware import MAX_WARES, Ware, bounded_words, ware_of
from mycoswarm.wire.chore import MAX_TEXT

GREET_S = 60.0  # for a server to start and answer: some load for long on a slow card
MAX_PAGES = 16
MAX_SAID = 300  # characters of a server's own error
CHANGED = "tool_changed"  # the code of a tool that is not what the owner allowed


class Ending:
    """Why a session ends, told once."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.error: SwarmError | None = None

    def tell(self, error: SwarmError) -> None:
        """It ends, and for this reason, unless there was one before."""
        self.error = self.error or error
        self.told.set()


class Session:
    """`has_changed` says whether the server has told of other tools since it was asked last."""

    def __init__(self, server: str, client: ClientSession, has_changed: Callable[[], bool]) -> None:
        self._server, self._client, self._has_changed = server, client, has_changed
        self._wares: Mapping[str, Ware] | None = None

    async def greet(self) -> None:
        """The handshake.

        Raises:
            EndpointError: it is no MCP server, or of no version that we know.
        """
        with self._translated():
            try:
                await self._client.initialize()
            except MCPError:
                await self._client.discover()  # a server of the newest kind only, which knows no handshake

    async def wares(self) -> Mapping[str, Ware]:
        """All its tools, by its own names for them.

        Raises:
            EndpointError: it does not tell, or names one twice, or has too many.
        """
        if self._wares is None or self._has_changed():
            self._wares = await self._listed()
        return self._wares

    async def call(self, tool: str, digest: str, arguments: dict[str, Any]) -> Ended:
        """Call a tool, if it is still what the owner has allowed.

        Raises:
            EndpointError: the server did not do its part.
        """
        ware = (await self.wares()).get(tool)
        if ware is None or ware.fault or ware.digest != digest:
            why = "is no more" if ware is None else "describes itself otherwise than when you allowed it"
            return Ended(f"error: the tool {tool} of the MCP server {self._server} {why}", False, CHANGED)
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=tool, arguments=arguments))
        with self._translated():
            return ended_of(await self._client.send_request(request, types.CallToolResult))

    async def _listed(self) -> dict[str, Ware]:
        found: dict[str, Ware] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            request = types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor))
            with self._translated():
                page = await self._client.send_request(request, types.ListToolsResult)
            for tool in page.tools:
                ware = ware_of(self._server, tool.name, tool.description or "", tool.input_schema)
                if ware.name in found:
                    raise self._failed(f"it names the tool {bounded_words(ware.name, 80)} twice")
                found[ware.name] = ware
            if len(found) > MAX_WARES:
                raise self._failed(f"it has more than {MAX_WARES} tools")
            if (cursor := page.next_cursor) is None:
                return found
        raise self._failed("its list of tools has no end")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MCPError as exc:
            raise self._failed(bounded_words(exc.error.message, MAX_SAID) or "it does not say why") from exc
        except (ValidationError, RuntimeError, ValueError) as exc:
            raise self._failed("it answers otherwise than MCP says") from exc
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream) as exc:
            raise self._failed("it has ended") from exc

    def _failed(self, why: str) -> EndpointError:
        return EndpointError(
            f"the MCP server {self._server} failed: {why}",
            hint="`mycoswarm-node mcp show` tells more.",
            code="mcp_failed",
        )


@contextlib.asynccontextmanager
async def opened(
    server: str,
    reading: ReadStream[SessionMessage | Exception],
    writing: WriteStream[SessionMessage],
    ending: Ending,
    *,
    greet_s: float = GREET_S,
    has_changed: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Session]:
    """A session that has been greeted, within `greet_s`. While it greets, `ending` counts too.

    Raises:
        SwarmError: it does not greet as an MCP server does.
    """
    info = types.Implementation(name="mycoswarm", version="0")
    client = ClientSession(reading, writing, client_info=info)
    await client.__aenter__()
    try:  # left without what may go wrong inside: it would come out wrapped in a group
        session = Session(server, client, has_changed)
        greeting = asyncio.create_task(session.greet())
        over = asyncio.create_task(ending.told.wait())
        try:
            done, _ = await asyncio.wait({greeting, over}, timeout=greet_s, return_when=asyncio.FIRST_COMPLETED)
            if ending.error is not None:
                raise ending.error
            if not done:
                why = f"the MCP server {server} did not greet within {greet_s:g} s"
                raise EndpointError(why, hint="`mycoswarm-node mcp show` tells more.", code="mcp_slow")
            await greeting
        except SwarmError as error:
            raise ending.error or error from error
        finally:
            for task in (greeting, over):
                task.cancel()
            await asyncio.gather(greeting, over, return_exceptions=True)
        yield session
    finally:
        await client.__aexit__(None, None, None)


def ended_of(result: types.CallToolResult) -> Ended:
    """A result as text: what is text joined, all else named."""
    parts = [_part(block) for block in result.content]
    if result.structured_content is not None:
        structured = json.dumps(result.structured_content, ensure_ascii=False)
        if not any(_is_same(part, result.structured_content) for part in parts):
            parts.append(structured)
    text = "\n".join(parts)
    is_error = bool(result.is_error)
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT - 100]} [cut here: {len(text) - MAX_TEXT + 100} more characters]"
    return Ended(text, not is_error, "failed" if is_error else "")


def _part(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            kind = "image" if isinstance(block, types.ImageContent) else "sound"
            return f"[{kind}, {bounded_words(block.mime_type, 80)}, not passed on]"
        case types.ResourceLink():
            return f"[resource {bounded_words(str(block.uri), MAX_SAID)}, not fetched]"
        case types.EmbeddedResource():
            return f"[resource {bounded_words(str(block.resource.uri), MAX_SAID)}, not passed on]"


def _is_same(part: str, structured: Mapping[str, Any]) -> bool:
    """Whether a text says just what the structured content says: most servers give both, a plain text as `result`."""
    try:
        return structured == {"result": part} or bool(json.loads(part) in (structured, structured.get("result")))
    except (ValueError, RecursionError):
        return False
