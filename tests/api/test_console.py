"""The owner's routes on the console: keys of the owner reach them, and no other key does."""

import dataclasses
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from consoles import KEY, OWNER_KEY, Console, console
from desks import PRIVATE, Approvals, Probe, books, how, swarm_of
from household import run
from mycoswarm.api.governance import GovernanceServices, governance_routes, worker_routes
from mycoswarm.api.owner import OwnerServices, owner_routes
from mycoswarm.api.rules import RuleServices, Spot
from mycoswarm.daemon.directory import Directory
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.routing.decision import Outcome, decide
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from rings import Bench, node

ALL = sorted(
    {
        "/api/node", "/api/nodes", "/api/init", "/api/token", "/api/join", "/api/leave", "/api/adoptions", "/api/adopt",
        "/api/adopt/answer", "/api/expel", "/api/tags", "/api/keys", "/api/models", "/api/explain", "/api/rules",
        "/api/rules/history", "/api/rules/test", "/api/rules/tests", "/api/rules/undo", "/api/rules/explain",
        "/api/rules/replay", "/api/endpoints", "/api/approvals", "/api/keys/x", "/api/models/x", "/api/rules/x",
        "/api/models/pull", "/api/rules/x/move", "/api/rules/x/enable", "/api/rules/x/disable", "/api/endpoints/x",
        "/api/approvals/x", "/api/search",
    }
)  # fmt: skip


async def send(c: Console, method: str, path: str, secret: str | None) -> tuple[int, str | None]:
    """Status and error code of one request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{c.port}", "Connection: close", "Content-Length: 2"]
    lines += [] if secret is None else [f"Authorization: Bearer {secret}"]
    answer = await c.raw("\r\n".join([*lines, "", "{}"]))
    _, _, body = answer.partition(b"\r\n\r\n")
    return int(answer.split()[1]), json.loads(body)["error"]["code"] if b'"error"' in body else None


@dataclasses.dataclass
class Searches:
    """A desk for the search server."""

    server: Any
    set_server: Any
    unset_server: Any


class Everything:
    """All the owner's routes over services that remember what they were asked."""

    def __init__(self, keeper: Keeper, directory: Directory, chat: Any) -> None:
        self.asked: list[str] = []

        def service(name: str) -> Any:
            async def act(*given: Any) -> Any:
                self.asked.append(name)
                return {"did": name}

            return act

        async def add_model(path: str, *more: str | None) -> AsyncIterator[dict[str, Any]]:
            self.asked.append("add_model")
            yield {}

        def note(name: str) -> dict[str, Any]:
            self.asked.append(name)
            return {}

        made = {"chat", "node", "adoptions", "add_model", "pull_model"}
        names = {one.name for one in dataclasses.fields(OwnerServices)} - made
        owner = OwnerServices(
            node=lambda: note("node"),
            adoptions=lambda: note("adoptions"),
            add_model=add_model,
            pull_model=add_model,
            chat=chat,
            **{name: service(name) for name in names},
        )

        async def explain(request: Any, narrowing: Narrowing) -> Outcome:
            self.asked.append("explain a rule")
            asked = Asked(model="spore", model_digest=None, task="chat", prompt_characters=0, narrowing=narrowing)
            return decide(asked, None, keeper.rules(), SwarmState("attic", ()))

        rules = RuleServices(desk=keeper, explain=explain, replay=service("replay"))
        self.approvals = Approvals([{"id": "x"}])
        search = Searches(service("server"), service("set_server"), service("unset_server"))
        governance = GovernanceServices(rules=rules, endpoints=directory, approvals=self.approvals, search=search)
        self.routes: list[Route] = [*owner_routes(owner), *governance_routes(governance)]


def walked(routes: list[Route]) -> list[tuple[str, str]]:
    """Every method and path of these routes."""
    return [
        (method, re.sub(r"\{[^}]*\}", "x", route.path)) for route in routes for method in sorted(route.methods or ())
    ]


@pytest.mark.slow
def test_a_key_that_is_not_the_owners_reaches_no_owner_route_however_it_is_written(tmp_path: Path) -> None:
    async def work() -> None:
        with books(tmp_path) as (book, endpoints):
            async with (
                Keeper(book, swarm=lambda: swarm_of((node("attic"),), endpoints)) as keeper,
                Bench().chat() as chat,
            ):
                await keeper.add({**PRIVATE, "name": "x"}, Spot(), how())
                directory = Directory(endpoints, rules=keeper.rules, wall_clock=lambda: 0.0, probe=Probe())
                everything = Everything(keeper, directory, chat)
                ways = walked(everything.routes)
                assert sorted({path for _, path in ways}) == ALL
                async with console(owner_routes=everything.routes) as c:
                    for method, path in ways:
                        if method == "HEAD":  # its answers have no body
                            assert (await send(c, method, path, KEY))[0] == 403, path
                            continue
                        assert await send(c, method, path, None) == (401, "invalid_api_key"), (method, path)
                        assert await send(c, method, path, KEY) == (403, "not_an_owner_key"), (method, path)
                    for path in (
                        "/api//rules",
                        "/API/rules",
                        "/api/%72ules",
                        "/api/rules?x=1",
                        "/v1/../api/rules",
                        "//api/rules",
                    ):
                        status, code = await send(c, "GET", path, KEY)
                        assert status in (403, 404) and code in ("not_an_owner_key", "http_404"), path
                assert not everything.asked and not everything.approvals.answers
                assert keeper.rules().version == 2 and not endpoints.entries()

    run(work, 60)


@pytest.mark.slow
def test_a_key_of_the_owner_reaches_all_of_them_and_its_name_is_kept(tmp_path: Path) -> None:
    async def work() -> None:
        with books(tmp_path) as (book, endpoints):
            async with (
                Keeper(book, swarm=lambda: swarm_of((node("attic"),), endpoints)) as keeper,
                Bench().chat() as chat,
            ):
                directory = Directory(endpoints, rules=keeper.rules, wall_clock=lambda: 0.0, probe=Probe())
                everything = Everything(keeper, directory, chat)
                async with console(owner_routes=everything.routes) as c:
                    for method, path in walked(everything.routes):
                        if method != "HEAD":
                            status, code = await send(c, method, path, OWNER_KEY)
                            assert status not in (401, 403, 405, 500), (method, path, code)
                    await keeper.add({**PRIVATE, "name": "x"}, Spot(), how())
                    assert (await send(c, "POST", "/api/rules/x/disable", OWNER_KEY))[0] == 200
                assert {"nodes", "explain a rule", "replay"} <= set(everything.asked)
                assert (await keeper.history(1))["versions"][0]["by"] == "key boss"

    run(work, 60)


def test_a_worker_sends_whoever_asks_about_rules_to_its_coordinator() -> None:
    async def work() -> None:
        async with console(owner_routes=worker_routes()) as c:
            for path in ("/api/rules", "/api/rules/x/move", "/api/endpoints", "/api/approvals/a1", "/api/search"):
                assert await send(c, "POST", path, OWNER_KEY) == (400, "asked_a_worker")

    run(work)
