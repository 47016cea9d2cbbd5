"""Calls of tools over real peer connections: the coordinator's decisions and ends against what the nodes keep."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from daemon.test_auditor import SOUND, Pair, Station, findings
from mycoswarm.agents.docket import ended_row, granted_row
from mycoswarm.api.disclosure import disclosure_routes
from mycoswarm.chat.job import Asker
from mycoswarm.routing.allotment import ToolDecision
from mycoswarm.routing.decision import Explanation, Ground
from mycoswarm.routing.snapshot import NodeState
from mycoswarm.sandbox.clearance import digest_of, seal
from mycoswarm.sandbox.toolset import TOOLS
from mycoswarm.store.record import DECISION, TOOL, TOOL_TICKET, tool_ticket_row
from mycoswarm.wire.ticket import ToolTicket, Warrant
from mycoswarm.wire.tool import ToolCall

pytestmark = pytest.mark.slow

DECIDED = ToolDecision(
    Ground(rule="all"), NodeState("id", "x", "LAN", None, None, None), Explanation(rule="all", reason="")
)
ARGUMENTS = '{"expression": "1+1"}'


class Errands(Pair):
    """The two nodes, and calls of tools as the toolbox writes them."""

    def decide(self, run_id: str, station: Station | None = None, tool: str = "calculator") -> str:
        """Decide on a call for a node, the worker where none is named. Gives the receipt."""
        station = station or self.worker
        node = {"id": station.node_id, "name": "x", "place": "LAN"}
        asked = {"task": f"tool:{tool}", "labels": [], "added": [], "model_digest": None}
        body = {"asked": asked, "rule": "all", "version": 1, "attempt": 1, "tool": tool}
        body |= {"arguments": digest_of(ARGUMENTS), **granted_row(node, DECIDED, TOOLS[tool], run_id)}
        return self.first.ledger.append(DECISION, body, request_id=run_id, now=1.0).digest

    def keep(self, run_id: str, receipt: str, station: Station | None = None, **more: Any) -> None:
        """Have a node keep the ticket for a call."""
        station = station or self.worker
        fields: dict[str, Any] = {
            "swarm_id": station.standing.swarm_id,
            "node_id": station.node_id,
            "nonce": "n",
            "sequence": 0,
            "lifetime_s": 5.0,
            "warrant": Warrant(rule="all", version=1, task="tool:calculator", receipt=receipt),
            "tool": "calculator",
            "digest": digest_of(ARGUMENTS),
            "run_id": run_id,
            "workspace_id": run_id,
        }
        ticket = ToolTicket(**fields | more)
        row = tool_ticket_row(seal(ticket, self.sign), ticket)
        station.ledger.append(TOOL_TICKET, row, request_id=run_id, now=1.5)

    def close_call(self, run_id: str, receipt: str, outcome: str = "stop", *, was_answered: bool = True) -> None:
        """Have a call end."""
        row = ended_row(ToolCall("c", "calculator", ARGUMENTS), Asker(), {"id": "x", "name": "x"}, "all", outcome, 0.1)
        row |= {"receipt": receipt, "was_answered": was_answered}
        self.first.ledger.append(TOOL, row, request_id=run_id, now=2.0)

    def use(self, run_id: str, station: Station | None = None) -> str:
        """A whole call, and the end of its workspace. Gives the receipt."""
        receipt = self.decide(run_id, station)
        self.keep(run_id, receipt, station)
        self.close_call(run_id, receipt)
        self.keep(run_id, "", station, tool="release", warrant=Warrant(rule="", task="release"), digest=digest_of(""))
        return receipt


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Errands]:
    made = Errands(tmp_path)
    yield made
    made.close()


def test_calls_and_prompts_that_agree_are_sound_and_what_never_ran_is_no_finding(pair: Errands) -> None:
    pair.work(0)
    for run_id, station in (("run-1", pair.worker), ("run-1", pair.worker), ("run-2", pair.first)):
        pair.use(run_id, station)
    pair.close_call("run-3", pair.decide("run-3"), "decided_anew", was_answered=False)
    pair.close_call("run-3", pair.decide("run-3"), "unreachable", was_answered=False)
    pair.decide("run-4")  # it is on its way
    pair.close_call("run-5", pair.decide("run-5", pair.first, "list_nodes"))
    found = pair.verified()
    (comparison,) = found["comparison"]
    assert findings(found) == [] and found["verdict"][0]["is_sound"] and not found["verdict"][0]["not_checked"]
    counts = {name: comparison[name] for name in ("tickets", "decisions", "untraced", "unchecked")}
    assert counts == {"tickets": 8, "decisions": 8, "untraced": 3, "unchecked": 0}


def test_a_call_whose_ticket_is_gone_and_one_that_was_never_decided_are_found(pair: Errands) -> None:
    receipt = pair.use("run-1")
    pair.worker.store.write("DELETE FROM ledger WHERE kind = ?", (TOOL_TICKET,))
    found = pair.verified()
    assert findings(found) == [("no_ticket", "attic", None)] and not found["verdict"][0]["is_sound"]
    assert "calculator" in found["comparison"][0]["findings"][0]["words"]
    pair.keep("run-9", "e" * 64)
    pair.keep("run-1", receipt, digest=digest_of("{}"))
    pair.keep("run-9", receipt)
    wanted = [("no_decision", "attic"), ("differs", "attic"), ("no_decision", "attic")]
    assert [one[:2] for one in findings(pair.verified())] == wanted


def test_a_ticket_on_another_run_s_receipt_is_named_with_both(pair: Errands) -> None:
    receipt = pair.decide("run-1")
    pair.keep("run-9", receipt)
    found = pair.verified()
    assert findings(found) == [("differs", "attic", 1)]
    words = found["comparison"][0]["findings"][0]["words"]
    assert "run-9" in words and "run-1" in words


def test_tools_rows_that_were_tampered_with_are_named_and_break_nothing(pair: Errands) -> None:
    for number in range(3):
        pair.use(f"run-{number}")
    pair.worker.store.write("UPDATE ledger SET body = replace(body, 'calculator', 'run_python') WHERE seq = 1")
    pair.worker.store.write("UPDATE ledger SET body = CAST(x'7bff7d' AS TEXT) WHERE seq = 3")
    found = pair.verified()
    assert ("unsigned", "attic", 1) in findings(found) and ("unreadable", "attic", 3) in findings(found)
    assert {one["request_id"] for one in found["comparison"][0]["findings"] if one["kind"] == "no_ticket"} == {
        "run-0",
        "run-1",
    }


def test_nothing_is_concluded_of_calls_on_a_node_that_is_away_or_has_no_list_of_tools(pair: Errands) -> None:
    pair.close_call("run-1", pair.decide("run-1"))
    pair.routes = None
    found = pair.verified()
    assert findings(found) == [] and found["comparison"][0]["unchecked"] == 1
    assert found["verdict"][0]["is_sound"] and found["verdict"][0]["not_checked"] == ["attic"]
    served = {"/peer/ledger/verdict", "/peer/ledger/tickets"}
    pair.routes = [one for one in disclosure_routes(pair.who, pair.worker.archivist) if one.path in served]
    found = pair.verified()
    assert findings(found) == [] and found["comparison"][0]["unchecked"] == 1
    assert "older version" in found["not_checked"][0]["why"]


def test_a_call_that_ends_while_tickets_are_read_is_no_finding(pair: Errands) -> None:
    receipt = pair.decide("run-1")

    async def verdict(request: Request) -> Response:
        return Response(SOUND)

    async def tickets(request: Request) -> Response:
        return Response(json.dumps({"entries": [], "is_last": True}))

    async def tool_tickets(request: Request) -> Response:
        page = msgspec.json.encode(pair.worker.archivist.tool_tickets(int(request.query_params["after"])))
        pair.keep("run-1", receipt)
        pair.close_call("run-1", receipt)
        return Response(page)

    paths = {"verdict": verdict, "tickets": tickets, "tool-tickets": tool_tickets}
    pair.routes = [Route(f"/peer/ledger/{name}", serve) for name, serve in paths.items()]
    found = pair.verified()
    assert findings(found) == [] and found["comparison"][0]["untraced"] == 1 and "not_checked" not in found
