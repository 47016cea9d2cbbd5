"""The owner's routes for tools by hand: whoever's key it is, the rules see it."""

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from mycoswarm.agents.toolbox import Errand, Toolbox
from mycoswarm.api.refusal import on_swarm_error
from mycoswarm.api.tooling import ToolDesk, tool_routes
from mycoswarm.base.errors import BusyError, SwarmError
from mycoswarm.store.apikey import Key
from mycoswarm.wire.tool import ToolCall, ToolResult

KEY = Key("phone", 7.0, labels=("private",), user="ann", is_owner=True)


class Box(Toolbox):
    """Runs nothing and keeps for whom it would have."""

    def __init__(self) -> None:
        self.errands: list[Errand] = []
        self.released: list[str] = []

    async def perform(self, call: ToolCall, errand: Errand) -> ToolResult:
        self.errands.append(errand)
        return ToolResult(call.id, "12", True, "attic", 0.1)

    async def release(self, workspace_id: str, errand: Errand) -> None:
        self.released.append(workspace_id)


async def ask(box: Box, key: Key | None, admitted: list[Key | None], run: str = "r1", **more: Any) -> httpx2.Response:
    """One call of the clock, by whoever has this key."""

    async def doctor() -> dict[str, Any]:
        return {}

    def admit(key: Key | None) -> None:
        if admitted:
            raise BusyError("too many", retry_after_s=1)
        admitted.append(key)

    routes = tool_routes(ToolDesk(doctor=doctor, toolbox=box, new_id=lambda: "n1", admit=admit))
    handlers: Any = {SwarmError: on_swarm_error}
    app = Starlette(routes=routes, exception_handlers=handlers)

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {}).update(key=key, key_name=key.name if key else None)
        await app(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(keyed), base_url="http://node") as client:
        return await client.post("/api/tools/clock", json={"labels": ["work"], "run": run}, **more)


@pytest.mark.parametrize("key", [KEY, None])
def test_a_call_by_hand_is_its_key_s_with_its_labels_and_limits(key: Key | None) -> None:
    box, admitted = Box(), list[Key | None]()
    assert asyncio.run(ask(box, key, admitted)).json()["text"] == "12"
    asker = box.errands[0].asker
    assert (asker.key_name, asker.issued_at, asker.user) == (("phone", 7.0, "ann") if key else (None, None, None))
    assert asker.labels == ({"private"} if key else set()) and asker.added == {"work"}
    assert admitted == [key]
    assert asyncio.run(ask(box, key, admitted)).status_code == 429 and len(box.errands) == 1


def test_a_call_by_hand_drops_no_route_in_silence() -> None:
    box = Box()
    told = asyncio.run(ask(box, None, [], headers={"x-mycoswarm-route": "within=LAN"}))
    assert told.status_code == 400 and not box.errands


def test_a_call_by_hand_under_the_id_of_a_run_neither_sees_nor_ends_its_workspace() -> None:
    box = Box()
    asyncio.run(ask(box, None, [], run="0123456789ab"))
    assert box.errands[0].run_id == "0123456789ab"
    assert box.released == [box.errands[0].workspace_id] == ["hand-n1"]
