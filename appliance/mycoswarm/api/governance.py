"""The owner's routes that govern where prompts go, and for agents: on the node that decides."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.approval import ApprovalDesk, approval_routes
from mycoswarm.api.destination import EndpointDesk, endpoint_routes
from mycoswarm.api.embassy import PATH
from mycoswarm.api.employer import EmployerServices, employer_routes
from mycoswarm.api.lookup import SearchDesk, search_routes
from mycoswarm.api.rules import RuleServices, rule_routes
from mycoswarm.api.supply import ROOM
from mycoswarm.base.errors import InputError

ROOMS = ("rules", "endpoints", "approvals", "search", "agents", "runs", "schedules", "library", "notes", ROOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernanceServices:
    """What the routes need. `employer` None: no agents work here."""

    rules: RuleServices
    endpoints: EndpointDesk
    approvals: ApprovalDesk
    search: SearchDesk
    employer: EmployerServices | None = None


def governance_routes(services: GovernanceServices) -> list[Route]:
    """Build the routes of rules, endpoints, approvals, the search server, agents and runs."""
    return [
        *rule_routes(services.rules),
        *endpoint_routes(services.endpoints),
        *approval_routes(services.approvals),
        *search_routes(services.search),
        *([] if services.employer is None else employer_routes(services.employer)),
    ]


def worker_routes() -> list[Route]:
    """Build what a worker has in the place of these routes: rules are kept where they decide."""

    async def refuse(request: Request) -> Response:
        raise InputError(
            "this node is a worker: rules, endpoints, agents, documents, certificates and MCP are on its coordinator",
            hint="Ask there.",
            code="asked_a_worker",
        )

    methods = ["GET", "POST", "PUT", "DELETE"]
    paths = (*(f"/api/{room}{{rest:path}}" for room in ROOMS), "/api/models/{name:path}/certify", PATH)
    return [Route(path, refuse, methods=methods) for path in paths]
