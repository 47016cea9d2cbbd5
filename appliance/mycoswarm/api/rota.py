"""The owner's routes for schedules: agents that run by themselves."""

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mycoswarm.agents.vigil import Wish
from mycoswarm.api.body import Given, asker, json_route, only, read_body, text, texts
from mycoswarm.api.visitor import envelope_of
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker


class ScheduleDesk(Protocol):
    """Schedules; agents/vigil.py."""

    def schedules(self) -> list[dict[str, Any]]:
        """All of them."""

    async def add(self, wish: Wish, asker: Asker, asked_by: str) -> dict[str, Any]:
        """Take a new one in; InputError, NotFoundError, BusyError."""

    async def remove(self, schedule_id: str) -> None:
        """Forget one; NotFoundError."""

    async def pause(self, schedule_id: str) -> dict[str, Any]:
        """Let one run no more for now; NotFoundError."""

    async def resume(self, schedule_id: str) -> dict[str, Any]:
        """Let a paused one run again; NotFoundError."""


def rota_routes(desk: ScheduleDesk) -> list[Route]:
    """Build the routes under `/api/schedules`."""

    async def show(given: Given, by: str) -> Any:
        return {"schedules": desk.schedules()}

    async def add(request: Request) -> Response:
        """It runs as the one who makes it: their key and its labels are part of it."""
        given = await read_body(request)
        only(given, "cron", "agent", "task", "zone", "labels")
        task = given.get("task")
        if not isinstance(task, str):
            raise InputError("task must be a text")
        envelope = envelope_of(request, "")
        if envelope.route:
            raise InputError("an agent's requests go as the rules say, and take no X-Mycoswarm-Route")
        wish = Wish(
            cron=text(given, "cron"),
            agent=text(given, "agent"),
            task=task,
            zone=text(given, "zone") if "zone" in given else "UTC",
            labels=frozenset(texts(given, "labels")),
        )
        return JSONResponse(await desk.add(wish, envelope.asker, asker(request)))

    async def remove(given: Given, by: str) -> Any:
        await desk.remove(text(given, "id"))
        return {"id": given["id"]}

    async def pause(given: Given, by: str) -> Any:
        return await desk.pause(text(given, "id"))

    async def resume(given: Given, by: str) -> Any:
        return await desk.resume(text(given, "id"))

    return [
        json_route("schedules", "GET", show),
        Route("/api/schedules", add, methods=["POST"]),
        json_route("schedules/{id}", "DELETE", remove),
        json_route("schedules/{id}/pause", "POST", pause),
        json_route("schedules/{id}/resume", "POST", resume),
    ]
