"""Verifying over real peer connections: what nodes show is held against what was decided, whatever they do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from household import make_node, make_swarm, run, take_in
from mycoswarm.api.disclosure import disclosure_routes
from mycoswarm.api.refusal import on_swarm_error
from mycoswarm.base.errors import BusyError, SwarmError, UnreachableError
from mycoswarm.daemon.archivist import Archivist
from mycoswarm.daemon.auditor import Auditor
from mycoswarm.daemon.standing import Standing, read_standing
from mycoswarm.stage.permit import seal_ticket
from mycoswarm.store.database import Store
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import ANSWER, DECISION, TICKET, ticket_row
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.key import is_signed
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, fingerprint, server_context
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.ticket import Ticket, Warrant

pytestmark = pytest.mark.slow

DIGEST = "m" * 64


@dataclass
class Station:
    """A node without a daemon: its standing, its ledger, and who reads it."""

    standing: Standing
    ledger: Ledger
    store: Store
    archivist: Archivist

    @property
    def node_id(self) -> str:
        return self.standing.identity.node_id


class Pair:
    """A coordinator and a worker. `routes` replaces what the worker's peer listener serves; None: nobody answers."""

    def __init__(self, folder: Path) -> None:
        registrar, first = make_swarm(folder)
        worker = make_node(folder, "attic")
        take_in(registrar, worker)
        self.sign = registrar.authority.sign
        self.first = _station(folder / "pi", read_standing(folder / "pi", first))
        self.worker = _station(folder / "attic", read_standing(folder / "attic", worker))
        assert self.worker.standing.held is not None and registrar.signed_roster is not None
        self.worker.standing.held.accept(registrar.signed_roster)
        self.routes: list[BaseRoute] | None = list(disclosure_routes(self.who, self.worker.archivist))
        self._port = 0

    def who(self, der: bytes) -> Any:
        entries = self.worker.standing.roster()[0].entries
        return next((entry for entry in entries if entry.fingerprint == fingerprint(der)), None)

    @property
    def shares(self) -> list[tuple[str, int, int]]:
        return [(one.node_id, at, at + 1) for at, one in enumerate((self.first, self.worker))]

    def begin(self, number: int) -> str:
        """Decide on a request for both nodes. Gives the receipt."""
        nodes = [{"id": node_id, "name": "x", "layers": [first, last]} for node_id, first, last in self.shares]
        asked = {"task": "chat", "labels": [], "added": [], "model_digest": DIGEST}
        body = {"outcome": "run", "asked": asked, "nodes": nodes, "rule": "all", "version": 1, "attempt": 1}
        return self.first.ledger.append(DECISION, body, request_id=f"request-{number}", now=1.0).digest

    def end(self, number: int, *, outcome: str = "stop", without: tuple[str, ...] = ()) -> None:
        """Have each node take its ticket for the request, and end it."""
        receipt = self.first.ledger.rows(kind=DECISION, request_id=f"request-{number}")[0].digest
        for station in (self.first, self.worker):
            if station.standing.identity.name not in without:
                self.take(station, receipt, f"request-{number}", self.shares)
        self.first.ledger.append(ANSWER, {"outcome": outcome}, request_id=f"request-{number}", now=2.0)

    def work(self, number: int, *, outcome: str = "stop", without: tuple[str, ...] = ()) -> str:
        """A whole request. Gives the receipt."""
        receipt = self.begin(number)
        self.end(number, outcome=outcome, without=without)
        return receipt

    def take(self, station: Station, receipt: str, request_id: str, shares: list[tuple[str, int, int]]) -> None:
        plan = RingPlan(
            ring_id="ring",
            model_digest=DIGEST,
            n_layer=len(shares),
            holder_id=self.first.node_id,
            stages=tuple(StagePlan(node_id=node_id, first=first, last=last) for node_id, first, last in shares),
            conditions=Conditions(n_ctx=256),
        )
        ticket = Ticket(
            swarm_id=station.standing.swarm_id,
            node_id=station.node_id,
            nonce="n",
            sequence=0,
            lifetime_s=5.0,
            warrant=Warrant(rule="all", version=1, receipt=receipt),
            plan=plan,
            request_id=request_id,
        )
        station.ledger.append(
            TICKET, ticket_row(seal_ticket(ticket, self.sign), ticket), request_id=request_id, now=1.5
        )

    async def connect(self, node_id: str) -> Connection:
        if self.routes is None:
            raise UnreachableError("no address of attic is known")
        standing = self.first.standing
        pem = standing.identity.key.pem.decode()
        context = client_context(standing.certificate_pem, pem, standing.authority_pem)
        return await dial([f"127.0.0.1:{self._port}"], context, lambda der: True, 5.0)

    @asynccontextmanager
    async def auditor(self) -> AsyncIterator[Auditor]:
        """The coordinator's, while the worker serves."""
        standing = self.worker.standing
        pem = standing.identity.key.pem.decode()
        app = Starlette(routes=self.routes or [], exception_handlers={SwarmError: on_swarm_error})
        context = server_context(standing.certificate_pem, pem, standing.authority_pem)
        async with PeerServer(cast(Any, app), context, bind(["127.0.0.1"], 0)) as server:
            self._port = server.port
            yield Auditor(self.first.ledger, self.first.archivist, self.first.standing, self.connect)

    def verified(self) -> dict[str, list[dict[str, Any]]]:
        """All events of one verification but progress, by their kind."""
        found: dict[str, list[dict[str, Any]]] = {}

        async def work() -> None:
            async with self.auditor() as auditor, aclosing(auditor.verify()) as events:
                async for event in events:
                    json.dumps(event)
                    found.setdefault(event["event"], []).append(event)

        run(work)
        return found

    def close(self) -> None:
        for station in (self.first, self.worker):
            station.store.close()


def _station(folder: Path, standing: Standing) -> Station:
    store = Store(folder / "node.db")
    key = standing.identity.key
    ledger = Ledger(store, key.sign, partial(is_signed, key.public_der))
    return Station(standing, ledger, store, Archivist(ledger, standing, name=lambda: standing.identity.name))


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    made = Pair(tmp_path)
    yield made
    made.close()


def findings(found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str, int | None]]:
    (comparison,) = found["comparison"]
    return [(one["kind"], one["node"], one["row"]) for one in comparison["findings"]]


def test_ledgers_that_agree_are_sound_on_both_nodes(pair: Pair) -> None:
    for number in range(3):
        pair.work(number)
    pair.work(3, outcome="cancelled", without=("attic",))
    found = pair.verified()
    assert [(one["node"], one["rows"], one["is_sound"]) for one in found["chain"]] == [
        ("pi", 12, True),
        ("attic", 3, True),
    ]
    (comparison,) = found["comparison"]
    assert (comparison["tickets"], comparison["decisions"], comparison["untraced"]) == (7, 4, 1)
    assert findings(found) == [] and found["verdict"][0]["is_sound"] and not found["verdict"][0]["not_checked"]


def test_a_coordinator_s_ledger_that_was_put_back_is_found_by_the_worker_s_tickets(pair: Pair) -> None:
    pair.work(0)
    saved = pair.first.store.read("SELECT * FROM ledger"), pair.first.store.read("SELECT * FROM ledger_head")
    pair.work(1)
    pair.work(2)
    pair.first.store.write("DELETE FROM ledger WHERE seq > ?", (len(saved[0]),))
    pair.first.store.write("UPDATE ledger_head SET seq = ?, digest = ?, signature = ?", saved[1][0][1:])
    found = pair.verified()
    assert all(chain["is_sound"] for chain in found["chain"]), "an older copy is sound in itself"
    assert findings(found) == [("no_decision", "attic", 2), ("no_decision", "attic", 3)]
    assert "put back" in found["comparison"][0]["findings"][0]["words"] and not found["verdict"][0]["is_sound"]


def test_a_receipt_of_another_request_and_work_of_other_layers_are_named(pair: Pair) -> None:
    receipt = pair.work(0)
    pair.take(pair.worker, receipt, "request-9", pair.shares)
    pair.take(pair.worker, receipt, "request-0", [(pair.worker.node_id, 0, 2)])
    found = pair.verified()
    assert findings(found) == [("differs", "attic", 2), ("differs", "attic", 3)]
    words = [one["words"] for one in found["comparison"][0]["findings"]]
    assert "request-0" in words[0] and "layers" in words[1]


def test_rows_that_were_tampered_with_to_hold_no_text_are_named_and_break_nothing(pair: Pair) -> None:
    for number in range(2):
        pair.work(number)
    pair.worker.store.write("UPDATE ledger SET body = CAST(x'7bff7d' AS TEXT) WHERE seq = 1")
    pair.worker.store.write("UPDATE ledger SET request_id = CAST(x'ff' AS TEXT) WHERE seq = 2")
    pair.first.store.write("UPDATE ledger SET body = CAST(x'7bff7d' AS TEXT), at = 9e999 WHERE seq = 1")
    found = pair.verified()
    assert ("unreadable", "attic", 1) in findings(found) and ("differs", "attic", 2) in findings(found)
    assert [chain["findings"][0]["first"] for chain in found["chain"]] == [1, 1]


def test_a_node_that_does_not_answer_is_named_as_not_checked_and_nothing_is_concluded(pair: Pair) -> None:
    pair.work(0, without=("attic",))
    pair.routes = None
    found = pair.verified()
    (left_out,) = found["not_checked"]
    assert left_out["node"] == "attic" and "no address" in left_out["why"]
    assert findings(found) == [] and found["comparison"][0]["unchecked"] == 1
    assert found["verdict"][0] == {
        "event": "verdict",
        "is_sound": True,
        "checked": ["pi"],
        "not_checked": ["attic"],
        "compares": True,
    }


def test_an_answer_that_ends_while_tickets_are_read_is_no_finding(pair: Pair) -> None:
    pair.work(0)

    async def verdict(request: Request) -> Response:
        return Response(SOUND)

    async def tickets(request: Request) -> Response:
        page = msgspec.json.encode(pair.worker.archivist.tickets(int(request.query_params["after"])))
        pair.end(1)
        return Response(page)

    async def tool_tickets(request: Request) -> Response:
        return Response(b'{"entries":[],"is_last":true}')

    pair.begin(1)
    paths = {"verdict": verdict, "tickets": tickets, "tool-tickets": tool_tickets}
    pair.routes = [Route(f"/peer/ledger/{name}", serve) for name, serve in paths.items()]
    found = pair.verified()
    assert findings(found) == [] and found["comparison"][0]["untraced"] == 1 and "not_checked" not in found
    pair.routes = list(disclosure_routes(pair.who, pair.worker.archivist))
    found = pair.verified()
    assert findings(found) == [] and found["comparison"][0]["untraced"] == 0


SOUND = b'{"rows":0,"findings":[],"more":0}'
ENTRY = b'{"row":%d,"digest":"d"}'
LIES: dict[str, tuple[bytes, int, bytes]] = {
    "an older version": (b"", 404, b""),
    "busy": (b"{}", 429, b""),
    "nonsense": (b"\xff", 200, b""),
    "a verdict of another shape": (b'{"rows":"many"}', 200, b""),
    "a verdict without end": (b'{"rows":0,"findings":[],"more":0' + b" " * (2 << 20) + b"}", 200, b""),
    "an empty page that is not the last": (SOUND, 200, b'{"entries":[],"is_last":false}'),
    "the same page again and again": (SOUND, 200, b'{"entries":[' + ENTRY % 5 + b'],"is_last":false}'),
    "rows out of order": (SOUND, 200, b'{"entries":[' + ENTRY % 5 + b"," + ENTRY % 4 + b'],"is_last":true}'),
    "a page of another shape": (SOUND, 200, b'{"entries":[{"row":"x"}],"is_last":true}'),
    "no list of tools": (SOUND, 200, b'{"entries":[],"is_last":true}'),
    "a page without end": (SOUND, 200, b'{"entries":[],"is_last":true' + b" " * (9 << 20) + b"}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_answers_anything_else_is_not_checked(pair: Pair, lie: str) -> None:
    verdict, status, page = LIES[lie]

    async def said(request: Request) -> Response:
        return Response(verdict, status_code=status)

    async def pages(request: Request) -> Response:
        return Response(page)

    pair.routes = [Route("/peer/ledger/verdict", said), Route("/peer/ledger/tickets", pages)]
    found = pair.verified()
    assert [one["node"] for one in found["not_checked"]] == found["verdict"][0]["not_checked"] == ["attic"]


def test_a_worker_verifies_its_own_ledger_alone(pair: Pair) -> None:
    pair.work(0)
    worker = pair.worker
    auditor = Auditor(worker.ledger, worker.archivist, worker.standing, pair.connect)

    async def work() -> None:
        events = [event async for event in auditor.verify() if event["event"] != "progress"]
        assert [event["event"] for event in events] == ["chain", "verdict"] and not events[-1]["compares"]

    run(work)


def test_verifying_runs_once_at_a_time_and_ends_when_the_asker_leaves(pair: Pair) -> None:
    pair.work(0)

    async def work() -> None:
        async with pair.auditor() as auditor:
            events = auditor.verify()
            await anext(events)
            with pytest.raises(BusyError):
                auditor.verify()
            await events.aclose()
            assert [task for task in asyncio.all_tasks() if task.get_name() == "verify the ledger"] == []
            assert [event["event"] async for event in auditor.verify()][-1] == "verdict"

    run(work)


def test_a_node_verifies_once_at_a_time_and_not_for_ever(pair: Pair) -> None:
    times = iter([0.0, 1000.0, 2000.0])
    worker = pair.worker
    for number in range(201):
        worker.ledger.append("x", {"number": number}, request_id=None, now=1.0)
    slow = Archivist(worker.ledger, worker.standing, name=lambda: "attic", clock=lambda: next(times))

    async def work() -> None:
        with pytest.raises(UnreachableError):
            await slow.verdict()
        first = asyncio.create_task(worker.archivist.verdict())
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await worker.archivist.verdict()
        assert (await first).rows == 201
        assert (await worker.archivist.verdict()).rows == 201

    run(work)


def test_a_node_whose_verifying_was_called_off_can_verify_again(pair: Pair) -> None:
    pair.work(0)

    async def work() -> None:
        for turns in range(4):
            called_off = asyncio.create_task(pair.worker.archivist.verdict())
            for _ in range(turns):
                await asyncio.sleep(0)
            called_off.cancel()
            await asyncio.wait({called_off})
            async with asyncio.timeout(5):
                while [task for task in asyncio.all_tasks() if task.get_name() == "read the ledger through"]:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)  # it is told that the task has ended
            assert (await pair.worker.archivist.verdict()).rows == 1

    run(work)
