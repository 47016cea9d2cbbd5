"""The owner's routes, over the real unix socket, as the command line asks them."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from household import run
from mycoswarm.api.listener import Listener
from mycoswarm.api.owner import OwnerServices, owner_routes
from mycoswarm.api.refusal import on_bug, on_swarm_error
from mycoswarm.base.errors import InputError, NotFoundError, StorageError, SwarmError
from mycoswarm.base.settings import Settings
from mycoswarm.cli.call import Call
from mycoswarm.daemon.site import Site
from mycoswarm.store.apikey import Terms
from rings import Bench, node


@dataclass
class Owner:
    """A socket, and what the services behind it were asked. `error` is what each of them raises."""

    call: Call
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    error: SwarmError | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(self.call.ask, method, path, body)

    async def lines(self, body: Any) -> list[bytes]:
        return await asyncio.to_thread(lambda: list(self.call.stream("POST", "/api/models", body)))


@asynccontextmanager
async def owner_of(folder: Path, bench: Bench | None = None) -> AsyncIterator[Owner]:
    """Serve every service, each saying what it was asked."""
    owner = Owner(Call(folder))

    def service(name: str) -> Any:
        async def act(*given: Any) -> Any:
            owner.asked.append((name, *given))
            if owner.error:
                raise owner.error
            return {"did": name}

        return act

    async def add_model(path: str, name: str | None) -> AsyncIterator[dict[str, Any]]:
        owner.asked.append(("add_model", path, name))
        yield {"done_bytes": 1, "total_bytes": 2}
        if owner.error:
            raise owner.error
        yield {"model": {"name": name}}

    async def pull_model(source: str, name: str | None, by: str) -> AsyncIterator[dict[str, Any]]:
        owner.asked.append(("pull_model", source, name, by))
        if owner.error:
            raise owner.error
        yield {"model": {"name": name}}

    bench = bench or Bench()
    async with bench.chat() as chat:
        made = {"chat", "node", "adoptions", "add_model", "pull_model"}
        names = {one.name for one in dataclasses.fields(OwnerServices)} - made
        services = OwnerServices(
            node=lambda: {"role": "worker"},
            adoptions=lambda: {"adoptions": []},
            add_model=add_model,
            pull_model=pull_model,
            chat=chat,
            **{name: service(name) for name in names},
        )
        app = Starlette(
            routes=list(owner_routes(services)), exception_handlers={SwarmError: on_swarm_error, Exception: on_bug}
        )
        site = Site(Settings(data_folder=folder), {})
        async with Listener(app, [site.bind_owner()]):
            yield owner


NO_TERMS = Terms(labels=(), user=None, is_owner=False, requests_per_minute=None, tokens_per_day=None)
TERMS = Terms(labels=("a", "b"), user="ana", is_owner=True, requests_per_minute=2, tokens_per_day=3)

ROUTES: tuple[tuple[str, str, Any, tuple[Any, ...]], ...] = (
    ("GET", "/api/nodes", None, ("nodes",)),
    ("POST", "/api/init", {"name": "pi"}, ("found", "pi")),
    ("POST", "/api/init", {}, ("found", None)),
    ("POST", "/api/token", {"lifetime_s": 60, "uses": 2}, ("token", 60.0, 2)),
    ("POST", "/api/join", {"token": "t"}, ("join", "t")),
    ("POST", "/api/leave", None, ("leave",)),
    ("POST", "/api/adopt", {"node": "attic"}, ("adopt", "attic")),
    ("POST", "/api/adopt/answer", {"code": "123 456", "accept": False}, ("answer_adoption", "123 456", False)),
    ("POST", "/api/expel", {"node": "attic"}, ("expel", "attic")),
    ("POST", "/api/tags", {"node": "attic", "add": ["gpu"]}, ("tag", "attic", ("gpu",), ())),
    ("POST", "/api/tags", {"node": "attic", "remove": ["gpu"]}, ("tag", "attic", (), ("gpu",))),
    ("GET", "/api/keys", None, ("keys",)),
    ("POST", "/api/keys", {"name": "desk"}, ("create_key", "desk", NO_TERMS)),
    ("POST", "/api/keys", {"name": "desk", **TERMS, "labels": ["a", "b"]}, ("create_key", "desk", TERMS)),
    ("DELETE", "/api/keys/two%20words%2Fand%20more", None, ("revoke_key", "two words/and more")),
    ("GET", "/api/models", None, ("models",)),
    ("DELETE", "/api/models/spore", {"name": "other"}, ("remove_model", "spore")),
)


def test_each_route_asks_for_one_thing_and_says_what_went_wrong_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with owner_of(tmp_path) as owner:
            for method, path, body, asked in ROUTES:
                owner.error = None
                assert await owner.ask(method, path, body) == {"did": asked[0]}
                assert owner.asked.pop() == asked
                owner.error = NotFoundError("there is none", hint="Look.")
                with pytest.raises(NotFoundError, match="there is none") as caught:
                    await owner.ask(method, path, body)
                assert caught.value.hint == "Look."
            assert await owner.ask("GET", "/api/node") == {"role": "worker"}

    run(work)


WRONG: tuple[tuple[str, Any], ...] = (
    ("/api/init", {"name": 5}),
    ("/api/init", {"name": ""}),
    ("/api/init", []),
    ("/api/token", {"lifetime_s": "1h", "uses": 1}),
    ("/api/token", {"lifetime_s": True, "uses": 1}),
    ("/api/token", {"lifetime_s": 0, "uses": 1}),
    ("/api/token", {"lifetime_s": 60, "uses": 1.5}),
    ("/api/token", {"lifetime_s": 60}),
    ("/api/join", {"token": "x" * 5000}),
    ("/api/adopt", {"node": None}),
    ("/api/adopt/answer", {"code": "1", "accept": "no"}),
    ("/api/keys", {"name": "desk", "labels": "private"}),
    ("/api/keys", {"name": "desk", "labels": [1]}),
    ("/api/keys", {"name": "desk", "user": 1}),
    ("/api/keys", {"name": "desk", "is_owner": 1}),
    ("/api/keys", {"name": "desk", "requests_per_minute": 1.5}),
    ("/api/keys", {"name": "desk", "tokens_per_day": "1"}),
    ("/api/models", {"path": "/x", "name": ["y"]}),
    ("/api/models/pull", {"name": "y"}),
    ("/api/models/pull", {"source": 5}),
    ("/api/models/pull", {"source": "hf:o/r/x.gguf", "sha256": "0"}),
    ("/api/explain", {"route": 7}),
    ("/api/explain", {"model": "spore", "route": "sideways"}),
    ("/api/explain", {"model": "spore", "messages": "hello"}),
)


def test_wrong_requests_are_named_and_ask_for_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with owner_of(tmp_path) as owner:
            for path, body in WRONG:
                with pytest.raises(InputError):
                    await owner.ask("POST", path, body)
                assert not owner.asked, (path, body)

    run(work)


def test_adding_a_model_tells_how_far_it_is_and_ends_with_the_model_or_the_error(tmp_path: Path) -> None:
    async def work() -> None:
        async with owner_of(tmp_path) as owner:
            body = {"path": "/models/x.gguf", "name": "x"}
            told = await owner.lines(body)
            assert told == [b'{"done_bytes":1,"total_bytes":2}\n', b'{"model":{"name":"x"}}\n']
            owner.error = StorageError("the disk is full")
            _, error = await owner.lines(body)
            assert b"storage_failed" in error and b"the disk is full" in error
            assert owner.asked == [("add_model", "/models/x.gguf", "x")] * 2

    run(work)


def test_explaining_says_where_and_why_and_runs_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        bench = Bench()
        async with owner_of(tmp_path, bench) as owner:
            told = await owner.ask("POST", "/api/explain", {"model": "spore"})
            assert told["allowed"] and told["rule"] and told["reason"]
            assert told["stages"] == [{"node": "attic", "layers": [0, 6]}]
            assert {one["name"]: one["chosen"] for one in told["nodes"]} == {"attic": True, "cellar": False}
            told = await owner.ask("POST", "/api/explain", {"model": "spore", "route": "split; nodes=attic,cellar"})
            assert {stage["node"] for stage in told["stages"]} == {"attic", "cellar"}
            assert [stage["layers"][0] for stage in told["stages"][1:]] == [told["stages"][0]["layers"][1]]
        assert not bench.rings

    run(work)


def test_explaining_a_refusal_says_what_is_wrong_with_each_node(tmp_path: Path) -> None:
    async def work() -> None:
        async with owner_of(tmp_path, Bench(nodes=(node("attic", trouble="it is off"),))) as owner:
            told = await owner.ask("POST", "/api/explain", {"model": "spore"})
            assert not told["allowed"] and told["code"] and "stages" not in told
            assert "it is off" in told["nodes"][0]["reason"]

    run(work)


def test_a_pull_is_told_by_lines_and_what_is_wrong_at_once_has_its_status(tmp_path: Path) -> None:
    async def work() -> None:
        async with owner_of(tmp_path) as owner:
            asked = {"source": "hf:o/r/x.gguf", "name": "x"}
            assert await owner.ask("POST", "/api/models/pull", asked) == {"model": {"name": "x"}}
            assert owner.asked == [("pull_model", "hf:o/r/x.gguf", "x", "owner")]
            owner.error = NotFoundError("no such file")
            with pytest.raises(NotFoundError, match="no such file"):  # only a status tells a client so
                await owner.ask("POST", "/api/models/pull", asked)

    run(work)
