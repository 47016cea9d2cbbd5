"""The ledger's routes over the real unix socket: what is asked reaches the ledger, and what is wrong is named."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from household import run
from mycoswarm.api.chronicle import chronicle_routes
from mycoswarm.api.listener import Listener
from mycoswarm.api.refusal import on_bug, on_swarm_error
from mycoswarm.base.errors import BusyError, InputError, NotFoundError, StorageError, SwarmError
from mycoswarm.base.settings import Settings
from mycoswarm.cli.call import Call
from mycoswarm.daemon.site import Site


@dataclass
class Ledgerlike:
    """Says what it was asked. `error` is what it raises; `left` is set when a verification is left."""

    call: Call
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    error: Exception | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    has_end: bool = True

    def _noted(self, *given: Any) -> dict[str, Any]:
        self.asked.append(given)
        if self.error:
            raise self.error
        return {"did": given[0], "odd": "\udcff"}

    def requests(self, **given: Any) -> dict[str, Any]:
        return self._noted("requests", given)

    def rows(self, kind: str, **given: Any) -> dict[str, Any]:
        return self._noted("rows", kind, given)

    def request(self, beginning: str, *, with_prompt: bool) -> dict[str, Any]:
        return self._noted("request", beginning, with_prompt)

    def exposure(self, beginning: str) -> dict[str, Any]:
        return self._noted("exposure", beginning)

    def export(self) -> Iterator[str]:
        for number in range(20_000):
            yield json.dumps({"seq": number, "text": "x" * 50})
        if self.error:
            raise self.error
        yield '{"head":{}}'

    def verify(self) -> AsyncGenerator[dict[str, Any], None]:
        if isinstance(self.error, BusyError):
            raise self.error
        return self._events()

    async def _events(self) -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield {"event": "progress"}
            if self.error:
                raise self.error
            if not self.has_end:
                await asyncio.Event().wait()
            yield {"event": "verdict"}
        finally:
            self.left.set()

    async def ask(self, path: str, method: str = "GET") -> Any:
        return await asyncio.to_thread(self.call.ask, method, path)

    async def lines(self, path: str, method: str = "GET") -> list[Any]:
        return await asyncio.to_thread(lambda: [json.loads(line) for line in self.call.stream(method, path)])


@asynccontextmanager
async def ledger_of(folder: Path) -> AsyncIterator[Ledgerlike]:
    ledger = Ledgerlike(Call(folder))
    app = Starlette(
        routes=list(chronicle_routes(ledger, ledger)),
        exception_handlers={SwarmError: on_swarm_error, Exception: on_bug},
    )
    async with Listener(app, [Site(Settings(data_folder=folder), {}).bind_owner()]):
        yield ledger


ASKED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("", ("requests", {"limit": 50, "before": None, "key": None, "outcome": None})),
    (
        "?limit=3&after=9&key=a%20b&outcome=stop",
        ("requests", {"limit": 3, "before": 9, "key": "a b", "outcome": "stop"}),
    ),
    ("?kind=egress&limit=2", ("rows", "egress", {"limit": 2, "before": None})),
    ("/abc", ("request", "abc", False)),
    ("/abc?prompt=yes", ("request", "abc", True)),
    ("/abc?prompt=1", ("request", "abc", False)),
    ("/abc/exposure", ("exposure", "abc")),
)


def test_each_route_asks_for_one_thing_and_says_what_went_wrong_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with ledger_of(tmp_path) as ledger:
            for path, asked in ASKED:
                ledger.error = None
                assert (await ledger.ask(f"/api/ledger{path}"))["did"] == asked[0]
                assert ledger.asked.pop() == asked
                ledger.error = NotFoundError("there is none")
                with pytest.raises(NotFoundError, match="there is none"):
                    await ledger.ask(f"/api/ledger{path}")
                ledger.asked.clear()

    run(work)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1.5", "after=0", "after=" + "9" * 19, "kind=", "key="],
)
def test_a_wrong_query_is_named_and_asks_for_nothing(tmp_path: Path, query: str) -> None:
    async def work() -> None:
        async with ledger_of(tmp_path) as ledger:
            with pytest.raises(InputError, match=query.partition("=")[0]):
                await ledger.ask(f"/api/ledger?{query}")
            assert not ledger.asked

    run(work)


@pytest.mark.slow
def test_an_export_comes_whole_and_one_that_fails_cannot_pass_as_whole(tmp_path: Path) -> None:
    async def work() -> None:
        async with ledger_of(tmp_path) as ledger:
            lines = await ledger.lines("/api/ledger/export")
            assert len(lines) == 20_001 and "head" in lines[-1]
            ledger.error = StorageError("the disk is gone")
            lines = await ledger.lines("/api/ledger/export")
            assert lines[-1]["error"]["code"] == "storage_failed" and not any("head" in line for line in lines)

    run(work)


def test_a_verification_streams_and_ends_with_its_verdict_or_the_error(tmp_path: Path) -> None:
    async def work() -> None:
        async with ledger_of(tmp_path) as ledger:
            path = "/api/ledger/verify"
            assert [line["event"] for line in await ledger.lines(path, "POST")] == ["progress", "verdict"]
            for error, code in ((StorageError("no"), "storage_failed"), (ValueError("ours"), "internal_error")):
                ledger.error = error
                assert (await ledger.lines(path, "POST"))[-1]["error"]["code"] == code
            ledger.error = BusyError("at it", retry_after_s=30)
            with pytest.raises(SwarmError, match="at it"):
                await ledger.lines(path, "POST")

    run(work)


def test_a_verification_whose_asker_hangs_up_is_ended(tmp_path: Path) -> None:
    async def work() -> None:
        async with ledger_of(tmp_path) as ledger:
            ledger.has_end = False

            def look() -> bytes:
                lines = ledger.call.stream("POST", "/api/ledger/verify")
                first = next(lines)
                lines.close()  # type: ignore[attr-defined]  # a generator
                return first

            assert b"progress" in await asyncio.to_thread(look)
            async with asyncio.timeout(5):
                await ledger.left.wait()

    run(work)
