"""The owner's routes for MCP servers: what they are, their tools, which are allowed. Secrets are given out nowhere."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.routing import Route

from mycoswarm.api.body import Given, json_route, maybe_text, only, sure, text, texts
from mycoswarm.base.errors import InputError
from mycoswarm.store.endpoint import ENDPOINT_PLACES, EndpointPlace

ROOM = "mcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourcing:
    """An MCP server as the owner gives it. `secrets`: environment of its command, or headers of its URL."""

    name: str
    command: tuple[str, ...]
    url: str
    place: EndpointPlace
    secrets: dict[str, str] = field(repr=False)


class SupplyDesk(Protocol):
    """What the routes ask of the daemon. Answers hold no secret."""

    async def servers(self) -> dict[str, Any]:
        """All servers, each with its tools by name."""

    async def server(self, name: str) -> dict[str, Any]:
        """One server, with all that its tools say of themselves."""

    async def add(self, given: Sourcing, *, check: bool, by: str) -> dict[str, Any]:
        """Register a server, after it has told its tools where `check` says so."""

    async def refresh(self, name: str) -> dict[str, Any]:
        """Have it tell its tools anew."""

    async def allow(self, name: str, tools: tuple[str, ...]) -> dict[str, Any]:
        """Switch tools on, as they are now."""

    async def forbid(self, name: str, tools: tuple[str, ...]) -> dict[str, Any]:
        """Switch tools off."""

    async def remove(self, name: str) -> dict[str, Any]:
        """Forget a server and its secrets."""


def supply_routes(desk: SupplyDesk) -> list[Route]:
    """Build the routes under `/api/mcp`."""

    async def show_all(given: Given, by: str) -> Any:
        return await desk.servers()

    async def show(given: Given, by: str) -> Any:
        return await desk.server(text(given, "name"))

    async def add(given: Given, by: str) -> Any:
        only(given, "name", "command", "url", "place", "secrets", "check")
        place = next((one for one in ENDPOINT_PLACES if one == given.get("place", "outside")), None)
        if place is None:
            raise InputError(f"place must be {' or '.join(ENDPOINT_PLACES)}")
        secrets = given.get("secrets", {})
        if not isinstance(secrets, dict) or not all(isinstance(one, str) for one in secrets.values()):
            raise InputError("secrets must be an object of texts")
        sourcing = Sourcing(
            name=text(given, "name"),
            command=texts(given, "command"),
            url=maybe_text(given, "url") or "",
            place=place,
            secrets=secrets,
        )
        return await desk.add(sourcing, check=sure(given, "check") if "check" in given else True, by=by)

    async def refresh(given: Given, by: str) -> Any:
        only(given, "name")
        return await desk.refresh(text(given, "name"))

    async def allow(given: Given, by: str) -> Any:
        only(given, "name", "tools")
        return await desk.allow(text(given, "name"), texts(given, "tools"))

    async def forbid(given: Given, by: str) -> Any:
        only(given, "name", "tools")
        return await desk.forbid(text(given, "name"), texts(given, "tools"))

    async def remove(given: Given, by: str) -> Any:
        only(given, "name")
        return await desk.remove(text(given, "name"))

    return [
        json_route(ROOM, "GET", show_all),
        json_route(ROOM, "POST", add),
        json_route(f"{ROOM}/{{name}}", "GET", show),
        json_route(f"{ROOM}/{{name}}", "DELETE", remove),
        json_route(f"{ROOM}/{{name}}/refresh", "POST", refresh),
        json_route(f"{ROOM}/{{name}}/allow", "POST", allow),
        json_route(f"{ROOM}/{{name}}/forbid", "POST", forbid),
    ]
