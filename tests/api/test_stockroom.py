"""The owner's routes for one model: who may ask, with what beside it, and how it is told."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from consoles import KEY, OWNER_KEY, console
from mycoswarm.api.stockroom import MAX_NAME, StockroomServices, stockroom_routes
from mycoswarm.base.errors import BusyError, CapacityError, RingError
from mycoswarm.chat.job import Asker
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.store.apikey import Key


class Room:
    """Does nothing, and keeps what it was asked; `fault` is raised after `told` events."""

    def __init__(self, told: int = 2, fault: Exception | None = None) -> None:
        self.told, self.fault = told, fault
        self.asked: list[tuple[Any, ...]] = []
        self.admitted: list[Key | None] = []
        self.is_full = False

    async def load(self, name: str, narrowing: Narrowing, asker: Asker, request_id: str) -> AsyncGenerator[Any, None]:
        self.asked.append((name, narrowing, asker, request_id))
        for number in range(self.told):
            yield {"event": number}
        if self.fault:
            raise self.fault

    async def unload(self, name: str) -> dict[str, Any]:
        self.asked.append((name,))
        raise BusyError("2 requests use this model now", retry_after_s=10, code="model_in_use")

    async def fit(self, name: str, narrowing: Narrowing, asker: Asker) -> dict[str, Any]:
        self.asked.append((name, narrowing, asker))
        return {"model": name}

    def admit(self, key: Key | None) -> None:
        if self.is_full:
            raise BusyError("too many", retry_after_s=1)
        self.admitted.append(key)

    async def ask(self, method: str, path: str, body: str = "", *headers: str, key: str = OWNER_KEY) -> tuple[int, Any]:
        """One request: its status and its lines."""
        services = StockroomServices(
            load=self.load, unload=self.unload, fit=self.fit, admit=self.admit, new_id=lambda: "id7"
        )
        async with console(owner_routes=stockroom_routes(services)) as c:
            lines = [f"{method} /api/models/{path} HTTP/1.1", f"Host: 127.0.0.1:{c.port}", "Connection: close"]
            lines += [f"Authorization: Bearer {key}", f"Content-Length: {len(body)}", *headers]
            head, _, rest = (await c.raw("\r\n".join([*lines, "", body]))).partition(b"\r\n\r\n")
        parts = [part for part in rest.split(b"\r\n") if part.startswith(b"{")]
        return int(head.split()[1]), [json.loads(part) for part in parts]


def test_loading_is_told_line_by_line_to_an_owner_with_a_route_and_labels_beside_it() -> None:
    room = Room()
    beside = ("X-Mycoswarm-Route: split; nodes=attic,cellar", "X-Mycoswarm-Labels: private")
    status, lines = asyncio.run(room.ask("POST", "a%2Fb/load", "", *beside))
    assert (status, lines) == (200, [{"event": 0}, {"event": 1}])
    name, narrowing, asker, request_id = room.asked[0]
    assert (name, request_id) == ("a/b", "id7") and asker.key_name == "boss" and asker.added == {"private"}
    assert narrowing == Narrowing(mode="split", nodes=("attic", "cellar"))
    assert [key.name for key in room.admitted if key] == ["boss"]


def test_what_is_refused_at_once_has_its_status_and_what_breaks_later_is_the_last_line() -> None:
    status, lines = asyncio.run(Room(0, CapacityError("no room")).ask("POST", "spore/load"))
    assert status == 507 and lines[0]["error"]["code"] == "out_of_memory"
    status, lines = asyncio.run(Room(1, RingError("the cable")).ask("POST", "spore/load"))
    assert status == 200 and lines[-1]["error"]["code"] == "ring_failed"


@pytest.mark.parametrize(
    ("path", "body", "header", "status"),
    [
        ("spore/load", '{"force": true}', "X-A: b", 400),
        ("spore/load", "", "X-Mycoswarm-Route: sideways", 400),
        (f"{'n' * (MAX_NAME + 1)}/load", "", "X-A: b", 400),
        ("spore/unload", '{"force": true}', "X-A: b", 400),
        ("spore/unload", "", "X-A: b", 429),
    ],
)
def test_what_nobody_would_look_at_is_refused(path: str, body: str, header: str, status: int) -> None:
    got, (error,) = asyncio.run(Room().ask("POST", path, body, header))
    assert got == status and error["error"]["message"]


def test_only_owners_ask_and_only_as_often_as_their_key_may() -> None:
    room = Room()
    for method, path in (("POST", "spore/load"), ("POST", "spore/unload"), ("GET", "spore/fit")):
        assert asyncio.run(room.ask(method, path, key=KEY))[0] == 403
    assert not room.asked
    room.is_full = True
    assert asyncio.run(room.ask("POST", "spore/load"))[0] == 429 and not room.asked


def test_where_it_would_fit_is_asked_as_an_answer_would_be() -> None:
    room = Room()
    assert asyncio.run(room.ask("GET", "spore/fit", "", "X-Mycoswarm-Route: solo")) == (200, [{"model": "spore"}])
    assert room.asked[0][1] == Narrowing(mode="solo") and not room.admitted
