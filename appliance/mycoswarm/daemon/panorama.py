"""The whole house as the dashboard is shown it: sections of the event stream, each of which a route serves too."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mycoswarm.agents.vigil import Vigil
from mycoswarm.api.employer import EmployerServices, run_list
from mycoswarm.api.owner import OwnerServices
from mycoswarm.api.pulse import Section
from mycoswarm.chat.consent import Approvals
from mycoswarm.daemon.archivist import Archivist
from mycoswarm.daemon.odometer import Odometer
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.routing.rule import RuleSet
from mycoswarm.stage.pool import Warm

SHOWN_REQUESTS = 50
SHOWN_RUNS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the panorama looks at."""

    owner: OwnerServices
    outlook: Outlook
    rings: Callable[[], tuple[Warm, ...]]
    odometer: Odometer
    approvals: Approvals
    employer: EmployerServices
    vigil: Vigil
    archivist: Archivist
    rules: Callable[[], RuleSet]


def sections_of(view: View) -> tuple[Section, ...]:
    """All sections. `rules` holds their version alone: the page asks for the rules themselves where it changed."""

    def plain(read: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        async def give() -> Any:
            return read()

        return give

    async def requests() -> Any:
        told = await asyncio.to_thread(
            lambda: view.archivist.requests(limit=SHOWN_REQUESTS, before=None, key=None, outcome=None)
        )
        return told["requests"]

    return (
        Section("node", plain(view.owner.node)),
        Section("swarm", view.owner.nodes),
        Section("adoptions", plain(view.owner.adoptions)),
        Section("rings", plain(lambda: rings_of(view))),
        Section("approvals", plain(lambda: list(view.approvals.waiting()))),
        Section("rules", plain(lambda: view.rules().version)),
        Section("runs", lambda: run_list(view.employer, SHOWN_RUNS), every_s=1.0),
        Section("requests", requests, every_s=1.0),
        Section("schedules", plain(view.vigil.schedules), every_s=2.0),
        Section("models", view.owner.models, every_s=2.0),
    )


def rings_of(view: View) -> list[dict[str, Any]]:
    """All loaded rings, with who holds which layers and what flows through them."""
    names = {facts.digest: facts.name for facts, _ in view.outlook.models()}
    nodes = {node.node_id: node.name for node in view.outlook.swarm(None).nodes}
    return [
        {
            "ring_id": ring.plan.ring_id,
            "model": names.get(ring.plan.model_digest, ring.plan.model_digest[:12]),
            "model_digest": ring.plan.model_digest,
            "layers": ring.plan.n_layer,
            "embeds": ring.embeds,
            "in_use_by": ring.users,
            "stages": [
                {
                    "node_id": stage.node_id,
                    "node": nodes.get(stage.node_id, stage.node_id),
                    "layers": [stage.first, stage.last],
                    "bytes": ring.node_bytes.get(stage.node_id),
                    **told,
                }
                for stage, told in zip(ring.plan.stages, view.odometer.stages(ring.plan), strict=True)
            ],
            **view.odometer.shown(ring.plan.ring_id),
        }
        for ring in view.rings()
    ]
