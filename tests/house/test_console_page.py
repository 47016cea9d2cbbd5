"""The pages about the console's routes list every one of them."""

import re

import msgspec

from house.tree import ROOT
from mycoswarm.api.certification import certification_routes
from mycoswarm.api.embassy import Embassy
from mycoswarm.api.employer import EmployerServices
from mycoswarm.api.governance import GovernanceServices, governance_routes
from mycoswarm.api.library import LibraryServices, library_routes
from mycoswarm.api.menu import OFFERS, Menu
from mycoswarm.api.rota import rota_routes
from mycoswarm.api.rules import RuleServices
from mycoswarm.api.stockroom import stockroom_routes
from mycoswarm.api.supply import supply_routes

MCP_PAGE = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")


def test_every_address_is_listed() -> None:
    nothing = msgspec.UNSET  # never called
    rules = RuleServices(desk=nothing, explain=nothing, replay=nothing)  # type: ignore[arg-type]  # routes only
    employer = EmployerServices(  # type: ignore[arg-type]  # as above
        team=nothing, crew=nothing, runs=nothing, specs=nothing, admit=nothing, certificate=nothing
    )
    services = GovernanceServices(rules=rules, endpoints=nothing, approvals=nothing, search=nothing, employer=employer)  # type: ignore[arg-type]  # as above
    certification, rota = certification_routes(nothing, nothing), rota_routes(nothing)  # type: ignore[arg-type]  # as above
    mcp = Embassy(Menu(nothing)).routes()  # type: ignore[arg-type]  # as above
    kept = library_routes(LibraryServices(shelves=nothing, search=nothing, notes=nothing, admit=nothing))  # type: ignore[arg-type]  # as above
    supply, stockroom = supply_routes(nothing), stockroom_routes(nothing)  # type: ignore[arg-type]  # as above
    for route in (*governance_routes(services), *certification, *rota, *mcp, *kept, *supply, *stockroom):
        path = re.sub(r"\{name[^}]*\}", "NAME", re.sub(r"\{id[^}]*\}", "ID", route.path))
        last = path.rpartition("/")[2]
        assert path in PAGE or f"`/{last}`" in PAGE, path


def test_every_tool_for_mcp_clients_and_its_arguments_are_on_the_page() -> None:
    for offer in OFFERS:
        (row,) = (line for line in MCP_PAGE.splitlines() if line.startswith(f"| `{offer.name}` |"))
        assert all(f"`{name}`" in row for name in offer.parameters["properties"]), offer.name
