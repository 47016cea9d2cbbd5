"""What only the node that decides has: agents and tools, schedules, documents, the dashboard, and their routes."""

import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass

from mycoswarm.agents.porter import Reach
from mycoswarm.api.certification import certification_routes
from mycoswarm.api.console import ConsoleServices
from mycoswarm.api.dashboard import dashboard_routes, web_folder
from mycoswarm.api.governance import governance_routes
from mycoswarm.api.library import library_routes
from mycoswarm.api.owner import OwnerServices
from mycoswarm.api.pulse import Pulse, pulse_routes, ring_routes
from mycoswarm.api.rota import rota_routes
from mycoswarm.api.session import Porch, session_routes, setup_routes
from mycoswarm.api.supply import supply_routes
from mycoswarm.api.tooling import Routes
from mycoswarm.chat.life import Chat
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.daemon.annex import annex
from mycoswarm.daemon.archivist import Archivist
from mycoswarm.daemon.broker import Broker
from mycoswarm.daemon.cabinet import Cabinet
from mycoswarm.daemon.foreman import Foreman
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.odometer import Odometer
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.daemon.panorama import View, rings_of, sections_of
from mycoswarm.daemon.workroom import Workroom
from mycoswarm.routing.rule import RuleSet
from mycoswarm.stage.pool import RingPool
from mycoswarm.swarm.condition import Condition

Stop = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What the office works with."""

    home: Home
    chat: Chat
    outlook: Outlook
    rings: RingPool
    odometer: Odometer
    rules: Callable[[], RuleSet]
    cabinet: Cabinet
    around: Surroundings
    workroom: Workroom
    reach: Reach
    archivist: Archivist
    owner: OwnerServices
    console: ConsoleServices
    porch: Porch


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """`owner_routes` need an owner's key, `open_routes` any or, where the gate says so, none. `socket_routes`: what the
    owner's socket has besides. `stops` end what goes on; the last first of all, so that runs end as stopped."""

    owner_routes: Routes
    open_routes: Routes
    socket_routes: Routes
    stops: list[Stop]
    conditions: Callable[[], tuple[Condition, ...]]


async def open_office(at: Premises, stack: AsyncExitStack) -> Office:
    """Join it. What must be left again is entered on `stack`.

    Raises:
        StorageError: something of it could not be read.
    """
    home, cabinet, workroom = at.home, at.cabinet, at.workroom
    broker = Broker(home.suppliers, look=workroom.look, wall_clock=time.time)
    library = await stack.enter_async_context(annex(home, at.chat, at.outlook, workroom.workshop))
    here = library.recollection.tools()
    toolbox = workroom.toolbox(at.around, cabinet.approvals, at.reach, broker=broker, here=here)
    foreman = Foreman(home, at.chat, cabinet.approvals, toolbox, at.outlook)
    employer = foreman.services(cabinet.admit)
    governance = cabinet.governance(at.around, employer)
    vigil = await stack.enter_async_context(foreman.vigil(cabinet.admit, lambda: at.outlook.swarm(None)))
    view = View(
        owner=at.owner,
        outlook=at.outlook,
        rings=at.rings.warm,
        odometer=at.odometer,
        approvals=cabinet.approvals,
        employer=employer,
        vigil=vigil,
        archivist=at.archivist,
        rules=at.rules,
    )
    pulse = Pulse(sections_of(view), home.instance_id)
    served = cabinet.embassy(at.console, governance.rules, at.owner.nodes).routes()
    return Office(
        owner_routes=[
            *supply_routes(broker),
            *governance_routes(governance),
            *workroom.owner_routes(toolbox, cabinet.admit),
            *certification_routes(foreman.certify, cabinet.admit),
            *rota_routes(vigil),
            *library_routes(library.services(cabinet.admit)),
            *setup_routes(at.porch),
            *pulse_routes(pulse),
            *ring_routes(lambda: rings_of(view)),
        ],
        open_routes=[*dashboard_routes(web_folder()), *session_routes(at.porch), *served],
        socket_routes=served,
        stops=[pulse.close, library.librarian.close, foreman.close, vigil.close],
        conditions=lambda: (*vigil.conditions(), *broker.conditions()),
    )
