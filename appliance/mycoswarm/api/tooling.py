"""Tools over HTTP: the peer listener's stream for the coordinator, and the owner's routes to try one by hand."""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mycoswarm.agents.toolbox import Errand, Toolbox
from mycoswarm.api.body import Given, json_route, maybe_text, only, read_body, texts
from mycoswarm.api.peer import Caller, Duplex, peer_error
from mycoswarm.api.visitor import envelope_of
from mycoswarm.base.errors import InputError, SwarmError, TrustError
from mycoswarm.routing.clause import is_label
from mycoswarm.routing.reach import HARMLESS
from mycoswarm.sandbox.toolset import TOOLS, WITH_FILES, Tool
from mycoswarm.store.apikey import Key
from mycoswarm.wire.tool import ToolCall

log = logging.getLogger(__name__)

Routes = list[Route]
Refuse = Callable[[None, SwarmError], Awaitable[None]]


class Bench(Protocol):
    """Serves tool streams on this node."""

    async def serve(self, channel: Duplex) -> None:
        """Serve one to its end; raises nothing but OSError."""


@dataclass(frozen=True, slots=True)
class ToolStream:
    """`POST /peer/tools`: orders in the request's body, answers in the response's. For the coordinator alone."""

    bench: Bench
    who: Callable[[bytes], Caller | None]
    refuse: Refuse

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One stream."""
        der = scope["state"].get("peer_der", b"")
        caller = self.who(der) if der else None
        if caller is None or caller.role != "coordinator":
            error = TrustError("only the swarm's coordinator has tools run", code="not_the_coordinator")
            await self.refuse(None, error)
            await peer_error(error)(scope, receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self.bench.serve(Duplex(receive, send))
            await send({"type": "http.response.body", "body": b""})
        except OSError as exc:
            log.debug("the coordinator left a tool stream: %s", exc)


def stream_routes(stream: ToolStream) -> Routes:
    """What the peer listener gets."""
    return [Route("/peer/tools", stream, methods=["POST"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDesk:
    """What the owner's routes need. `doctor` says what protects this node; `toolbox` None: it is a worker. `admit`
    counts a call against its key's limits; it raises BusyError where one is reached."""

    doctor: Callable[[], Awaitable[dict[str, Any]]]
    toolbox: Toolbox | None
    new_id: Callable[[], str]
    admit: Callable[[Key | None], None]


def tool_routes(desk: ToolDesk) -> Routes:
    """Build the routes under `/api/tools`, and `/api/doctor`."""

    async def doctor(given: Given, by: str) -> Any:
        return await desk.doctor()

    async def show(given: Given, by: str) -> Any:
        tools = TOOLS if desk.toolbox is None else desk.toolbox.tools()
        return {"tools": [_shown(tool) for tool in tools.values()]}

    async def run(request: Request) -> Response:
        toolbox, given, envelope = _toolbox(desk), await read_body(request), envelope_of(request, "")
        only(given, "arguments", "run", "labels")
        run_id = maybe_text(given, "run") or desk.new_id()
        labels = frozenset(texts(given, "labels"))
        if wrong := [label for label in labels if not is_label(label)]:
            raise InputError(f"{wrong[0][:40]!r} is no label")
        if envelope.route:
            raise InputError("a tool goes where the rules say, and takes no X-Mycoswarm-Route")
        desk.admit(request.scope["state"]["key"])
        # An owner's key has labels, limits and rules of its own, and can be revoked while the call waits.
        asker = replace(envelope.asker, added=envelope.asker.added | labels)
        # The caller's own id names the call; its workspace is no run's that it may be the id of, and goes with it.
        errand = Errand(asker=asker, run_id=run_id, workspace_id=f"hand-{desk.new_id()}")
        return JSONResponse(await _run(toolbox, request.path_params["name"], given.get("arguments", {}), errand))

    return [
        json_route("doctor", "GET", doctor),
        json_route("tools", "GET", show),
        Route("/api/tools/{name}", run, methods=["POST"]),
    ]


async def _run(toolbox: Toolbox, name: str, arguments: Any, errand: Errand) -> dict[str, Any]:
    """One call by hand, in a workspace for it alone."""
    run_id = errand.run_id
    if not run_id.isalnum() or not run_id.isascii() or len(run_id) > 64 or run_id != run_id.lower():
        raise InputError("a run's id has 1 to 64 small letters and digits")
    if not isinstance(arguments, dict):
        raise InputError("arguments must be a JSON object")
    try:
        result = await toolbox.perform(ToolCall(run_id, name, json.dumps(arguments)), errand)
    finally:
        await toolbox.release(errand.workspace_id, errand)
    return {
        "receipt": run_id,
        "node": result.node,
        "ok": result.ok,
        "text": result.text,
        "seconds": result.seconds,
        "labels": list(result.labels),
    }


def _shown(tool: Tool) -> dict[str, Any]:
    spec = tool.spec
    where = "the coordinator itself" if tool.where == "coordinator" else "a node"
    return {
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
        "runs_on": where,
        "sandbox": tool.where in WITH_FILES,
        "needs_yes": spec.name not in HARMLESS,
    }


def _toolbox(desk: ToolDesk) -> Toolbox:
    if desk.toolbox is None:
        raise InputError("this node is a worker: tools are decided on its coordinator", hint="Ask there.")
    return desk.toolbox
