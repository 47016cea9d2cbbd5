"""The page about the owner's routes lists every one of them."""

import re

import msgspec

from house.tree import ROOT
from mycoswarm.api.certification import certification_routes
from mycoswarm.api.employer import EmployerServices
from mycoswarm.api.governance import GovernanceServices, governance_routes
from mycoswarm.api.rota import rota_routes
from mycoswarm.api.rules import RuleServices
from mycoswarm.api.stockroom import stockroom_routes

PAGE = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")


def test_every_address_is_listed() -> None:
    nothing = msgspec.UNSET  # never called
    rules = RuleServices(desk=nothing, explain=nothing, replay=nothing)  # type: ignore[arg-type]  # routes only
    employer = EmployerServices(  # type: ignore[arg-type]  # as above
        team=nothing, crew=nothing, runs=nothing, specs=nothing, admit=nothing, certificate=nothing
    )
    services = GovernanceServices(rules=rules, endpoints=nothing, approvals=nothing, employer=employer)  # type: ignore[arg-type]  # as above
    certification, rota = certification_routes(nothing, nothing), rota_routes(nothing)  # type: ignore[arg-type]  # as above
    stockroom = stockroom_routes(nothing)  # type: ignore[arg-type]  # as above
    for route in (*governance_routes(services), *certification, *rota, *stockroom):
        path = re.sub(r"\{name[^}]*\}", "NAME", re.sub(r"\{id[^}]*\}", "ID", route.path))
        last = path.rpartition("/")[2]
        assert path in PAGE or f"`/{last}`" in PAGE, path
