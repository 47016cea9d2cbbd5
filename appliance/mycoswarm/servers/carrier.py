"""How the HTTP client of the package `mcp` reaches a server: one judged address, one request on each connection.

Its own network code is not used. Each request goes through external/conduit.py, to exactly the addresses that were
looked up and judged once for this call; the egress guard opens no other, and only while they are dialled. There are no
redirects, cookies, compression, proxies or log-ins, and no stream on which a server could begin to speak.
Imported late: the package takes 0.7 s and 45 MB.
"""

import contextlib
from collections.abc import AsyncIterator

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._context_streams import ContextReceiveStream

from mycoswarm.base.errors import EndpointError, SwarmError
from mycoswarm.external.conduit import Conduit, connect
from mycoswarm.external.target import Passage, Target
from mycoswarm.external.whereabouts import Spot, prove
from mycoswarm.servers.definition import Definition, site_of
from mycoswarm.servers.dialogue import Ending, Session, opened

MAX_ANSWER_BYTES = 4 << 20  # of one answer, and of one event in it
# Of all that a request of the package's holds; the conduit writes the others itself.
_CARRIED = ("accept", "content-type", "last-event-id")
_CARRIED_PREFIX = "mcp-"


@contextlib.asynccontextmanager
async def calling(definition: Definition, passage: Passage, ending: Ending) -> AsyncIterator[Session]:
    """A session with a server over HTTP. What goes wrong on the way there is told to `ending`.

    Raises:
        SwarmError: it is not where it was registered, does not answer, or is no MCP server.
    """
    target = Target(name=definition.server, url=definition.url, place=definition.place, kind="the MCP server")
    spots = await prove(target, site_of(definition), passage)
    carrier = _Carrier(target, definition, spots, passage, ending)
    async with httpx2.AsyncClient(transport=carrier, trust_env=False, follow_redirects=False, timeout=None) as client:
        way = streamable_http_client(
            definition.url, http_client=client, terminate_on_close=False, max_sse_event_size=MAX_ANSWER_BYTES
        )
        reading, writing = await way.__aenter__()
        # A session closes its stream. A task of the package's that hands an answer in just then would fail, and its
        # group with it; while a second end is open it waits instead, and is cancelled with the rest.
        assert isinstance(reading, ContextReceiveStream)  # its type promises less
        with contextlib.closing(reading.clone()):
            try:  # left without what may go wrong inside: it would come out wrapped in groups
                async with opened(definition.server, reading, writing, ending) as session:
                    yield session
            finally:
                await way.__aexit__(None, None, None)


class _Carrier(httpx2.AsyncBaseTransport):
    """Never raises what would end the package's own tasks: a request that fails is answered with status 502."""

    def __init__(
        self, target: Target, definition: Definition, spots: tuple[Spot, ...], passage: Passage, ending: Ending
    ) -> None:
        self._target, self._definition, self._spots = target, definition, spots
        self._passage, self._ending = passage, ending

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request, whatever address it names, to the addresses that were judged."""
        if request.method != "POST":
            return httpx2.Response(405)
        try:
            return await self._sent(request)
        except SwarmError as error:
            self._ending.tell(error)
            return httpx2.Response(502)

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        site = site_of(self._definition)
        body = await request.aread()
        more = {
            name: value
            for name, value in request.headers.items()
            if name in _CARRIED or name.startswith(_CARRIED_PREFIX)
        }
        more |= {name.lower(): value for name, value in self._definition.secrets.items()}
        conduit = await connect(self._target, site, self._spots, self._passage)
        try:
            head = await conduit.ask("POST", "", body, more)
            if 300 <= head.status < 400:
                raise EndpointError(
                    f"the MCP server {self._target.name} sends us elsewhere (status {head.status}); not followed",
                    hint="Register its final URL.",
                    code="mcp_redirects",
                )
        except BaseException:
            conduit.__exit__(None, None, None)
            raise
        kept = {name: value for name, value in head.fields.items() if name in ("content-type", "mcp-session-id")}
        return httpx2.Response(head.status, headers=kept, stream=_Answer(conduit, self._ending))


class _Answer(httpx2.AsyncByteStream):
    def __init__(self, conduit: Conduit, ending: Ending) -> None:
        self._conduit, self._ending = conduit, ending

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (data := await self._conduit.read()) is not None:
                yield data
        except SwarmError as error:
            self._ending.tell(error)
            raise httpx2.StreamError(error.message) from error

    async def aclose(self) -> None:
        """Close the connection at once."""
        self._conduit.__exit__(None, None, None)
