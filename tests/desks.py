"""The owner's routes for rules, endpoints and approvals over a real unix socket and a real database; no daemon."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mycoswarm.api.approval import ApprovalDesk
from mycoswarm.api.governance import GovernanceServices, governance_routes
from mycoswarm.api.listener import Listener
from mycoswarm.api.refusal import on_bug, on_http_error, on_swarm_error
from mycoswarm.api.rules import Amendment, RuleServices
from mycoswarm.base.errors import NotFoundError, SwarmError
from mycoswarm.base.settings import Settings
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.cli.call import Call
from mycoswarm.cli.entry import main
from mycoswarm.daemon.charter import FIRST_RULES
from mycoswarm.daemon.directory import Directory, endpoint_states
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.daemon.rehearsal import Rehearsal
from mycoswarm.daemon.seeker import Seeker
from mycoswarm.daemon.site import Site
from mycoswarm.routing.snapshot import NodeState, SwarmState
from mycoswarm.store.database import Store
from mycoswarm.store.endpoint import Endpoints
from mycoswarm.store.finder import Finder
from mycoswarm.store.rulebook import RuleBook
from mycoswarm.swarm.place import Place
from mycoswarm.wire.plan import Conditions
from rings import FACTS, node

NOW = 1_700_000_000.0
SECRET = "sk-of-the-rack"
PRIVATE = {"name": "private", "when": {"labels": {"any": ["private"]}}, "then": {"do": "run", "nodes": ["attic"]}}
RACK = {"name": "rack", "when": {"model": "big-*"}, "then": {"do": "external", "name": "rack"}}
STAYS = {"request": {"model": "spore", "labels": ["private"]}, "expect": {"outcome": "run", "only": ["attic"]}}


@dataclass
class Probe:
    """Reaches endpoints by script, and remembers with what it was asked."""

    models: tuple[str, ...] = ("big-one",)
    error: SwarmError | None = None
    asked: list[tuple[str, str, str | None, Place]] = field(default_factory=list)

    async def __call__(self, name: str, url: str, secret: str | None, place: Place) -> tuple[str, ...]:
        """Reach one."""
        self.asked.append((name, url, secret, place))
        if self.error is not None:
            raise self.error
        return self.models


@dataclass
class Approvals:
    """Requests that wait."""

    waits: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[str, bool, str]] = field(default_factory=list)

    def waiting(self) -> list[dict[str, Any]]:
        """Who waits."""
        return self.waits

    async def answer(self, approval_id: str, allow: bool, by: str) -> dict[str, Any]:
        """Answer one."""
        found = [one for one in self.waits if one["id"] == approval_id]
        if not found:
            raise NotFoundError("nothing waits under that id")
        self.waits.remove(found[0])
        self.answers.append((approval_id, allow, by))
        return {"id": approval_id, "allowed": allow}


@dataclass
class Desk:
    """What serves, and the parts behind it. `replayed`: what replay was asked. `calls`: methods and paths so far."""

    folder: Path
    keeper: Keeper
    book: RuleBook
    endpoints: Endpoints
    finder: Finder
    probe: Probe = field(default_factory=Probe)
    approvals: Approvals = field(default_factory=Approvals)
    replayed: list[tuple[int, Any, int | None]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as the command line does."""
        return await asyncio.to_thread(Call(self.folder).ask, method, path, body)

    async def command(self, *words: str, text: str | None = None) -> Result:
        """Run a command, with a text on its stdin."""
        argv = ["--data", str(self.folder), *words]
        return await asyncio.to_thread(lambda: CliRunner().invoke(main, argv, input=text))

    async def done(self, *words: str, text: str | None = None) -> str:
        """Run a command that must work, and give what it wrote."""
        result = await self.command(*words, text=text)
        assert result.exit_code == 0, (words, result.output)
        return result.output

    async def replay(self, last: int, rules: list[Any] | None, within_s: int | None) -> dict[str, Any]:
        """What the coordinator's ledger would say."""
        self.replayed.append((last, rules, within_s))
        moved = {"request_id": "r1", "at": NOW, "model": "spore", "was": "attic", "now": "refused", "why": "no rule"}
        since = None if within_s is None else NOW - within_s
        told = {"requests": 2, "since": since, "is_cut": last == 2}
        return {**told, "same": 1, "moved": [moved], "counts": {"barred": 1}}


def how(by: str = "owner", version: int | None = None, **tests: Any) -> Amendment:
    """What an edit carries."""
    return Amendment(by=by, tests=tests, expected_version=version)


@contextmanager
def books(folder: Path) -> Iterator[tuple[RuleBook, Endpoints]]:
    """The rules and endpoints in a folder's database."""
    store = Store(folder / "node.db")
    try:
        yield RuleBook(store, first=FIRST_RULES, now=NOW), Endpoints(store)
    finally:
        store.close()


@contextmanager
def search_server(folder: Path) -> Iterator[Finder]:
    """The search server in a folder's database."""
    store = Store(folder / "node.db")
    try:
        yield Finder(store)
    finally:
        store.close()


def swarm_of(nodes: tuple[NodeState, ...], endpoints: Endpoints, digest: str | None = None) -> SwarmState:
    """A swarm in which the first node decides and holds the model."""
    holders = {digest: frozenset({nodes[0].node_id})} if digest else {}
    return SwarmState("attic", nodes, holders, endpoints=endpoint_states(endpoints))


def find(reference: str) -> ModelFacts:
    """The one model there is."""
    if reference != FACTS.name:
        raise NotFoundError("no node holds it")
    return FACTS


class _Models:
    find = staticmethod(find)


@asynccontextmanager
async def desk(
    folder: Path,
    *,
    nodes: tuple[NodeState, ...] = (node("attic"), node("cellar")),
    approvals: ApprovalDesk | None = None,
) -> AsyncIterator[Desk]:
    """Serve the owner's routes on the folder's socket; with approvals of the test's own where it gives some."""
    with books(folder) as (book, endpoints), search_server(folder) as finder:
        async with Keeper(book, swarm=lambda: swarm_of(nodes, endpoints), wall_clock=lambda: NOW) as keeper:
            made = Desk(folder, keeper, book, endpoints, finder)
            rehearsal = Rehearsal(
                swarm=lambda digest: swarm_of(nodes, endpoints, digest),
                models=_Models(),
                rules=keeper.rules,
                conditions=lambda facts, ids: Conditions(n_ctx=512, n_ubatch=8),
                wall_clock=lambda: NOW,
            )
            services = GovernanceServices(
                rules=RuleServices(desk=keeper, explain=rehearsal.explain, replay=made.replay),
                endpoints=Directory(endpoints, rules=keeper.rules, wall_clock=lambda: NOW, probe=made.probe),
                approvals=approvals or made.approvals,
                search=Seeker(finder, lambda: NOW),
            )
            handlers: Any = {SwarmError: on_swarm_error, HTTPException: on_http_error, Exception: on_bug}
            app = Starlette(routes=governance_routes(services), exception_handlers=handlers)

            async def noted(scope: Scope, receive: Receive, send: Send) -> None:
                made.calls.append(f"{scope['method']} {scope['path']}")
                await app(scope, receive, send)

            async with Listener(noted, [Site(Settings(data_folder=folder), {}).bind_owner()]):
                yield made
