"""The owner's routes for the one search server that `search_web` asks."""

from typing import Any, Protocol

from starlette.routing import Route

from mycoswarm.api.body import Given, json_route, only, text


class SearchDesk(Protocol):
    """What the routes ask of the daemon."""

    async def server(self) -> dict[str, Any]:
        """What is registered."""

    async def set_server(self, url: str, by: str) -> dict[str, Any]:
        """Register one."""

    async def unset_server(self) -> dict[str, Any]:
        """Forget it."""


def search_routes(desk: SearchDesk) -> list[Route]:
    """Build the routes of `/api/search`."""

    async def show(given: Given, by: str) -> Any:
        return await desk.server()

    async def put(given: Given, by: str) -> Any:
        only(given, "url")
        return await desk.set_server(text(given, "url"), by)

    async def remove(given: Given, by: str) -> Any:
        only(given)
        return await desk.unset_server()

    return [json_route("search", method, act) for method, act in (("GET", show), ("PUT", put), ("DELETE", remove))]
