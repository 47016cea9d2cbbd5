"""The owner's routes for agents and runs over a real unix socket and a real database; models and tools by script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from canned import Model, Tools
from mycoswarm.agents.crew import Crew
from mycoswarm.agents.party import Parts
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.team import Team
from mycoswarm.agents.vigil import Means, Vigil
from mycoswarm.api.approval import approval_routes
from mycoswarm.api.employer import EmployerServices, employer_routes
from mycoswarm.api.listener import Listener
from mycoswarm.api.refusal import on_bug, on_http_error, on_swarm_error
from mycoswarm.api.rota import rota_routes
from mycoswarm.base.errors import SwarmError
from mycoswarm.base.settings import Settings
from mycoswarm.chat.consent import Approvals
from mycoswarm.cli.call import Call
from mycoswarm.cli.entry import main
from mycoswarm.daemon.site import Site
from mycoswarm.store.agenda import Agenda
from mycoswarm.store.database import Store
from mycoswarm.store.diploma import Diploma, Diplomas
from mycoswarm.store.run import Runs


@dataclass
class Clock:
    """A wall clock that stands until it is set; in seconds since 1970."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Employer:
    """What serves, and the parts behind it."""

    folder: Path
    crew: Crew
    runs: Runs
    team: Team
    approvals: Approvals
    vigil: Vigil
    clock: Clock = field(default_factory=Clock)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as the command line does."""
        return await asyncio.to_thread(Call(self.folder).ask, method, path, body)

    async def command(self, *words: str, text: str | None = None) -> Result:
        """Run a command, with a text on its stdin."""
        argv = ["--data", str(self.folder), *words]
        return await asyncio.to_thread(lambda: CliRunner().invoke(main, argv, input=text))


@asynccontextmanager
async def employer(folder: Path, model: Model, tools: Tools | None = None) -> AsyncIterator[Employer]:
    """Serve while inside."""
    store, team, approvals = Store(folder / "node.db"), Team(folder / "agents"), Approvals()
    runs, box, numbers = Runs(store, 0.0), tools or Tools({"look": str}), iter(range(100))
    clock, schedule_numbers = Clock(), iter(range(100))

    async def profile(name: str) -> Profile:
        return team.profile(name)

    async def certificate(model: str) -> Diploma | None:
        return Diplomas(store).find(model)

    crew = Crew(
        Parts(toolbox=box, speak=model.speak, profile=profile),
        approvals=approvals,
        history=runs,
        new_id=lambda: f"r{next(numbers)}",
        wall_clock=clock,
    )
    vigil = Vigil(
        Means(
            agenda=Agenda(store),
            crew=crew,
            profile=profile,
            admit=lambda row: None,
            is_ready=lambda: True,
            new_id=lambda: f"s{next(schedule_numbers)}",
            wall_clock=clock,
        )
    )
    routes = employer_routes(
        EmployerServices(
            team=team, crew=crew, runs=runs, specs=box.specs, admit=lambda key: None, certificate=certificate
        )
    )
    handlers: Any = {SwarmError: on_swarm_error, HTTPException: on_http_error, Exception: on_bug}
    app = Starlette(routes=[*routes, *approval_routes(approvals), *rota_routes(vigil)], exception_handlers=handlers)

    async def as_owner(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {}).update(key=None, key_name=None)
        await app(scope, receive, send)

    try:
        async with asyncio.timeout(30), Listener(as_owner, [Site(Settings(data_folder=folder), {}).bind_owner()]):
            yield Employer(folder, crew, runs, team, approvals, vigil, clock)
            await vigil.close()
            await crew.close()
    finally:
        store.close()
