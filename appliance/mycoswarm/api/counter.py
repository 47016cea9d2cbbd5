"""Where the owner is served besides the steward: rules, endpoints, approvals, agents; on the node that decides."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.approval import ApprovalDesk, approval_routes
from mycoswarm.api.destination import EndpointDesk, endpoint_routes
from mycoswarm.api.employer import EmployerServices, employer_routes
from mycoswarm.api.rules import RuleServices, rule_routes
from mycoswarm.base.errors import InputError

ROOMS = ("rules", "endpoints", "approvals", "agents", "runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterServices:
    """What the routes need. `approvals` None: nothing waits for a yes here; `employer` None: no agents work here."""

    rules: RuleServices
    endpoints: EndpointDesk
    approvals: ApprovalDesk | None = None
    employer: EmployerServices | None = None


def counter_routes(services: CounterServices) -> list[Route]:
    """Build the routes under `/api/rules`, `/api/endpoints`, `/api/approvals`, `/api/agents` and `/api/runs`."""
    approvals = [] if services.approvals is None else approval_routes(services.approvals)
    employer = [] if services.employer is None else employer_routes(services.employer)
    return [*rule_routes(services.rules), *endpoint_routes(services.endpoints), *approvals, *employer]


def elsewhere_routes() -> list[Route]:
    """What a worker has in the place of these routes: rules are kept where they decide."""

    async def refuse(request: Request) -> Response:
        raise InputError(
            "this node is a worker: rules, endpoints, approvals and agents are kept on its coordinator",
            hint="Ask there.",
            code="asked_a_worker",
        )

    methods = ["GET", "POST", "PUT", "DELETE"]
    return [Route(f"/api/{room}{{rest:path}}", refuse, methods=methods) for room in ROOMS]
