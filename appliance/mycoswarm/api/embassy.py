"""`/mcp`: the swarm as an MCP server over streamable HTTP. The official package speaks the protocol, behind our door.

Each request stands for itself: it is let in by its own key, answered by a server side that lives as long as it does,
and nothing is kept. A session is a name that we give out at `initialize` and forget: it only tells whose request a
note of cancelling means. So there is no stream to open by GET and nothing to DELETE.

Answers are JSON. One that takes long is sent as an event stream, with comments so that proxies and clients wait, and
with the text so far where the client wants to hear of progress.

Covered: bodies that are too long, too deep, too full or no JSON are refused before the package sees them; clients that
leave or cancel end the work for them; the package's own telemetry is taken out, and no session, task or timer of it is
left over. Not covered: who holds a key without limits can keep the swarm busy, here as at `/v1`.
"""

import asyncio
import importlib.metadata
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from mycoswarm.api.departure import while_present
from mycoswarm.api.gate import MAX_BODY_BYTES
from mycoswarm.api.menu import NAMES, Menu, Visit
from mycoswarm.api.objection import is_shallow, is_sparse
from mycoswarm.api.question import read_route
from mycoswarm.api.visitor import BODY_S, envelope_of, whole_body
from mycoswarm.base.errors import InputError

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolRequestParams, CallToolResult, ErrorData, ListToolsResult

PATH = "/mcp"
MAX_SESSION = 64  # characters of a session's name that are looked at
# JSON-RPC's codes; the last is what the package itself answers where a request of its older wires was cancelled.
INVALID_PARAMS, INTERNAL_ERROR, REQUEST_CANCELLED = -32602, -32603, -32800
INSTRUCTIONS = (
    "A swarm of machines that one person owns. The owner's rules decide where each request runs; "
    "one that is refused says why."
)

log = logging.getLogger(__name__)
_WORKING = b": still working\n\n"
_EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """In seconds. `body_s`: for a whole body to arrive. `quiet_s`: a call that says nothing for so long becomes an
    event stream, and has a comment this often. `progress_s`: between two words of progress."""

    body_s: float = BODY_S
    quiet_s: float = 5.0
    progress_s: float = 1.0


USUAL_PAUSES = Pauses()


class _Meta(msgspec.Struct, frozen=True):
    progress_token: str | int | None = msgspec.field(default=None, name="progressToken")


class _Params(msgspec.Struct, frozen=True):
    request_id: str | int | None = msgspec.field(default=None, name="requestId")
    meta: _Meta = msgspec.field(default=_Meta(), name="_meta")


class _Head(msgspec.Struct, frozen=True):
    """What of a message concerns us; all else is the package's."""

    method: str = ""
    id: str | int | None = None
    params: _Params = _Params()


@dataclass(slots=True)
class _Reply:
    """The package's answer, caught whole."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        else:
            self.body += message.get("body", b"")


Answerer = Callable[[Scope, Receive, Send], Awaitable[None]]
Running = tuple[str | None, float | None, str, str | int]  # key, when it was made, session, the request's own id


class Embassy:
    """The route's app. The package takes most of a second and 45 MB to load, so that is done at the first request."""

    def __init__(self, menu: Menu, pauses: Pauses = USUAL_PAUSES) -> None:
        self._menu, self._pauses = menu, pauses
        self._loading = asyncio.Lock()
        self._answerer: Answerer | None = None
        self._running: dict[Running, asyncio.Task[_Reply]] = {}  # no more than there are connections

    def routes(self) -> list[Route]:
        """For every key."""
        return [Route(PATH, self, methods=["POST"])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message.

        Raises:
            InputError: its headers or its body are wrong, before it is a message.
        """
        request = Request(scope, receive)
        envelope = envelope_of(request, "")
        read_route(envelope.route)
        body = await whole_body(request, self._pauses.body_s)
        head = _read_head(body)
        said: list[str] = []
        wants_progress = head.params.meta.progress_token is not None
        visit = Visit(envelope=envelope, key=scope["state"]["key"], hear=said.append if wants_progress else _deaf)
        session = request.headers.get("mcp-session-id", "")[:MAX_SESSION]
        known = (envelope.asker.key_name, envelope.asker.issued_at, session)
        if head.method == "notifications/cancelled" and head.params.request_id is not None:
            self._cancel((*known, head.params.request_id))
        work = self._answered({**scope, "state": {**scope["state"], "visit": visit}}, body)
        answering = asyncio.create_task(work, name="mcp")
        running = (*known, head.id) if session and head.id is not None else None
        if running is not None:
            self._running[running] = answering
        takes_events = head.method == "tools/call" and "text/event-stream" in request.headers.get("accept", "")
        try:
            # The body has been read: whoever leaves now is told of.
            await while_present(receive, self._send(answering, head, said, send, takes_events=takes_events))
        finally:
            answering.cancel()
            await asyncio.wait({answering})
            if not answering.cancelled():
                answering.exception()  # who left has no ears for it
            if running is not None and self._running.get(running) is answering:
                del self._running[running]

    def _cancel(self, running: Running) -> None:
        if (task := self._running.get(running)) is not None:
            task.cancel()

    async def _answered(self, scope: Scope, body: bytes) -> _Reply:
        """Have the package answer."""
        async with self._loading:
            if self._answerer is None:
                self._answerer = await asyncio.to_thread(_load, self._menu)
        reply = _Reply()
        await self._answerer(scope, _once(body), reply.take)
        return reply

    async def _send(
        self, answering: "asyncio.Task[_Reply]", head: _Head, said: list[str], send: Send, *, takes_events: bool
    ) -> None:
        """Send the answer as soon as it is there, and where it takes long, word of it."""
        token, heard, has_begun = head.params.meta.progress_token, 0, False
        pause_s = self._pauses.quiet_s if token is None else self._pauses.progress_s
        while takes_events:
            await asyncio.wait({answering}, timeout=pause_s)
            if answering.done():
                break
            if not has_begun:
                await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
                has_begun = True
            heard += len(said)
            word = _event(_progress(token, heard, "".join(said))) if said else _WORKING
            said.clear()
            await send({"type": "http.response.body", "body": word, "more_body": True})
        reply = await _settled(answering, head)
        if has_begun:
            await send({"type": "http.response.body", "body": _event(reply.body)})
            return
        if head.method == "initialize" and reply.status == 200:
            reply.headers.append((b"mcp-session-id", secrets.token_urlsafe(16).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})


def _load(menu: Menu) -> Answerer:
    """Load the package and build what answers with it."""
    from mcp.server.lowlevel import Server  # noqa: PLC0415  # 0.7 s and 45 MB, for those who use it
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415  # as above

    server: Server[Any] = Server(
        "mycoswarm", version=importlib.metadata.version("mycoswarm"), instructions=INSTRUCTIONS
    )
    server.middleware.clear()  # it holds OpenTelemetry's alone
    _serve_tools(server, menu)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        # Without sessions a manager keeps nothing, so each request has its own, and all that it starts ends with it.
        # The checks of Host and Origin are the gate's: `security_settings` None leaves them out.
        manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, security_settings=None, max_request_body_size=MAX_BODY_BYTES
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)

    return answer


def _serve_tools(server: Any, menu: Menu) -> None:
    """Register the two handlers that there are."""
    import mcp_types as types  # noqa: PLC0415  # comes with the package above

    read_only = types.ToolAnnotations(read_only_hint=True, destructive_hint=False)

    async def list_tools(
        context: "ServerRequestContext[Any, Request]", given: types.PaginatedRequestParams
    ) -> "ListToolsResult":
        tools = [
            types.Tool(
                name=offer.name,
                title=offer.title,
                description=offer.description,
                input_schema=offer.parameters,
                annotations=read_only,
            )
            for offer in menu.offers(_visit_of(context))
        ]
        return types.ListToolsResult(tools=tools)

    async def call_tool(
        context: "ServerRequestContext[Any, Request]", given: "CallToolRequestParams"
    ) -> "CallToolResult | ErrorData":
        if given.name not in NAMES:
            return types.ErrorData(code=INVALID_PARAMS, message=f"there is no tool called {given.name[:80]!r}")
        served = await menu.serve(given.name, given.arguments or {}, _visit_of(context))
        return types.CallToolResult(
            content=[types.TextContent(text=served.text)],
            structured_content=served.values,
            is_error=served.is_error,
        )

    server.add_request_handler("tools/list", types.PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", types.CallToolRequestParams, call_tool)


def _visit_of(context: "ServerRequestContext[Any, Request]") -> Visit:
    assert context.request is not None  # the package hands our own on
    visit: Visit = context.request.scope["state"]["visit"]
    return visit


def _read_head(body: bytes) -> _Head:
    """What concerns us of a message; of one that is none, nothing.

    Raises:
        InputError: the body is not JSON, or too large or nested too deep to be any message.
    """
    if not is_sparse(body):
        raise InputError("the body holds too many values for a message", code="too_large")
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InputError(f"the body is not JSON: {exc}") from exc
    if not is_shallow(raw):
        raise InputError("the body is nested too deep for a message")
    if isinstance(raw, dict) and (isinstance(raw.get("id"), bool) or not isinstance(raw.get("id"), str | int | None)):
        raise InputError("the id of a message is a text or a whole number")  # the package takes it for a note
    try:
        return msgspec.convert(raw, _Head)
    except msgspec.ValidationError:
        return _Head()  # the package says what is wrong with it


async def _settled(answering: "asyncio.Task[_Reply]", head: _Head) -> _Reply:
    """The answer, or that it was cancelled, or a mistake of ours."""
    await asyncio.wait({answering})
    if answering.cancelled():
        return _refused(head, REQUEST_CANCELLED, "the request was cancelled")
    if (error := answering.exception()) is not None:
        log.error("an MCP request failed: a bug of ours", exc_info=error)
        return _refused(head, INTERNAL_ERROR, "this node made a mistake; its log says more")
    return answering.result()


def _refused(head: _Head, code: int, message: str) -> _Reply:
    body = _encode({"jsonrpc": "2.0", "id": head.id, "error": {"code": code, "message": message}})
    return _Reply(200, [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())], body)


def _progress(token: str | int | None, heard: int, text: str) -> bytes:
    params = {"progressToken": token, "progress": heard, "message": text}
    return _encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def _event(message: bytes) -> bytes:
    return b"event: message\ndata: " + message + b"\n\n"


def _once(body: bytes) -> Receive:
    """Gives the body; after that nothing comes: that the client leaves is seen to elsewhere."""
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if given:
            return given.pop()
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive


def _deaf(piece: str) -> None:
    """Nobody asked to hear of progress."""
