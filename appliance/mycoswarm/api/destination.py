"""The owner's routes for external endpoints. Their API keys are taken here and given out nowhere."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.routing import Route

from mycoswarm.api.body import Given, json_route, maybe_text, only, sure, text
from mycoswarm.base.errors import InputError
from mycoswarm.store.endpoint import ENDPOINT_PLACES, EndpointPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """An endpoint as the owner gives it. `secret` is its API key; None where it asks for none."""

    name: str
    url: str
    place: EndpointPlace
    secret: str | None = field(default=None, repr=False)


class EndpointDesk(Protocol):
    """What the routes ask of the daemon. Answers hold no secret."""

    async def endpoints(self) -> dict[str, Any]:
        """All endpoints, each with the rules that name it."""

    async def add(self, endpoint: Registration, *, check: bool, by: str) -> dict[str, Any]:
        """Register an endpoint, after it was reached and its place proved where `check` says so."""

    async def remove(self, name: str) -> dict[str, Any]:
        """Forget an endpoint and its secret."""


def endpoint_routes(desk: EndpointDesk) -> list[Route]:
    """Build the routes under `/api/endpoints`."""

    async def show(given: Given, by: str) -> Any:
        return await desk.endpoints()

    async def add(given: Given, by: str) -> Any:
        only(given, "name", "url", "place", "secret", "check")
        place = next((one for one in ENDPOINT_PLACES if one == given.get("place", "outside")), None)
        if place is None:
            raise InputError(f"place must be {' or '.join(ENDPOINT_PLACES)}")
        endpoint = Registration(
            name=text(given, "name"), url=text(given, "url"), place=place, secret=maybe_text(given, "secret")
        )
        return await desk.add(endpoint, check=sure(given, "check") if "check" in given else True, by=by)

    async def remove(given: Given, by: str) -> Any:
        only(given, "name")
        return await desk.remove(text(given, "name"))

    return [
        json_route("endpoints", "GET", show),
        json_route("endpoints", "POST", add),
        json_route("endpoints/{name:path}", "DELETE", remove),
    ]
