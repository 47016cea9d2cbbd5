"""The owner's routes for requests that wait for a yes.

No prompt text passes here; of a tool's call its arguments do, or a yes would be blind.
"""

from typing import Any, Protocol

from starlette.routing import Route

from mycoswarm.api.body import Given, json_route, only, sure, text


class ApprovalDesk(Protocol):
    """Who waits, and how they are answered."""

    def waiting(self) -> list[dict[str, Any]]:
        """Each with id, asked_at, expires_at, key, user, model, task, characters, labels, destination, rule."""

    async def answer(self, approval_id: str, allow: bool, by: str) -> dict[str, Any]:
        """Let a request through, or refuse it; NotFoundError where none waits under that id."""


def approval_routes(desk: ApprovalDesk) -> list[Route]:
    """Build the routes under `/api/approvals`."""

    async def show(given: Given, by: str) -> Any:
        return {"approvals": desk.waiting()}

    async def answer(given: Given, by: str) -> Any:
        only(given, "id", "allow")
        return await desk.answer(text(given, "id"), sure(given, "allow"), by)

    return [json_route("approvals", "GET", show), json_route("approvals/{id:path}", "POST", answer)]
